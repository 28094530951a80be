import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imitrace import semconv
from imitrace.canonical import step_digest
from imitrace.schema import TABLES
from imitrace_collector.derive import rebuild
from imitrace_collector.ingest import ingest
from imitrace_collector.normalize import Columns
from imitrace_collector.parts import sort_spans
from imitrace_collector.rows import Batch, SpanRow
from imitrace_collector.store import Store
from imitrace_collector.trajectories import assemble

MakePart = Callable[..., list[SpanRow]]
Encode = Callable[[Sequence[SpanRow]], Batch]


def order(spans: Sequence[SpanRow]) -> list[str]:
    """Return the steps' own names in the merged order, after a look at their numbers."""
    steps = assemble("t1", spans).steps
    assert [step["step_index"] for step in steps] == list(range(len(steps)))
    return [step["action_name"] for step in steps]


def told(spans: Sequence[SpanRow]) -> Columns:
    (trajectory,) = assemble("t1", spans).trajectories
    return trajectory


def changed(span: SpanRow, **attributes: Any) -> SpanRow:  # any attribute value; None removes
    values = span.attributes | {getattr(semconv, name): value for name, value in attributes.items()}
    return replace(span, attributes={key: value for key, value in values.items() if value is not None})


def test_a_resumed_trajectory_goes_on_where_it_stopped(part: MakePart) -> None:
    first, later = part("a", at=0), part("b", at=1000)
    assert order([*later, *first]) == ["a.0", "a.1", "b.0", "b.1"]
    trajectory = told([*first, *later])
    assert (trajectory["complete"], trajectory["step_count"]) == (True, 4)
    assert (trajectory["started_at"], trajectory["ended_at"]) == (0, 1100)


@pytest.mark.parametrize(
    ("position", "merged"),
    [
        (0, ["b.0", "b.1", "a.0", "a.1"]),
        (1, ["a.0", "b.0", "b.1", "a.1"]),
        (2, ["a.0", "a.1", "b.0", "b.1"]),
    ],
)
def test_a_part_that_joined_stands_where_it_was_called(part: MakePart, position: int, merged: list[str]) -> None:
    spans = [*part("b", parent="a", PART_POSITION=position), *part("a")]
    assert order(spans) == merged
    assert told(spans)["complete"]


def test_parts_join_parts_and_two_at_one_place_stand_by_time(part: MakePart) -> None:
    spans = part("a", 2, at=0)
    spans += part("late", 1, at=20, parent="a", PART_POSITION=1) + part("early", 2, at=10, parent="a", PART_POSITION=1)
    spans += part("inner", 1, at=11, parent="early", PART_POSITION=1)
    assert order(spans) == ["a.0", "early.0", "inner.0", "early.1", "late.0", "a.1"]
    assert told(spans)["complete"]


def test_the_state_of_a_step_is_that_of_its_own_part(part: MakePart) -> None:
    steps = assemble("t1", [*part("a"), *part("b", parent="a", PART_POSITION=1)]).steps
    assert [len(step["state"]) for step in steps] == [1, 1, 2, 2]
    assert steps[3]["state"][0] == steps[0]["state"][0]
    assert steps[2]["state"][0] == steps[1]["state"][0]


def test_a_missing_step_of_one_part_leaves_the_other_parts_steps_whole(part: MakePart) -> None:
    _, *short = part("b", at=1000)
    rows = assemble("t1", [*part("a"), *short])
    assert [step["complete"] for step in rows.steps] == [True, True, False]
    reason = rows.trajectories[0]["incomplete_reason"]
    assert reason.startswith("part 2 of 2: 1 of 2 steps arrived; step 2: the 1 messages before it are unknown")


def test_while_a_part_has_not_ended_the_trajectory_still_runs(part: MakePart) -> None:
    *running, _ = part("b", 1, at=1000)
    trajectory = told([*part("a"), *running])
    assert (trajectory["incomplete_reason"], trajectory["ended_at"]) == ("still running", None)
    assert order([*part("a"), *running]) == ["a.0", "a.1", "b.0"]


def test_a_part_that_joined_waits_for_the_one_that_called_it(part: MakePart) -> None:
    joined = part("b", parent="a", PART_POSITION=1)
    assert told(joined)["incomplete_reason"] == "still running"
    *calling, _ = part("a")
    assert told([*joined, *calling])["incomplete_reason"] == "still running"


@pytest.mark.parametrize(
    ("position", "reason"),
    [
        (None, "part 2 of 2: says no position in the part that called it"),
        (7, "part 2 of 2: says position 7 in the part that called it, which has 2 steps"),
    ],
)
def test_a_part_that_joined_nowhere_stands_last_and_is_incomplete(
    part: MakePart, position: int | None, reason: str
) -> None:
    *steps, root = part("b", parent="a")
    spans = [*part("a"), *steps, changed(root, PART_POSITION=position)]
    assert order(spans) == ["a.0", "a.1", "b.0", "b.1"]
    assert told(spans)["incomplete_reason"] == reason


