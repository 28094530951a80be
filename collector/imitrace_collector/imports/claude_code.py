"""Read Claude Code's session logs, ``~/.claude/projects/PROJECT/*.jsonl``: one entry a line, several files a session.

The format is described nowhere by its maker; it was read in logs and in what others found, for instance
https://github.com/Huntehhh/claude-code-chat/blob/main/docs/claude-cli-jsonl-format.md. One answer of the model stands
in several entries with one ``message.id``, a sub-agent's entries have ``isSidechain``, a branch that was abandoned
leads to no last entry, and after ``compact_boundary`` the agent sees only the summary. The system prompt and the tools
are not in the logs.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Message, message_text
from imitrace.shapes.answers import read_answer
from imitrace.shapes.chat_shapes import parts_messages
from imitrace.shapes.content_parts import content_parts
from imitrace_collector.imports.conversations import (
    UNREADABLE,
    Broken,
    Conversation,
    Facts,
    Found,
    Given,
    Json,
    Row,
    Transcript,
    agent_name,
    text,
    time_of,
    under,
    unreadable,
)

AGENT = "claude-code"

_SPOKEN = ("user", "assistant")
_KINDS = (
    "user",
    "assistant",
    "system",
    "summary",
    "file-history-snapshot",
    "queue-operation",
    "progress",
    "attachment",
)
_FAULTS = Faults()


def is_entry(row: Json) -> bool:
    """Return whether a row is an entry of such a log."""
    if row.get("type") not in _KINDS:
        return False
    return ("sessionId" in row and ("uuid" in row or "message" in row)) or "leafUuid" in row or "messageId" in row


def read(rows: Iterable[Row], given: Given) -> Iterator[Found]:
    """Read sessions and their sub-agents, each a trajectory of its own."""
    threads: dict[str, list[Row]] = defaultdict(list)
    known: dict[str, str] = {}
    for row in rows:
        try:
            name = _thread_of(row.value, known)
        except WireError as error:
            yield Broken(row.place, str(error))
            continue
        if name is not None:
            threads[name].append(row)
    for name, entries in threads.items():
        conversation, broken = _conversation(name, entries, given)
        yield from broken
        if conversation is not None:
            yield conversation


def _thread_of(entry: Any, known: dict[str, str]) -> str | None:
    """Return which trajectory an entry belongs to; None for one that says nothing of the conversation.

    Args:
        entry: of the log.
        known: trajectory by entry, for sub-agents that are known only by what they hang on; this one is added.
    """
    if not isinstance(entry, dict) or not isinstance(entry.get("type"), str):
        raise WireError("it is no entry of a session: an object with 'type'")
    if entry["type"] not in _SPOKEN and "uuid" not in entry:
        return None
    if entry["type"] in _SPOKEN and not isinstance(entry.get("message"), dict):
        raise WireError(f"{entry['type']} entry has no 'message'")
    session = text(entry.get("sessionId"))
    if not session:
        raise WireError("it names no 'sessionId'")
    name = session
    if entry.get("isSidechain"):
        part = (
            text(entry.get("agentId")) or known.get(str(entry.get("parentUuid"))) or text(entry.get("uuid")) or "agent"
        )
        name = part if part.startswith(f"{session}/") else f"{session}/{part}"
    known[str(entry.get("uuid"))] = name
    return name


def _conversation(name: str, entries: Sequence[Row], given: Given) -> tuple[Conversation | None, list[Broken]]:
    """Return a trajectory, and the entries that can't be read."""
    transcript, broken = Transcript(), []
    answers, trees = _answers(entries), _trees(entries)
    alive = _alive(entries, trees)
    for row in entries:
        entry: Json = row.value
        if str(entry.get("uuid")) in trees:
            transcript.rewind(0)  # nothing before it leads here
        if str(entry.get("uuid")) not in alive:
            continue
        try:
            _tell(entry, transcript, answers)
        except WireError as error:
            broken.append(Broken(row.place, str(error)))
        except UNREADABLE as error:
            broken.append(Broken(row.place, unreadable(error)))
    first: Json = entries[0].value
    main, _, part = name.partition("/")
    if not transcript.decisions:
        return None, broken
    conversation = Conversation(
        place=entries[0].place,
        position=entries[0].position,
        trajectory_id=name,
        agent=agent_name(given, AGENT),
        agent_version=text(first.get("version")),
        decisions=transcript.decisions,
        after=transcript.after(),
        started_at=next((at for row in entries if (at := time_of(row.value.get("timestamp"))) is not None), None),
        tags={"parent": main} if part else {},
    )
    return conversation, broken


