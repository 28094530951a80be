import json
from collections.abc import Callable

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

from imitrace import semconv
from imitrace.schema import SCORES
from imitrace_collector import otlp
from imitrace_collector.ingest import ingest
from imitrace_collector.records import Unpacker
from imitrace_collector.rows import Batch, LogRow, SpanRow
from imitrace_collector.scores import scores_of
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Decode = Callable[[Batch], list[SpanRow]]
Value = str | int | float


def any_value(value: Value) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    return AnyValue(int_value=value) if isinstance(value, int) else AnyValue(double_value=value)


def pairs(**attributes: Value) -> list[KeyValue]:
    values = {getattr(semconv, name): value for name, value in attributes.items()}
    return [KeyValue(key=key, value=any_value(value)) for key, value in values.items()]


def log(**attributes: Value) -> Batch:
    message = ExportLogsServiceRequest()
    records = message.resource_logs.add().scope_logs.add().log_records
    records.add(event_name=semconv.EVENT_SCORE, time_unix_nano=9, attributes=pairs(**attributes))
    return otlp.read(otlp.LOGS, message, 0).batch


def decode_logs(batch: Batch) -> list[LogRow]:
    body = b"".join(log.record for log in batch.logs)
    return list(Unpacker().logs(body, batch.origins[0], 0))


def test_a_log_record_becomes_a_score() -> None:
    batch = log(TRAJECTORY_ID="t1", STEP_INDEX=3, SCORE_NAME="TaskCompletion", SCORE_VALUE=0.5, SCORE_EVALUATOR="judge")
    (score,) = scores_of((), decode_logs(batch))
    assert set(score) == set(SCORES)
    assert (score["trajectory_id"], score["step_index"], score["name"]) == ("t1", 3, "TaskCompletion")
    assert (score["value"], score["evaluator"], score["scored_at"]) == (0.5, "judge", 9)


@pytest.mark.parametrize(("value", "told"), [(float("nan"), "NaN"), (float("inf"), "Infinity"), ("good", "good")])
def test_a_value_that_is_no_number_is_kept_as_null_and_said(value: Value, told: str) -> None:
    batch = log(TRAJECTORY_ID="t1", SCORE_NAME="s", SCORE_VALUE=value, SCORE_LABEL="bad", SCORE_EXPLANATION="why")
    (score,) = scores_of((), decode_logs(batch))
    assert (score["value"], score["label"]) == (None, "bad")
    assert score["explanation"] == f"value was {told}, no number; why"


def test_a_score_may_have_only_a_label() -> None:
    (score,) = scores_of((), decode_logs(log(TRAJECTORY_ID="t1", SCORE_NAME="s", SCORE_LABEL="pass")))
    assert (score["value"], score["label"], score["explanation"]) == (None, "pass", None)


@pytest.mark.parametrize("missing", ["TRAJECTORY_ID", "SCORE_NAME"])
def test_a_score_that_names_no_trajectory_or_no_name_stays_raw(missing: str) -> None:
    attributes: dict[str, Value] = {"TRAJECTORY_ID": "t1", "SCORE_NAME": "s", "SCORE_VALUE": 1}
    assert (
        scores_of((), decode_logs(log(**{name: value for name, value in attributes.items() if name != missing}))) == []
    )


def test_an_event_on_a_step_scores_that_step_unless_it_names_another(export: MakeExport, decode: Decode) -> None:
    message = export()
    step = message.resource_spans[0].scope_spans[0].spans[2]
    step.events.add(name=semconv.EVENT_SCORE, attributes=pairs(SCORE_NAME="here", SCORE_VALUE=1))
    step.events.add(name=semconv.EVENT_SCORE, attributes=pairs(SCORE_NAME="there", SCORE_VALUE=1, TRAJECTORY_ID="t9"))
    step.events.add(name="something else", attributes=pairs(SCORE_NAME="no"))
    batch = otlp.read(otlp.TRACES, message, 0).batch
    found = [(score["trajectory_id"], score["step_index"], score["name"]) for score in scores_of(decode(batch)[2:], ())]
    assert found == [("t1", 1, "here"), ("t9", None, "there")]


def test_a_span_of_that_name_is_a_score_and_no_trajectory(store: Store) -> None:
    message = ExportTraceServiceRequest()
    spans = message.resource_spans.add().scope_spans.add().spans
    attributes = pairs(TRAJECTORY_ID="t1", SCORE_NAME="s", SCORE_VALUE=1)
    spans.add(
        trace_id=b"t" * 16, span_id=b"s" * 8, name=semconv.EVENT_SCORE, end_time_unix_nano=4, attributes=attributes
    )
    ingest(store, [otlp.read(otlp.TRACES, message, 0).batch])
    with store.reader() as reader:
        assert reader.rows("SELECT trajectory_id, value, scored_at FROM scores") == [
            {"trajectory_id": "t1", "value": 1.0, "scored_at": 4}
        ]
        assert reader.rows("SELECT * FROM trajectories") == []


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_score_counts_the_same_before_and_after_its_trajectory(
    store: Store, export: MakeExport, order: tuple[int, int]
) -> None:
    batches = [otlp.read(otlp.TRACES, export(), 0).batch, log(TRAJECTORY_ID="t1", SCORE_NAME="late", SCORE_VALUE=0.25)]
    for number in (*order, *order):
        ingest(store, [batches[number]])
    with store.reader() as reader:
        found = reader.rows("SELECT name, value FROM scores ORDER BY name")
        assert found == [{"name": "TaskCompletion", "value": 1.0}, {"name": "late", "value": 0.25}]
        assert json.dumps(found)
