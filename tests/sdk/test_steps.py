import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import imitrace
from imitrace import semconv
from imitrace.canonical import content_hash, step_digest
from imitrace.messages import Action, from_openai, tool_definition
from imitrace.testing import Captured, capture

HELLO = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]
LOOK = {"type": "function", "function": {"name": "look", "description": "Look.", "parameters": {"type": "object"}}}
CALLS = [
    {"id": "c1", "function": {"name": "look", "arguments": '{"q": "x"}'}},
    {"id": "c2", "function": {"name": "look", "arguments": '{"q": "y"}'}},
]
TEXT = st.text(max_size=5)
HISTORIES = st.lists(
    st.lists(st.builds(lambda role, text: {"role": role, "content": text}, st.sampled_from(["user", "tool"]), TEXT)),
    max_size=8,
)


def steps(seen: Captured) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in seen.steps]


def states(steps: list[dict[str, Any]]) -> Iterator[list[Any]]:
    """Rebuild each step's messages as a reader of the wire does."""
    state: list[Any] = []
    for step in steps:
        state = state[: step[semconv.STEP_MESSAGES_OFFSET]] + json.loads(step[semconv.STEP_MESSAGES])
        yield state


@given(HISTORIES)
def test_any_sequence_of_histories_is_rebuilt_from_what_was_sent(histories: list[list[dict[str, str]]]) -> None:
    with capture() as seen:
        with imitrace.trajectory():
            for history in histories:
                with imitrace.step(history) as step:
                    step.message("ok")
        rebuilt = list(states(steps(seen)))
    assert rebuilt == [[from_openai(message) for message in history] for history in histories]


@given(st.lists(st.tuples(st.integers(0, 5), st.lists(TEXT, max_size=3)), max_size=8))
def test_a_growing_or_edited_history_sends_only_what_is_new(edits: list[tuple[int, list[str]]]) -> None:
    history: list[dict[str, str]] = []
    with capture() as seen:
        with imitrace.trajectory():
            for keep, added in edits:
                history = history[:keep] + [{"role": "user", "content": text} for text in added]
                imitrace.step(lambda messages: "ok")(history)
        sent = steps(seen)
    assert [len(state) for state in states(sent)] == [
        step[semconv.STEP_MESSAGES_OFFSET] + len(json.loads(step[semconv.STEP_MESSAGES])) for step in sent
    ]
    assert all(
        len(json.loads(step[semconv.STEP_MESSAGES])) <= len(added) for step, (_, added) in zip(sent, edits, strict=True)
    )


def test_a_step_holds_state_tools_action_and_proof(seen: Captured) -> None:
    with imitrace.trajectory(id="t1"), imitrace.step(HELLO, [LOOK]) as step:
        step.act({"choices": [{"message": {"content": None, "tool_calls": CALLS[:1]}}], "model": "big"})
        step.observe({"found": 1})
    (sent,) = steps(seen)
    assert json.loads(sent[semconv.STEP_MESSAGES]) == [from_openai(message) for message in HELLO]
    assert json.loads(sent[semconv.TOOL_DEFINITIONS]) == [tool_definition(LOOK)]
    assert sent[semconv.STEP_TOOLS_HASH] == content_hash([tool_definition(LOOK)])
    assert (sent[semconv.TOOL_NAME], sent[semconv.TOOL_CALL_ID]) == ("look", "c1")
    assert (sent[semconv.TOOL_CALL_ARGUMENTS], sent[semconv.TOOL_CALL_RESULT]) == ('{"q":"x"}', '{"found":1}')
    assert (sent[semconv.STEP_INDEX], sent[semconv.POLICY_NAME]) == (0, "big")
    assert sent[semconv.STEP_DIGEST] == step_digest(sent)