def test_parts_that_name_each_other_as_callers_are_incomplete(part: MakePart) -> None:
    spans = part("a", 1, parent="b", PART_POSITION=1) + part("b", 1, at=1, parent="a", PART_POSITION=1)
    assert len({json.dumps(assemble("t1", found).steps, default=list) for found in permutations(spans)}) == 1
    assert "part 2 of 2: stands under 100 parts or more, or calls itself" in told(spans)["incomplete_reason"]
    assert told(part("a", parent="a", PART_POSITION=0))["step_count"] == 2


def test_a_part_under_a_hundred_others_is_incomplete(part: MakePart) -> None:
    chain = [part(f"p{number}", 1, parent=f"p{number - 1}", PART_POSITION=1) for number in range(1, 1000)]
    rows = assemble("t1", [*part("p0", 1), *(span for spans in chain for span in spans)])
    assert len(rows.steps) == 1000
    assert not rows.trajectories[0]["complete"]


def test_agent_task_and_tags_are_the_first_parts_and_the_outcome_is_the_last_ones(part: MakePart) -> None:
    says = {"TRAJECTORY_TASK": "refund", "AGENT_NAME": "desk", "TRAJECTORY_TAGS": '{"cohort":"a"}'}
    first = part("a", at=0, TRAJECTORY_OUTCOME="abandoned", **says)
    later = part("b", at=1000, TRAJECTORY_OUTCOME="success", TRAJECTORY_TASK="other", AGENT_NAME="shop")
    found = told([*later, *first])
    assert [found[name] for name in ("task", "agent", "tags", "outcome")] == [
        "refund",
        "desk",
        '{"cohort":"a"}',
        "success",
    ]
    assert [step["agent"] for step in assemble("t1", [*first, *later]).steps] == ["desk", "desk", "shop", "shop"]


def test_a_part_has_the_last_word_over_those_that_joined_it(part: MakePart) -> None:
    calling = part("a", at=0, TRAJECTORY_OUTCOME="failure")
    joined = part("b", at=5000, parent="a", PART_POSITION=1, TRAJECTORY_OUTCOME="success")
    assert told([*calling, *joined])["outcome"] == "failure"


def test_an_observation_may_come_in_another_part(part: MakePart) -> None:
    *steps, root = part("b", 1, at=1000)
    message = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "a.0", "response": "told later"}]}
    answered = changed(steps[0], STEP_MESSAGES=json.dumps([message]), STEP_DIGEST=None)
    asked = changed(part("a", 1)[0], TOOL_CALL_RESULT=None, STEP_DIGEST=None)
    signed = [changed(span, STEP_DIGEST=digest_of(span)) for span in (answered, asked)]
    assert assemble("t1", [*signed, root, part("a", 1)[1]]).steps[0]["observation"] == "told later"


def digest_of(span: SpanRow) -> str:
    return step_digest(span.attributes)


def test_steps_that_another_sender_hangs_anywhere_belong_to_the_nearest_part_or_the_first(part: MakePart) -> None:
    *steps, root = [replace(span, scope={"name": "other"}) for span in part("a")]
    lost = [replace(step, parent_span_id="ab" * 8) for step in steps]
    between = replace(root, span_id="ab" * 8, parent_span_id=root.span_id, name="chat", attributes={})
    second = part("b", at=1000)
    for spans in ([*lost, root], [*lost, between, root], [*lost, root, *second]):
        assert told(spans)["complete"]
    assert {part.root is None for part in sort_spans([*lost, between, root]).parts} == {False}
    assert told(lost)["incomplete_reason"] == "still running"


def test_with_one_part_a_step_keeps_its_senders_index(part: MakePart) -> None:
    _, second, root = part("a")
    assert [step["step_index"] for step in assemble("t1", [second, root]).steps] == [1]


def test_chunks_are_put_together_before_anything_reads_the_step(part: MakePart) -> None:
    whole, chunked = part("a"), part("a", width=20)
    assert len(chunked) > len(whole) + 4
    assert assemble("t1", chunked) == assemble("t1", whole)
    assert told(chunked)["complete"]


@pytest.mark.parametrize("lost", range(4))
def test_without_one_of_its_chunks_a_step_and_what_builds_on_it_are_incomplete(part: MakePart, lost: int) -> None:
    first, *rest = part("a", width=20)
    chunks = [span for span in rest if span.parent_span_id == first.span_id]
    assert len(chunks) == 4
    spans = [span for span in (first, *rest) if span != chunks[lost]]
    told_of = [step["incomplete_reason"] for step in assemble("t1", spans).steps]
    assert told_of[0] == "3 of 4 chunks arrived"
    assert told_of[1].startswith("the 1 messages before it are unknown")


