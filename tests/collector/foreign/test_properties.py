"""Whatever comes, in whatever order: nothing raises, and the same spans come to the same rows."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imitrace_collector.foreign.assembly import Derived, assemble
from imitrace_collector.foreign.links import links_of
from imitrace_collector.foreign.survey import survey
from imitrace_collector.rows import LogRow, SpanRow

Make = Callable[..., SpanRow]
MakeLog = Callable[..., LogRow]

SHAPES = (
    *('[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]', '[{"role": 5}]', '[{"parts": [null]}]'),
    *('[{"role": "assistant", "parts": [{"type": "tool_call"}]}]', '[{"role": "assistant", "tool_calls": [1]}]'),
    *('[{"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "["}, "id": "c"}]}]', "[["),
    *('[{"role": "tool", "tool_call_id": "c", "content": [{"json": 1}]}]', '{"messages": {"role": []}}', "[" * 4000),
    *("[" * 900 + "]" * 900, '{"messages": ' * 300 + "[]" + "}" * 300),
    *('{"generations": [[{"message": {"kwargs": {"content": 5}}}]]}', '[{"toolName": 1, "toolCallId": []}]', "{"),
    *("content='a' name='b' tool_call_id='c'", "content='\\N{no}' tool_call_id=''", '{"input_str": "(1"}', "\ud800"),
    *("ChatMessage(_role=<R.USER: 'user'>, _content=[5])", "[{'json': 1}]", "resp_1", '{"content": 5, "call_id": []}'),
    "{'messages': [ChatMessage(_role='tool', _content=[ToolCallResult(result=[1], origin=ToolCall(id=[1]))])]}",
    "{'messages': [ChatMessage(_role='assistant', _content=[ToolCall(tool_name=1), ToolCall(tool_name='f', id='c')])]}",
    '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}, '
    '{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}, {"role": "tool", "content": "r"}]}',
    *("chat", "execute_tool", "invoke_agent", "LLM", "TOOL", "AGENT", "EVALUATOR", "c", "f"),
)
PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(SHAPES)
KEYS = st.sampled_from(
    ("role", "content", "parts", "type", "message", "tool_calls", "function", "name", "arguments", "id", "response")
)
ANYTHING = st.recursive(
    PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=6
)
NAMES = st.sampled_from(
    (
        *("gen_ai.operation.name", "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions"),
        *("gen_ai.tool.definitions", "gen_ai.tool.name", "gen_ai.tool.call.id", "gen_ai.tool.call.arguments"),
        *("gen_ai.tool.call.result", "gen_ai.conversation.id", "gen_ai.agent.name", "gen_ai.usage.input_tokens"),
        *("gen_ai.response.id", "openinference.span.kind", "llm.input_messages.0.message", "session.id", "metadata"),
        *("llm.input_messages.0.message.role", "llm.output_messages.0.message.tool_calls.0.tool_call", "input.value"),
        *("llm.output_messages.0.message.contents.0.message_content.text", "llm.tools.0.tool.json_schema"),
        *(
            "output.value",
            "gen_ai.span.kind",
            "gen_ai.input.messages.1.message.tool_calls.x",
            "tool.name",
            "error.type",
        ),
        *("traceloop.span.kind", "traceloop.entity.input", "gen_ai.prompt.0.role", "gen_ai.completion.0.tool_calls"),
        *("ai.operationId", "ai.response.toolCalls", "mcp.method.name", "events", "gen_ai.evaluation.name"),
        *("gen_ai.request.previous_response_id", "gen_ai.usage.output_tokens", "llm.input_messages.0.function.0"),
        *("haystack.agent.step.llm.input", "haystack.agent.step.llm.output", "haystack.agent.max_steps"),
        *("haystack.agent.tools", "haystack.tool.name", "haystack.component.type", "haystack.agent.output"),
        *("evaluations.0.evaluation.name", "evaluations.0.evaluation", "gen_ai.evaluation.target_span_id"),
    )
)
EVENTS = st.sampled_from(
    (
        *("gen_ai.choice", "gen_ai.user.message", "gen_ai.tool.message", "gen_ai.assistant.message", "exception"),
        *("gen_ai.client.inference.operation.details", "gen_ai.evaluation.result"),
    )
)
FIELDS = st.dictionaries(
    st.sampled_from(("message", "content", "tool_calls", "id", "exception.type")) | NAMES, ANYTHING
)
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.dictionaries(NAMES, ANYTHING, max_size=3),
        st.sampled_from((None, "0", "1", "2", "3", "4")),
        st.lists(st.tuples(EVENTS, FIELDS), max_size=2),
    ),
    max_size=5,
)
LOGS = st.lists(st.tuples(st.sampled_from((None, "1", "3")), EVENTS, FIELDS, ANYTHING), max_size=3)
QUICK = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
ASK = '{"role": "user", "parts": [{"type": "text", "content": "Where?"}]}'
CALL = '{"role": "assistant", "parts": [{"type": "tool_call", "id": "c", "name": "f", "arguments": {"a": 1}}]}'
TOLD = '{"role": "tool", "parts": [{"type": "tool_call_response", "id": "c", "response": "there"}]}'
FLAT = {
    "openinference.span.kind": "LLM",
    "llm.input_messages.0.message.role": "user",
    "llm.input_messages.0.message.content": "Do it.",
    "llm.output_messages.0.message.contents.0.message_content.text": "Done.",
    "llm.tools.0.tool.json_schema": '{"name": "g", "parameters": {}}',
}
REAL: tuple[tuple[dict[str, Any], str | None], ...] = (
    ({"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": "desk", "session.id": "s"}, None),
    (
        {"gen_ai.operation.name": "chat", "gen_ai.input.messages": f"[{ASK}]", "gen_ai.output.messages": f"[{CALL}]"},
        "0",
    ),
    ({"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "f", "gen_ai.tool.call.result": "there"}, "0"),
    (FLAT, "2"),
    ({"gen_ai.operation.name": "chat", "gen_ai.input.messages": f"[{ASK}, {CALL}, {TOLD}]"}, "0"),
)
"""An agent, its call, the tool that it ran, a model call in that, and a call without an answer: spans 0 to 4."""


@QUICK
@given(sent=CHANGES, told=LOGS)
def test_no_attribute_of_any_type_raises(span: Make, log: MakeLog, sent: list[Any], told: list[Any]) -> None:
    spans, logs = _rows(span, log, sent, told)
    derived = assemble(spans, logs)
    survey(spans, logs)
    assert all(isinstance(key, str) for key in links_of(spans, logs))
    _check(derived)


@QUICK
@given(sent=CHANGES, told=LOGS, chance=st.randoms(use_true_random=False))
def test_order_and_repetition_do_not_matter(
    span: Make, log: MakeLog, sent: list[Any], told: list[Any], chance: Any
) -> None:
    spans, logs = _rows(span, log, sent, told)
    mixed, said = [*spans, *spans[:2]], [*logs, *logs[:1]]
    chance.shuffle(mixed)
    chance.shuffle(said)
    assert repr(assemble(mixed, said)) == repr(assemble(spans, logs))
    assert links_of(mixed, said) == links_of(spans, logs)


def _rows(span: Make, log: MakeLog, sent: list[Any], told: list[Any]) -> tuple[list[SpanRow], list[LogRow]]:
    spans = [
        span(str(number), attributes, at=number, parent=parent) for number, (attributes, parent) in enumerate(REAL)
    ]
    for number, attributes, parent, events in sent:
        listed = [{"name": name, "time": 1, "attributes": fields} for name, fields in events]
        changed = {**spans[number].attributes, **attributes}
        spans[number] = replace(spans[number], attributes=changed, parent_span_id=parent, events=listed)
    return spans, [log(span_id, name, fields, body=body) for span_id, name, fields, body in told]


def test_the_spans_that_are_changed_are_an_agents(span: Make, log: MakeLog) -> None:
    derived = assemble(*_rows(span, log, [], []))
    assert [len(one.steps) for one in derived.trajectories] == [1, 1]


def _check(derived: Derived) -> None:
    for one in derived.trajectories:
        known = {row["message_id"] for row in one.messages}
        (trajectory,) = one.trajectories
        assert trajectory["step_count"] == len(one.steps) > 0
        assert [step["step_index"] for step in one.steps] == list(range(len(one.steps)))
        for step in one.steps:
            assert set(step["state"]) <= known
            assert step["complete"] == (step["incomplete_reason"] is None)
            assert step["action_kind"] in ("tool_call", "message") or not step["complete"]
        for row in (*one.trajectories, *one.steps, *one.messages, *one.tools, *derived.scores):
            json.dumps(row, ensure_ascii=False, default=list).encode()
