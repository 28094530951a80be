"""Hold what a file says in one form, whatever its format: decisions, each with the messages that are new before it."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans

from imitrace.canonical import canonical_json
from imitrace.exceptions import WireError
from imitrace.messages import Action, Message, message_actions
from imitrace.shapes.plain import short
from imitrace_collector.normalize import storable

Json = Mapping[str, Any]
"""A JSON object."""

REWARD_SCORE = "TaskCompletion"
REWARD_EVALUATOR = "import:reward"
SCORE_EVALUATOR = "import:scores"

_SECOND = 1_000_000_000
_NANOSECONDS = {10: _SECOND, 13: 1_000_000, 16: 1_000, 19: 1}
"""Nanoseconds in the unit of a time of so many digits: seconds, milliseconds, microseconds or nanoseconds."""
_MAX_TIME = 7_258_118_400 * _SECOND  # the year 2200: a later time is a mistake, and OTLP ends in 2262

UNREADABLE = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError, OverflowError)
"""What a row of another shape than its format's may raise in its reader."""


class Row(NamedTuple):
    """One JSON value of a file."""

    place: str
    """Where it stands, for people: ``line 3``."""
    position: int
    """From 0; gives what carries no time its time."""
    value: Any


class Broken(NamedTuple):
    """A row that can't be imported."""

    place: str
    reason: str

    def __str__(self) -> str:
        return f"{self.place}: {self.reason}"


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command's options say about everything that it imports."""

    agent: str | None = None
    """Name that overrules the files' own."""
    tools: Sequence[Json] = ()
    """Definitions offered at every decision whose format says nothing of tools."""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of one answer beside what it says."""

    model: str | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    tools: Sequence[Json] | None = None
    """Definitions of the tools offered; None where the format says nothing of them."""
    at: int | None = None
    """When, in nanoseconds since 1970."""
    error_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class Decision:
    """One answer: what the agent saw, as a change of what it saw before, and what it did."""

    offset: int
    """How many of the messages before the decision before it stand before this one too."""
    messages: Sequence[Message]
    """The messages that follow them."""
    actions: tuple[Action, ...]
    facts: Facts


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One trajectory."""

    place: str
    """Where it begins, for people."""
    position: int
    trajectory_id: str
    agent: str
    agent_version: str | None = None
    decisions: Sequence[Decision]
    after: Sequence[Message] = ()
    """Messages after the last decision: what its calls brought."""
    task: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    outcome: str | None = None
    scores: Mapping[str, tuple[float, str]] = field(default_factory=dict)
    """Value and evaluator by name."""
    started_at: int | None = None
    """Nanoseconds since 1970; None where the file says no time."""
    content: Any = None
    """What makes it the same when it comes again, as JSON; None for all that is written of it."""


@dataclass(frozen=True, kw_only=True)
class ForeignTrace:
    """One trace of another system's spans, to be derived like spans that came over the wire."""

    place: str
    trace_id: str
    spans: ResourceSpans
    count: int


Found = Conversation | ForeignTrace | Broken
Reader = Callable[[Iterable[Row], Given], Iterator[Found]]
"""What a format is: its rows in, what they say out, in their order; it never raises for a row."""


