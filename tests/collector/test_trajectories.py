import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace import semconv
from imitrace.canonical import content_hash, step_digest
from imitrace.schema import STEPS, TRAJECTORIES
from imitrace_collector import otlp
from imitrace_collector.ingest import ingest
from imitrace_collector.rows import Batch, SpanRow
from imitrace_collector.store import Store
from imitrace_collector.trajectories import Assembled, assemble, unreadable

MakeExport = Callable[..., ExportTraceServiceRequest]
Decode = Callable[[Batch], list[SpanRow]]
Encode = Callable[[Sequence[SpanRow]], Batch]
TOOLS_HASH = content_hash(
    [{"name": "get_order", "description": "", "parameters": {"type": "object", "properties": {}}}]
)


@pytest.fixture
def spans(export: MakeExport, decode: Decode) -> list[SpanRow]:
    """Return the trajectory's span and its two steps."""
    return decode(otlp.read(otlp.TRACES, export(), 0).batch)


def changed(span: SpanRow, *, sign: bool = True, **attributes: Any) -> SpanRow:  # any attribute value; None removes
    """Return a span with other attributes, named by their constant in ``semconv``."""
    values = span.attributes | {getattr(semconv, name): value for name, value in attributes.items()}
    values = {name: value for name, value in values.items() if value is not None}
    if sign and semconv.STEP_DIGEST in values:
        values[semconv.STEP_DIGEST] = step_digest(values)
    return replace(span, attributes=values)


def reasons(rows: Assembled) -> list[str | None]:
    return [row["incomplete_reason"] for row in (*rows.trajectories, *rows.steps)]


def test_a_whole_trajectory_becomes_rows_of_the_contract(spans: list[SpanRow]) -> None:
    rows = assemble("t1", spans)
    assert reasons(rows) == [None, None, None]
    assert {frozenset(row) for row in rows.steps} == {frozenset(STEPS)}
    assert {frozenset(row) for row in rows.trajectories} == {frozenset(TRAJECTORIES)}
    (trajectory,) = rows.trajectories
    assert (trajectory["agent"], trajectory["task"], trajectory["outcome"]) == ("desk", "7", "success")
    assert (trajectory["source"], trajectory["step_count"], trajectory["tags"]) == ("chat-jsonl", 2, "{}")
    look_up, answer = rows.steps
    assert (look_up["action_name"], look_up["action_arguments"]) == ("get_order", '{"id":"A-1"}')
    assert (look_up["policy_role"], look_up["policy_name"], look_up["observation"]) == ("expert", "gpt", "shipped")
    assert (answer["action_kind"], answer["action_message"]) == ("message", "It is on its way.")
    assert {look_up["tools_hash"], answer["tools_hash"]} == {TOOLS_HASH} == {rows.tools[0]["tools_hash"]}


def test_a_state_is_the_state_before_and_what_is_new(spans: list[SpanRow]) -> None:
    rows = assemble("t1", spans)
    first, second = (row["state"] for row in rows.steps)
    assert (len(first), len(second)) == (2, 4)
    assert second[:2] == first
    content = {row["message_id"]: json.loads(row["content"]) for row in rows.messages}
    assert [content[message_id]["role"] for message_id in second] == ["system", "user", "assistant", "tool"]
    assert all(content_hash(message) == message_id for message_id, message in content.items())


def test_a_history_that_was_cut_back_keeps_only_what_the_offset_says(spans: list[SpanRow]) -> None:
    root, first, second = spans
    rows = assemble("t1", [root, first, changed(second, STEP_MESSAGES_OFFSET=1)])
    assert reasons(rows) == [None, None, None]
    assert rows.steps[1]["state"][0] == rows.steps[0]["state"][0]
    assert len(rows.steps[1]["state"]) == 3


def test_without_its_own_span_a_trajectory_is_still_running(spans: list[SpanRow]) -> None:
    (trajectory,) = assemble("t1", spans[1:]).trajectories
    assert (trajectory["ended_at"], trajectory["complete"]) == (None, False)
    assert trajectory["incomplete_reason"] == "still running"


