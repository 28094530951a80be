"""Import trajectories from chat JSONL: into a running collector, or else into the store itself."""

import gzip
import json
import time
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import ConfigError, WireError
from imitrace.messages import tool_definition
from imitrace_collector import otlp
from imitrace_collector.chat_jsonl import ImportedTrajectory, read_line
from imitrace_collector.client import CollectorClient
from imitrace_collector.ingest import ingest
from imitrace_collector.reads import traces_of
from imitrace_collector.store import Store

_GROUP_BYTES = 4 * 1024 * 1024
_GZIP_MAGIC = b"\x1f\x8b"


class Sink(Protocol):
    """Where imported spans go."""

    def traces_of(self, trajectory_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return for each trajectory that is stored the trace ids of its spans."""

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Store an export request durably."""


@dataclass(frozen=True)
class StoreSink:
    """Write into a store that no collector holds."""

    store: Store

    def traces_of(self, trajectory_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Ask the store."""
        return traces_of(self.store, trajectory_ids)

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Write in one transaction."""
        ingest(self.store, [otlp.read(otlp.TRACES, request, time.time_ns()).batch])


@dataclass(frozen=True)
class CollectorSink:
    """Send to a running collector over OTLP/HTTP."""

    client: CollectorClient

    def traces_of(self, trajectory_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Ask the collector."""
        found = self.client.post("/v1/trajectories/lookup", {"trajectories": list(trajectory_ids)})
        return cast("Mapping[str, Sequence[str]]", found["traces"])

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Export, and return once it is acknowledged."""
        self.client.export("/v1/traces", request.SerializeToString())


@dataclass
class ImportReport:
    """What an import did."""

    new: int = 0
    stored: int = 0
    steps: int = 0
    scores: int = 0
    broken: list[str] = field(default_factory=list)
    """Lines that were not imported, each with its number and the reason."""

    @property
    def imported_nothing(self) -> bool:
        """Return whether no line of the file is in the store."""
        return self.new + self.stored == 0


def read_tools(path: Path | None) -> list[dict[str, Any]]:
    """Return the tool definitions in a JSON file; none without a file.

    Raises:
        ConfigError: the file holds no list of tool definitions.
    """
    if path is None:
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list):
            raise WireError("it is not a list")
        return [tool_definition(tool) for tool in found]
    except (OSError, ValueError, RecursionError, WireError) as error:
        raise ConfigError(f"tools file {path} can't be used: {error}; expected a JSON list of definitions") from error


def import_file(path: Path, sink: Sink, agent: str | None, tools: Sequence[Mapping[str, Any]] = ()) -> ImportReport:
    """Import every line that can be; importing a file again stores nothing twice.

    Args:
        path: chat JSONL, plain or gzip.
        sink: where it goes.
        agent: name that overrules the lines' own.
        tools: definitions offered at every step.

    Raises:
        ConfigError: the file can't be opened.
    """
    report = ImportReport()
    group: dict[str, tuple[int, ImportedTrajectory]] = {}
    size = 0
    for number, trajectory in _trajectories(path, (agent, tools), report):
        same = group.get(trajectory.trajectory_id)
        if same is not None:
            _count_again(report, number, trajectory, [same[1].trace_id])
            continue
        own = trajectory.spans.ByteSize()
        if size + own > _GROUP_BYTES:  # before it is added: one that is refused for its size stands alone
            _send(group, sink, report)
            group, size = {}, 0
        group[trajectory.trajectory_id] = (number, trajectory)
        size += own
    _send(group, sink, report)
    return report


def _trajectories(
    path: Path, reading: tuple[str | None, Sequence[Mapping[str, Any]]], report: ImportReport
) -> Iterator[tuple[int, ImportedTrajectory]]:
    agent, tools = reading
    for number, line in _lines(path, report):
        try:
            yield number, read_line(json.loads(line), number - 1, agent, tools)
        except (ValueError, RecursionError) as error:
            report.broken.append(f"line {number}: it is not JSON: {error}")
        except WireError as error:
            report.broken.append(f"line {number}: {error}")


def _lines(path: Path, report: ImportReport) -> Iterator[tuple[int, bytes]]:
    """Yield the lines that are not blank, numbered from 1; a file that breaks off is reported, not raised."""
    try:
        with path.open("rb") as file:
            packed = file.read(2) == _GZIP_MAGIC
            file.seek(0)
            number = 0
            try:
                for number, line in enumerate(_unpack(file) if packed else file, start=1):
                    if line.strip():
                        yield number, line
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                report.broken.append(f"line {number + 1}: the file can't be read further: {error}")
    except OSError as error:
        raise ConfigError(f"file {path} can't be read: {error.strerror}") from error


def _unpack(file: BinaryIO) -> Iterable[bytes]:
    with gzip.GzipFile(fileobj=file) as unpacked:
        yield from unpacked


def _send(group: Mapping[str, tuple[int, ImportedTrajectory]], sink: Sink, report: ImportReport) -> None:
    """Send what is not stored with other content; then count."""
    if not group:
        return
    stored = sink.traces_of(list(group))
    for trajectory_id, traces in stored.items():
        _count_again(report, *group[trajectory_id], traces)
    new = {number: trajectory for number, trajectory in group.values() if trajectory.trajectory_id not in stored}
    if not new:
        return
    try:
        sink.send(ExportTraceServiceRequest(resource_spans=[trajectory.spans for trajectory in new.values()]))
    except WireError as error:
        report.broken += [f"line {number}: {error}" for number in new]
        return
    report.new += len(new)
    report.steps += sum(trajectory.steps for trajectory in new.values())
    report.scores += sum(trajectory.scores for trajectory in new.values())


def _count_again(report: ImportReport, number: int, trajectory: ImportedTrajectory, traces: Sequence[str]) -> None:
    """Count a trajectory whose id is taken: by the same content, or by other."""
    if trajectory.trace_id in traces:
        report.stored += 1
    else:
        report.broken.append(
            f"line {number}: trajectory {trajectory.trajectory_id!r} is already stored with other content, "
            "nothing was changed; give it another id"
        )
