"""Results that share a message."""

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from imitrace_collector.foreign.assembly import Derived, assemble
from imitrace_collector.rows import SpanRow

Json = dict[str, Any]
Make = Callable[..., SpanRow]

ONE, TWO = '{"order_id": "A-1", "status": "sent"}', '{"order_id": "A-2", "status": "lost"}'
ARGUMENTS = {"c1": {"order_id": "A-1"}, "c2": {"order_id": "A-2"}}
MISSING = "the results of 1 tool calls in it are missing"


def flattened(messages: Sequence[Json], prefix: str) -> Json:
    """Return messages under the names that OpenInference gives them."""
    found: Json = {}
    for place, message in enumerate(messages):
        base = f"{prefix}.{place}.message"
        found |= {f"{base}.{key}": value for key, value in message.items() if key != "calls"}
        for number, name in enumerate(message.get("calls", ())):
            call = f"{base}.tool_calls.{number}.tool_call"
            found[f"{call}.id"], found[f"{call}.function.name"] = name, "find"
            found[f"{call}.function.arguments"] = json.dumps(ARGUMENTS[name])
    return found


def asked(seen: Sequence[Json], answer: Json) -> Json:
    said = flattened(seen, "llm.input_messages") | flattened([answer], "llm.output_messages")
    return {"openinference.span.kind": "LLM", "session.id": "conv", **said}


ASK = {"role": "user", "content": "Where are they?"}
CALLS = {"role": "assistant", "calls": ["c1", "c2"]}
SAY = {"role": "assistant", "content": "One is lost."}


def run(result: str, name: str) -> Json:
    return {"openinference.span.kind": "TOOL", "tool.name": "find", "output.value": result, "tool.call_id": name}


def results(derived: Derived) -> list[tuple[str | None, Any]]:
    """Return the results that the last step's model saw."""
    one = derived.trajectories[0]
    messages = {row["message_id"]: json.loads(row["content"]) for row in one.messages}
    seen = [messages[name] for name in one.steps[-1]["state"]]
    parts = [part for message in seen for part in message["parts"]]
    return [(part["id"], part["response"]) for part in parts if part["type"] == "tool_call_response"]


@pytest.mark.parametrize(
    ("text", "ran"),
    [
        (f"{ONE} {TWO}", (ONE, TWO)),
        (f"{TWO} {ONE}", (ONE, TWO)),
        (f'[{{"json": {ONE}}}] [{{"json": {TWO}}}]', (f"[{{'json': {ONE}}}]", f"[{{'json': {TWO}}}]")),
        ("sent\nnot there\n", ("sent", "not there")),
    ],
    ids=["JSON", "in another order", "blocks", "text"],
)
def test_results_in_one_message_are_taken_apart_where_the_runs_prove_them(
    span: Make, text: str, ran: tuple[str, str]
) -> None:
    joined = {"role": "tool", "tool_call_id": "c2", "content": text}
    spans = [
        span("a", asked([ASK], CALLS)),
        span("b", run(ran[0], "c1"), at=2),
        span("c", run(ran[1], "c2"), at=3),
        span("d", asked([ASK, CALLS, joined], SAY), at=4),
    ]
    derived = assemble(spans, [])
    first, second = derived.trajectories[0].steps[:2]
    said = dict(results(derived))
    assert set(said) == {"c1", "c2"}
    assert [json.dumps(said[name]) if isinstance(said[name], dict) else said[name] for name in ("c1", "c2")] == [
        one if not one.startswith("[") else [ONE, TWO][place] for place, one in enumerate(ran)
    ]
    assert "A-1" in first["observation"] or first["observation"] == "sent"
    assert "A-2" in second["observation"] or second["observation"] == "not there"
    assert derived.trajectories[0].trajectories[0]["complete"]


@pytest.mark.parametrize("ran", [(), (ONE,), (ONE, "something else")])
def test_results_in_one_message_stay_together_and_incomplete_where_nothing_proves_them(
    span: Make, ran: tuple[str, ...]
) -> None:
    joined = {"role": "tool", "tool_call_id": "c2", "content": f"{ONE} {TWO}"}
    runs = [span(f"r{place}", run(one, f"c{place + 1}"), at=2 + place) for place, one in enumerate(ran)]
    derived = assemble([span("a", asked([ASK], CALLS)), *runs, span("d", asked([ASK, CALLS, joined], SAY), at=9)], [])
    assert results(derived) == [("c2", f"{ONE} {TWO}")]
    assert derived.trajectories[0].steps[-1]["incomplete_reason"] == MISSING