def test_fewer_steps_than_announced_make_it_incomplete(spans: list[SpanRow]) -> None:
    (trajectory,) = assemble("t1", spans[:2]).trajectories
    assert trajectory["incomplete_reason"] == "1 of 2 steps arrived"


def test_after_a_missing_step_the_state_is_unknown_until_a_whole_history_comes(spans: list[SpanRow]) -> None:
    root, _, second = spans
    rows = assemble("t1", [root, second])
    assert rows.steps[0]["incomplete_reason"].startswith("the 2 messages before it are unknown")
    whole = changed(second, STEP_MESSAGES_OFFSET=0, STEP_TOOLS_HASH=None)
    assert assemble("t1", [root, whole]).steps[0]["complete"]


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"STEP_MESSAGES": "[{"}, "messages: not JSON"),
        ({"STEP_MESSAGES": "[" * 200 + "]" * 200}, "nested deeper"),
        ({"STEP_MESSAGES": '[{"role": 3}]'}, "messages: message is"),
        ({"STEP_MESSAGES": None}, "messages: not JSON text"),
        ({"STEP_MESSAGES_OFFSET": 9}, "9 messages should come before it, 2 are known"),
        ({"STEP_MESSAGES_OFFSET": None}, "no message offset"),
        ({"STEP_TOOLS_HASH": "beef"}, "tools beef were offered, and no step defines them"),
        ({"TOOL_DEFINITIONS": '[{"name": "other"}]'}, "the definitions sent with it hash to"),
        ({"TOOL_DEFINITIONS": "{}"}, "tool definitions: not a JSON list"),
        ({"POLICY_ROLE": "boss"}, "policy role is 'boss', allowed: expert, clone"),
        ({"STEP_ACTION_KIND": "dance"}, "action kind is 'dance', allowed: tool_call, message"),
        ({"STEP_MESSAGE": None}, "a message without text"),
        ({"STEP_ACTION_KIND": "tool_call"}, "without a tool's name"),
        (
            {"STEP_ACTION_KIND": "tool_call", "TOOL_NAME": "t", "TOOL_CALL_ARGUMENTS": "[]"},
            "arguments: not a JSON object",
        ),
        ({"STEP_SHADOW": '{"clone": "de'}, "shadow: not a JSON object"),
    ],
)
def test_what_is_wrong_with_a_step_is_said_in_words(
    spans: list[SpanRow], attributes: dict[str, Any], reason: str
) -> None:
    root, first, second = spans
    rows = assemble("t1", [root, first, changed(second, **attributes)])
    assert reason in rows.steps[1]["incomplete_reason"]
    assert rows.steps[0]["complete"]
    assert not rows.trajectories[0]["complete"]
    assert rows.trajectories[0]["incomplete_reason"].startswith("step 1: ")


def test_a_sender_that_says_incomplete_without_a_word_is_given_one(spans: list[SpanRow]) -> None:
    rows = assemble("t1", [changed(spans[0], STEP_INCOMPLETE=""), *spans[1:]])
    assert rows.trajectories[0]["incomplete_reason"] == "sent incomplete"


ENDLESS = "no end " * 1000


def test_reasons_have_an_end_whatever_a_sender_says(spans: list[SpanRow]) -> None:
    root, first, second = spans
    silent = changed(first, TOOL_CALL_RESULT=None, POLICY_ROLE=ENDLESS)
    run = changed(tool_run(first, "cut"), STEP_INCOMPLETE=ENDLESS)
    sent = [changed(root, STEP_INCOMPLETE=ENDLESS), silent, changed(second, STEP_INCOMPLETE=ENDLESS), run]
    found = reasons(assemble("t1", sent))
    found += [row["incomplete_reason"] for row in unreadable("t1", sent, ValueError(ENDLESS)).trajectories]
    assert len(found) == 4
    assert all(
        told and len(told) == 2000 and re.search(r"no end.*\.\.\. \(\d+ characters, cut\)$", told) for told in found
    )


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"STEP_MESSAGE": "It is on its w"}, "digest is"),
        ({"STEP_DIGEST": None}, "no digest"),
        ({"STEP_MESSAGES": "[]"}, "digest is"),
    ],
)
def test_a_payload_that_was_cut_on_the_way_is_noticed(
    spans: list[SpanRow], attributes: dict[str, Any], reason: str
) -> None:
    root, first, second = spans
    rows = assemble("t1", [root, first, changed(second, sign=False, **attributes)])
    assert reason in rows.steps[1]["incomplete_reason"]


