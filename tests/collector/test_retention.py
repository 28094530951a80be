import random
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from imitrace import semconv
from imitrace.exceptions import ConfigError
from imitrace_collector import otlp, retention
from imitrace_collector.compaction import compact
from imitrace_collector.copying import used_bytes
from imitrace_collector.derive import Deriver, derive_all, rebuild
from imitrace_collector.ingest import Writer, ingest
from imitrace_collector.pace import Rest
from imitrace_collector.retention import Gone, RetentionConfig, as_json, expire, retention_from
from imitrace_collector.rows import Batch
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Beside = Callable[..., AbstractContextManager[None]]
Contents = Callable[[Store], dict[str, list[str]]]
DAY = 24 * 3600 * 10**9
LONG = 60.0


def days(number: float) -> timedelta:
    return timedelta(days=number)


def batch(export: MakeExport, name: str, at: int = 0) -> Batch:
    return otlp.read(otlp.TRACES, export(name), at * DAY).batch


def service(name: str) -> Resource:
    return Resource(attributes=pairs({"service.name": name}))


def pairs(values: dict[str, Any]) -> list[KeyValue]:
    made = []
    for key, value in values.items():
        kind = "double_value" if isinstance(value, float) else "int_value" if isinstance(value, int) else "string_value"
        made.append(KeyValue(key=key, value=AnyValue(**{kind: value})))
    return made


def foreign(trace_id: bytes, span_id: int, at: int) -> Batch:
    """A span of another tracer's, of no trajectory."""
    span = Span(trace_id=trace_id, span_id=span_id.to_bytes(8, "big"), name="GET")
    sent = ResourceSpans(resource=service("web"), scope_spans=[ScopeSpans(spans=[span])])
    return otlp.read(otlp.TRACES, ExportTraceServiceRequest(resource_spans=[sent]), at * DAY).batch


def log(event: str, at: int, attributes: dict[str, Any] | None = None, trace_id: bytes = b"") -> Batch:
    record = LogRecord(event_name=event, time_unix_nano=at + 1, trace_id=trace_id, attributes=pairs(attributes or {}))
    sent = ResourceLogs(resource=service("web"), scope_logs=[ScopeLogs(log_records=[record])])
    return otlp.read(otlp.LOGS, ExportLogsServiceRequest(resource_logs=[sent]), at * DAY).batch


def score(name: str, trajectory_id: str, at: int, value: float = 1.0) -> Batch:
    said = {semconv.SCORE_NAME: name, semconv.TRAJECTORY_ID: trajectory_id, semconv.SCORE_VALUE: value}
    return log(semconv.EVENT_SCORE, at, said)


def names(store: Store) -> list[str]:
    with store.reader() as reader:
        return [row["trajectory_id"] for row in reader.rows("SELECT trajectory_id FROM trajectories ORDER BY 1")]


def rebuilt(store: Store, contents: Contents) -> dict[str, list[str]]:
    """Return what a rebuild makes; how far is derived may be told by a lower number."""
    how_far = contents(store)["meta"]
    with store.session() as session:
        rebuild(session)
    return contents(store) | {"meta": how_far}


def test_what_is_old_goes_and_leaves_what_never_had_come(store: Store, export: MakeExport, contents: Contents) -> None:
    ingest(store, [batch(export, "new", at=9), score("kept", "new", 9)])
    expected = contents(store)
    ingest(store, [batch(export, "old", at=1), score("gone", "old", 2)])
    gone = expire(store, RetentionConfig(max_age=days(5)), 10 * DAY)
    assert as_json(gone)["desk"] | {"bytes": 0} == {
        "trajectories": 1, "others": 0, "spans": 3, "log_records": 1, "bytes": 0,
    }  # fmt: skip
    assert gone["desk"].bytes > 100
    found = contents(store)
    for table in ("meta", "origins"):  # how far is derived, and an origin: compaction drops what nothing names
        del found[table], expected[table]
    assert found == expected