class Transcript:
    """A conversation as it goes on: what is said, and what the agent answers to all of it."""

    def __init__(self) -> None:
        self._decisions: list[Decision] = []
        self._state: list[Message] = []
        self._told = 0
        """How many messages of the state stood before the last decision too."""
        self._draft: Message | None = None
        self._facts = Facts()

    @property
    def decisions(self) -> list[Decision]:
        """Return the decisions so far."""
        self._decide()
        return self._decisions

    def say(self, message: Message) -> None:
        """Add a message that is no decision of this agent."""
        self._decide()
        self._state.append(message)

    def answer(self, message: Message, facts: Facts, *, continues: bool = False) -> None:
        """Add a decision; one that ``continues`` belongs to the answer right before it."""
        if continues and self._draft is not None:
            self._draft = {**self._draft, "parts": [*self._draft["parts"], *message["parts"]]}
            self._facts = merged(self._facts, facts)
            return
        self._decide()
        self._draft, self._facts = message, facts

    def learn(self, facts: Facts) -> None:
        """Add what is known of the last answer, where it was not known yet."""
        if self._draft is not None:
            self._facts = merged(self._facts, facts)
        elif self._decisions:
            last = self._decisions[-1]
            self._decisions[-1] = replace(last, facts=merged(last.facts, facts))

    def call(self, state: Sequence[Message], message: Message, facts: Facts) -> None:
        """Add a decision of which the whole state is known, whatever came before."""
        self._decide()
        same = 0
        while same < min(len(state), len(self._state)) and state[same] == self._state[same]:
            same += 1
        self.rewind(same)
        self._state += state[same:]
        self.answer(message, facts)

    def rewind(self, length: int) -> None:
        """Forget all but the first messages: the agent no longer sees them."""
        self._decide()
        del self._state[length:]
        self._told = min(self._told, length)

    def turn(self, back: int) -> int:
        """Return how many messages stood before the user's last ``back`` messages."""
        self._decide()
        asked = [place for place, message in enumerate(self._state) if message["role"] == "user"]
        return asked[-back] if 0 < back <= len(asked) else 0

    def after(self) -> list[Message]:
        """Return what came after the last decision."""
        self._decide()
        return self._state[self._told :]

    def _decide(self) -> None:
        if self._draft is None:
            return
        message, self._draft = self._draft, None
        new = self._state[self._told :]
        actions = message_actions(message)
        self._decisions.append(Decision(offset=self._told, messages=new, actions=actions, facts=self._facts))
        self._told = len(self._state)
        self._state.append(message)


def merged(facts: Facts, more: Facts) -> Facts:
    """Return what both know; of two that differ the later counts."""
    return replace(facts, **{name: value for name, value in vars(more).items() if value is not None})


def each(read: Callable[[Row, Given], Iterable[Conversation | ForeignTrace]]) -> Reader:
    """Return the reader of a format whose rows have nothing to do with each other."""

    def reader(rows: Iterable[Row], given: Given) -> Iterator[Found]:
        for row in rows:
            try:
                yield from list(read(row, given))
            except WireError as error:
                yield Broken(row.place, str(error))
            except UNREADABLE as error:
                yield Broken(row.place, unreadable(error))

    return reader


def unreadable(error: Exception) -> str:
    """Return in words what a row of another shape raised."""
    return f"it is not of this format: {type(error).__name__}: {short(str(error))}"


def agent_name(given: Given, *names: object) -> str:
    """Return the first name that there is: the command's, else the file's.

    Raises:
        WireError: there is none.
    """
    for name in (given.agent, *names):
        if isinstance(name, str) and name:
            return storable(name)
    raise WireError("no agent is named; give --agent, or 'agent' in the line")


def under(row: Json, key: str) -> Json:
    """Return the object under a key; an empty one where there is none."""
    found = row.get(key)
    return found if isinstance(found, Mapping) else {}


def number(name: str, value: object) -> float | None:
    """Return a finite number; None for none.

    Raises:
        WireError: it is something else.
    """
    if value is None:
        return None
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise WireError(f"'{name}' is {value!r}, expected a number")
    return float(value)


def count(value: object) -> int | None:
    """Return a number of tokens; None for what is none."""
    return value if type(value) is int and 0 <= value < 2**63 else None


def text(value: object) -> str | None:
    """Return text as it is and other JSON as JSON; None for none."""
    return None if value is None else storable(value if isinstance(value, str) else canonical_json(value))


def time_of(value: object) -> int | None:
    """Return nanoseconds since 1970 of an ISO text, or of a number of seconds or parts of one; None for no time."""
    if isinstance(value, str):
        try:
            found = datetime.fromisoformat(value)
        except ValueError:
            return None
        found = found if found.tzinfo else found.replace(tzinfo=UTC)
        since = found - datetime(1970, 1, 1, tzinfo=UTC)
        nanoseconds = (since.days * 86_400 + since.seconds) * _SECOND + since.microseconds * 1_000
        return nanoseconds if 0 <= nanoseconds < _MAX_TIME else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < _MAX_TIME:
        return None
    digits = next((digits for digits in _NANOSECONDS if value < 10**digits), 19)
    return min(int(value * _NANOSECONDS[digits]), _MAX_TIME - 1)
