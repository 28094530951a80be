"""Requests that hold only what is new, because the model's service keeps what came before."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from imitrace_collector.foreign.assembly import Derived, assemble
from imitrace_collector.foreign.links import links_of
from imitrace_collector.rows import SpanRow

Json = dict[str, Any]
Make = Callable[..., SpanRow]

ASK: Json = {"role": "user", "parts": [{"type": "text", "content": "Where is A-1?"}]}
THANK: Json = {"role": "user", "parts": [{"type": "text", "content": "Thanks. And where is B-2?"}]}
CALL: Json = {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "find", "arguments": {"id": 1}}]}
TOLD: Json = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "shipped"}]}
SAY: Json = {"role": "assistant", "parts": [{"type": "text", "content": "It is on its way."}]}
ALSO: Json = {"role": "assistant", "parts": [{"type": "text", "content": "B-2 is here."}]}
TOOLS = [{"type": "function", "name": "find", "description": "Find an order.", "parameters": {"type": "object"}}]
WHOLE = ["user", "assistant", "tool", "assistant", "user"]
UNSAID = "the service keeps the history, and nothing says which answer this goes on from"


def asked(seen: Sequence[Json], answer: Json, name: str, **more: Any) -> Json:
    said = {"gen_ai.input.messages": json.dumps(seen), "gen_ai.output.messages": json.dumps([answer])}
    return {"gen_ai.operation.name": "chat", "gen_ai.response.id": name, **said, **more}


def counted(tokens: int, answered: int = 10) -> Json:
    used = {"gen_ai.usage.input_tokens": tokens, "gen_ai.usage.output_tokens": answered}
    return {**used, "gen_ai.tool.definitions": json.dumps(TOOLS)}


def told(derived: Derived) -> list[tuple[list[str], str | None]]:
    """Return the roles in each step's state, and why it is not complete."""
    found = []
    for one in derived.trajectories:
        roles = {row["message_id"]: json.loads(row["content"])["role"] for row in one.messages}
        found += [([roles[name] for name in step["state"]], step["incomplete_reason"]) for step in one.steps]
    return found


def test_an_agents_span_may_say_which_response_its_first_call_goes_on_from(span: Make) -> None:
    goes_on = {"gen_ai.conversation.id": "resp_2"}
    invoked = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk"}
    first = [span("a", invoked, trace_id="t1"), span("b", asked([ASK], SAY, "resp_1"), parent="a", at=1)]
    second = [
        span("c", {**invoked, "gen_ai.conversation.id": "resp_1"}, trace_id="t2", at=5),
        span("d", asked([THANK], CALL, "resp_2"), parent="c", trace_id="t2", at=6),
        span("e", asked([TOLD], ALSO, "resp_3", **goes_on), parent="c", trace_id="t2", at=7),
    ]
    derived = assemble([*second, *first], [])
    then = ["user", "assistant", "user"]
    assert told(derived) == [(["user"], None), (then, None), ([*then, "assistant", "tool"], None)]
    provided = {key.removeprefix("provides:") for key in links_of(first, [])}
    assert provided & {key.removeprefix("continues:") for key in links_of(second, [])}


def test_a_response_that_never_came_leaves_its_followers_incomplete(span: Make) -> None:
    spans = [
        span("a", asked([THANK], CALL, "resp_2", **{"gen_ai.request.previous_response_id": "resp_1"})),
        span("b", asked([TOLD], SAY, "resp_3"), at=2),
    ]
    lost = "it goes on from a response that is not among the spans"
    assert told(assemble(spans, [])) == [(["user"], lost), (["user", "assistant", "tool"], lost)]


@pytest.mark.parametrize(
    ("tokens", "problem"), [(None, UNSAID), (30, None), (700, UNSAID)], ids=["uncounted", "explained", "too many"]
)
def test_the_first_request_is_doubted_where_nothing_says_what_goes_on_and_tokens_do_not_explain_it(
    span: Make, tokens: int | None, problem: str | None
) -> None:
    more = {} if tokens is None else counted(tokens)
    spans = [span("a", asked([ASK], CALL, "r1", **more)), span("b", asked([TOLD], SAY, "r2"), at=2)]
    assert [reason for _, reason in told(assemble(spans, []))] == [problem, problem]


@pytest.mark.parametrize(
    ("tokens", "state", "problem"),
    [(165, WHOLE, None), (400, ["user"], UNSAID), (100, ["user"], UNSAID)],
    ids=["the newest answer and what is new", "more", "less"],
)
def test_a_later_request_goes_on_from_the_newest_answer_when_its_tokens_are_just_those(
    span: Make, tokens: int, state: list[str], problem: str | None
) -> None:
    named = {"gen_ai.conversation.id": "conv"}
    spans = [
        span("a", asked([ASK], CALL, "r1", **counted(40), **named)),
        span("b", asked([TOLD], SAY, "r2", **counted(130), **named), at=2),
        span("c", asked([THANK], ALSO, "r3", **counted(tokens), **named), at=9, trace_id="t2"),
    ]
    assert told(assemble(spans, []))[-1] == (state, problem)


@pytest.mark.parametrize(("tokens", "complete"), [(30, True), (700, False)])
def test_tokens_that_a_request_does_not_explain_are_of_a_history_that_a_responses_service_keeps(
    span: Make, tokens: int, complete: bool
) -> None:
    ((_, reason),) = told(assemble([span("a", asked([THANK], SAY, "resp_1", **counted(tokens)))], []))
    assert (reason is None) == complete
    ((_, reason),) = told(assemble([span("a", asked([THANK], SAY, "chatcmpl-1", **counted(tokens)))], []))
    assert reason is None


def test_a_history_cut_at_its_beginning_is_no_request_of_only_what_is_new(span: Make) -> None:
    spans = [
        span("a", asked([ASK], CALL, "r1")),
        span("b", asked([TOLD, SAY, THANK], ALSO, "r2"), at=2),
    ]
    state, reason = told(assemble(spans, []))[-1]
    assert state == ["assistant", "tool", "assistant", "user"]
    assert reason == "it begins with the results of an earlier answer, and what came before that is not in it"


@pytest.mark.parametrize(("name", "joined"), [("call_Zk3nR8vT1qLm5pXa", True), ("call_001", False)])
def test_results_alone_are_joined_with_the_trace_of_their_calls_where_ids_are_unique(
    span: Make, name: str, joined: bool
) -> None:
    call, result = json.loads(json.dumps([CALL, TOLD]).replace('"c1"', f'"{name}"'))
    spans = [span("a", asked([ASK], call, "r1")), span("b", asked([result], SAY, "r2"), at=2, trace_id="t2")]
    derived = assemble(spans, [])
    assert (len(derived.trajectories) == 1) == joined
    state, reason = told(derived)[-1]
    assert state == (["user", "assistant", "tool"] if joined else ["tool"])
    assert reason == (UNSAID if joined else "the calls of 1 tool results in it are missing")
    provided = {key.removeprefix("provides:") for key in links_of(spans[:1], [])}
    assert bool(provided & {key.removeprefix("continues:") for key in links_of(spans[1:], [])}) == joined