def test_a_dry_run_counts_the_same_and_deletes_nothing(store: Store, export: MakeExport, contents: Contents) -> None:
    ingest(store, [batch(export, f"t{number}", at=number) for number in range(4)])
    before = contents(store)
    config = RetentionConfig(max_age=days(2))
    counted = expire(store, config, 4 * DAY, dry_run=True)
    assert contents(store) == before
    assert expire(store, config, 4 * DAY) == counted
    assert expire(store, config, 4 * DAY) == {}
    assert names(store) == ["t2", "t3"]


def test_a_trajectory_is_as_old_as_the_newest_that_came_in_for_it(store: Store, export: MakeExport) -> None:
    ingest(store, [batch(export, "t1", at=1), score("late", "t1", 9)])
    assert expire(store, RetentionConfig(max_age=days(5)), 10 * DAY) == {}


@pytest.mark.parametrize(
    ("config", "left"),
    [
        (RetentionConfig(agents={"desk": days(5)}), []),
        (RetentionConfig(agents={"other": days(5)}), ["t1"]),
        (RetentionConfig(max_age=days(5), agents={"desk": days(100)}), ["t1"]),
        (RetentionConfig(max_age=days(5), agents={"desk": None}), ["t1"]),
        (RetentionConfig(max_age=days(5), agents={"other": None}), []),
        (RetentionConfig(), ["t1"]),
    ],
)
def test_an_agent_has_its_own_age(store: Store, export: MakeExport, config: RetentionConfig, left: list[str]) -> None:
    ingest(store, [batch(export, "t1", at=1)])
    expire(store, config, 10 * DAY)
    assert names(store) == left


def test_a_trace_goes_with_its_trajectory_and_by_itself_where_it_has_none(store: Store, export: MakeExport) -> None:
    first = batch(export, "t1", at=1)
    trace = bytes.fromhex(first.spans[0].trace_id)
    ingest(
        store, [first, foreign(trace, 1, 1), log("said", 1, trace_id=trace), foreign(b"a" * 16, 2, 1), log("said", 1)]
    )
    ingest(store, [foreign(b"b" * 16, 3, 9)])
    gone = expire(store, RetentionConfig(max_age=days(5)), 10 * DAY)
    assert {agent: (one.trajectories, one.others, one.spans, one.log_records) for agent, one in gone.items()} == {
        "desk": (1, 0, 4, 1),
        "web": (0, 2, 1, 1),
    }
    with store.reader() as reader:
        assert reader.rows("SELECT trace_id FROM spans") == [{"trace_id": (b"b" * 16).hex()}]


def test_a_trace_of_two_trajectories_stays_with_the_last(store: Store, export: MakeExport) -> None:
    old, new = batch(export, "old", at=1), batch(export, "new", at=9)
    trace = new.spans[0].trace_id
    shared = Batch(spans=tuple(span._replace(trace_id=trace) for span in old.spans), origins=old.origins)
    ingest(store, [shared, foreign(bytes.fromhex(trace), 1, 1)])
    ingest(store, [new])
    assert expire(store, RetentionConfig(max_age=days(5)), 10 * DAY)["desk"].spans == 3
    with store.reader() as reader:
        assert reader.rows("SELECT count(*) AS n FROM spans") == [{"n": 4}]


def test_of_equal_rows_only_those_go_whose_record_goes(store: Store, export: MakeExport, contents: Contents) -> None:
    ingest(store, [batch(export, "t1", at=1), score("same", "t1", 1), score("same", "t1", 1, 2.0)])
    ingest(store, [batch(export, "t2", at=9), score("same", "t2", 9)])
    for at in (1, 9):
        ingest(store, [log(semconv.EVENT_LOSS, at, {semconv.LOSS_FAILED: 3})])
    expire(store, RetentionConfig(max_age=days(5)), 10 * DAY)
    after = contents(store)
    assert (len(after["scores"]), len(after["losses"])) == (2, 1)
    assert rebuilt(store, contents) == after


def test_messages_and_tools_that_others_name_stay(store: Store, export: MakeExport, contents: Contents) -> None:
    ingest(store, [batch(export, "old", at=1), batch(export, "new", at=9)])
    before = contents(store)
    expire(store, RetentionConfig(max_age=days(5)), 10 * DAY)
    after = contents(store)
    assert (after["messages"], after["tools"]) == (before["messages"], before["tools"])
    expire(store, RetentionConfig(max_age=days(5)), 20 * DAY)
    last = contents(store)
    assert (last["messages"], last["tools"], last["bare_steps"], last["histories"]) == ([], [], [], [])
    assert last["chunks"] == []
    compact(store)
    assert contents(store)["origins"] == []


