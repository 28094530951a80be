"""Read one model call: what it saw, what it answered, the tools it was offered, and from where each is known."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import is_not
from typing import Any

from imitrace.messages import Message
from imitrace_collector.foreign.answers import one_answer, raw_answer
from imitrace_collector.foreign.chains import Print, prints
from imitrace_collector.foreign.contents import (
    NOTHING,
    Echoes,
    Told,
    has_content,
    joined,
    read_messages,
    read_system,
)
from imitrace_collector.foreign.dialects import AGENT, MODEL, RESPONSE_IDS, TOOL
from imitrace_collector.foreign.events import Event, answer_in, details_in, events_of, request_in
from imitrace_collector.foreign.offered import read_tools, tools_among
from imitrace_collector.foreign.readings import CONVERSATION, Reading
from imitrace_collector.normalize import storable

Found = tuple[Told, str, Reading]
"""Messages, by which rule they were found, and the span that says them."""


@dataclass(slots=True, eq=False)
class Call:
    """One model call, counted once however many instrumentors saw it."""

    reading: Reading
    copies: Sequence[Reading]
    """Model calls inside it: the same call, seen by another instrumentor."""
    seen: tuple[Message, ...] = ()
    """What it saw, the system prompt first."""
    seen_problem: str | None = None
    seen_from: tuple[str, Reading] | None = None
    answer: Message | None = None
    answer_problem: str | None = None
    answer_from: tuple[str, Reading] | None = None
    tools: list[dict[str, Any]] | None = None
    tools_from: tuple[str, Reading] | None = None
    agent_from: tuple[str, Reading] | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    response_ids: frozenset[str] = frozenset()
    after: str | None = None
    """The response that it says it goes on from: its service keeps the history."""
    error_type: str | None = None
    spans: Sequence[Reading] = field(default_factory=list)
    """The span and its copies."""
    decision: str = ""
    accumulated: bool = False
    """Whether ``seen`` is only what was new: the agent's own span tells of it, and no request."""
    _prints: tuple[Print, ...] | None = None
    _printed: dict[int, tuple[Message, Print]] = field(default_factory=dict)
    """By the identity of a message, which it keeps, what that says."""

    @property
    def prints(self) -> tuple[Print, ...]:
        """Return what each message that it saw says, but the system prompts."""
        if self._prints is None:
            self._prints = tuple(map(self._print_of, _spoken(self.seen)))
        return self._prints

    def _print_of(self, message: Message) -> Print:
        known = self._printed.get(id(message))
        if known is None or known[0] is not message:
            known = self._printed[id(message)] = message, prints((message,))[0]
        return known[1]

    def blame(self, problem: str) -> None:
        """Add to what is wrong with ``seen``, once."""
        if problem not in (self.seen_problem or ""):
            self.seen_problem = "; ".join(filter(None, (self.seen_problem, problem)))

    def inherit_prints(self, before: "Call | None") -> None:
        """Take what another call's messages say for the same messages here, so that each is looked at once."""
        if before is not None:
            self._printed = before._printed

    def see(self, messages: tuple[Message, ...]) -> None:
        """Replace what it saw."""
        if len(messages) != len(self.seen) or any(map(is_not, messages, self.seen)):
            self.seen, self._prints = messages, None

    @property
    def has_content(self) -> bool:
        """Return whether anything of what it saw or answered is known."""
        return has_content(self.seen) or (self.answer is not None and has_content((self.answer,)))


def _spoken(seen: Sequence[Message]) -> list[Message]:
    return [message for message in seen if message["role"] != "system"]


def read_call(reading: Reading, echoes: Echoes, before: Call | None = None) -> Call:
    """Return what a model call's span says, with its events and the copies of the call inside it.

    Args:
        reading: of its outermost span.
        echoes: what earlier calls were read as.
        before: the call read before it, which most likely saw the same messages.
    """
    copies = list(copies_in(reading))
    call = Call(reading, copies, spans=[reading, *copies], decision=reading.row.span_id)
    events = [(span, events_of(span)) for span in call.spans]
    _see(call, events, echoes)
    call.inherit_prints(before)
    _answer(call, events)
    for span in call.spans:
        found = tools_of(span) or _tools_in(events, span)
        if found:
            call.tools, call.tools_from = found, ("own span", span)
            break
    if call.tools is None:
        _inherit_tools(call)
    call.input_tokens = _first(span.number("input_tokens") for span in call.spans)
    call.output_tokens = _first(span.number("output_tokens") for span in call.spans)
    call.response_ids = frozenset(filter(None, (span.text("response_id") for span in call.spans)))
    call.after = _after(call)
    call.error_type = error_of(reading)
    return call


def _after(call: Call) -> str | None:
    """Return the response that a call says it goes on from; for the first in an agent's span that may say it."""
    said = next(filter(None, (span.after() for span in call.spans)), None)
    agent = next((span for span in call.reading.above() if span.role in (AGENT, TOOL)), None)
    if said is None and agent is not None and agent.role == AGENT:
        named = agent.text(CONVERSATION)
        said = named if named and named.startswith(RESPONSE_IDS) else None
        inside = list(_nearest_in(agent)) if said else []
        if not inside or inside[0] is not call.reading or said in {span.text("response_id") for span in inside}:
            return None
    return None if said in call.response_ids else said


def calls_among(readings: Iterable[Reading]) -> Iterator[Reading]:
    """Yield the model calls, each once: of nested ones the outermost, unless it holds several that ended well."""
    for reading in readings:
        if reading.role == MODEL and _holder(reading) is None and not _holds_several(reading):
            yield reading


