"""Small spans in each convention, and the places where conventions leave things out."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from imitrace_collector.foreign.assembly import Derived, assemble
from imitrace_collector.foreign.links import links_of
from imitrace_collector.rows import LogRow, SpanRow

Json = dict[str, Any]
Make = Callable[..., SpanRow]
MakeLog = Callable[..., LogRow]

ASK: Json = {"role": "user", "parts": [{"type": "text", "content": "Where is A-1?"}]}
CALL: Json = {
    "role": "assistant",
    "parts": [{"type": "tool_call", "id": "c1", "name": "get_order", "arguments": {"order_id": "A-1"}}],
}
TOLD: Json = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "shipped"}]}
SAY: Json = {"role": "assistant", "parts": [{"type": "text", "content": "It is on its way."}]}


def chat(seen: Sequence[Json], *answer: Json, **more: Any) -> Json:
    """Return the attributes of a model call in the present conventions."""
    said = {"gen_ai.input.messages": json.dumps(seen), "gen_ai.output.messages": json.dumps(answer)}
    return {"gen_ai.operation.name": "chat", "gen_ai.conversation.id": "conv", **said, **more}


def actions(derived: Derived, trajectory: int = 0) -> list[Any]:
    steps = derived.trajectories[trajectory].steps if derived.trajectories else []
    return [
        (step["action_name"], json.loads(step["action_arguments"]), step["observation"])
        if step["action_kind"] == "tool_call"
        else step["action_message"]
        for step in steps
    ]


def states(derived: Derived, trajectory: int = 0) -> list[list[Any]]:
    one = derived.trajectories[trajectory]
    messages = {row["message_id"]: json.loads(row["content"]) for row in one.messages}
    return [[_brief(messages[name]) for name in step["state"]] for step in one.steps]


def _brief(message: Json) -> Any:
    (part, *_) = message["parts"]
    key = {"text": "content", "tool_call": "name", "tool_call_response": "response"}[part["type"]]
    return message["role"], part[key]


def names(derived: Derived) -> list[str]:
    return [one.trajectories[0]["trajectory_id"] for one in derived.trajectories]


LOOK_UP = ("get_order", {"order_id": "A-1"}, "shipped")
SEEN = [[("user", "Where is A-1?")], [("user", "Where is A-1?"), ("assistant", "get_order"), ("tool", "shipped")]]


def test_calls_and_answers_are_steps_with_what_they_saw_and_what_came_back(span: Make) -> None:
    derived = assemble(
        [span("a", chat([ASK], CALL)), span("b", chat([ASK, CALL, TOLD], SAY), at=5)],
        [],
    )
    assert actions(derived) == [LOOK_UP, "It is on its way."]
    assert states(derived) == SEEN
    assert all(step["complete"] for step in derived.trajectories[0].steps)


def test_indexed_prompts_and_completions_of_older_openllmetry_are_read(span: Make) -> None:
    first = {
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Where is A-1?",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.tool_calls.0.id": "c1",
        "gen_ai.completion.0.tool_calls.0.name": "get_order",
        "gen_ai.completion.0.tool_calls.0.arguments": '{"order_id": "A-1"}',
        "llm.request.functions.0.name": "get_order",
        "llm.request.functions.0.parameters": '{"type": "object", "properties": {"order_id": {"type": "string"}}}',
        "gen_ai.usage.prompt_tokens": 7,
    }
    second = {
        "llm.request.type": "chat",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Where is A-1?",
        "gen_ai.prompt.1.role": "assistant",
        "gen_ai.prompt.1.tool_calls.0.id": "c1",
        "gen_ai.prompt.1.tool_calls.0.name": "get_order",
        "gen_ai.prompt.1.tool_calls.0.arguments": '{"order_id": "A-1"}',
        "gen_ai.prompt.2.role": "tool",
        "gen_ai.prompt.2.tool_call_id": "c1",
        "gen_ai.prompt.2.content": "shipped",
        "gen_ai.completion.0.content": "It is on its way.",
    }
    derived = assemble([span("a", first), span("b", second, at=5)], [])
    assert actions(derived) == [LOOK_UP, "It is on its way."]
    assert states(derived) == SEEN
    (trajectory,) = derived.trajectories
    assert (trajectory.trajectories[0]["source"], trajectory.steps[0]["input_tokens"]) == ("openllmetry", 7)
    assert json.loads(trajectory.tools[0]["definition"])["parameters"]["properties"] == {"order_id": {"type": "string"}}


def test_blocks_in_span_events_are_read_as_strands_writes_them(span: Make) -> None:
    def event(name: str, **attributes: Any) -> Json:
        return {"name": name, "time": 1, "attributes": attributes}

    asked = event("gen_ai.user.message", content='[{"text": "Where is A-1?"}]')
    block = '[{"toolUse": {"toolUseId": "c1", "name": "get_order", "input": {"order_id": "A-1"}}}]'
    told = '[{"toolResult": {"toolUseId": "c1", "status": "success", "content": [{"text": "shipped"}]}}]'
    model = {"gen_ai.operation.name": "chat", "gen_ai.system": "strands-agents", "session.id": "s"}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_order", "gen_ai.tool.call.id": "c1"}
    first = [asked, event("gen_ai.choice", message=block, finish_reason="tool_use")]
    ran = [
        event("gen_ai.tool.message", content='{"order_id": "A-1"}'),
        event("gen_ai.choice", message='[{"text": "shipped"}]'),
    ]
    second = [
        asked,
        event("gen_ai.assistant.message", content=block),
        event("gen_ai.tool.message", content=told),
        event("gen_ai.choice", message='[{"text": "It is on its way."}]', finish_reason="end_turn"),
    ]
    spans = [
        span("a", model, events=first),
        span("run", tool, at=2, events=ran),
        span("b", model, at=5, events=second),
    ]
    derived = assemble(spans, [])
    assert actions(derived) == [LOOK_UP, "It is on its way."]
    assert states(derived) == SEEN
    assert actions(assemble(spans[:2], [])) == [LOOK_UP]


def test_content_in_log_records_is_joined_with_its_span(span: Make, log: MakeLog) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": '{"order_id": "A-1"}'}}
    logs = [
        log("a", "gen_ai.user.message", {}, at=1, body={"content": "Where is A-1?"}),
        log("a", "gen_ai.choice", {}, at=2, body={"index": 0, "message": {"role": "assistant", "tool_calls": [call]}}),
        log("b", "gen_ai.user.message", {}, at=5, body={"content": "Where is A-1?"}),
        log("b", "gen_ai.assistant.message", {}, at=6, body={"tool_calls": [call]}),
        log("b", "gen_ai.tool.message", {}, at=7, body={"id": "c1", "content": "shipped"}),
        log("b", "gen_ai.choice", {}, at=8, body={"message": {"content": "It is on its way."}}),
    ]
    bare = {"gen_ai.operation.name": "chat", "gen_ai.conversation.id": "conv"}
    spans = [span("a", bare), span("b", bare, at=5)]
    derived = assemble(spans, logs[::-1])
    assert actions(derived) == [LOOK_UP, "It is on its way."]
    assert states(derived) == SEEN
    assert assemble(spans, []).trajectories == []


def test_two_instrumentors_on_one_call_count_its_tokens_once(span: Make) -> None:
    empty = {"openinference.span.kind": "LLM", "session.id": "conv", "llm.token_count.prompt": 10}
    inner = chat([ASK], SAY, **{"gen_ai.usage.input_tokens": 10})
    derived = assemble([span("outer", empty), span("inner", inner, parent="outer", at=1)], [])
    ((step,),) = [one.steps for one in derived.trajectories]
    assert (step["span_id"], step["input_tokens"], step["action_message"]) == ("outer", 10, "It is on its way.")
    assert derived.origins[0].copies == ("inner",)


def test_what_was_cut_is_kept_and_its_step_marked(span: Make) -> None:
    whole = json.dumps([ASK, CALL, TOLD])
    cut = span("a", chat([], SAY) | {"gen_ai.input.messages": whole[: len(whole) - 20]})
    derived = assemble([cut], [])
    (step,) = derived.trajectories[0].steps
    assert states(derived) == [[("user", "Where is A-1?"), ("assistant", "get_order")]]
    assert (step["complete"], step["incomplete_reason"]) == (False, "gen_ai.input.messages is cut, or no JSON")


def test_an_answer_that_was_cut_is_no_guess_at_an_action(span: Make) -> None:
    whole = json.dumps([CALL])
    cut = span("a", chat([ASK]) | {"gen_ai.output.messages": whole[:60]})
    (step,) = assemble([cut], []).trajectories[0].steps
    assert (step["action_kind"], step["action_name"], step["complete"]) == ("", None, False)
    assert step["action_message"] == whole[:60]


def test_an_answer_that_was_cut_is_taken_from_the_next_request(span: Make) -> None:
    cut = span("a", chat([ASK]) | {"gen_ai.output.messages": json.dumps([CALL])[:60]})
    derived = assemble([cut, span("b", chat([ASK, CALL, TOLD], SAY), at=5)], [])
    assert actions(derived) == [LOOK_UP, "It is on its way."]
    assert derived.trajectories[0].trajectories[0]["complete"]
    assert derived.origins[0].sides[0].rule == "next request"


def test_answers_that_an_instrumentor_leaves_out_are_in_the_raw_output(span: Make) -> None:
    message = {
        "lc": 1,
        "type": "constructor",
        "id": ["langchain", "schema", "messages", "AIMessage"],
        "kwargs": {
            "type": "ai",
            "content": "",
            "tool_calls": [
                {"name": "get_order", "args": {"order_id": "A-1"}, "id": "c1", "type": "tool_call"},
                {"name": "get_order", "args": {"order_id": "A-2"}, "id": "c2", "type": "tool_call"},
            ],
        },
    }
    first = {
        "gen_ai.span.kind": "LLM",
        "gen_ai.input.messages.0.message.role": "user",
        "gen_ai.input.messages.0.message.content": "Where are A-1 and A-2?",
        "gen_ai.output.messages.0.message.role": "assistant",
        "output.value": json.dumps({"generations": [[{"text": "", "message": message}]]}),
    }
    second = {
        "gen_ai.span.kind": "LLM",
        "gen_ai.input.messages.0.message.role": "user",
        "gen_ai.input.messages.0.message.content": "Where are A-1 and A-2?",
        "gen_ai.input.messages.1.message.role": "assistant",
        "gen_ai.input.messages.2.message.role": "tool",
        "gen_ai.input.messages.2.message.content": "shipped",
        "gen_ai.input.messages.3.message.role": "tool",
        "gen_ai.input.messages.3.message.content": "lost",
        "gen_ai.output.messages.0.message.role": "assistant",
        "gen_ai.output.messages.0.message.content": "One is lost.",
    }
    derived = assemble([span("a", first), span("b", second, at=5)], [])
    assert actions(derived) == [LOOK_UP, ("get_order", {"order_id": "A-2"}, "lost"), "One is lost."]
    assert states(derived)[2][1:] == [("assistant", "get_order"), ("tool", "shipped"), ("tool", "lost")]
    assert all(step["complete"] for step in derived.trajectories[0].steps)


def test_runs_of_parallel_calls_are_told_apart_by_what_their_results_say(span: Make) -> None:
    call = {"type": "tool_call", "name": "get_order"}
    answer = {
        "role": "assistant",
        "parts": [
            {**call, "id": "c1", "arguments": {"order_id": "A-1"}},
            {**call, "id": "c2", "arguments": {"order_id": "A-2"}},
        ],
    }
    tool = {"gen_ai.span.kind": "TOOL", "tool.name": "get_order"}
    written = "content='{}' name='get_order' tool_call_id='{}'"
    late = span("r1", tool | {"input.value": "A-1", "output.value": written.format("shipped", "c1")}, at=4)
    early = span("r2", tool | {"input.value": "A-2", "output.value": written.format("lost", "c2")}, at=3)
    derived = assemble([span("a", chat([ASK], answer)), late, early], [])
    assert [step["observation"] for step in derived.trajectories[0].steps] == ["shipped", "lost"]
    bare = [
        replace(one, attributes=tool | {"input.value": one.attributes["input.value"], "output.value": one.span_id})
        for one in (late, early)
    ]
    derived = assemble([span("a", chat([ASK], answer)), *bare], [])
    assert [step["observation"] for step in derived.trajectories[0].steps] == ["r1", "r2"]
    assert {side.rule for one in derived.origins for side in one.sides if side.side == "observation"} == {
        "by arguments"
    }


def test_one_agents_span_may_tell_of_many_decisions(span: Make) -> None:
    def turn(name: str, prompt: str, at: int) -> list[SpanRow]:
        told = {
            "openinference.span.kind": "AGENT",
            "session.id": "s",
            "agent.name": "desk",
            "input.value": prompt,
            "llm.output_messages.0.message.role": "assistant",
            "llm.output_messages.0.message.tool_calls.0.tool_call.id": name,
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "get_order",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"order_id": "A-1"}',
            "llm.output_messages.1.message.role": "assistant",
            "llm.output_messages.1.message.content.0": f"{name} done",
            "llm.token_count.prompt": 9,
        }
        ran = {
            "openinference.span.kind": "TOOL",
            "tool.id": name,
            "tool.name": "get_order",
            "input.value": '{"order_id": "A-1"}',
            "output.value": '[{"type": "text", "text": "shipped"}]',
        }
        other = {"trace_id": name}
        return [span(name, told, at=at, **other), span(f"{name}.run", ran, at=at + 1, parent=name, **other)]

    derived = assemble([*turn("one", "first", 0), *turn("two", "second", 10)], [])
    assert actions(derived) == [LOOK_UP, "one done", LOOK_UP, "two done"]
    assert states(derived)[3] == [
        *(("user", "first"), ("assistant", "get_order"), ("tool", "shipped"), ("assistant", "one done")),
        *(("user", "second"), ("assistant", "get_order"), ("tool", "shipped")),
    ]
    steps = derived.trajectories[0].steps
    assert [step["input_tokens"] for step in steps] == [9, None, 9, None]
    assert not any(step["complete"] for step in steps)
    assert len({step["decision"] for step in steps}) == 4


def test_histories_of_text_are_read_as_smolagents_writes_them(span: Make) -> None:
    function = {"name": "get_order", "arguments": {"order_id": "A-1"}}
    calls = f"Calling tools:\n{[{'id': 'c1', 'type': 'function', 'function': function}]}"
    model = {"openinference.span.kind": "LLM", "session.id": "s"}
    prefix = "llm.input_messages"
    first = {
        f"{prefix}.0.message.role": "user",
        f"{prefix}.0.message.contents.0.message_content.type": "text",
        f"{prefix}.0.message.contents.0.message_content.text": "Where is A-1?",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c1",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "get_order",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"order_id": "A-1"}',
    }
    second = {name: value for name, value in first.items() if name.startswith(prefix)} | {
        f"{prefix}.1.message.role": "tool-call",
        f"{prefix}.1.message.contents.0.message_content.text": calls,
        f"{prefix}.2.message.role": "tool-response",
        f"{prefix}.2.message.content": "Observation:\nshipped",
        "llm.output_messages.0.message.role": "assistant",
        "llm.output_messages.0.message.tool_calls.0.tool_call.id": "c2",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.name": "final_answer",
        "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments": '{"answer": "On its way."}',
    }
    agent = {"openinference.span.kind": "AGENT", "session.id": "s"}
    derived = assemble(
        [
            span("root", agent, name="desk.run"),
            span("a", model | first, at=1, parent="root"),
            span("b", model | second, at=5, parent="root"),
        ],
        [],
    )
    assert actions(derived) == [LOOK_UP, ("final_answer", {"answer": "On its way."}, None)]
    assert states(derived) == SEEN
    assert {step["agent"] for step in derived.trajectories[0].steps} == {"desk"}


def test_calls_without_a_conversation_go_on_from_each_other_by_their_messages(span: Make) -> None:
    def one(name: str, seen: Sequence[Json], answer: Json, at: int) -> SpanRow:
        attributes = chat(seen, answer)
        del attributes["gen_ai.conversation.id"]
        return span(name, attributes, at=at, trace_id=name)

    more = {"role": "user", "parts": [{"type": "text", "content": "And A-2?"}]}
    answers = [{"role": "assistant", "parts": [{"type": "text", "content": text}]} for text in ("lost", "shipped")]
    spans = [
        *(one("t1", [ASK], SAY, 0), one("t2", [ASK], SAY, 1)),
        *(one("t3", [ASK, SAY, more], answers[0], 2), one("t4", [ASK, SAY, more], answers[1], 3)),
    ]
    derived = assemble(spans, [])
    assert names(derived) == ["t1", "t2"]
    assert [actions(derived, place) for place in (0, 1)] == [
        ["It is on its way.", "shipped"],
        ["It is on its way.", "lost"],
    ]
    keys = {span.trace_id: links_of([span], []) for span in spans}
    provided = {key.removeprefix("provides:") for key in keys["t1"]}
    assert provided & {key.removeprefix("continues:") for key in keys["t3"]}


def test_a_sub_agents_call_ids_may_be_those_of_its_caller(span: Make) -> None:
    def called(agent: str, argument: str) -> Json:
        part = {"type": "tool_call", "id": "c1", "name": agent, "arguments": {"request": argument}}
        return {"role": "assistant", "parts": [part]}

    def told(text: str) -> Json:
        return {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": text}]}

    task = {"role": "user", "parts": [{"type": "text", "content": "please move it"}]}
    agent = {"gen_ai.operation.name": "invoke_agent", "gen_ai.conversation.id": "conv"}
    tool = {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.call.id": "c1"}
    spans = [
        span("desk", agent | {"gen_ai.agent.name": "desk"}),
        span("a", chat([ASK], called("ask_mover", "move")), at=1, parent="desk"),
        span("run", tool | {"gen_ai.tool.name": "ask_mover"}, at=2, parent="desk"),
        span("mover", agent | {"gen_ai.agent.name": "mover"}, at=3, parent="run"),
        span("b", chat([task], called("change", "x")), at=4, parent="mover"),
        span("run2", tool | {"gen_ai.tool.name": "change", "gen_ai.tool.call.result": "inner"}, at=5, parent="mover"),
        span("c", chat([task, called("change", "x"), told("inner")], SAY), at=6, parent="mover"),
        span("d", chat([ASK, called("ask_mover", "move"), told("outer")], SAY), at=7, parent="desk"),
    ]
    derived = assemble(spans, [])
    assert names(derived) == ["conv", "conv/mover"]
    assert actions(derived)[0] == ("ask_mover", {"request": "move"}, "outer")
    assert actions(derived, 1)[0] == ("change", {"request": "x"}, "inner")
    row = derived.trajectories[1].trajectories[0]
    assert (row["parent"], row["parent_step"]) == ("conv", 0)
    again = [
        replace(one, span_id=one.span_id + "2", parent_span_id="run3", started_at=one.started_at + 10)
        for one in spans[3:4]
    ]
    again += [replace(spans[4], span_id="b2", parent_span_id="mover2", started_at=15)]
    run = replace(spans[2], span_id="run3", started_at=12)
    assert names(assemble([*spans, run, *again], [])) == ["conv", "conv/mover", "conv/mover.2"]


def test_who_is_handed_back_to_goes_on_with_its_own_trajectory(span: Make) -> None:
    def agent(name: str, agent: str, at: int) -> SpanRow:
        return span(name, {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": agent}, at=at, parent="root")

    spans = [
        span("root", {"gen_ai.operation.name": "invoke_workflow"}),
        *(agent("a1", "desk", 1), agent("b1", "mover", 3), agent("a2", "desk", 5)),
        span("x", chat([ASK], CALL), at=2, parent="a1"),
        span("y", chat([ASK, CALL, TOLD], CALL), at=4, parent="b1"),
        span("z", chat([ASK, CALL, TOLD, CALL, TOLD], SAY), at=6, parent="a2"),
    ]
    derived = assemble(spans, [])
    assert names(derived) == ["conv", "conv/mover"]
    assert [len(one.steps) for one in derived.trajectories] == [2, 1]
    assert actions(derived)[0] == LOOK_UP  # the next agent was told


def test_a_tools_run_is_one_though_its_server_tells_of_it_too(span: Make) -> None:
    tool = {"openinference.span.kind": "TOOL", "tool.name": "get_order", "output.value": "shipped"}
    served = {"mcp.method.name": "tools/call", "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "get_order"}
    twice = {**CALL, "parts": CALL["parts"] * 2}
    spans = [
        span("a", chat([ASK], twice)),
        span("run", tool, at=1),
        span("served", served | {"error.type": "tool_error"}, at=2, parent="run"),
        span("run2", tool | {"output.value": "lost"}, at=3),
    ]
    steps = assemble(spans, []).trajectories[0].steps
    assert [(step["observation"], step["error_type"]) for step in steps] == [("shipped", "tool_error"), ("lost", None)]


def test_ids_that_start_again_with_each_turn_are_of_their_own_turn(span: Make) -> None:
    other = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "lost"}]}
    spans = [
        span("a", chat([ASK], CALL)),
        span("b", chat([ASK, CALL, TOLD], CALL), at=2),
        span("c", chat([ASK, CALL, TOLD, CALL, other], SAY), at=4),
    ]
    assert [step["observation"] for step in assemble(spans, []).trajectories[0].steps] == ["shipped", "lost", None]


def test_where_our_own_steps_are_foreign_spans_tell_no_decision(span: Make) -> None:
    own = span("own", {"agent.trajectory.id": "x"}, name="agent.trajectory.step", trajectory_id="x")
    assert assemble([own, span("a", chat([ASK], SAY))], []).trajectories == []
    assert links_of([own, span("a", chat([ASK], SAY))], []) == frozenset()


def test_a_conversation_of_services_that_share_no_trace_is_one_for_each(span: Make) -> None:
    spans = [
        span("a", chat([ASK], SAY)),
        span("b", chat([ASK], SAY), at=1, trace_id="t2", resource={"service.name": "other"}),
    ]
    assert names(assemble(spans, [])) == ["conv", "conv@other"]
    assert names(assemble([spans[0], replace(spans[1], trace_id="t1")], [])) == ["conv", "conv/other"]


def test_a_call_without_an_answer_makes_no_step_and_is_told_of(span: Make) -> None:
    spans = [span("a", chat([ASK])), span("b", chat([ASK], SAY), at=1)]
    (one,) = assemble(spans, []).trajectories
    reason = one.trajectories[0]["incomplete_reason"]
    assert (len(one.steps), reason) == (1, "1 of 2 model calls have no answer in their spans")
    failed = replace(spans[0], status=2)
    assert assemble([failed, spans[1]], []).trajectories[0].trajectories[0]["complete"]


def test_attributes_that_were_dropped_leave_a_step_incomplete(span: Make) -> None:
    (step,) = assemble([span("a", chat([ASK], SAY), dropped_attributes=2)], []).trajectories[0].steps
    assert step["incomplete_reason"] == "2 attributes were dropped on the way"


def test_results_whose_calls_were_left_out_get_them_back_from_the_earlier_answer(span: Make) -> None:
    spans = [span("a", chat([ASK], CALL)), span("b", chat([ASK, TOLD], SAY), at=1)]
    derived = assemble(spans, [])
    assert states(derived) == SEEN
    assert derived.trajectories[0].trajectories[0]["complete"]
    (step,) = assemble(spans[1:], []).trajectories[0].steps
    assert step["incomplete_reason"] == "the calls of 1 tool results in it are missing"


ASKED = [{"role": "user", "content": "Where is A-1?"}]
FUNCTION = {"name": "get_order", "arguments": '{"order_id": "A-1"}'}
ANSWERED = {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": FUNCTION}]}


@pytest.mark.parametrize(
    ("source", "attributes"),
    [
        (
            "vercel-ai",
            {
                "ai.operationId": "ai.generateText.doGenerate",
                "ai.prompt.messages": [{"role": "user", "content": [{"type": "text", "text": "Where is A-1?"}]}],
                "ai.response.toolCalls": [{"toolCallId": "c1", "toolName": "get_order", "args": FUNCTION["arguments"]}],
            },
        ),
        (
            "langfuse",
            {
                "langfuse.observation.type": "generation",
                "langfuse.observation.input": {"messages": ASKED},
                "langfuse.observation.output": ANSWERED,
            },
        ),
        (
            "mlflow",
            {
                "mlflow.spanType": "CHAT_MODEL",
                "mlflow.spanInputs": {"messages": ASKED},
                "mlflow.spanOutputs": {"choices": [{"message": ANSWERED}]},
            },
        ),
        (
            "openinference",
            {
                "openinference.span.kind": "LLM",
                "input.value": {"instructions": "Be brief.", "input": "Where is A-1?"},
                "output.value": {"output": [{"type": "function_call", "call_id": "c1", **FUNCTION}]},
            },
        ),
    ],
)
def test_requests_and_responses_as_clients_have_them_are_read(span: Make, source: str, attributes: Json) -> None:
    sent = {name: value if isinstance(value, str) else json.dumps(value) for name, value in attributes.items()}
    derived = assemble([span("a", sent)], [])
    assert actions(derived) == [("get_order", {"order_id": "A-1"}, None)]
    assert states(derived)[0][-1] == ("user", "Where is A-1?")
    assert derived.trajectories[0].trajectories[0]["source"] == source


def test_the_agent_is_whose_step_of_a_workflow_it_is(span: Make) -> None:
    event = "AgentSetup(input=[ChatMessage(content=\"current_agent_name='x'\")], current_agent_name='shipping')"
    told = {"openinference.span.kind": "CHAIN", "input.value": json.dumps({"ctx": "<Context>", "ev": event})}
    spans = [span("step", told), span("a", chat([ASK], SAY), at=1, parent="step")]
    assert [step["agent"] for step in assemble(spans, []).trajectories[0].steps] == ["shipping"]


def test_the_agent_is_whom_the_step_before_named(span: Make) -> None:
    task = {"traceloop.span.kind": "task"}
    named = [json.dumps({"input": [], "current_agent_name": name}) for name in ("support", "shipping", "later")]
    spans = [
        span("root", {"traceloop.span.kind": "workflow"}),
        *(span(f"s{at}", {**task, "traceloop.entity.output": named[at]}, at=at + 1, parent="root") for at in (0, 1)),
        span("step", task, at=3, parent="root"),
        span("a", chat([ASK], SAY), at=4, parent="step"),
        span("s2", {**task, "traceloop.entity.output": named[2]}, at=5, parent="root"),
    ]
    assert [step["agent"] for step in assemble(spans, []).trajectories[0].steps] == ["shipping"]


def test_results_and_calls_that_are_told_twice_count_once(span: Make, log: MakeLog) -> None:
    """Botocore sends a result as a message of its own, and again in the user's message that it came in."""
    use = {"toolUse": {"toolUseId": "c1", "name": "get_order", "input": {"order_id": "A-1"}}}
    call = {"id": "c1", "type": "function", "function": {"name": "get_order", "arguments": {"order_id": "A-1"}}}
    block = {"type": "tool_use", "id": "c2", "name": "get_order", "input": {"order_id": "A-2"}}
    again = {**call, "id": "c2", "function": {"name": "get_order", "arguments": {"order_id": "A-2"}}}
    told = [
        ("user", {"content": [{"text": "Where is A-1?"}]}),
        ("assistant", {"content": [use], "tool_calls": [call]}),
        ("tool", {"id": "c1", "content": [{"text": "shipped"}]}),
        ("user", {"content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "shipped"}]}}]}),
        ("assistant", {"content": [block], "tool_calls": [again]}),
        ("tool", {"id": "c2", "content": "lost"}),
        ("user", {"content": [{"type": "tool_result", "tool_use_id": "c2", "content": "lost"}]}),
    ]
    logs = [log("a", f"gen_ai.{role}.message", {}, body=body, at=at) for at, (role, body) in enumerate(told)]
    said = log("a", "gen_ai.choice", {}, body={"message": {"content": [{"text": "A-2 is lost."}]}}, at=9)
    derived = assemble([span("a", {"gen_ai.operation.name": "chat"})], [*logs, said])
    assert states(derived) == [
        [
            *(("user", "Where is A-1?"), ("assistant", "get_order"), ("tool", "shipped")),
            *(("assistant", "get_order"), ("tool", "lost")),
        ]
    ]
    assert actions(derived) == ["A-2 is lost."]


@pytest.mark.parametrize(
    ("more", "offered"),
    [
        ({"llm.tools.0.tool.json_schema": json.dumps({"toolSpec": {"name": "f", "inputSchema": {"json": {}}}})}, ["f"]),
        ({"input.value": json.dumps({"tools": [{"function": {"name": "f", "parameters": {}}}]})}, ["f"]),
        ({"input.value": json.dumps({"tools": ["name='f' description='Does it.'"]})}, []),
    ],
)
def test_offered_tools_are_read_wherever_the_request_has_them(span: Make, more: Json, offered: list[str]) -> None:
    said = {"openinference.span.kind": "LLM", "session.id": "s", "llm.output_messages.0.message.content": "Hi."}
    (one,) = assemble([span("a", {**said, "llm.output_messages.0.message.role": "assistant", **more})], []).trajectories
    assert [row["name"] for row in one.tools] == offered


def test_calls_beside_parts_and_results_as_plain_text_are_read(span: Make) -> None:
    """LiteLLM's own callback writes messages so, and the calls of its answers under the names of old."""
    function = {"name": "get_order", "arguments": '{"order_id": "A-1"}'}
    first = {
        "gen_ai.operation.name": "chat",
        "llm.request.type": "completion",
        "gen_ai.conversation.id": "conv",
        "gen_ai.input.messages": json.dumps([ASK]),
        "gen_ai.output.messages": json.dumps([{"role": "assistant", "parts": []}]),
        **{f"gen_ai.completion.0.function_call.{key}": value for key, value in function.items()},
    }
    asked = {"role": "assistant", "parts": [{"type": "text", "content": ""}]}
    asked["tool_calls"] = [{"id": "c1", "type": "function", "function": function}]
    told = {"role": "tool", "parts": [{"type": "text", "content": "shipped"}], "tool_call_id": "c1"}
    derived = assemble([span("a", first), span("b", chat([ASK, asked, told], SAY), at=5)], [])
    assert actions(derived) == [LOOK_UP, "It is on its way."]
    assert states(derived) == SEEN
    assert all(step["complete"] for step in derived.trajectories[0].steps)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps([{"type": "text", "text": "Hi."}]), "Hi."),
        (json.dumps([{"type": "order", "text": "Hi."}]), '[{"type": "order", "text": "Hi."}]'),
    ],
)
def test_blocks_that_were_written_as_json_text_are_their_text(span: Make, content: str, said: str) -> None:
    flat = {"llm.request.type": "chat", "gen_ai.completion.0.role": "assistant"}
    (one,) = assemble([span("a", {**flat, "gen_ai.completion.0.content": content})], []).trajectories
    assert one.steps[0]["action_message"] == said


