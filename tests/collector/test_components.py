"""Traces of other instrumentation in the store: what belongs together, in whatever order it comes."""

import hashlib
import json
import random
from ast import literal_eval
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from imitrace import semconv
from imitrace_collector import components, derive, joining, otlp
from imitrace_collector.compaction import compact
from imitrace_collector.derive import derive_all, derive_next, rebuild
from imitrace_collector.foreign import conversations, matching
from imitrace_collector.foreign.assembly import Derived, assemble
from imitrace_collector.foreign.conversations import read_traces
from imitrace_collector.ingest import Writer, ingest
from imitrace_collector.retention import RetentionConfig, expire
from imitrace_collector.rows import Batch, LogRow, SpanRow
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
Contents = Callable[[Store], dict[str, list[str]]]
Json = dict[str, Any]  # a JSON object
DAY = 24 * 3600 * 10**9
INTERNAL = ("links", "component_trajectories", "component_scores")


def pairs(attributes: Mapping[str, object]) -> list[KeyValue]:
    def value(one: object) -> AnyValue:
        if isinstance(one, float):
            return AnyValue(double_value=one)
        return AnyValue(string_value=one if isinstance(one, str) else json.dumps(one))

    return [KeyValue(key=name, value=value(one)) for name, one in attributes.items()]


def number(name: str, length: int) -> bytes:
    """Return an id for a name; a name of 32 hexadecimal digits is a trace's own."""
    if length == 16 and len(name) == 32:
        return bytes.fromhex(name)
    return hashlib.blake2b(name.encode(), digest_size=length).digest()


def said(role: str, text: str) -> Json:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def call(trace: str, turn: int, user: str = "hi", *, at: int = 0, received_at: int = 0, **attributes: object) -> Batch:
    """Return a model call's span: ``turn`` answers came before it."""
    history = [said("user", user)]
    for earlier in range(turn):
        history += [said("assistant", f"answer {earlier}"), said("user", f"more {earlier}")]
    given = {
        "gen_ai.operation.name": "chat",
        "gen_ai.input.messages": history,
        "gen_ai.output.messages": [said("assistant", f"answer {turn}")],
    } | {name.replace("__", "."): value for name, value in attributes.items()}
    request = ExportTraceServiceRequest()
    group = request.resource_spans.add(resource=Resource(attributes=pairs({"service.name": "desk"})))
    group.scope_spans.add().spans.add(
        name="chat gpt",
        trace_id=number(trace, 16),
        span_id=number(f"{trace} {turn}", 8),
        start_time_unix_nano=1000 + at + turn * 10,
        end_time_unix_nano=1005 + at + turn * 10,
        attributes=pairs(given),
    )
    return otlp.read(otlp.TRACES, request, received_at).batch


def score(name: str, trace: str | None = None, **attributes: object) -> Batch:
    request = ExportLogsServiceRequest()
    group = request.resource_logs.add(resource=Resource(attributes=pairs({"service.name": "judge"})))
    given = {"gen_ai.evaluation.name": name, "gen_ai.evaluation.score.value": 0.5} | {
        key.replace("__", "."): value for key, value in attributes.items()
    }
    log = group.scope_logs.add().log_records.add(
        event_name="gen_ai.evaluation.result", time_unix_nano=5, attributes=pairs(given)
    )
    if trace is not None:
        log.trace_id, log.span_id = number(trace, 16), number(f"{trace} 0", 8)
    return otlp.read(otlp.LOGS, request, 0).batch


def trajectories(store: Store) -> dict[str, int]:
    with store.reader() as reader:
        found = reader.rows("SELECT trajectory_id, step_count FROM trajectories")
        steps = reader.rows("SELECT trajectory_id, count(*) AS n FROM steps GROUP BY ALL")
    counts = {row["trajectory_id"]: row["step_count"] for row in found}
    assert {row["trajectory_id"]: row["n"] for row in steps} == {name: n for name, n in counts.items() if n}
    return counts