def test_parallel_calls_are_steps_of_one_decision(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.step(HELLO, [LOOK]) as step:
        step.act({"choices": [{"message": {"tool_calls": CALLS}}], "usage": {"prompt_tokens": 7}})
    first, second = steps(seen)
    assert first[semconv.STEP_DECISION] == second[semconv.STEP_DECISION]
    assert [step[semconv.STEP_INDEX] for step in (first, second)] == [0, 1]
    assert (second[semconv.STEP_MESSAGES], second[semconv.STEP_MESSAGES_OFFSET]) == ("[]", len(HELLO))
    assert semconv.TOOL_DEFINITIONS not in second
    assert second[semconv.STEP_TOOLS_HASH] == first[semconv.STEP_TOOLS_HASH]
    assert (first[semconv.INPUT_TOKENS], second.get(semconv.INPUT_TOKENS)) == (7, None)


def test_tools_are_sent_when_they_change(seen: Captured) -> None:
    with imitrace.trajectory():
        for tools in ([LOOK], [LOOK], None, [LOOK], [{"name": "write"}], [LOOK]):
            with imitrace.step(HELLO, tools) as step:
                step.message("ok")
    assert [semconv.TOOL_DEFINITIONS in step for step in steps(seen)] == [True, False, False, False, True, True]
    assert [semconv.STEP_TOOLS_HASH in step for step in steps(seen)] == [True, True, False, True, True, True]


def test_messages_are_read_when_the_step_opens(seen: Captured) -> None:
    history = list(HELLO)
    with imitrace.trajectory(), imitrace.step(history) as step:
        history.append({"role": "user", "content": "later"})
        step.message("ok")
    assert len(next(states(steps(seen)))) == len(HELLO)


def test_another_policy_is_marked_and_does_not_take_the_experts_name(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.step(HELLO) as step:
        step.policy(role="clone", name="support", version="v3", confidence=0.9, reason="trusted", propensity=0.5)
        step.message("ok")
    (sent,) = steps(seen)
    assert [sent[semconv.POLICY_ROLE], sent[semconv.POLICY_NAME], sent[semconv.POLICY_VERSION]] == [
        "clone",
        "support",
        "v3",
    ]
    assert (sent[semconv.STEP_CONFIDENCE], sent[semconv.STEP_PROPENSITY]) == (0.9, 0.5)
    assert sent[semconv.STEP_ROUTE_REASON] == "trusted"


def test_an_unknown_policy_role_never_passes_for_the_experts_step(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.step(HELLO) as step:
        step.policy(role="robot")
        step.message("ok")
    assert steps(seen)[0][semconv.ERROR_TYPE] == "unknown_policy"
    assert seen.stats.faults == {"step.policy": 1}


def test_the_decorator_records_a_function_however_it_is_called(seen: Captured) -> None:
    @imitrace.step
    def model(messages: list[dict[str, str]], tools: list[Any] | None = None) -> tuple[str, dict[str, str]]:
        return "look", {"q": "x"}

    with imitrace.trajectory():
        assert model(HELLO, [LOOK]) == model(messages=HELLO, tools=[LOOK]) == ("look", {"q": "x"})
    assert [step[semconv.TOOL_NAME] for step in steps(seen)] == ["look", "look"]
    assert all(semconv.STEP_TOOLS_HASH in step for step in steps(seen))


def test_the_decorator_records_methods_and_coroutines(seen: Captured) -> None:
    class Model:
        @imitrace.step
        async def answer(self, messages: list[dict[str, str]]) -> str:
            return "ok"

    assert asyncio.run(Model().answer(HELLO)) == "ok"
    assert next(states(steps(seen))) == [from_openai(message) for message in HELLO]


def test_a_step_outside_of_a_trajectory_opens_one_of_its_own(seen: Captured) -> None:
    with imitrace.step("hi") as step:
        step.message("ok")
    step_span, trajectory = seen.spans
    assert (trajectory.name, (trajectory.attributes or {})[semconv.TRAJECTORY_STEP_COUNT]) == ("invoke_agent", 1)
    assert step_span.parent is not None
    assert step_span.parent.span_id == trajectory.context.span_id
    assert imitrace.current_trajectory_id() is None


def test_a_failed_model_call_is_counted_and_no_decision(seen: Captured) -> None:
    with imitrace.trajectory():
        with pytest.raises(TimeoutError), imitrace.step(HELLO):
            raise TimeoutError("no answer")
        with imitrace.step(HELLO) as step:
            step.message("ok")
    assert [step[semconv.STEP_INDEX] for step in steps(seen)] == [0]
    assert seen.stats.faults == {"step_without_action": 1}
    (event,) = seen.scores
    assert event.log_record.event_name == "exception"
    assert dict(event.log_record.attributes or {}) == {
        semconv.TRAJECTORY_ID: "trajectory-1",
        semconv.ERROR_TYPE: "TimeoutError",
        semconv.EXCEPTION_TYPE: "TimeoutError",
        semconv.EXCEPTION_MESSAGE: "TimeoutError: no answer",
    }


def test_an_exception_after_the_action_marks_the_step(seen: Captured) -> None:
    with pytest.raises(TimeoutError), imitrace.step(HELLO) as step:
        step.message("ok")
        raise TimeoutError
    assert steps(seen)[0][semconv.ERROR_TYPE] == "TimeoutError"


def test_observations_find_their_call(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.step(HELLO) as step:
        step.tool_call("look", {"q": "x"}, "c1")
        step.tool_call("look", '{"q": "y"}', "c2")
        step.observe("first", call_id="c1")
        step.observe("last")
        step.observe("lost", call_id="c9")
    assert [step[semconv.TOOL_CALL_RESULT] for step in steps(seen)] == ["first", "last"]
    assert seen.stats.faults == {"step.observe": 1}


def test_a_broken_call_is_kept_as_text_and_marked(seen: Captured) -> None:
    with imitrace.step(HELLO) as step:
        step.tool_call("look", "{broken")
    (sent,) = steps(seen)
    assert (sent[semconv.STEP_ACTION_KIND], sent[semconv.ERROR_TYPE]) == ("message", "unknown_answer")
    assert "{broken" in sent[semconv.STEP_MESSAGE]


@pytest.mark.parametrize("messages", [iter(HELLO), 3, None])
def test_messages_that_are_no_list_are_kept_as_text_and_counted(seen: Captured, messages: Any) -> None:
    with imitrace.step(messages) as step:
        step.message("ok")
    assert (seen.stats.steps, seen.stats.faults) == (1, {"unknown_message": 1})
    assert next(states(steps(seen)))[0]["parts"][0]["type"] == "text"


def test_a_circular_message_is_kept_as_text(seen: Captured) -> None:
    circular: dict[str, Any] = {"role": "user", "parts": []}
    circular["parts"].append(circular)
    with imitrace.step([circular]) as step:
        step.message("ok")
    assert (seen.stats.steps, seen.stats.faults) == (1, {"unknown_message": 1})


def response(own: str, before: str | None, text: str) -> dict[str, Any]:
    """Return an answer of OpenAI's responses."""
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    return {"id": own, "previous_response_id": before, "object": "response", "output": [said]}


def test_what_the_models_service_keeps_is_part_of_the_state(seen: Captured) -> None:
    with imitrace.trajectory():
        for own, before, asked in (("r1", None, "one"), ("r2", "r1", "two"), ("r3", "r2", "three")):
            with imitrace.step(asked) as step:
                step.act(response(own, before, f"about {asked}"))
    sent = steps(seen)
    texts = [[message["parts"][0]["content"] for message in state] for state in states(sent)]
    assert texts[2] == ["one", "about one", "two", "about two", "three"]
    assert [len(json.loads(step[semconv.STEP_MESSAGES])) for step in sent] == [1, 2, 2]
    assert not any(semconv.STEP_INCOMPLETE in step for step in sent)


def test_a_state_that_only_the_models_service_knows_is_marked_incomplete(seen: Captured) -> None:
    with imitrace.trajectory():
        for own, before in (("r8", "r7"), ("r9", "r8")):
            with imitrace.step("go on") as step:
                step.act(response(own, before, "ok"))
    assert [semconv.STEP_INCOMPLETE in step for step in steps(seen)] == [True, True]


def announced(seen: Captured) -> list[Any]:
    return [
        (span.attributes or {})[semconv.TRAJECTORY_STEP_COUNT]
        for span in seen.spans
        if span.name == semconv.SPAN_TRAJECTORY
    ]


def test_a_decision_that_could_not_be_recorded_is_missed(seen: Captured) -> None:
    with imitrace.trajectory():
        with imitrace.step("hi") as step:
            step.act(Action("tool_call", "look", {1: "a", "b": 2}))  # type: ignore[dict-item]  # keys of mixed types
        with imitrace.step("hi") as step:
            step.message("ok")
    assert (seen.stats.steps, announced(seen)) == (1, [2])


def test_tools_that_are_no_list_are_left_alone_and_the_step_says_so(seen: Captured) -> None:
    tools: Any = iter([LOOK])
    with imitrace.step("hi", tools) as step:
        step.message("ok")
    assert next(tools) == LOOK
    assert "tools" in steps(seen)[0][semconv.STEP_INCOMPLETE]


def test_a_step_opened_again_is_another_decision(seen: Captured) -> None:
    again = imitrace.step("hi")
    with imitrace.trajectory():
        for text in ("one", "two"):
            with again as step:
                step.message(text)
    assert [step[semconv.STEP_MESSAGE] for step in steps(seen)] == ["one", "two"]


def test_a_step_that_is_open_when_its_trajectory_ends_is_missed_until_it_comes(seen: Captured) -> None:
    with imitrace.trajectory():
        imitrace.step("hi").__enter__()
    assert announced(seen) == [1]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"choices": [{"message": {"content": "cut"}, "finish_reason": "length"}]}, "answer_cut"),
        ({"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}, "answer_blocked"),
        ({"role": "assistant", "content": [{"type": "text", "text": "c"}], "stop_reason": "max_tokens"}, "answer_cut"),
        ({"role": "assistant", "content": [], "stop_reason": "pause_turn"}, "answer_pending"),
        ({**response("r", None, "cut"), "status": "incomplete"}, "answer_cut"),
        ({**response("r", None, ""), "status": "in_progress"}, "answer_pending"),
        ({"choices": [{"message": {"content": "whole"}, "finish_reason": "stop"}]}, None),
    ],
)
def test_an_answer_that_is_not_the_whole_decision_is_marked(seen: Captured, answer: Any, error: str | None) -> None:
    with imitrace.step("hi") as step:
        step.act(answer)
    assert steps(seen)[0].get(semconv.ERROR_TYPE) == error