def test_results_without_ids_are_counted(span: Make) -> None:
    derived = assemble(
        [span("a", asked([ASK], CALLS)), span("b", asked([ASK, CALLS, {"role": "tool", "content": ONE}], SAY), at=2)],
        [],
    )
    assert derived.trajectories[0].steps[-1]["incomplete_reason"] == MISSING


def test_results_in_a_function_message_are_each_their_own(span: Make) -> None:
    later = asked([ASK, CALLS, {"role": "function"}], SAY)
    for place, (name, text) in enumerate((("c1", ONE), ("c2", TWO))):
        result = {"name": "find", "content": text, "call_id": name, "is_error": False}
        later[f"llm.input_messages.2.function.{place}"] = json.dumps(result)
    spans = [span("a", asked([ASK], CALLS)), span("b", later, at=2)]
    derived = assemble(spans, [])
    assert results(derived) == [("c1", ONE), ("c2", TWO)]
    assert [step["observation"] for step in derived.trajectories[0].steps] == [ONE, TWO, None]
    assert derived.trajectories[0].trajectories[0]["complete"]
    later["llm.input_messages.2.function.1"] = '{"name": "find", "content": "{\\"order'
    (*_, last) = assemble(spans, []).trajectories[0].steps
    assert "a tool's result is cut" in last["incomplete_reason"]


def test_an_empty_result_that_should_not_be_is_held_against_all_that_go_on_from_it(span: Make) -> None:
    empty = [{"role": "tool", "tool_call_id": name, "content": ""} for name in ("c1", "c2")]
    history: list[Json] = [ASK, CALLS, *empty]
    spans = [
        span("a", asked([ASK], CALLS)),
        span("b", run(ONE, "c1"), at=2),
        span("c", run(TWO, "c2"), at=3),
        span("d", asked(history, SAY), at=4),
        span("e", asked([*history, SAY, ASK], SAY), at=6),
    ]
    steps = assemble(spans, []).trajectories[0].steps
    assert [step["complete"] for step in steps] == [True, True, False, False]


def test_what_a_processor_translated_is_read_in_the_frameworks_own_words(span: Make) -> None:
    said = [
        {"role": "user", "parts": [{"type": "text", "content": "Where are they?"}]},
        {
            "role": "assistant",
            "parts": [
                {"type": "tool_call", "id": name, "name": "find", "arguments": given}
                for name, given in ARGUMENTS.items()
            ],
        },
        {
            "role": "tool",
            "parts": [
                {"type": "tool_call_response", "id": "c1", "response": ONE},
                {"type": "tool_call_response", "id": "c2", "response": TWO},
            ],
        },
    ]
    joined = {"role": "tool", "tool_call_id": "c2", "content": f"{ONE} {TWO}"}
    own = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": json.dumps(said)}
    derived = assemble([span("a", {**asked([ASK, CALLS, joined], SAY), **own})], [])
    assert results(derived) == [("c1", ONE), ("c2", TWO)]
    assert derived.trajectories[0].trajectories[0]["complete"]


def test_results_that_smolagents_joins_are_those_of_the_runs_with_the_same_arguments(span: Make) -> None:
    calls = [
        {"id": f"c{place}", "type": "function", "function": {"name": "find", "arguments": {"order_id": name}}}
        for place, name in enumerate(("A-1", "A-2"), 1)
    ]
    told = [{"order_id": "A-1", "at": None}, {"order_id": "A-2", "at": "sea"}]
    said = {
        "openinference.span.kind": "LLM",
        "session.id": "s",
        "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "Where?",
        "llm.input_messages.1.message.role": "tool-call",
        "llm.input_messages.1.message.content": f"Calling tools:\n{calls}",
        "llm.input_messages.2.message.role": "tool-response",
        "llm.input_messages.2.message.content": f"Observation:\n{told[0]}\n{told[1]}",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.content": "Soon.",
    }
    tool = {"openinference.span.kind": "TOOL", "session.id": "s", "tool.name": "find"}
    runs = [
        span(name, {**tool, "input.value": json.dumps({"order_id": name}), "output.value": json.dumps(result)}, at=at)
        for at, (name, result) in enumerate(zip(("A-2", "A-1"), reversed(told), strict=True), 1)
    ]
    (one,) = assemble([*runs, span("m", said, at=9)], []).trajectories
    messages = {row["message_id"]: json.loads(row["content"]) for row in one.messages}
    results = [messages[name]["parts"][0] for name in one.steps[0]["state"][2:]]
    assert [(part["id"], part["response"]) for part in results] == [("c1", str(told[0])), ("c2", str(told[1]))]