def _tell(entry: Json, transcript: Transcript, answers: dict[str, list[Json]]) -> None:
    if entry["type"] not in _SPOKEN:
        if entry.get("subtype") == "compact_boundary":
            transcript.rewind(0)
        return
    message = entry["message"]
    if entry["type"] == "user":
        for read_message in parts_messages([{**message, "role": "user"}]):
            transcript.say(read_message)
        return
    if message.get("model") == "<synthetic>" or entry.get("isApiErrorMessage"):
        return  # the program's own words about a request that failed
    parts = answers.pop(_answer_id(entry), [])
    if not parts:
        return  # told with its first entry
    blocks = [block for part in parts for block in _blocks(part["message"].get("content"))]
    whole = {**parts[-1]["message"], "role": "assistant", "content": blocks}
    answer = read_answer({**whole, "content": blocks or ""}, _FAULTS)
    said: Message = {"role": "assistant", "parts": content_parts(blocks)}
    if not any(part.get("type") == "tool_call" for part in said["parts"]) and not message_text(said):
        transcript.say(said)  # thoughts alone: the answer broke off
        return
    facts = Facts(
        model=answer.model,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        at=time_of(entry.get("timestamp")),
        error_type=answer.error_type,
    )
    transcript.answer(said, facts)


def _blocks(content: Any) -> list[Any]:
    return content if isinstance(content, list) else [{"type": "text", "text": content}] if content else []


def _answer_id(entry: Json) -> str:
    return str(entry["message"].get("id") or entry.get("uuid"))


def _answers(entries: Iterable[Row]) -> dict[str, list[Json]]:
    """Return the entries of each of the model's answers."""
    found: dict[str, list[Json]] = defaultdict(list)
    for row in entries:
        if row.value["type"] == "assistant":
            found[_answer_id(row.value)].append(row.value)
    return found


def _trees(entries: Sequence[Row]) -> dict[str, list[str]]:
    """Return the entries by the one that they all go back to, each tree in its order."""
    roots: dict[str, str] = {}
    trees: dict[str, list[str]] = defaultdict(list)
    for row in entries:
        name = str(row.value.get("uuid"))
        roots[name] = roots.get(_parent(row.value), name)
        trees[roots[name]].append(name)
    return trees


def _alive(entries: Sequence[Row], trees: Mapping[str, Sequence[str]]) -> set[str]:
    """Return the entries that lead to the last one of their tree, with other blocks and results of their answers."""
    by_id = {str(row.value.get("uuid")): row.value for row in entries}
    path: set[str] = set()
    for tree in trees.values():
        at = next((name for name in reversed(tree) if by_id[name]["type"] in _SPOKEN), tree[-1])
        while at in by_id and at not in path:
            path.add(at)
            at = _parent(by_id[at])
    told = {_answer_id(by_id[name]) for name in path if by_id[name]["type"] == "assistant"}
    blocks = {name for name, entry in by_id.items() if entry["type"] == "assistant" and _answer_id(entry) in told}
    results = {name for name, entry in by_id.items() if _is_result(entry) and _parent(entry) in blocks}
    return path | blocks | results


def _parent(entry: Json) -> str:
    return str(entry.get("parentUuid") or entry.get("logicalParentUuid"))


def _is_result(entry: Json) -> bool:
    content = under(entry, "message").get("content")
    blocks = content if isinstance(content, list) else []
    return any(isinstance(block, Mapping) and block.get("type") == "tool_result" for block in blocks)
