"""Logs of coding agents, and what is particular to each: branches, sub-agents, compacted and rewound histories."""

import json
from collections.abc import Sequence
from typing import Any

from imitrace_collector.imports import atif, claude_code, codex, gemini_cli
from imitrace_collector.imports.conversations import Broken, Conversation, Given, Reader, Row

Json = dict[str, Any]  # a JSON object


def read(reader: Reader, entries: Sequence[Any]) -> tuple[list[Conversation], list[str]]:
    rows = [Row(f"line {number + 1}", number, entry) for number, entry in enumerate(entries)]
    found = list(reader(rows, Given()))
    conversations = [told for told in found if isinstance(told, Conversation)]
    return conversations, [str(told) for told in found if isinstance(told, Broken)]


def seen(conversation: Conversation) -> list[list[str]]:
    """Return for each decision the texts that it saw."""
    states: list[list[str]] = []
    state: list[str] = []
    for decision in conversation.decisions:
        state = [*state[: decision.offset], *(shown(message) for message in decision.messages)]
        states.append(list(state))
    return states


def shown(message: Json) -> str:
    """Return a message in a word: its text, or what it called, or what came back."""
    parts = [part for part in message["parts"] if part["type"] != "reasoning"]
    return " ".join(str(part.get("content") or part.get("name") or part.get("response")) for part in parts)


def did(conversation: Conversation) -> list[str]:
    return [str(action.name or action.message) for decision in conversation.decisions for action in decision.actions]


def entry(uuid: str, parent: str | None, kind: str, content: Any, **more: Any) -> Json:
    message: Json = {"role": kind, "content": content}
    if kind == "assistant":
        message |= {"id": more.pop("answer", uuid), "model": "claude", "usage": {"input_tokens": 1, "output_tokens": 2}}
    told = {"type": kind, "uuid": uuid, "parentUuid": parent, "sessionId": "s1", "timestamp": "2026-05-01T10:00:00Z"}
    return told | {"isSidechain": False, "message": message} | more


def use(name: str) -> Json:
    return {"type": "tool_use", "id": name, "name": name, "input": {}}


def result(name: str) -> Json:
    return {"type": "tool_result", "tool_use_id": name, "content": f"got {name}"}


def test_claude_code_parallel_calls_are_one_decision_though_their_results_stand_between() -> None:
    (found,), broken = read(
        claude_code.read,
        [
            entry("u1", None, "user", "go"),
            entry("a1", "u1", "assistant", [use("one")], answer="m1"),
            entry("r1", "a1", "user", [result("one")]),
            entry("a2", "a1", "assistant", [use("two")], answer="m1"),
            entry("r2", "a2", "user", [result("two")]),
            entry("a3", "r2", "assistant", [{"type": "text", "text": "done"}], answer="m2"),
        ],
    )
    assert broken == []
    assert [[action.name for action in decision.actions] for decision in found.decisions] == [["one", "two"], [None]]
    assert seen(found)[1] == ["go", "one two", "got one", "got two"]


def test_claude_code_leaves_out_a_branch_that_was_abandoned() -> None:
    (found,), _ = read(
        claude_code.read,
        [
            entry("u1", None, "user", "go"),
            entry("a1", "u1", "assistant", [{"type": "text", "text": "which way?"}]),
            entry("u2", "a1", "user", "left"),
            entry("a2", "u2", "assistant", [{"type": "text", "text": "left it is"}]),
            entry("u3", "a1", "user", "right"),
            entry("a3", "u3", "assistant", [{"type": "text", "text": "right it is"}]),
        ],
    )
    assert did(found) == ["which way?", "right it is"]
    assert seen(found)[1] == ["go", "which way?", "right"]


def test_claude_code_sub_agents_are_trajectories_that_name_their_parent() -> None:
    side = {"isSidechain": True, "agentId": "a9"}
    found, _ = read(
        claude_code.read,
        [
            entry("u1", None, "user", "go"),
            entry("a1", "u1", "assistant", [use("Task")]),
            entry("x1", None, "user", "look around", **side),
            entry("x2", "x1", "assistant", [{"type": "text", "text": "seen"}], **side),
            entry("r1", "a1", "user", [result("Task")]),
            entry("a2", "r1", "assistant", [{"type": "text", "text": "done"}]),
        ],
    )
    assert [(told.trajectory_id, did(told), dict(told.tags)) for told in found] == [
        ("s1", ["Task", "done"], {}),
        ("s1/a9", ["seen"], {"parent": "s1"}),
    ]