AI_CALL: Json = {"type": "tool-call", "toolCallId": "c1", "toolName": "get_order"}


@pytest.mark.parametrize(
    ("call", "result"),
    [
        ({**AI_CALL, "input": {"order_id": "A-1"}}, {"output": {"type": "text", "value": "shipped"}}),
        ({**AI_CALL, "args": {"order_id": "A-1"}}, {"result": "shipped"}),
    ],
)
def test_messages_of_the_ai_sdk_hold_calls_and_results(span: Make, call: Json, result: Json) -> None:
    told = {"type": "tool-result", "toolCallId": "c1", "toolName": "get_order", **result}
    seen = [
        {"role": "user", "content": [{"type": "text", "text": "Where is A-1?"}]},
        {"role": "assistant", "content": [call]},
        {"role": "tool", "content": [told]},
    ]
    kind = {"ai.operationId": "ai.generateText.doGenerate", "ai.telemetry.metadata.sessionId": "s"}
    first = {**kind, "ai.prompt.messages": json.dumps(seen[:1]), "ai.response.toolCalls": json.dumps([call])}
    last = {**kind, "ai.prompt.messages": json.dumps(seen), "ai.response.text": "It is on its way."}
    derived = assemble([span("a", first), span("b", last, at=5)], [])
    assert actions(derived) == [LOOK_UP, "It is on its way."]
    assert states(derived) == SEEN


def test_definitions_of_tools_among_the_messages_are_what_was_offered(span: Make) -> None:
    """Langfuse's callback for LangChain puts them behind the messages, as if a tool had said them."""
    offered = {"role": "tool", "content": {"type": "function", "function": {"name": "get_order", "parameters": {}}}}
    said = {
        "langfuse.observation.type": "generation",
        "langfuse.observation.input": json.dumps([{"role": "user", "content": "Where is A-1?"}, offered]),
        "langfuse.observation.output": json.dumps({"role": "assistant", "content": "Gone."}),
    }
    derived = assemble([span("a", said)], [])
    assert states(derived) == [[("user", "Where is A-1?")]]
    assert [row["name"] for row in derived.trajectories[0].tools] == ["get_order"]