def scores(store: Store) -> list[tuple[str, int | None, str]]:
    with store.reader() as reader:
        rows = reader.rows("SELECT * FROM scores ORDER BY name")
    return [(row["trajectory_id"], row["step_index"], row["name"]) for row in rows]


def derived(contents: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return what readers see; messages that no step names any more may stay."""
    return {table: rows for table, rows in contents.items() if table not in ("messages", "chunks", "spans", "bodies")}


def test_traces_of_one_conversation_are_one_trajectory(store: Store) -> None:
    for turn in range(3):
        ingest(store, [call(f"trace {turn}", turn, gen_ai__conversation__id="c1")])
    assert trajectories(store) == {"c1": 3}


def test_a_hand_written_loop_is_put_together_by_what_goes_on(store: Store) -> None:
    """Each call is a trace of its own, and none names a conversation."""
    ingest(store, [call("b", 1), call("other", 0, user="bye")])
    ingest(store, [call("a", 0)])
    ingest(store, [call("c", 2)])
    assert trajectories(store) == {number("a", 16).hex(): 3, number("other", 16).hex(): 1}


def test_equal_calls_that_nobody_goes_on_from_stay_apart(store: Store) -> None:
    ingest(store, [call(f"trace {n}", 0) for n in range(50)])
    assert set(trajectories(store).values()) == {1}
    with store.reader() as reader:
        assert len(reader.rows("SELECT DISTINCT component FROM links")) == 50


def test_equal_conversations_are_told_apart_by_time(store: Store) -> None:
    for name, at in (("a", 0), ("b", 1000)):
        ingest(store, [call(f"{name} {turn}", turn, at=at) for turn in range(3)])
    assert list(trajectories(store).values()) == [3, 3]


def test_equal_conversations_cost_the_same_however_many_there_are(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is assembled is counted, of conversations that take turns."""
    real, counts = assemble, list[int]()

    def counted(spans: Sequence[SpanRow], *rest: Any) -> Derived:
        counts.append(len(spans))
        return real(spans, *rest)

    monkeypatch.setattr(components, "assemble", counted)
    by_turn = []
    for start in range(0, 32, 4):
        before = sum(counts)
        for turn in range(3):
            ingest(store, [call(f"{start + n} {turn}", turn, at=start * 25 + n * 3) for n in range(4)])
        by_turn.append(sum(counts) - before)
    assert set(trajectories(store).values()) == {3}
    assert max(counts) == 3
    assert by_turn == [24] * 8


def test_a_conversation_without_end_is_told_trace_by_trace(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "MOST", 3)
    named: Json = {"gen_ai__conversation__id": "c1"}
    ingest(store, [call(f"trace {turn}", turn, **named) for turn in range(3)])
    assert trajectories(store) == {"c1": 3}
    ingest(store, [call("trace 3", 3, **named)])
    assert trajectories(store) == {f"c1~{number(f'trace {turn}', 16).hex()}": 1 for turn in range(4)}
    with store.reader() as reader:
        rows = reader.rows("SELECT complete, incomplete_reason AS why FROM trajectories")
        steps = reader.rows("SELECT complete, history_length AS seen FROM bare_steps ORDER BY started_at")
    assert all(not row["complete"] and "too long to be put together" in row["why"] for row in rows)
    seen = [(row["complete"], row["seen"]) for row in steps]
    assert seen == [(False, 1), (True, 3), (True, 5), (True, 7)]  # what says nothing of earlier answers may lack them


def test_a_chain_without_end_begins_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "LONGEST", 6)
    for turn in range(7):
        ingest(store, [call(str(turn), turn)])
    first, then, last = (number(name, 16).hex() for name in ("0", "3", "6"))
    assert trajectories(store) == {first: 3, then: 3, last: 1}
    with store.reader() as reader:
        rows = reader.rows("SELECT trajectory_id, incomplete_reason AS why FROM trajectories")
        steps = reader.rows("SELECT complete FROM bare_steps")
    assert {row["trajectory_id"] for row in rows if row["why"]} == {then, last}
    assert all(row["complete"] for row in steps)


