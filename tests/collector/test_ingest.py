from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.schema import TABLES
from imitrace_collector import otlp
from imitrace_collector.derive import rebuild
from imitrace_collector.importer import StoreSink, import_file, read_tools
from imitrace_collector.ingest import ingest
from imitrace_collector.raw_tables import Written
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]


def everything(store: Store) -> dict[str, list[dict[str, Any]]]:
    with store.reader() as reader:
        return {table: reader.table(table).read_all().to_pylist() for table in TABLES}


def batches(export: MakeExport, names: Sequence[str]) -> list[Batch]:
    return [otlp.read(otlp.TRACES, export(name), 0).batch for name in names]


def test_only_what_is_new_is_counted(store: Store, export: MakeExport) -> None:
    first, second = batches(export, ["t1", "t2"])
    assert ingest(store, [first, first]) == Written(spans=3, logs=0, duplicates=3, chunk=1)
    assert ingest(store, [first, second]) == Written(spans=3, logs=0, duplicates=3, chunk=2)


def test_steps_that_come_one_by_one_make_the_same_rows(store: Store, export: MakeExport, tmp_path: Path) -> None:
    (whole,) = batches(export, ["t1"])
    for span in reversed(whole.spans):
        ingest(store, [replace(whole, spans=(span,))])
    with Store.open(tmp_path / "whole.duckdb") as other:
        ingest(other, [whole])
        assert everything(store) == everything(other)


def test_rebuilding_gives_identical_rows(store: Store, export: MakeExport) -> None:
    ingest(store, batches(export, [f"t{number}" for number in range(300)]))
    before = everything(store)
    with store.session() as session:
        assert rebuild(session) == 300
    assert everything(store) == before


def test_rebuilding_real_trajectories_gives_identical_rows(store: Store, data: Path) -> None:
    tools = read_tools(data / "tau_airline_tools.json")
    report = import_file(data / "tau_airline_gpt4o.jsonl.gz", StoreSink(store), "airline", tools)
    assert (report.new, report.broken) == (160, [])
    before = everything(store)
    assert len(before["steps"]) == report.steps == 2166
    assert all(row["complete"] for table in ("trajectories", "steps") for row in before[table])
    with store.session() as session:
        rebuild(session)
    assert everything(store) == before


def test_all_of_the_captures_is_taken(store: Store, data: Path) -> None:
    spans = logs = 0
    for path in sorted((data / "captures").glob("*/*.otlp.pb")):
        signal = otlp.TRACES if ".traces." in path.name else otlp.LOGS
        reading = otlp.read(signal, otlp.parse(signal, path.read_bytes(), otlp.PROTOBUF), 0)
        assert not reading.response.HasField("partial_success")
        done = ingest(store, [reading.batch])
        spans, logs = spans + done.spans, logs + done.logs
    with store.reader() as reader:
        counted = reader.rows(
            "SELECT (SELECT count(*) FROM spans) AS spans, (SELECT count(*) FROM log_records) AS logs"
        )
    assert counted == [{"spans": spans, "logs": logs}]
    assert spans > 0


def test_log_records_are_stored_once(store: Store) -> None:
    message = ExportLogsServiceRequest()
    message.resource_logs.add().scope_logs.add().log_records.add(time_unix_nano=5)
    batch = otlp.read(otlp.LOGS, message, 0).batch
    assert ingest(store, [batch, batch]).logs == 1
    assert ingest(store, [batch]).logs == 0