def test_claude_code_sees_only_the_summary_after_a_history_was_compacted() -> None:
    boundary = {"type": "system", "subtype": "compact_boundary", "uuid": "b1", "parentUuid": None, "sessionId": "s1"}
    (found,), _ = read(
        claude_code.read,
        [
            entry("u1", None, "user", "go"),
            entry("a1", "u1", "assistant", [{"type": "text", "text": "on it"}]),
            boundary | {"logicalParentUuid": "a1"},
            entry("u2", "b1", "user", "what happened so far", isCompactSummary=True),
            entry("a2", "u2", "assistant", [{"type": "text", "text": "done"}]),
        ],
    )
    assert seen(found) == [["go"], ["what happened so far"]]


def test_claude_code_a_new_root_begins_a_new_state_and_other_entries_only_link() -> None:
    progress = {"type": "progress", "uuid": "p1", "parentUuid": "a1", "sessionId": "s1", "data": {}}
    (found,), broken = read(
        claude_code.read,
        [
            entry("u1", None, "user", "go"),
            entry("a1", "u1", "assistant", [{"type": "text", "text": "on it"}]),
            progress,
            entry("u2", "p1", "user", "more"),
            entry("a2", "u2", "assistant", [{"type": "text", "text": "done"}]),
            entry("u3", "a1", "user", "other"),
            entry("a3", "u3", "assistant", [{"type": "text", "text": "so be it"}]),
            entry("u4", None, "user", "afresh"),
            entry("a4", "u4", "assistant", [{"type": "text", "text": "hello"}]),
        ],
    )
    assert broken == []
    assert did(found) == ["on it", "so be it", "hello"]
    assert seen(found) == [["go"], ["go", "on it", "other"], ["afresh"]]


def test_claude_code_words_of_the_program_are_no_decisions() -> None:
    failed = entry("a1", "u1", "assistant", [{"type": "text", "text": "API Error"}])
    failed["message"]["model"] = "<synthetic>"
    conversations, broken = read(claude_code.read, [entry("u1", None, "user", "go"), failed])
    assert (conversations, broken) == ([], [])


def item(kind: str, payload: Json) -> Json:
    return {"timestamp": "2026-05-01T10:00:00Z", "type": kind, "payload": payload}


def words(role: str, text: str) -> Json:
    kind = "output_text" if role == "assistant" else "input_text"
    return item("response_item", {"type": "message", "role": role, "content": [{"type": kind, "text": text}]})


META = item("session_meta", {"id": "s1", "timestamp": "2026-05-01T10:00:00Z", "instructions": "be brief"})


def test_codex_items_of_the_model_between_two_others_are_one_answer() -> None:
    call = {"type": "function_call", "name": "shell", "arguments": '{"command": ["ls"]}', "call_id": "c1"}
    again = {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin", "call_id": "c2"}
    outputs = [{"type": kind, "call_id": name, "output": name} for kind, name in (("function_call_output", "c1"),)]
    outputs.append({"type": "custom_tool_call_output", "call_id": "c2", "output": "c2"})
    answer = [words("assistant", "I look."), item("response_item", call), item("response_item", again)]
    told = [META, words("user", "go"), *answer, *(item("response_item", output) for output in outputs)]
    (found,), broken = read(codex.read, [*told, words("assistant", "done")])
    assert broken == []
    assert did(found) == ["shell", "apply_patch", "done"]
    assert len(found.decisions) == 2
    assert found.decisions[0].actions[1].arguments == {"input": "*** Begin"}
    assert seen(found)[1] == ["be brief", "go", "I look. shell apply_patch", "c1", "c2"]


def test_codex_begins_anew_with_what_replaced_its_history() -> None:
    history = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "so far"}]}]
    told = [META, words("user", "go"), words("assistant", "one")]
    told.append(item("compacted", {"message": "", "replacement_history": history}))
    (found,), _ = read(codex.read, [*told, words("user", "on"), words("assistant", "two")])
    assert seen(found) == [["be brief", "go"], ["so far", "on"]]