def test_in_many_batches_as_in_one(
    store: Store, export: MakeExport, contents: Contents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_ITEMS", 4)
    monkeypatch.setattr(retention, "_LOOSE", 1)
    ingest(store, [batch(export, f"t{number}", at=number) for number in range(10)])
    assert expire(store, RetentionConfig(max_age=days(4)), 10 * DAY)["desk"].trajectories == 6
    assert names(store) == ["t6", "t7", "t8", "t9"]
    after = contents(store)
    assert rebuilt(store, contents) == after


def test_the_oldest_go_until_the_file_is_small_enough(store: Store, export: MakeExport) -> None:
    ingest(store, [batch(export, f"t{number}", at=number) for number in range(300)])
    compact(store)
    limit = used_bytes(store)[0] - 1
    gone = expire(store, RetentionConfig(max_bytes=limit), 300 * DAY)
    left = names(store)
    assert 0 < gone["desk"].trajectories < 300
    assert sorted(left, key=lambda name: int(name[1:])) == [f"t{number}" for number in range(300 - len(left), 300)]
    assert expire(store, RetentionConfig(max_bytes=10**9), 300 * DAY) == {}


def test_an_agent_that_is_kept_stays_above_the_limit_too(store: Store, export: MakeExport) -> None:
    ingest(store, [batch(export, "t1", at=1)])
    store.checkpoint()
    assert expire(store, RetentionConfig(max_bytes=1, agents={"desk": None}), 10 * DAY) == {}
    assert list(expire(store, RetentionConfig(max_bytes=1), 10 * DAY)) == ["desk"]


def test_what_is_not_derived_yet_stays(store: Store, export: MakeExport) -> None:
    with store.session() as session:
        Writer(session).write([batch(export, "t1", at=1)])
    assert expire(store, RetentionConfig(max_age=days(5)), 10 * DAY) == {}


def test_a_late_span_makes_a_new_incomplete_trajectory(store: Store, export: MakeExport, contents: Contents) -> None:
    whole = batch(export, "t1", at=1)
    late = Batch(spans=whole.spans[:1], origins=whole.origins)
    ingest(store, [whole])
    expire(store, RetentionConfig(max_age=days(5)), 10 * DAY)
    assert ingest(store, [late]).spans == 1
    with store.reader() as reader:
        (row,) = reader.rows("SELECT complete, incomplete_reason FROM trajectories")
    assert not row["complete"]
    after = contents(store)
    assert rebuilt(store, contents) == after


def test_new_chunks_are_derived_also_where_the_last_has_expired(store: Store, export: MakeExport) -> None:
    """Numbers of chunks go on after a restart, else nothing would be derived from the next ones."""
    ingest(store, [batch(export, "t1"), batch(export, "t2")])
    expire(store, RetentionConfig(max_age=days(1)), 10 * DAY)
    compact(store)
    path = store.path
    store.close()
    with Store.open(path) as again:
        assert ingest(again, [batch(export, "t3")]).chunk == 3
        assert names(again) == ["t3"]


def test_it_goes_on_beside_a_writer_and_a_deriver(
    store: Store, export: MakeExport, contents: Contents, beside: Beside
) -> None:
    deriver, rng = Deriver(store, rest=Rest(0.01, calm=0)), random.Random(5)
    sent: list[Batch] = []
    with store.session() as session:
        writer = Writer(session)

        def write() -> None:
            own = batch(export, f"t{len(sent)}", at=len(sent))
            spans = [span for span in own.spans if rng.random() < 0.8]
            again = rng.choice(sent) if sent else own  # late ones, and retries
            sent.append(own)
            deriver.committed(writer.write([Batch(spans=tuple(spans), origins=own.origins), again]).chunk)

        with beside(write):
            for _ in range(15):
                deriver.catch_up(LONG)
                expire(store, RetentionConfig(max_age=days(3)), len(sent) * DAY)
            compact(store)
    deriver.catch_up(LONG)
    deriver.stop()
    after = contents(store)
    assert 0 < len(after["trajectories"]) < len(sent)
    assert rebuilt(store, contents) | {"messages": []} == after | {"messages": []}
    with store.reader() as reader:
        assert reader.rows("SELECT unnest(state) AS id FROM steps EXCEPT SELECT message_id FROM messages") == []
        assert reader.rows("SELECT DISTINCT chunk FROM spans EXCEPT SELECT chunk FROM chunks") == []


def test_a_trajectory_that_grows_meanwhile_is_left(
    store: Store, export: MakeExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = batch(export, "t1", at=1)
    first = Batch(spans=whole.spans[:1], origins=whole.origins)
    ingest(store, [first])
    real = retention._delete_batch

    def grow(session: Any, number: int) -> None:
        with store.session() as other:
            Writer(other).write([Batch(spans=whole.spans[1:], origins=whole.origins)])
        real(session, number)

    monkeypatch.setattr(retention, "_delete_batch", grow)
    assert expire(store, RetentionConfig(max_age=days(5)), 10 * DAY) == {}
    with store.session() as session:
        derive_all(session)
    with store.reader() as reader:
        assert reader.rows("SELECT complete FROM trajectories") == [{"complete": True}]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    came=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.integers(0, 2)), max_size=12),
    limit=st.integers(1, 10),
)
def test_for_any_order_what_stays_is_what_would_be_derived(
    came: list[tuple[int, int, int]], limit: int, tmp_path_factory: pytest.TempPathFactory, export: MakeExport,
    contents: Contents,
) -> None:  # fmt: skip
    with Store.open(tmp_path_factory.mktemp("any") / "s.duckdb") as store:
        newest: dict[str, int] = {}
        for number, at, span in came:
            whole = batch(export, f"t{number}", at=at)
            written = ingest(store, [Batch(spans=whole.spans[span:], origins=whole.origins)])
            if written.spans:
                newest[f"t{number}"] = max(at, newest.get(f"t{number}", 0))
        expire(store, RetentionConfig(max_age=days(limit)), 10 * DAY)
        assert names(store) == sorted(name for name, at in newest.items() if at >= 10 - limit)
        after = contents(store)
        anew = rebuilt(store, contents)
        assert set(anew.pop("tools")) <= set(after.pop("tools"))  # a step may name what only an expired one had told
        assert anew == after


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({}, RetentionConfig()),
        (
            {"max_age": "90d", "agents": {"support": "30d", "gold": "keep"}, "max_bytes": "10GB", "every": "30m"},
            RetentionConfig(
                max_age=days(90),
                agents={"support": days(30), "gold": None},
                max_bytes=10**10,
                every=timedelta(minutes=30),
            ),
        ),
        ({"compact_share": 1, "max_bytes": 5}, RetentionConfig(compact_share=1.0, max_bytes=5)),
    ],
)
def test_a_table_is_read(table: dict[str, Any], expected: RetentionConfig) -> None:
    assert retention_from(table) == expected
    assert expected.limits_nothing is (not table)


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"max_ages": "1d"}, "has the key 'max_ages', allowed: max_age, agents"),
        ({"max_age": 30}, "age '30' can't be read"),
        ({"max_age": "0d"}, "retention max_age is 0:00:00, allowed: more than 0"),
        ({"agents": {"a": "0d"}}, r"retention agents\.a is 0:00:00, allowed: more than 0"),
        ({"agents": "30d"}, "agents is '30d', expected a table"),
        ({"max_bytes": 0}, "retention max_bytes is 0, allowed: more than 0"),
        ({"compact_share": "half"}, "compact_share is 'half', expected a number"),
        ({"compact_share": 2}, "compact_share is 2.0, allowed: above 0, up to 1"),
    ],
)
def test_a_wrong_table_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        retention_from(table)


def test_what_is_gone_says_all_that_went() -> None:
    assert list(as_json({"a": Gone(trajectories=1, others=0, spans=2, log_records=3, bytes=4)})["a"]) == [
        "trajectories", "others", "spans", "log_records", "bytes",
    ]  # fmt: skip
