"""Hand scores over as the wire has them, as log records ``gen_ai.evaluation.result``, through ``imitrace import``.

Collector and trainer never import each other. What imports them knows whether a collector runs on the workspace, and
else writes into its store; either way a score that was taken is durable.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from imitrace import semconv
from imitrace.config import child_environment
from imitrace.exceptions import StoreError

STORE_FILE = "traces.duckdb"

_COLUMNS = {
    "trajectory_id": semconv.TRAJECTORY_ID,
    "name": semconv.SCORE_NAME,
    "value": semconv.SCORE_VALUE,
    "label": semconv.SCORE_LABEL,
    "explanation": semconv.SCORE_EXPLANATION,
    "evaluator": semconv.SCORE_EVALUATOR,
    "evaluator_version": semconv.SCORE_EVALUATOR_VERSION,
    "step_index": semconv.STEP_INDEX,
}
_SERVICE = "imitrace score"
_AT_ONCE = 5_000
_FILES = 20

Row = dict[str, Any]
"""A row of ``schema.SCORES``."""


def send_scores(rows: Iterable[Row], home: Path, endpoint: str | None = None) -> int:
    """Store scores, and return how many; those that were stored before a failure stay.

    Args:
        rows: of ``schema.SCORES``.
        home: the workspace folder.
        endpoint: a collector's address; None: the one that runs on the workspace, else its store.

    Raises:
        StoreError: they were not taken.
    """
    rows = iter(rows)
    sent = 0
    with tempfile.TemporaryDirectory(prefix="imitrace-score-") as folder:
        while True:
            paths: list[Path] = []
            count = 0
            for few in _batches(rows):
                path = Path(folder) / f"{len(paths)}.logs.otlp.pb"
                path.write_bytes(request_of(few).SerializeToString())
                paths.append(path)
                count += len(few)
                if len(paths) == _FILES:
                    break
            if not paths:
                return sent
            _import(paths, home, endpoint)
            sent += count


def request_of(rows: Iterable[Row]) -> ExportLogsServiceRequest:
    """Return scores as one export request of log records."""
    scope = ScopeLogs(scope=InstrumentationScope(name="imitrace"), log_records=list(map(_record, rows)))
    resource = Resource(attributes=[KeyValue(key="service.name", value=AnyValue(string_value=_SERVICE))])
    return ExportLogsServiceRequest(resource_logs=[ResourceLogs(resource=resource, scope_logs=[scope])])


def _record(row: Row) -> LogRecord:
    attributes = [
        KeyValue(key=key, value=_value(row[name])) for name, key in _COLUMNS.items() if row.get(name) is not None
    ]
    at = row["scored_at"]
    return LogRecord(
        time_unix_nano=at, observed_time_unix_nano=at, event_name=semconv.EVENT_SCORE, attributes=attributes
    )


def _value(value: str | int | float) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value.encode("utf-8", "replace").decode())
    if isinstance(value, int):
        return AnyValue(int_value=value)
    return AnyValue(double_value=value)


def _batches(rows: Iterator[Row]) -> Iterator[list[Row]]:
    while few := list(islice(rows, _AT_ONCE)):
        yield few


def _import(paths: list[Path], home: Path, endpoint: str | None) -> None:
    to = ["--endpoint", endpoint] if endpoint else ["--home", str(home)]
    done = subprocess.run(
        [sys.executable, "-m", "imitrace", "import", *map(str, paths), *to, "--json"],
        capture_output=True,
        text=True,
        env=child_environment({}),
        check=False,
    )
    broken = json.loads(done.stdout)["broken"] if done.stdout.startswith("{") else []
    if done.returncode or broken:
        last = next(reversed(done.stderr.strip().splitlines()), f"exit code {done.returncode}")
        raise StoreError(f"scores were not taken: {last.removeprefix('imitrace: ')}")
