"""A span that several model calls wrote over each other is as many steps as its last request has answers."""

import json
from collections.abc import Callable
from typing import Any

from imitrace_collector.foreign.assembly import assemble
from imitrace_collector.rows import SpanRow

Json = dict[str, Any]
Make = Callable[..., SpanRow]

SHIPPED = '{"status": "shipped"}'


def _flat(prefix: str, place: int, message: Json) -> Json:
    found: Json = {}
    for key, value in message.items():
        if key == "tool_calls":
            for number, (call_id, name, arguments) in enumerate(value):
                start = f"{prefix}.{place}.message.tool_calls.{number}.tool_call"
                found |= {f"{start}.id": call_id, f"{start}.function.name": name}
                found[f"{start}.function.arguments"] = json.dumps(arguments)
        elif key == "text":
            found[f"{prefix}.{place}.message.contents.0.message_content.text"] = value
            found[f"{prefix}.{place}.message.contents.0.message_content.type"] = "text"
        else:
            found[f"{prefix}.{place}.message.{key}"] = value
    return found


def _overwritten(*seen: Json, answer: Json, raw: Json) -> Json:
    found: Json = {"openinference.span.kind": "LLM", "output.value": json.dumps(raw), "session.id": "s"}
    for place, message in enumerate(seen):
        found |= _flat("llm.input_messages", place, message)
    return found | _flat("llm.output_messages", 0, answer)


ONE, TWO = ("c1", "get_order", {"order_id": "A-1"}), ("c2", "get_order", {"order_id": "A-2"})
SEEN: tuple[Json, ...] = (
    {"role": "user", "text": "Where are they?"},
    {"role": "model", "tool_calls": [ONE]},
    {"role": "tool", "name": "get_order", "tool_call_id": "c1", "content": SHIPPED},
    {"role": "model", "tool_calls": [TWO]},
    {"role": "tool", "name": "get_order", "tool_call_id": "c2", "content": SHIPPED},
)
SAID: Json = {"role": "model", "text": "Both are shipped.", "tool_calls": [TWO]}
RAW: Json = {"content": {"role": "model", "parts": [{"text": "Both are shipped."}]}}


def _run(call: tuple[str, str, Json]) -> Json:
    named = {"openinference.span.kind": "TOOL", "gen_ai.tool.call.id": call[0], "tool.name": call[1]}
    return named | {"input.value": json.dumps(call[2]), "output.value": SHIPPED}


def test_each_answer_in_the_last_request_whose_tools_ran_in_the_span_is_a_decision(span: Make) -> None:
    spans = [
        span("m", _overwritten(*SEEN, answer=SAID, raw=RAW)),
        span("r1", _run(ONE), at=2, parent="m"),
        span("r2", _run(TWO), at=4, parent="m"),
    ]
    (one,) = assemble(spans, []).trajectories
    assert [step["action_name"] or step["action_message"] for step in one.steps] == [
        *("get_order", "get_order", "Both are shipped.")
    ]
    assert [len(step["state"]) for step in one.steps] == [1, 3, 5]
    assert [step["observation"] for step in one.steps] == [SHIPPED, SHIPPED, None]
    assert len({step["decision"] for step in one.steps}) == 3
    assert all(step["complete"] for step in one.steps)


def test_answers_of_turns_before_are_no_decisions_of_the_span(span: Make) -> None:
    before: tuple[Json, ...] = ({"role": "user", "text": "Hi"}, {"role": "model", "tool_calls": [("c1", "greet", {})]})
    told: Json = {"role": "tool", "name": "greet", "tool_call_id": "c1", "content": "hello"}
    spans = [
        span("m", _overwritten(*before, told, *SEEN, answer=SAID, raw=RAW)),
        span("r1", _run(ONE), at=2, parent="m"),
        span("r2", _run(TWO), at=4, parent="m"),
    ]
    (one,) = assemble(spans, []).trajectories
    assert [len(step["state"]) for step in one.steps] == [4, 6, 8]


def test_a_request_without_what_the_tools_in_its_span_gave_is_one_decision(span: Make) -> None:
    spans = [
        span("m", _overwritten(SEEN[0], answer={"role": "model", "tool_calls": [ONE]}, raw={})),
        span("r1", _run(ONE), at=2, parent="m"),
    ]
    (one,) = assemble(spans, []).trajectories
    assert [(step["action_name"], step["observation"]) for step in one.steps] == [("get_order", SHIPPED)]


def test_a_message_that_was_written_over_a_result_is_both(span: Make) -> None:
    both: Json = {"role": "model", "name": "get_order", "tool_call_id": "c2", "content": SHIPPED}
    both["text"] = "A-1 and A-2 are shipped."
    seen = (SEEN[0], {"role": "model", "tool_calls": [ONE, TWO]}, SEEN[2], both, {"role": "user", "text": "Thanks"})
    spans = [span("m", _overwritten(*seen, answer={"role": "model", "text": "Welcome."}, raw={}))]
    (one,) = assemble(spans, []).trajectories
    roles = {row["message_id"]: row["role"] for row in one.messages}
    assert [roles[name] for name in one.steps[0]["state"]] == [
        *("user", "assistant", "tool", "tool", "assistant", "user")
    ]
    assert one.steps[0]["complete"]