def test_a_trace_that_breaks_our_reading_costs_only_itself(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = read_traces

    def broken(spans: Sequence[SpanRow], logs: Sequence[LogRow]) -> Any:
        if any(span.trace_id == number("bad", 16).hex() for span in spans):
            raise RecursionError("deep")
        return real(spans, logs)

    monkeypatch.setattr(components, "read_traces", broken)
    ingest(store, [call("good", 0), call("bad", 0)])
    assert trajectories(store) == {number("good", 16).hex(): 1, number("bad", 16).hex(): 0}


def test_our_own_steps_win(store: Store, export: MakeExport) -> None:
    """A trace that was derived as another's is left to our own steps once they come."""
    own = export("t1")
    trace = own.resource_spans[0].scope_spans[0].spans[0].trace_id.hex()
    ingest(store, [call(trace, 0)])
    assert trajectories(store) == {trace: 1}
    ingest(store, [otlp.read(otlp.TRACES, own, 0).batch])
    assert trajectories(store) == {"t1": 2}


def test_a_name_that_our_own_trajectory_has_is_not_taken(store: Store, export: MakeExport) -> None:
    ingest(store, [call("x", 0, gen_ai__conversation__id="t1")])
    assert trajectories(store) == {"t1": 1}
    ingest(store, [otlp.read(otlp.TRACES, export("t1"), 0).batch])
    assert trajectories(store) == {"t1": 2, "t1@trace": 1}


@pytest.mark.parametrize("first", ["score", "call"])
def test_a_score_finds_what_it_is_about(store: Store, first: str) -> None:
    judged = [
        score("by conversation", gen_ai__conversation__id="c1"),
        score("by response", gen_ai__response__id="response-1"),
        score("by span", "trace"),
    ]
    made = call("trace", 0, gen_ai__conversation__id="c1", gen_ai__response__id="response-1")
    for batch in [*judged, made] if first == "score" else [made, *judged]:
        ingest(store, [batch])
    assert scores(store) == [("c1", None, "by conversation"), ("c1", 0, "by response"), ("c1", 0, "by span")]


def test_scores_of_others_stay_when_a_conversation_grows(store: Store) -> None:
    named: Json = {"gen_ai__conversation__id": "c1"}
    ingest(store, [call("a", 0, **named), score("found", **named)])
    ours: Json = {semconv.TRAJECTORY_ID.replace(".", "__"): "c1"}
    ingest(store, [score("told", **ours)])
    ingest(store, [call("b", 1, **named)])
    assert scores(store) == [("c1", None, "found"), ("c1", None, "told")]


def test_too_much_is_marked_incomplete(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(components, "LARGEST", 1000)
    ingest(store, [call("a", 0, user="x" * 2000)])
    with store.reader() as reader:
        (row,) = reader.rows("SELECT trajectory_id, step_count, incomplete_reason AS why FROM trajectories")
    assert (row["trajectory_id"], row["step_count"]) == (number("a", 16).hex(), 0)
    assert "bytes, allowed: 1000" in row["why"]


def test_what_expires_goes_whole(store: Store) -> None:
    for turn, day in ((0, 1), (1, 2)):
        ingest(store, [call(f"old {turn}", turn, received_at=day * DAY, gen_ai__conversation__id="old")])
        ingest(store, [call(f"new {turn}", turn, received_at=day * 4 * DAY, gen_ai__conversation__id="new")])
    ingest(store, [score("late", gen_ai__conversation__id="old")])
    gone = expire(store, RetentionConfig(max_age=timedelta(days=3)), 9 * DAY)
    assert {agent: found.trajectories for agent, found in gone.items()} == {"desk": 1, "judge": 0}
    assert trajectories(store) == {"new": 2}
    assert scores(store) == []
    with store.reader() as reader:
        assert {row["key"] for row in reader.rows("SELECT key FROM links")}.isdisjoint({"conversation:old"})


def test_a_compacted_store_goes_on(store: Store, contents: Contents) -> None:
    ingest(store, [call("a", 0), score("s", "a")])
    before = contents(store)
    compact(store)
    assert contents(store) == before
    ingest(store, [call("b", 1)])
    assert trajectories(store) == {number("a", 16).hex(): 2}


CALLS: Sequence[Batch] = [
    *(call(f"chain {turn}", turn) for turn in range(4)),
    *(call(f"named {turn}", turn, user="x", gen_ai__conversation__id="c") for turn in range(3)),
    call("named 0", 5, user="x"),
    score("s1", gen_ai__conversation__id="c"),
    score("s2", "chain 0"),
    score("s3", gen_ai__response__id="nobody"),
]
CROWD: Sequence[Batch] = [
    *(call(f"{n} {turn}", turn, at=n) for n in range(5) for turn in range(3)),
    *(call(f"c{n}", 0, user="x", at=n, gen_ai__conversation__id="c") for n in range(3)),
    *(call(f"d{n}", 0, user="y", at=n, gen_ai__conversation__id="d") for n in range(2)),
    *(call("r", 0, user="z", gen_ai__response__id="r"), score("s1", gen_ai__response__id="r")),
]
"""More than belong together where little does."""


@pytest.mark.parametrize(("sent", "most"), [(CALLS, 500), (CROWD, 2)], ids=["few", "crowd"])
def test_rows_are_the_same_for_any_order_repetition_and_batching(
    tmp_path_factory: pytest.TempPathFactory,
    contents: Contents,
    monkeypatch: pytest.MonkeyPatch,
    sent: Sequence[Batch],
    most: int,
) -> None:
    monkeypatch.setattr(joining, "MOST", most)
    monkeypatch.setattr(joining, "NEAR", 3)
    monkeypatch.setattr(matching, "NEAR", 3)
    monkeypatch.setattr(derive, "CHUNKS", 3)
    expected: dict[str, list[str]] = {}

    @settings(max_examples=5, deadline=None)
    @given(seed=st.integers(0, 2**32), cuts=st.lists(st.integers(0, len(sent)), max_size=4))
    def holds(seed: int, cuts: list[int]) -> None:
        rng = random.Random(seed)
        shuffled = [*sent, *rng.sample(sent, 3)]
        rng.shuffle(shuffled)
        with Store.open(tmp_path_factory.mktemp("any") / "s.duckdb") as store, store.session() as session:
            writer, last = Writer(session), 0
            for cut in [*sorted(cuts), len(shuffled)]:
                if shuffled[last:cut]:
                    writer.write(shuffled[last:cut])
                for _ in range(rng.randrange(4)):
                    derive_next(session)
                last = cut
            derive_all(session)
            found = derived(contents(store))
            rebuild(session)
            again = derived(contents(store))
        expected.update(expected or found)
        for table in ("trajectories", "bare_steps", "histories", "scores"):
            assert found[table] == again[table] == expected[table]
        assert found["links"] == again["links"]

    holds()
    ids = [literal_eval(row)["trajectory_id"] for row in expected["trajectories"]]
    assert len(ids) == len(set(ids)) and len(expected["scores"]) == (2 if sent is CALLS else 1)


def test_a_capture_gives_the_same_through_the_store_and_after_a_rebuild(
    store: Store, data: Path, contents: Contents
) -> None:
    files = sorted((data / "captures" / "langgraph__openinference").glob("*.pb"))
    for file in files:
        message = otlp.parse(otlp.TRACES, file.read_bytes(), otlp.PROTOBUF)
        ingest(store, [otlp.read(otlp.TRACES, message, 0).batch])
    assert trajectories(store) == {"conv-support-0001": 7, "conv-support-0001/shipping_agent": 2}
    before = contents(store)
    with store.session() as session:
        rebuild(session)
    after = contents(store)
    for table in ("trajectories", "bare_steps", "histories", "scores", "tools"):
        assert after[table] == before[table]
