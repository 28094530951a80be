"""Tell which calls are of one conversation: by its id, its session's, or the messages that go on."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from imitrace.messages import Message
from imitrace_collector.foreign.agent_records import read_record, records_among
from imitrace_collector.foreign.calls import Call, calls_among, read_call
from imitrace_collector.foreign.chains import Print, chain, prints
from imitrace_collector.foreign.contents import Echoes
from imitrace_collector.foreign.dialects import AGENT, TOOL
from imitrace_collector.foreign.readings import (
    CONVERSATION,
    SESSION,
    Reading,
    has_own_steps,
    read_trees,
)
from imitrace_collector.foreign.rounds import rounds_of
from imitrace_collector.foreign.runs import Run, read_runs
from imitrace_collector.normalize import service_of
from imitrace_collector.rows import LogRow, SpanRow

LONGEST = 512
"""Messages after which a conversation that only its messages tell is told anew, as one that begins there."""
_ROUNDS = 16
"""Most results whose calls are looked for, where an instrumentor leaves answers out."""

Named = tuple[str, str]
"""``conversation`` or ``session``, and its id."""


@dataclass(slots=True, eq=False)
class Traces:
    """What the spans and log records of some traces say, read."""

    readings: list[Reading]
    calls: list[Call]
    """In the order in which they began; those that say nothing are not among them."""
    silent: list[Call]
    """Model calls whose content is not there."""
    runs: dict[int, Run]
    """Tool runs, by the identity of their reading."""
    names: dict[str, Named]
    """Conversation, or session, by trace, where any of its spans says one."""


@dataclass(slots=True, eq=False)
class Conversation:
    """The calls of one conversation of one service."""

    trajectory_id: str
    calls: list[Call] = field(default_factory=list)
    named: Named | None = None
    problem: str | None = None
    """Why it is not whole."""


def read_traces(spans: Iterable[SpanRow], logs: Iterable[LogRow]) -> Traces:
    """Return what foreign spans say; in a trace that has our own steps they say nothing."""
    traces: dict[str, list[SpanRow]] = defaultdict(list)
    for span in spans:
        traces[span.trace_id].append(span)
    foreign = [span for trace in traces.values() if not has_own_steps(trace) for span in trace]
    readings = read_trees(foreign, logs)
    runs = read_runs(readings)
    echoes = Echoes()
    calls: list[Call] = []
    for reading in calls_among(readings):
        calls += rounds_of(read_call(reading, echoes, calls[-1] if calls else None), runs)
    inside: dict[int, list[Run]] = defaultdict(list)
    for run in runs.values():
        nearest = next((span for span in run.reading.above() if span.role in (TOOL, AGENT)), None)
        inside[id(nearest)].append(run)
    for reading in records_among(readings):
        calls += read_record(reading, inside[id(reading)])
    order = {id(call): place for place, call in enumerate(calls)}
    calls.sort(key=lambda call: (call.reading.at, order[id(call)]))
    names: dict[str, Named] = {}
    for kind in (CONVERSATION, SESSION):
        for reading in readings:
            found = reading.named(kind)
            if found:
                names.setdefault(reading.row.trace_id, (kind, found))
    return Traces(
        readings,
        [call for call in calls if call.has_content],
        [call for call in calls if not call.has_content],
        runs,
        names,
    )


def conversations_of(traces: Traces, apart: AbstractSet[str] = frozenset()) -> list[Conversation]:
    """Return the conversations, in the order in which they began.

    Args:
        traces: what is said in them.
        apart: ids of conversations that are too long to be put together: each of their traces is one by itself.
    """
    named: dict[Named, list[Call]] = defaultdict(list)
    unnamed: dict[str, list[Call]] = defaultdict(list)
    alone: dict[tuple[Named, str], list[Call]] = defaultdict(list)
    for call in traces.calls:
        trace = call.reading.row.trace_id
        name = name_of(call.reading) or traces.names.get(trace)
        if name is None:
            unnamed[trace].append(call)
        elif name[1] in apart:
            alone[name, trace].append(call)
        else:
            named[name].append(call)
    found = [one for name, calls in named.items() for one in _by_service(name, calls)]
    for (name, trace), calls in alone.items():
        for call in calls:
            if not any(message["role"] in ("assistant", "tool") for message in call.seen):
                call.blame(_UNSAID)
        found.append(Conversation(f"{name[1]}~{trace}", calls, name, _ENDLESS))
    found += _chained(list(unnamed.values()))
    taken: dict[str, int] = defaultdict(int)
    for one in sorted(found, key=lambda one: one.calls[0].reading.at):
        taken[one.trajectory_id] += 1
        if taken[one.trajectory_id] > 1:  # a session and a conversation of one name
            one.trajectory_id = f"{one.trajectory_id}~{taken[one.trajectory_id]}"
    return sorted(found, key=lambda one: one.calls[0].reading.at)


_ENDLESS = "its conversation is too long to be put together: each of its traces is by itself"
_UNSAID = "nothing says whether it goes on from an earlier answer, for its conversation is too long to be put together"
_GOES_ON = f"it goes on from a conversation that had {LONGEST} messages, or a multiple of that"


def name_of(reading: Reading) -> Named | None:
    """Return the conversation, or else the session, that a span is in: that of the outermost span which says one."""
    path = [reading, *reading.above()]
    for kind in (CONVERSATION, SESSION):
        for span in reversed(path):
            found = span.named(kind)
            if found:
                return kind, found
    return None


def provides(call: Call) -> frozenset[str]:
    """Return hashes of all that a call saw and answered: who goes on from it saw that."""
    if call.answer is None or call.accumulated:
        return frozenset()
    service = service_of(call.reading.row)
    found = {chain(service, [*call.prints, *prints((call.answer,))])}
    names = [part["id"] for part in call.answer["parts"] if part["type"] == "tool_call" and part["id"]]
    if names:
        found.add(chain(service, [*_unanswered(call), *names]))
        if _are_unique(names):
            found.add(chain(service, [_RESULTS, *sorted(names)]))
    return frozenset(found | {chain(service, [name]) for name in call.response_ids})


def wants(call: Call) -> frozenset[str]:
    """Return hashes of what a call saw up to the last answer in it; nothing when it is the first.

    Where the last results in it have no calls before them, an instrumentor left the answers out: then it is what users
    and tools had said before, and the ids of the calls that these results are of.
    """
    if call.accumulated:
        return frozenset()
    service = service_of(call.reading.row)
    if call.after is not None:
        return frozenset((chain(service, [call.after]),))
    spoken = [message for message in call.seen if message["role"] != "system"]
    start = len(spoken)
    while start and spoken[start - 1]["role"] == "tool":
        start -= 1
    if start < len(spoken) and not (start and spoken[start - 1]["role"] == "assistant" and spoken[start - 1]["parts"]):
        rounds = range(max(start, len(spoken) - _ROUNDS), len(spoken))  # how many of these results are the last round's
        near = [place for place in rounds if not _too_far(place, len(spoken))]
        found = {chain(service, [*_unanswered(call, place), *_names(spoken[place:])]) for place in near}
        names = _names(spoken)
        if start == 0 and _are_unique(names):  # nothing but results: what came before is kept by the service
            found.add(chain(service, [_RESULTS, *sorted(names)]))
        return frozenset(found)
    last = _last_answer(spoken)
    if last is None or _too_far(last, len(spoken)):
        return frozenset()
    return frozenset((chain(service, call.prints[: last + 1]),))


def _last_answer(spoken: Sequence[Message]) -> int | None:
    return max((place for place, message in enumerate(spoken) if message["role"] == "assistant"), default=None)


def _too_far(before: int, now: int) -> bool:
    """Return whether a conversation ends between two calls, by how many messages they saw: what is near tells it."""
    return before // LONGEST != now // LONGEST


def _is_cut(call: Call) -> bool:
    spoken = [message for message in call.seen if message["role"] != "system"]
    last = _last_answer(spoken)
    return last is not None and not call.accumulated and _too_far(last, len(spoken))


_RESULTS = "results of"
_UNIQUE = 16
"""Characters of a call's id that no other has: shorter ones may be counted."""