def test_codex_forgets_turns_that_were_rolled_back() -> None:
    told = [META, words("user", "go"), words("assistant", "one"), words("user", "no"), words("assistant", "two")]
    told.append(item("event_msg", {"type": "thread_rolled_back", "num_turns": 1}))
    (found,), _ = read(codex.read, [*told, words("user", "yes"), words("assistant", "three")])
    assert seen(found)[2] == ["be brief", "go", "one", "yes"]


def test_codex_sub_agents_and_forks_name_their_parent() -> None:
    spawned = {"subagent": {"thread_spawn": {"parent_thread_id": "s0", "depth": 1}}}
    for meta in ({"id": "s1", "source": spawned}, {"id": "s1", "forked_from_id": "s0"}):
        (found,), _ = read(codex.read, [item("session_meta", meta), words("user", "go"), words("assistant", "ok")])
        assert found.tags == {"parent": "s0"}


def test_codex_logs_of_the_older_form_are_read_too() -> None:
    call = {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c1"}
    told = [
        {"id": "s1", "timestamp": "2025-06-01T10:00:00Z", "instructions": None},
        {"record_type": "state"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "go"}]},
        call,
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
    ]
    (found,), broken = read(codex.read, told)
    assert (did(found), broken) == (["shell"], [])


def test_codex_entries_before_any_session_are_named() -> None:
    conversations, broken = read(codex.read, [words("user", "go")])
    assert (conversations, broken) == ([], ["line 1: it comes before any 'session_meta'"])


BEGUN = {"sessionId": "s1", "projectHash": "a33c", "startTime": "2026-05-01T10:00:00Z"}


def gemini(name: str, kind: str, content: str, **more: Any) -> Json:
    return {"id": name, "timestamp": "2026-05-01T10:00:00Z", "type": kind, "content": content, **more}


def test_gemini_cli_messages_replace_each_other_and_are_taken_back() -> None:
    told = [BEGUN, gemini("m1", "user", "go"), gemini("m2", "gemini", ""), gemini("m2", "gemini", "one")]
    told += [gemini("m3", "user", "no"), gemini("m4", "gemini", "two"), {"$rewindTo": "m3"}]
    (found,), broken = read(gemini_cli.read, [*told, gemini("m5", "user", "yes"), gemini("m6", "gemini", "three")])
    assert (did(found), broken) == (["one", "three"], [])
    assert seen(found)[1] == ["go", "one", "yes"]


def test_gemini_cli_documents_of_the_older_form_are_read_too() -> None:
    call = {"id": "c1", "name": "ls", "args": {}, "status": "error", "result": [{"text": "no such folder"}]}
    messages = [gemini("m1", "user", "go"), gemini("m2", "gemini", "", toolCalls=[call]), "not a message"]
    (found,), broken = read(gemini_cli.read, [BEGUN | {"messages": messages}])
    assert did(found) == ["ls"]
    assert found.after[-1]["parts"][0]["is_error"]
    assert broken == ["line 1, message 3: it is no message with 'type'"]


def test_atif_sub_agents_copied_context_and_steps_without_a_model() -> None:
    def step(source: str, message: Any, **more: Any) -> Json:
        return {"step_id": 1, "source": source, "message": message, **more}

    inner = {"agent": {"name": "scout"}, "steps": [step("user", "look"), step("agent", "seen")]}
    outer = {
        "schema_version": "ATIF-v1.7",
        "session_id": "s1",
        "agent": {"name": "desk", "version": "1"},
        "steps": [
            step("user", "go"),
            step("agent", "from before", is_copied_context=True),
            step("agent", "by rule", llm_call_count=0),
            step("agent", [{"type": "text", "text": "done"}], observation={"results": [{"content": "screen"}]}),
        ],
        "subagent_trajectories": [inner, inner],
    }
    found, broken = read(atif.read, [outer])
    assert broken == []
    assert [(told.trajectory_id, told.agent, did(told)) for told in found] == [
        ("s1", "desk", ["done"]),
        ("s1/scout", "scout", ["seen"]),
        ("s1/scout.2", "scout", ["seen"]),
    ]
    assert seen(found[0]) == [["go", "from before", "by rule"]]
    assert json.dumps(found[0].after[-1]["parts"]) == '[{"type": "text", "content": "screen"}]'
