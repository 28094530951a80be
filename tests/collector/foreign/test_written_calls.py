"""What a model wrote as text is a tool call where a tool's run proves it, and a message where none does."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from imitrace_collector.foreign.assembly import assemble
from imitrace_collector.rows import SpanRow

Json = dict[str, Any]
Make = Callable[..., SpanRow]

ACT = 'Thought: look it up\nAction: get_order\nAction Input: {"order_id": "A-1"}'
CODE = "first = get_order(order_id='A-1')\nprint(first, get_order(order_id='A-2'))"


def _model(seen: str, answer: str) -> Json:
    found: Json = {"openinference.span.kind": "LLM", "session.id": "s"}
    found |= {"llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": seen}
    return found | {"llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": answer}


def _tool(name: str, arguments: Any, result: str = "shipped") -> Json:
    return {"openinference.span.kind": "TOOL", "input.value": json.dumps(arguments), "output.value": result}


def _told(steps: list[Json]) -> list[Any]:
    return [
        (step["action_name"], json.loads(step["action_arguments"]), step["observation"])
        if step["action_kind"] == "tool_call"
        else step["action_message"]
        for step in steps
    ]


def _agent(span: Make, *inside: tuple[str, Json]) -> list[SpanRow]:
    attributes = {"openinference.span.kind": "AGENT", "output.value": "It is shipped.", "agent.name": "desk"}
    spans = [span("agent", attributes)]
    return spans + [
        span(f"s{place}", said, at=place, parent="agent", name=name) for place, (name, said) in enumerate(inside, 1)
    ]


@pytest.mark.parametrize("arguments", [{"order_id": "A-1"}, {"kwargs": {"order_id": "A-1"}}])
def test_a_call_in_words_is_the_run_behind_it(span: Make, arguments: Json) -> None:
    spans = _agent(
        span,
        ("model", _model("Where is A-1?", ACT)),
        ("get_order.__call__", _tool("get_order", arguments)),
        ("model", _model("Where is A-1? ... Observation: shipped", "Final Answer: It is shipped.")),
    )
    (one,) = assemble(spans, []).trajectories
    assert _told(one.steps) == [("get_order", {"order_id": "A-1"}, "shipped"), "It is shipped."]
    assert all(step["complete"] for step in one.steps)


def test_code_that_calls_tools_is_all_of_its_calls(span: Make) -> None:
    runs = [("get_order", _tool("get_order", {"order_id": name}, name)) for name in ("A-1", "A-2")]
    (one,) = assemble(_agent(span, ("model", _model("Where?", CODE)), *runs), []).trajectories
    assert _told(one.steps) == [
        ("get_order", {"order_id": "A-1"}, "A-1"),
        ("get_order", {"order_id": "A-2"}, "A-2"),
    ]
    assert len({step["decision"] for step in one.steps}) == 1


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("get_order", {"order_id": "A-2"}), ("get_orders", {"order_id": "A-1"}), ("get_order", None)],
)
def test_words_that_do_not_hold_all_of_a_run_are_a_message(span: Make, name: str, arguments: Any) -> None:
    spans = _agent(span, ("model", _model("Where is A-1?", ACT)), (name, _tool(name, arguments)))
    (one,) = assemble(spans, []).trajectories
    assert _told(one.steps) == [ACT]


def test_what_such_an_agent_wrote_in_between_is_marked(span: Make) -> None:
    spans = _agent(
        span,
        ("model", _model("Where is A-1?", ACT)),
        ("get_order", _tool("get_order", {"order_id": "A-1"})),
        ("model", _model("... Observation: shipped", "Action: finish")),
        ("model", _model("... finished", "[answer] It is shipped.")),
    )
    (one,) = assemble(spans, []).trajectories
    assert _told(one.steps)[1:] == ["Action: finish", "It is shipped."]
    assert [step["complete"] for step in one.steps] == [True, False, True]
    assert "went on" in one.steps[1]["incomplete_reason"]


def test_a_result_in_llamaindexs_wrapping_is_its_text(span: Make) -> None:
    wrapped = {"blocks": [{"text": "shipped"}], "tool_name": "get_order", "raw_output": "shipped"}
    run = _tool("get_order", {"order_id": "A-1"}, json.dumps(wrapped))
    (one,) = assemble(_agent(span, ("model", _model("Where is A-1?", ACT)), ("get_order", run)), []).trajectories
    assert _told(one.steps) == [("get_order", {"order_id": "A-1"}, "shipped")]


def test_an_agent_that_calls_tools_in_the_usual_way_wrote_no_calls(span: Make) -> None:
    asked = _model("Where is A-1?", "")
    call = "llm.output_messages.0.message.tool_calls.0.tool_call"
    asked |= {f"{call}.function.name": "get_order", f"{call}.function.arguments": '{"order_id": "A-1"}'}
    spans = _agent(
        span,
        ("model", asked),
        ("get_order", _tool("get_order", {"order_id": "A-1"})),
        ("model", _model("... shipped", "get_order says that A-1 is shipped.")),
        ("get_order", _tool("get_order", {"order_id": "A-1"})),
    )
    (one,) = assemble(spans, []).trajectories
    assert _told(one.steps)[1:] == ["get_order says that A-1 is shipped."]


@pytest.mark.parametrize("arguments", [{"args": {"a": 1}, "kwargs": {}}, {"args": "a", "kwargs": {}}])
def test_a_traced_functions_odd_arguments_do_no_harm(span: Make, arguments: Json) -> None:
    spans = _agent(span, ("model", _model("Where?", "Hm.")), ("get_order", _tool("get_order", arguments)))
    assert len(assemble(spans, []).trajectories) == 1
