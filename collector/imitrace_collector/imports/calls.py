"""Put model calls that were logged one by one together again: whose state goes on from whose answer."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace.canonical import canonical_json, content_hash, text_hash
from imitrace.exceptions import WireError
from imitrace.messages import Message
from imitrace_collector.imports.conversations import (
    UNREADABLE,
    Broken,
    Conversation,
    Facts,
    Found,
    Given,
    Reader,
    Row,
    Transcript,
    unreadable,
)

_SAID = ("text", "tool_call", "tool_call_response")
"""Parts by which a message is known again: clients leave out others, such as reasoning, when they send it back."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """One model call: all that it saw, and what it answered."""

    place: str
    position: int
    agent: str
    conversation: str | None = None
    """Id of what it belongs to; None where its log says none."""
    state: Sequence[Message]
    answer: Message
    after: Sequence[Message] = ()
    """What the log says came of it."""
    facts: Facts
    task: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    scores: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    content: Any = None
    """Name of the call in its log, so that two that say the same are two."""


@dataclass
class _Thread:
    """Calls of one conversation, so far."""

    trajectory_id: str
    calls: list[Call]


def each_call(read: Callable[[Row, Given], Call]) -> Reader:
    """Return the reader of a format whose rows are model calls, of one conversation or another."""

    def reader(rows: Iterable[Row], given: Given) -> Iterator[Found]:
        calls: list[Call] = []
        for row in rows:
            try:
                calls.append(read(row, given))
            except WireError as error:
                yield Broken(row.place, str(error))
            except UNREADABLE as error:
                yield Broken(row.place, unreadable(error))
        yield from _conversations(_by_time(calls))

    return reader


def _conversations(calls: Iterable[Call]) -> Iterator[Conversation]:
    """Yield the conversations of calls that were made in this order.

    Calls with an id are together, those of another agent than the first apart (``ID/AGENT``). One without goes on from
    the last whose state and answer its own state begins with, up to the assistant's last message there.
    """
    threads: dict[str, _Thread] = {}
    first_agents: dict[str, str] = {}
    ends: dict[str, str] = {}
    for call in calls:
        if call.conversation is None:
            trajectory_id = _continued(call, ends) or _new_id(call, threads)
            ends[_key(call.agent, [*call.state, call.answer])] = trajectory_id
        else:
            main = first_agents.setdefault(call.conversation, call.agent)
            trajectory_id = call.conversation if main == call.agent else f"{call.conversation}/{call.agent}"
        threads.setdefault(trajectory_id, _Thread(trajectory_id, [])).calls.append(call)
    yield from map(_conversation, threads.values())


def _continued(call: Call, ends: Mapping[str, str]) -> str | None:
    answered = [place for place, message in enumerate(call.state) if message["role"] == "assistant"]
    return ends.get(_key(call.agent, call.state[: answered[-1] + 1])) if answered else None


def _new_id(call: Call, threads: Mapping[str, _Thread]) -> str:
    """Return an id that follows from how a conversation begins, and tells apart two that begin the same."""
    name = content_hash([call.agent, call.content, call.state, call.answer])
    same = 1
    trajectory_id = name
    while trajectory_id in threads:
        same += 1
        trajectory_id = f"{name}.{same}"
    return trajectory_id


def _key(agent: str, messages: Sequence[Message]) -> str:
    return text_hash("\n".join([agent, *map(_said, messages)]))


def _said(message: Message) -> str:
    parts = [part for part in message["parts"] if isinstance(part, Mapping) and part.get("type") in _SAID]
    return canonical_json([message["role"], parts])


def _conversation(thread: _Thread) -> Conversation:
    transcript = Transcript()
    calls = thread.calls
    for call in calls:
        transcript.call(call.state, call.answer, call.facts)
        for message in call.after:
            transcript.say(message)
    times = [call.facts.at for call in calls if call.facts.at is not None]
    scores: dict[str, tuple[float, str]] = {}
    tags: dict[str, str] = {}
    for call in calls:
        scores |= call.scores
        tags |= call.tags
    first: Call = calls[0]
    return Conversation(
        place=first.place,
        position=first.position,
        trajectory_id=thread.trajectory_id,
        agent=first.agent,
        decisions=transcript.decisions,
        after=transcript.after(),
        task=first.task,
        tags=tags,
        scores=scores,
        started_at=min(times, default=None),
    )


def _by_time(calls: Sequence[Call]) -> list[Call]:
    """Return calls in the order in which they were made; one without a time stays behind the one before it."""
    order: list[tuple[int, int, Call]] = []
    at = 0
    for place, call in enumerate(calls):
        at = at if call.facts.at is None else call.facts.at
        order.append((at, place, call))
    return [call for _, _, call in sorted(order, key=lambda entry: entry[:2])]