def _are_unique(names: Sequence[str]) -> bool:
    return bool(names) and all(len(name) >= _UNIQUE for name in names)


def _names(results: Iterable[Message]) -> list[str]:
    return [str(part.get("id")) for message in results for part in message["parts"]]


def _unanswered(call: Call, end: int | None = None) -> Iterator[Print]:
    """Yield what others than the assistant said to a call."""
    spoken = (message for message in call.seen if message["role"] != "system")
    for place, (message, said) in enumerate(zip(spoken, call.prints, strict=True)):
        if message["role"] != "assistant" and (end is None or place < end):
            yield said


def _by_service(name: Named, calls: Sequence[Call]) -> list[Conversation]:
    """Return a conversation's calls apart for services that share no trace: the first to begin has the bare id."""
    groups: dict[str, str] = {}

    def root(service: str) -> str:
        while groups.setdefault(service, service) != service:
            service = groups[service]
        return service

    first: dict[str, str] = {}
    for call in calls:
        service = service_of(call.reading.row) or "unknown"
        groups[root(service)] = root(first.setdefault(call.reading.row.trace_id, service))
    found: dict[str, Conversation] = {}
    for call in calls:
        service = service_of(call.reading.row) or "unknown"
        group = root(service)
        if group not in found:
            found[group] = Conversation(f"{name[1]}@{service}" if found else name[1], named=name)
        found[group].calls.append(call)
    return list(found.values())


def _chained(traces: Sequence[list[Call]]) -> list[Conversation]:
    """Return traces that nobody names as conversations: each goes on from the last before it that saw the same.

    Of several that saw the same, the last that nobody went on from yet is taken, so that two customers who said the
    same stay apart.
    """
    found: list[Conversation] = []
    holders: dict[str, list[tuple[Call, Conversation]]] = defaultdict(list)
    continued: set[int] = set()
    for calls in sorted(traces, key=lambda calls: calls[0].reading.at):
        conversation = None
        held = [one for wanted in wants(calls[0]) for one in holders.get(wanted, ())]
        if held:
            call, conversation = next((one for one in reversed(held) if id(one[0]) not in continued), held[-1])
            continued.add(id(call))
        if conversation is None:
            conversation = Conversation(calls[0].reading.row.trace_id, problem=_GOES_ON if _is_cut(calls[0]) else None)
            found.append(conversation)
        conversation.calls += calls
        for call in calls:
            for provided in provides(call):
                holders[provided].append((call, conversation))
    for conversation in found:
        conversation.calls.sort(key=lambda call: call.reading.at)
    return found
