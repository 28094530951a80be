import json
from collections.abc import Callable, Mapping

import pytest
from click.testing import CliRunner
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from imitrace import semconv
from imitrace.cli import main
from imitrace.exceptions import ImitraceError, WireError
from imitrace_collector import otlp, reads
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.ingest import ingest
from imitrace_collector.reads import lost_records, shared, spelled_out, trajectory_detail, unshared
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store


def pairs(values: Mapping[str, str | int]) -> list[KeyValue]:
    return [
        KeyValue(key=key, value=AnyValue(int_value=value) if isinstance(value, int) else AnyValue(string_value=value))
        for key, value in values.items()
    ]


def loss(failed: int, dropped: int, at: int = 1, **resource: str) -> ExportLogsServiceRequest:
    """Return what a process sends that lost records; ``resource`` in Python's spelling."""
    message = ExportLogsServiceRequest()
    group = message.resource_logs.add()
    group.resource.attributes.extend(pairs({key.replace("_", "."): value for key, value in resource.items()}))
    told = {semconv.LOSS_RECORDS: 100, semconv.LOSS_FAILED: failed, semconv.LOSS_DROPPED: dropped}
    group.scope_logs.add().log_records.add(event_name=semconv.EVENT_LOSS, time_unix_nano=at, attributes=pairs(told))
    return message


def test_losses_are_the_last_count_of_each_process_summed_by_service(store: Store) -> None:
    desk = {"service_name": "desk"}
    said = [
        loss(1, 2, 1, service_instance_id="p1", **desk),
        loss(2, 3, 2, service_instance_id="p1", **desk),
        loss(0, 7, 1, service_instance_id="p2", **desk),
        loss(4, 0, 1, host_name="h1", service_name="shop"),
        loss(1, 0, 1, host_name="h2", service_name="shop"),
        loss(0, 0, 1, service_name="quiet"),
    ]
    for message in (*said, *reversed(said)):
        ingest(store, [otlp.read(otlp.LOGS, message, 0).batch])
    assert lost_records(store) == {"desk": 12, "shop": 5}


def test_losses_that_are_no_numbers_count_nothing(store: Store) -> None:
    message = loss(1, 1, service_name="desk")
    record = message.resource_logs[0].scope_logs[0].log_records[0]
    for pair in record.attributes:
        pair.value.string_value = "many"
    ingest(store, [otlp.read(otlp.LOGS, message, 0).batch])
    assert lost_records(store) == {}


def test_losses_are_told_where_counts_are_shown(collector: CollectorServer, config: CollectorConfig) -> None:
    client = CollectorClient(collector.http)
    assert client.get("/healthz")["lost_records"] == 0
    assert CliRunner().invoke(main, ["trajectories", "--home", str(config.home)]).stderr == ""
    client.export("/v1/logs", loss(1, 2, service_name="desk").SerializeToString())
    assert client.get("/v1/trajectories")["lost_records"] == {"desk": 3}
    assert client.get("/healthz")["lost_records"] == 3
    listed = CliRunner().invoke(main, ["trajectories", "--home", str(config.home)])
    assert listed.stderr.startswith("desk lost 3 records on the way here")
    assert listed.exit_code == 0


def test_a_trajectory_is_told_with_shared_states_and_with_spelled_out_ones(
    store: Store, export: Callable[..., ExportTraceServiceRequest], monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest(store, [otlp.read(otlp.TRACES, export(), 0).batch])
    detail = trajectory_detail(store, "t1")
    told = json.loads(json.dumps(shared(detail)))
    assert ([step["state"] for step in told["steps"]], len(told["histories"][0])) == ([[0, 2], [0, 4]], 4)
    assert unshared(told) == detail
    assert json.loads(json.dumps(spelled_out(detail))) == spelled_out(unshared(told))
    monkeypatch.setattr(reads, "_MOST_IDS", 5)
    with pytest.raises(WireError, match="states have 6 message ids, allowed in one answer: 5; ask for states=shared"):
        spelled_out(detail)


def test_a_form_of_states_that_there_is_not_is_refused(collector: CollectorServer) -> None:
    ask = CollectorClient(collector.http)
    with pytest.raises(ImitraceError, match="states is 'none', allowed: lists, shared"):
        ask.get("/v1/trajectories/t1", states="none")
