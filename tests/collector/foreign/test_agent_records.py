"""Agents whose own span tells of all their decisions."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from imitrace_collector.foreign.assembly import Derived, assemble
from imitrace_collector.foreign.survey import survey
from imitrace_collector.rows import SpanRow

Json = dict[str, Any]
Make = Callable[..., SpanRow]

SYSTEM = {"role": "system", "content": "Be brief."}
ASK = {"role": "user", "content": "Current task: where is A-1?"}
FUNCTION = {"name": "find", "arguments": '{"order_id": "A-1"}'}
CALL = {"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "type": "function", "function": FUNCTION}]}
TOLD = {"role": "tool", "tool_call_id": "c1", "content": "shipped"}
SAY = {"role": "assistant", "content": "It is on its way."}
WHOLE = [SYSTEM, ASK, CALL, TOLD, SAY]
RUN = {
    "openinference.span.kind": "TOOL",
    "tool.name": "find",
    "input.value": '{"order_id": "A-1"}',
    "output.value": "?",
}


def record(messages: list[Any], asked: Any = "go", **more: Any) -> Json:
    """Return the attributes of an agent's span that gives back all messages."""
    said = {"input.value": json.dumps(asked), "output.value": json.dumps({"raw": "done", "messages": messages})}
    return {"openinference.span.kind": "AGENT", "graph.node.id": "desk", **said, **more}


def told(derived: Derived) -> list[tuple[str | None, list[str], str | None, str | None]]:
    """Return each step's tool, the roles in its state, what came back, and why it is not complete."""
    found = []
    for one in derived.trajectories:
        roles = {row["message_id"]: json.loads(row["content"])["role"] for row in one.messages}
        for step in one.steps:
            state = [roles[name] for name in step["state"]]
            found.append((step["action_name"], state, step["observation"], step["incomplete_reason"]))
    return found


def test_before_each_answer_of_a_transcript_stands_what_its_model_saw(span: Make) -> None:
    derived = assemble([span("a", record(WHOLE)), span("b", RUN, parent="a", at=1)], [])
    assert told(derived) == [
        ("find", ["system", "user"], "shipped", None),
        (None, ["system", "user", "assistant", "tool"], None, None),
    ]
    assert len({step["decision"] for step in derived.trajectories[0].steps}) == 2


def test_the_answers_of_earlier_runs_in_a_transcript_are_no_decisions_of_this_one(span: Make) -> None:
    given = {"messages": [ASK, CALL, TOLD, SAY, ASK]}
    again = [*WHOLE, ASK, {"role": "assistant", "content": "As I said."}]
    assert told(assemble([span("a", record(again, given))], [])) == [
        (None, ["system", "user", "assistant", "tool", "assistant", "user"], None, None)
    ]
    trimmed = told(assemble([span("a", record([SYSTEM, ASK, *again[4:]], given))], []))
    assert {reason for *_, reason in trimmed} == {
        "which of the answers in the transcript are of this run is not in the spans"
    }


def test_without_a_system_prompt_nobody_knows_whether_there_was_one(span: Make) -> None:
    reasons = {reason for *_, reason in told(assemble([span("a", record(WHOLE[1:]))], []))}
    assert reasons == {"whether its model saw a system prompt is not in the spans"}


def test_a_transcript_of_text_is_none_of_decisions_where_tools_were_run(span: Make) -> None:
    text = [SYSTEM, ASK, {"role": "assistant", "content": "Action: find\nObservation: shipped"}]
    derived = assemble([span("a", record(text)), span("b", RUN, parent="a", at=1)], [])
    assert [name for name, *_ in told(derived)] == ["find", None]
    assert not derived.trajectories[0].trajectories[0]["complete"]


