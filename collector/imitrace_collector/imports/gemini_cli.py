"""Read Gemini CLI's session logs, ``~/.gemini/tmp/PROJECT/chats/session-*``: JSON Lines, or one JSON document.

A log begins with ``sessionId`` and ``projectHash``; messages follow, of which one that comes again under its id
replaces the former, ``$rewindTo`` takes back all from a message on and ``$set`` changes what is known of the session.
Source:
https://github.com/google-gemini/gemini-cli/blob/main/packages/core/src/services/chatRecordingTypes.ts and
chatRecordingService.ts beside it. The system prompt and the tools are not in the logs.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from imitrace.exceptions import WireError
from imitrace.messages import Message
from imitrace.shapes.content_parts import call_part, content_parts, result_part
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

AGENT = "gemini-cli"


@dataclass
class _Session:
    """One session, as far as it was read."""

    place: str
    position: int
    meta: dict[str, Any]
    messages: dict[str, Row] = field(default_factory=dict)


def is_entry(row: Json) -> bool:
    """Return whether a row is an entry of such a log, or a whole one."""
    if ("sessionId" in row and "projectHash" in row) or "$rewindTo" in row or "$set" in row:
        return True
    return row.get("type") == "gemini" and "content" in row


def read(rows: Iterable[Row], given: Given) -> Iterator[Found]:
    """Read sessions."""
    session: _Session | None = None
    for row in rows:
        entry = row.value
        begins = isinstance(entry, dict) and "sessionId" in entry and "projectHash" in entry
        try:
            if begins and (session is None or entry["sessionId"] != session.meta["sessionId"]):
                yield from _ended(session, given)
                session = _Session(row.place, row.position, dict(entry))
                _take_all(session, row, entry.get("messages"))
            elif session is None or not isinstance(entry, dict):
                raise WireError("it belongs to no session: no line with 'sessionId' and 'projectHash' comes before it")
            else:
                _take(session, row, entry)
        except WireError as error:
            yield Broken(row.place, str(error))
        except UNREADABLE as error:
            yield Broken(row.place, unreadable(error))
    yield from _ended(session, given)


def _take(session: _Session, row: Row, entry: Json) -> None:
    if "$rewindTo" in entry:
        names = list(session.messages)
        since = names.index(entry["$rewindTo"]) if entry["$rewindTo"] in session.messages else 0
        for name in names[since:]:
            del session.messages[name]
    elif isinstance(entry.get("$set"), Mapping):
        session.meta |= entry["$set"]
        _take_all(session, row, entry["$set"].get("messages"))
    elif isinstance(entry.get("id"), str):
        session.messages[entry["id"]] = row
    elif "sessionId" not in entry:
        raise WireError("it is neither a message with 'id' nor a change of the session")


def _take_all(session: _Session, row: Row, messages: Any) -> None:
    if not isinstance(messages, list):
        return
    session.messages.clear()
    for number, message in enumerate(messages):
        place = f"{row.place}, message {number + 1}"
        name = message.get("id") if isinstance(message, Mapping) else None
        session.messages[name if isinstance(name, str) else place] = Row(place, row.position, message)


def _ended(session: _Session | None, given: Given) -> Iterator[Found]:
    if session is None:
        return
    transcript = Transcript()
    for row in session.messages.values():
        try:
            _tell(row.value, transcript)
        except WireError as error:
            yield Broken(row.place, str(error))
        except UNREADABLE as error:
            yield Broken(row.place, unreadable(error))
    if transcript.decisions:
        yield Conversation(
            place=session.place,
            position=session.position,
            trajectory_id=text(session.meta["sessionId"]) or "",
            agent=agent_name(given, AGENT),
            decisions=transcript.decisions,
            after=transcript.after(),
            started_at=time_of(session.meta.get("startTime")),
        )


def _tell(entry: Any, transcript: Transcript) -> None:
    """Add one message; what the program said by itself (info, warnings, errors) was never the model's."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("type"), str):
        raise WireError("it is no message with 'type'")
    if entry["type"] == "user":
        transcript.say({"role": "user", "parts": content_parts(_content(entry.get("content")))})
    if entry["type"] != "gemini":
        return
    calls = [call for call in entry.get("toolCalls") or [] if isinstance(call, Mapping)]
    said = _answer(entry, calls)
    if said["parts"]:
        transcript.answer(said, _facts(entry))
    for call in calls:
        if call.get("result") is not None:
            part = result_part(text(call.get("id")), _result(call["result"]))
            transcript.say(
                {"role": "tool", "parts": [{**part, "is_error": True} if call.get("status") == "error" else part]}
            )


def _answer(entry: Json, calls: Iterable[Json]) -> Message:
    asked = [
        call_part({"id": call.get("id"), "name": call.get("name"), "arguments": call.get("args")}) for call in calls
    ]
    return {"role": "assistant", "parts": [*content_parts(_content(entry.get("content"))), *asked]}


def _content(content: Any) -> Any:
    """Return Google's parts as blocks: one part or text alone stands for a list of it."""
    return [content] if isinstance(content, Mapping) else content


def _result(result: Any) -> Any:
    """Return what a call brought: the answer in Google's function responses, and all else as it is."""
    parts = result if isinstance(result, list) else [result]
    answers = [part.get("functionResponse") for part in parts if isinstance(part, Mapping)]
    said = [answer.get("response") for answer in answers if isinstance(answer, Mapping)]
    if len(said) != len(parts):
        return result
    outputs = [
        answer["output"] if isinstance(answer, Mapping) and set(answer) == {"output"} else answer for answer in said
    ]
    return outputs[0] if len(outputs) == 1 else outputs


def _facts(entry: Json) -> Facts:
    paid = under(entry, "tokens")
    return Facts(
        model=text(entry.get("model")),
        input_tokens=count(paid.get("input")),
        output_tokens=count(paid.get("output")),
        at=time_of(entry.get("timestamp")),
    )