def test_a_state_on_top_of_a_cut_payload_is_not_trusted(spans: list[SpanRow]) -> None:
    root, first, second = spans
    rows = assemble("t1", [root, changed(first, sign=False, TOOL_CALL_RESULT="ship"), second])
    assert not rows.steps[1]["complete"]
    assert "an earlier step is missing or incomplete" in rows.steps[1]["incomplete_reason"]


def test_a_step_whose_attributes_were_dropped_is_incomplete(spans: list[SpanRow]) -> None:
    root, first, second = spans
    rows = assemble("t1", [root, first, replace(changed(second, POLICY_ROLE=None), dropped_attributes=1)])
    assert rows.steps[1]["incomplete_reason"] == "1 attributes were dropped on the way"


def test_two_spans_that_claim_one_step_make_it_incomplete(spans: list[SpanRow]) -> None:
    rows = assemble("t1", [*spans, replace(spans[2], span_id="ab" * 8)])
    assert rows.steps[1]["incomplete_reason"] == "2 different spans claim this step"
    assert len(rows.steps) == 2


def test_a_step_span_without_an_index_is_counted(spans: list[SpanRow]) -> None:
    root, first, second = spans
    (trajectory,) = assemble("t1", [root, first, changed(second, STEP_INDEX="one")]).trajectories
    assert trajectory["incomplete_reason"] == "1 of 2 steps arrived; 1 step spans without a step index from 0"


def test_an_outcome_or_tags_of_another_kind_are_refused_in_words(spans: list[SpanRow]) -> None:
    root = changed(spans[0], TRAJECTORY_OUTCOME="fine", TRAJECTORY_TAGS='{"a": 1}')
    (trajectory,) = assemble("t1", [root, *spans[1:]]).trajectories
    assert (trajectory["outcome"], trajectory["tags"]) == (None, "{}")
    assert "outcome is 'fine'" in trajectory["incomplete_reason"]
    assert "tags are not" in trajectory["incomplete_reason"]


def test_the_span_of_an_inner_agent_does_not_end_the_trajectory(spans: list[SpanRow]) -> None:
    inner = changed(replace(spans[0], span_id="ab" * 8, started_at=1), TRAJECTORY_STEP_COUNT=None, AGENT_NAME="inner")
    assert not assemble("t1", [inner, *spans[1:]]).trajectories[0]["complete"]
    (trajectory,) = assemble("t1", [inner, *spans]).trajectories
    assert (trajectory["agent"], trajectory["complete"]) == ("desk", True)


def test_what_a_clone_would_have_done_is_kept_beside_what_was_done(spans: list[SpanRow]) -> None:
    root, first, second = spans
    rows = assemble("t1", [root, first, changed(second, STEP_SHADOW='{"version": 3, "clone": "desk"}')])
    assert [row["shadow"] for row in rows.steps] == [None, '{"clone":"desk","version":3}']
    assert rows.trajectories[0]["complete"]


def test_parallel_calls_share_decision_and_state(spans: list[SpanRow]) -> None:
    root, first, second = spans
    twin = changed(
        replace(first, span_id="ab" * 8), STEP_INDEX=1, STEP_MESSAGES="[]", STEP_MESSAGES_OFFSET=2, TOOL_CALL_ID="c2"
    )
    rows = assemble("t1", [changed(root, TRAJECTORY_STEP_COUNT=3), first, twin, changed(second, STEP_INDEX=2)])
    assert reasons(rows) == [None] * 4
    assert rows.steps[0]["decision"] == rows.steps[1]["decision"] != rows.steps[2]["decision"]
    assert rows.steps[0]["state"] == rows.steps[1]["state"]