def test_chunks_of_a_step_that_did_not_arrive_are_said(part: MakePart) -> None:
    first, *rest = part("a", 1, width=20)
    assert first.name == semconv.SPAN_STEP
    assert "4 chunks belong to no step and no tool run that arrived" in told(rest)["incomplete_reason"]
    assert assemble("t1", rest[:-1]).trajectories == []


def test_what_the_sender_left_off_makes_the_step_incomplete(part: MakePart) -> None:
    first, second, root = part("a")
    cut = changed(first, STEP_INCOMPLETE="payload of 5 GB", STEP_MESSAGES=None)
    steps = assemble("t1", [cut, second, root]).steps
    assert steps[0]["incomplete_reason"] == "sent incomplete: payload of 5 GB"
    assert not steps[1]["complete"]


def tool_run(span: SpanRow, **attributes: Any) -> SpanRow:
    named = {semconv.OPERATION: semconv.SPAN_TOOL, semconv.TOOL_CALL_ID: "a.0", semconv.TRAJECTORY_ID: "t1"}
    bare = replace(span, name="execute_tool a.0", span_id="cd" * 8, attributes=named)
    return changed(bare, **attributes)


@pytest.mark.parametrize(
    ("attributes", "chunks", "observation", "reason"),
    [
        ({"TOOL_CALL_RESULT": "shipped"}, 0, "shipped", None),
        ({"STEP_CHUNKS": 2}, 2, "shipped", None),
        ({"STEP_CHUNKS": 2}, 1, None, "result of its tool run: 1 of 2 chunks arrived"),
        ({"TOOL_CALL_RESULT": "ship", "STEP_DIGEST": "7-beef"}, 0, None, "result of its tool run: digest is '7-beef'"),
        ({"STEP_INCOMPLETE": "too large"}, 0, None, "result of its tool run: sent incomplete: too large"),
    ],
)
def test_the_result_of_a_tool_run_is_taken_only_whole(
    part: MakePart, attributes: dict[str, Any], chunks: int, observation: str | None, reason: str | None
) -> None:
    step, root = part("a", 1)
    silent = changed(step, TOOL_CALL_RESULT=None)
    silent = changed(silent, STEP_DIGEST=digest_of(silent))
    run = tool_run(step, **attributes)
    pieces = [
        replace(
            changed(run, CHUNK_ATTRIBUTE=semconv.TOOL_CALL_RESULT, CHUNK_INDEX=index, CHUNK_COUNT=2, CHUNK_TEXT=text),
            name=semconv.SPAN_CHUNK,
            span_id=f"{index + 1:016x}",
            parent_span_id=run.span_id,
        )
        for index, text in enumerate(["ship", "ped"][:chunks])
    ]
    (row,) = assemble("t1", [root, silent, run, *pieces]).steps
    assert row["observation"] == observation
    assert (row["incomplete_reason"] or "").startswith(reason or "")
    assert row["complete"] == (reason is None)


def stored(path: Path, batches: Sequence[Batch], again: bool) -> dict[str, list[dict[str, Any]]]:
    with Store.open(path) as store:
        for batch in batches:
            ingest(store, [batch])
        if again:
            with store.session() as session:
                rebuild(session)
        with store.reader() as reader:
            return {table: reader.table(table).read_all().to_pylist() for table in TABLES}


@settings(deadline=None, max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shuffle=st.randoms(use_true_random=False),
    cuts=st.lists(st.integers(0, 80), max_size=6),
    position=st.integers(0, 3),
    width=st.sampled_from([15, 40, 1000]),
    lost=st.integers(0, 25),
)
def test_parts_and_chunks_give_the_same_rows_for_any_order_repetition_and_batching(
    part: MakePart,
    encode: Encode,
    tmp_path: Path,
    shuffle: random.Random,
    cuts: list[int],
    position: int,
    width: int,
    lost: int,
) -> None:
    spans = part("a", 3, width=width) + part("b", 2, at=1, parent="a", width=width, PART_POSITION=position)
    spans += part("c", 1, at=2, parent="b", PART_POSITION=1) + part("d", 2, at=1000, width=width)
    sent = [span for number, span in enumerate(spans) if number != lost]
    arriving = sent * 2
    shuffle.shuffle(arriving)
    batches = [encode(arriving[start:end]) for start, end in pairwise([0, *sorted(cuts), len(arriving)])]
    folder = tmp_path / f"{random.Random().random()}"
    at_once = stored(folder / "b.duckdb", [encode(sent)], again=False)
    assert stored(folder / "a.duckdb", batches, again=False) == at_once == stored(folder / "b.duckdb", [], again=True)
    assert at_once["trajectories"][0]["complete"] == (lost >= len(spans))