HAYSTACK = [
    "ChatMessage(_role=<ChatRole.SYSTEM: 'system'>, _content=[TextContent(text='Be brief.')], _name=None, _meta={})",
    "ChatMessage(_role=<ChatRole.USER: 'user'>, _content=[TextContent(text='Where?')], _name=None, _meta={})",
    "ChatMessage(_role=<ChatRole.ASSISTANT: 'assistant'>, _content=[ToolCall(tool_name='find', arguments={'order_id': "
    "'A-1'}, id='c1', extra=None)], _name=None, _meta={'index': 0})",
    "ChatMessage(_role=<ChatRole.TOOL: 'tool'>, _content=[ToolCallResult(result='shipped', origin=ToolCall(tool_name="
    "'find', arguments={'order_id': 'A-1'}, id='c1', extra=None), error=False)], _name=None, _meta={})",
    "ChatMessage(_role=<ChatRole.ASSISTANT: 'assistant'>, _content=[TextContent(text='Sent.')], _name=None, _meta={})",
]


def test_messages_in_pythons_form_are_a_transcript_too(span: Make) -> None:
    said = record(HAYSTACK, {"messages": HAYSTACK[1:2]}, **{"openinference.span.kind": "CHAIN"})
    del said["graph.node.id"]
    derived = assemble([span("a", said, name="Agent.run")], [])
    assert told(derived) == [
        ("find", ["system", "user"], "shipped", None),
        (None, ["system", "user", "assistant", "tool"], None, None),
    ]
    assert derived.trajectories[0].trajectories[0]["agent"] == "shop"


def test_haystacks_own_spans_are_read(span: Make) -> None:
    def reply(*content: Json) -> str:
        usage = {"prompt_tokens": 282, "completion_tokens": 20}
        meta = {"model": "small", "usage": usage}
        return json.dumps({"replies": [{"role": "assistant", "meta": meta, "name": None, "content": list(content)}]})

    def request(place: int) -> str:
        return f"{{'messages': [{', '.join(HAYSTACK[:place])}], 'tools': [Tool(name='find', function=<function f>)]}}"

    prefix = "haystack.agent.step"
    call = {"tool_call": {"tool_name": "find", "arguments": {"order_id": "A-1"}, "id": "c1", "extra": None}}
    ran = {
        "haystack.tool.name": "find",
        f"{prefix}.tool.input": '{"order_id": "A-1"}',
        f"{prefix}.tool.output": "shipped",
    }
    tools = "[Tool(name='find', description='Find it.', parameters={'type': 'object'}, function=<function f at 0x7f>)]"
    component = {"haystack.component.type": "Agent", "haystack.component.name": "desk"}
    spans = [
        span("a", component),
        span("b", {"haystack.agent.max_steps": 9, "haystack.agent.tools": tools}, parent="a", at=1),
        span("c", {f"{prefix}.llm.input": request(2), f"{prefix}.llm.output": reply(call)}, parent="b", at=2),
        span("d", ran, parent="b", at=4),
        span(
            "e", {f"{prefix}.llm.input": request(4), f"{prefix}.llm.output": reply({"text": "Sent."})}, parent="b", at=6
        ),
    ]
    derived = assemble(spans, [])
    assert told(derived) == [
        ("find", ["system", "user"], "shipped", None),
        (None, ["system", "user", "assistant", "tool"], None, None),
    ]
    (first, _) = derived.trajectories[0].steps
    assert (first["agent"], first["input_tokens"], first["output_tokens"]) == ("desk", 282, 20)
    assert [row["name"] for row in derived.trajectories[0].tools] == ["find"]
    assert derived.trajectories[0].trajectories[0]["source"] == "haystack"


@pytest.mark.parametrize("scope", ["autogen-core", "another"])
def test_agents_whose_runs_tell_nothing_are_counted_and_the_switch_is_told(span: Make, scope: str) -> None:
    invoked = {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk"}
    ran = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "find", "gen_ai.tool.call.id": "c1"}
    named = {"scope": {"name": scope, "version": "", "attributes": {}}}
    (spoken,) = survey([span("a", invoked, **named), span("b", ran, parent="a", at=1, **named)], []).spoken
    assert (spoken.model_calls, spoken.silent_agents, spoken.tool_runs) == (0, 1, 1)
    assert ("model's client" in str(spoken.switch)) == (scope == "autogen-core")
    assert assemble([span("a", invoked, **named)], []).trajectories == []