def tool_run(span: SpanRow, result: str) -> SpanRow:
    values = {semconv.OPERATION: semconv.SPAN_TOOL, semconv.TOOL_CALL_ID: "c1", semconv.TOOL_CALL_RESULT: result}
    return replace(span, name="execute_tool get_order", span_id="cd" * 8, attributes=values)


def test_an_observation_is_the_steps_own_or_a_later_messages_or_a_tool_runs(spans: list[SpanRow]) -> None:
    root, first, second = spans
    run = tool_run(first, "from the run")
    silent = changed(first, TOOL_CALL_RESULT=None)
    observed = [
        assemble("t1", group).steps[0]["observation"]
        for group in ([root, first, second, run], [root, silent, second, run], [root, silent, run], [root, silent])
    ]
    assert observed == ["shipped", "shipped", "from the run", None]


def test_a_lone_surrogate_in_a_message_is_stored_and_keeps_its_name(
    spans: list[SpanRow], encode: Encode, store: Store
) -> None:
    sent = '[{"role": "user", "parts": [{"type": "text", "content": "\\ud83d"}]}]'
    only = changed(spans[1], STEP_MESSAGES=sent)
    ingest(store, [encode([changed(spans[0], TRAJECTORY_STEP_COUNT=1), only])])
    with store.reader() as reader:
        (row,) = reader.rows("SELECT * FROM messages")
        assert json.loads(row["content"]) == json.loads(sent)[0]
        assert row["message_id"] == content_hash(json.loads(sent)[0])
        assert reader.rows("SELECT complete FROM trajectories") == [{"complete": True}]


def test_foreign_spans_alone_make_no_trajectory(spans: list[SpanRow]) -> None:
    assert assemble("t1", [replace(spans[1], name="chat gpt")]) == Assembled()


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
NAMES = [name for name, value in vars(semconv).items() if isinstance(value, str) and "." in value and name.isupper()]


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    which=st.integers(0, 2),
    attributes=st.dictionaries(st.sampled_from(NAMES), ANYTHING | ANYTHING.map(json.dumps), min_size=1, max_size=4),
)
def test_any_attribute_gives_rows_that_the_store_takes(
    spans: list[SpanRow], encode: Encode, tmp_path: Path, which: int, attributes: dict[str, Any]
) -> None:
    mangled = [changed(span, **attributes) if number == which else span for number, span in enumerate(spans)]
    path = tmp_path / f"{random.Random().random()}.duckdb"
    with Store.open(path) as store:
        ingest(store, [encode(mangled)])
    path.unlink()


def stored(path: Path, batches: Sequence[Batch]) -> dict[str, list[dict[str, Any]]]:
    with Store.open(path) as store:
        for batch in batches:
            ingest(store, [batch])
        with store.reader() as reader:
            return {
                table: reader.table(table).read_all().to_pylist()
                for table in ("trajectories", "steps", "messages", "tools", "scores")
            }


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(shuffle=st.randoms(use_true_random=False), cuts=st.lists(st.integers(0, 14), max_size=5))
def test_rows_are_the_same_for_any_order_repetition_and_batching(
    export: MakeExport, decode: Decode, encode: Encode, tmp_path: Path, shuffle: random.Random, cuts: list[int]
) -> None:
    pair = [row for name in ("t1", "t2") for row in decode(otlp.read(otlp.TRACES, export(name), 0).batch)]
    pair.append(tool_run(pair[1], "from the run"))
    sent = pair * 2
    shuffle.shuffle(sent)
    edges = [0, *sorted(cuts), len(sent)]
    batches = [encode(sent[start:end]) for start, end in pairwise(edges)]
    folder = tmp_path / f"{random.Random().random()}"
    assert stored(folder / "a.duckdb", batches) == stored(folder / "b.duckdb", [encode(pair)])
