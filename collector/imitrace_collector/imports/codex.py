"""Read Codex CLI's session logs, ``~/.codex/sessions/YYYY/MM/DD/rollout-*.jsonl``.

Lines are ``{timestamp, type, payload}``, where ``response_item`` holds what went to the model and came back as items
of OpenAI's responses, ``turn_context`` the model, ``event_msg`` among others the tokens, and ``compacted`` what
replaced the history; older logs hold the items bare. Source: ``RolloutItem`` in
https://github.com/openai/codex/blob/main/codex-rs/protocol/src/protocol.rs. The tools are not in the logs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from imitrace.exceptions import WireError
from imitrace.shapes.chat_shapes import read_item, system_message
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
    count,
    text,
    time_of,
    under,
    unreadable,
)

AGENT = "codex"

_KINDS = ("session_meta", "response_item", "event_msg", "turn_context", "compacted")
_OURS = ("reasoning", "message", "function_call", "custom_tool_call", "local_shell_call", "web_search_call")


@dataclass
class _Session:
    """One session, as far as it was read."""

    place: str
    position: int
    meta: Json
    transcript: Transcript = field(default_factory=Transcript)
    model: str | None = None
    started_at: int | None = None


def is_entry(row: Json) -> bool:
    """Return whether a row is an entry of such a log."""
    if row.get("type") in _KINDS and isinstance(row.get("payload"), dict):
        return True
    return row.get("record_type") == "state" or _is_old_meta(row)


def _is_old_meta(row: Json) -> bool:
    return {"id", "timestamp", "instructions"} <= row.keys() and "type" not in row and "messages" not in row


def read(rows: Iterable[Row], given: Given) -> Iterator[Found]:
    """Read sessions: each begins with its ``session_meta``."""
    session: _Session | None = None
    for row in rows:
        try:
            kind, payload, at = _entry(row.value)
            if kind == "session_meta" and (session is None or session.meta.get("id") != payload.get("id")):
                yield from _ended(session, given)
                session = _begun(row, payload, at)
            elif session is None:
                raise WireError("it comes before any 'session_meta'")
            else:
                _tell(session, kind, payload, at)
        except WireError as error:
            yield Broken(row.place, str(error))
        except UNREADABLE as error:
            yield Broken(row.place, unreadable(error))
    yield from _ended(session, given)


def _entry(value: Any) -> tuple[str, Json, int | None]:
    """Return an entry's kind, what it holds, and when it was written."""
    if not isinstance(value, dict):
        raise WireError("it is no entry of a session: a JSON object")
    at = time_of(value.get("timestamp"))
    if isinstance(value.get("payload"), dict) and isinstance(value.get("type"), str):
        return value["type"], value["payload"], at
    if _is_old_meta(value):
        return "session_meta", value, at
    if value.get("record_type") is not None:
        return "state", value, at
    return "response_item", value, at


def _begun(row: Row, meta: Json, at: int | None) -> _Session:
    started_at = time_of(meta.get("timestamp"))
    session = _Session(row.place, row.position, meta, started_at=at if started_at is None else started_at)
    instructions = under(meta, "base_instructions").get("text") or meta.get("instructions")
    if isinstance(instructions, str) and instructions:
        session.transcript.say(system_message(instructions))
    return session


def _ended(session: _Session | None, given: Given) -> Iterator[Conversation]:
    if session is None or not session.transcript.decisions:
        return
    spawned = under(under(under(session.meta, "source"), "subagent"), "thread_spawn")
    parent = text(spawned.get("parent_thread_id") or session.meta.get("forked_from_id"))
    yield Conversation(
        place=session.place,
        position=session.position,
        trajectory_id=text(session.meta.get("id")) or session.place,
        agent=agent_name(given, AGENT),
        agent_version=text(session.meta.get("cli_version")),
        decisions=session.transcript.decisions,
        after=session.transcript.after(),
        started_at=session.started_at,
        tags={"parent": parent} if parent else {},
    )


def _tell(session: _Session, kind: str, payload: Json, at: int | None) -> None:
    if kind == "response_item":
        _item(session, payload, at)
    elif kind == "turn_context":
        session.model = text(payload.get("model")) or session.model
    elif kind == "compacted":
        _compacted(session, payload)
    elif payload.get("type") == "token_count":
        session.transcript.learn(_tokens(payload))
    elif payload.get("type") == "thread_rolled_back":
        session.transcript.rewind(session.transcript.turn(count(payload.get("num_turns")) or 0))


def _item(session: _Session, item: Json, at: int | None) -> None:
    """Add one item of the history; those of the model between two others are one answer."""
    kind = item.get("type")
    if kind in ("ghost_snapshot", "other", "compaction", "compaction_summary"):
        return
    transcript = session.transcript
    decided = kind in _OURS and (kind != "message" or item.get("role") == "assistant")
    for message in read_item(item).messages:
        if message["role"] == "assistant" and decided:
            transcript.answer(message, Facts(model=session.model, at=at), continues=True)
        else:
            transcript.say(message)


def _compacted(session: _Session, payload: Json) -> None:
    """Begin the state anew with what the history was replaced by."""
    session.transcript.rewind(0)
    history = payload.get("replacement_history")
    items = history if isinstance(history, list) else []
    if not items and payload.get("message"):
        items = [{"role": "user", "content": payload["message"]}]
    for item in items:
        if isinstance(item, Mapping) and item.get("type") not in ("ghost_snapshot", "compaction", "compaction_summary"):
            for message in read_item(item).messages:
                session.transcript.say(message)


def _tokens(payload: Json) -> Facts:
    paid = under(under(payload, "info"), "last_token_usage")
    return Facts(input_tokens=count(paid.get("input_tokens")), output_tokens=count(paid.get("output_tokens")))