def copies_in(reading: Reading) -> Iterator[Reading]:
    """Yield the same model call as other instrumentors saw it: the model calls directly inside it."""
    for span in reading.inside:
        if span.role == MODEL:
            yield span
        if span.role not in (TOOL, AGENT):
            yield from copies_in(span)


def _holder(reading: Reading) -> Reading | None:
    """Return the model call that this one is a copy of."""
    for span in reading.above():
        if span.role in (TOOL, AGENT):
            return None
        if span.role == MODEL and not _holds_several(span):
            return span
    return None


def _holds_several(reading: Reading) -> bool:
    well = (span for span in _nearest_in(reading) if span.row.status != _FAILED)
    return len(list(islice(well, 2))) > 1


def _nearest_in(reading: Reading) -> Iterator[Reading]:
    """Yield the model calls in a span and in no other's, as their branches began."""
    for span in reading.inside:
        if span.role == MODEL:
            yield span
        elif span.role not in (TOOL, AGENT):
            yield from _nearest_in(span)


_FAILED = 2
"""Status of a span that ended with an error."""


def error_of(reading: Reading) -> str | None:
    """Return what kind of error a span ended with; None when it ended well."""
    row = reading.row
    said = reading.text("error")
    if row.status != _FAILED and said is None:
        return None
    for event in row.events:
        if event["name"] == "exception":
            kind = event["attributes"].get("exception.type")
            if isinstance(kind, str) and kind:
                return said or storable(kind)
    return said or "error"


def tools_of(reading: Reading) -> list[dict[str, Any]] | None:
    """Return the tools that a span says were offered; None when it says nothing."""
    found: list[dict[str, Any]] = []
    for name in reading.names("tools"):
        value = reading.said.structure(name)
        if value is None or value == "":
            continue
        read = read_tools(value)
        if name.endswith("_tools"):  # a dialect that lists its tools in two places
            found += read
        elif read:
            return read
    for name in reading.names("tools_among"):
        found += tools_among(reading.said.parsed(name))
    return found or None


def told_by(span: Reading, fields: str, events: Sequence[Event], echoes: Echoes | None = None) -> Iterator[Found]:
    """Yield what the attributes of a field say: those of the span, then those of its events."""
    names = span.names(fields)
    for said, source in ((span.said, "span"), *details_in(events)):
        for name in names:
            value = said.structure(name)
            if value is not None and value != "":
                role = "user" if fields == "inputs" else "assistant"
                yield read_messages(name, value, role, echoes), f"{source} {name}", span


def _see(call: Call, events: Sequence[tuple[Reading, Sequence[Event]]], echoes: Echoes) -> None:
    found = _best(_requests(events, echoes))
    if found is None:
        return
    told, rule, span = found
    system = next((one for one in _systems(events) if one.messages), NOTHING)
    messages = told.messages
    if system.messages and not (messages and messages[0]["role"] == "system"):
        messages = (*system.messages, *messages)
    problems = [told.problem, system.problem, dropped(span)]
    call.seen, call.seen_problem = joined(messages), "; ".join(filter(None, problems)) or None
    call.seen_from = (rule, span)


def _answer(call: Call, events: Sequence[tuple[Reading, Sequence[Event]]]) -> None:
    found = _best(_answers(events))
    if found is None:
        return
    told, rule, span = found
    call.answer = one_answer(told.messages)
    call.answer_problem = "; ".join(filter(None, (told.problem, dropped(span)))) or None
    call.answer_from = (rule, span)


def dropped(span: Reading) -> str | None:
    """Return that attributes of a span were dropped on the way, or None."""
    count = span.row.dropped_attributes
    return f"{count} attributes were dropped on the way" if count else None


def _requests(events: Sequence[tuple[Reading, Sequence[Event]]], echoes: Echoes) -> Iterator[Found]:
    for span, own in events:
        yield from told_by(span, "inputs", own, echoes)
        yield request_in(own), "events", span
        for name in span.names("raw_inputs"):
            value = span.said.structure(name)
            if value is not None:
                yield read_messages(name, value), f"span {name}", span


def _answers(events: Sequence[tuple[Reading, Sequence[Event]]]) -> Iterator[Found]:
    for span, own in events:
        yield from told_by(span, "outputs", own)
        yield answer_in(own), "events", span
        yield raw_answer(span.said, span.names("raw_outputs")), "raw output", span


def _systems(events: Sequence[tuple[Reading, Sequence[Event]]]) -> Iterator[Told]:
    for span, own in events:
        names = span.names("system")
        for said, _ in ((span.said, ""), *details_in(own)):
            name, value = said.first(names)
            if name is not None:
                yield read_system(name, value)


def _best(found: Iterable[Found]) -> Found | None:
    """Return the first that is whole and says something; else the first that says something, or names at least."""
    fallback: Found | None = None
    for one in found:
        told = one[0]
        if not told.messages:
            continue
        says = has_content(told.messages)
        if says and told.problem is None:
            return one
        if fallback is None or (says and not has_content(fallback[0].messages)):
            fallback = one
    return fallback


def _tools_in(events: Sequence[tuple[Reading, Sequence[Event]]], span: Reading) -> list[dict[str, Any]] | None:
    for owner, own in events:
        for said, _ in details_in(own) if owner is span else ():
            read = read_tools(said.first(span.names("tools"))[1])
            if read:
                return read
    return None


def _inherit_tools(call: Call) -> None:
    """Take the tools from the agent's own span, where the model call's says nothing of them."""
    for span in call.reading.above():
        if span.role == AGENT:
            found = tools_of(span)
            if found:
                call.tools, call.tools_from = found, ("agent's span", span)
            return


def _first(values: Iterable[int | None]) -> int | None:
    return next((value for value in values if value is not None), None)
