"""Tell whose calls are whose: conversations, the agents in them, and the agents that agents call.

A frame is what an agent called: nothing for the conversation itself, a tool's run or an agent's span for a sub-agent.
The calls of one agent in one frame are one thread, and each thread is a trajectory. Agents that hand a conversation to
each other are threads of one frame.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.dialects import AGENT, TOOL
from imitrace_collector.foreign.readings import Key, Reading, span_agent
from imitrace_collector.foreign.runs import run_of
from imitrace_collector.normalize import service_of
from imitrace_collector.trajectories import UNKNOWN_AGENT


@dataclass(slots=True, eq=False)
class Frame:
    """What an agent called, and all the model calls for it."""

    opener: Reading | None
    """The tool's run, or the agent's span; None for the conversation itself."""
    above: "Frame | None"
    calls: list[Call] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Thread:
    """The model calls of one agent in one frame."""

    agent: str
    frame: Frame
    calls: list[Call] = field(default_factory=list)
    trajectory_id: str = ""
    parent: "Thread | None" = None
    parent_call: Call | None = None
    """The parent's call before it began; which of its actions led here, the tool run tells."""


def threads_of(calls: Sequence[Call], trajectory_id: str) -> list[Thread]:
    """Return the threads of one conversation, each with its trajectory's id, its parent before it.

    Args:
        calls: in the order in which they began.
        trajectory_id: of the thread that opens the conversation.
    """
    main = Frame(None, None)
    frames: dict[Key | None, Frame] = {None: main}
    nested = _nested_agents(calls)
    threads: dict[tuple[int, str], Thread] = {}
    thread_of: dict[int, Thread] = {}
    for call in calls:
        frame = _frame_of(call.reading, frames, nested)
        agent, call.agent_from = agent_of(call, frame)
        thread = threads.get((id(frame), agent))
        if thread is None:
            thread = threads[id(frame), agent] = Thread(agent, frame)
            _find_parent(thread, thread_of)
        thread.calls.append(call)
        frame.calls.append(call)
        thread_of[id(call)] = thread
    _name(list(threads.values()), trajectory_id)
    return list(threads.values())


def agent_of(call: Call, frame: Frame) -> tuple[str, tuple[str, Reading]]:
    """Return the agent that a call was made for, by which rule that is known, and the span that says it.

    What the call's own span says counts first, then the nearest agent's span, then a workflow's step, then the service.
    """
    inside = _agents_above(call.reading, frame.opener)
    own = call.reading.agent_name()
    if frame.opener is not None and not inside and frame.opener.role == TOOL:
        outer = next((span.agent_name() for span in frame.opener.above() if span.role == AGENT), None)
        if own is None or own == outer:  # what it says was handed down to everything that the agent does
            return run_name(frame.opener), ("tool's run", frame.opener)
    if own is not None:
        return own, ("own span", call.reading)
    for span in inside:
        named = span.agent_name()
        if named is not None:
            return named, ("nearest agent's span", span)
    for span in inside:
        named = span_agent(span) if span.row.name not in span.dialects[0].spans else ""
        if named and "." not in named:  # no function's path
            return named, ("name of the nearest agent's span", span)
    for span in _within(call.reading, frame.opener):
        at_work = span.agent_at_work()
        if at_work is not None:
            return at_work, ("step of a workflow", span)
    return service_of(call.reading.row) or UNKNOWN_AGENT, ("service", call.reading)


def run_name(reading: Reading) -> str:
    """Return the name of the tool, or of the agent, that a frame was opened by."""
    return reading.text("tool_name") or span_agent(reading)


def _within(reading: Reading, until: Reading | None) -> Iterator[Reading]:
    """Yield the spans that a span is in, up to that of its frame, the nearest first."""
    for span in reading.above():
        if span is until or span.role == TOOL:
            return
        yield span


def _agents_above(reading: Reading, until: Reading | None) -> list[Reading]:
    """Return the agents' spans that a span is in, up to that of its frame, the nearest first."""
    found = [reading] if reading.role == AGENT else []
    for span in reading.above():
        if span is until:
            return [*found, span] if span.role == AGENT else found
        if span.role == TOOL:
            break
        if span.role == AGENT:
            found.append(span)
    return found


def _nested_agents(calls: Sequence[Call]) -> dict[int, Reading]:
    """Return the agents' spans that are frames: in another agent's that had begun to work, and not going on from it."""
    direct: dict[int, list[Call]] = defaultdict(list)
    owners: list[tuple[Call, list[Reading]]] = []
    for call in calls:
        chain = _distinct(_agents_above(call.reading, None))
        owners.append((call, chain))
        if chain:
            direct[id(chain[0])].append(call)
    found: dict[int, Reading] = {}
    for call, chain in owners:
        for inner, outer in pairwise(chain):
            if direct[id(inner)][:1] != [call]:
                continue
            before = [one for one in direct[id(outer)] if one.reading.at < call.reading.at]
            if before and not continues(call, before[-1]):
                found[id(inner)] = inner
    return found


def _distinct(spans: Sequence[Reading]) -> list[Reading]:
    """Return agents' spans, of those of one name in a row the outermost, and none without a name."""
    found: list[Reading] = []
    for span in spans:
        name = span.agent_name()
        if name is None:
            continue
        if found and found[-1].agent_name() == name:
            found[-1] = span
        else:
            found.append(span)
    return found


def continues(call: Call, before: Call) -> bool:
    """Return whether a call saw all that another saw, and more."""
    had = before.prints
    return len(call.prints) > len(had) > 0 and call.prints[: len(had)] == had


def _frame_of(reading: Reading, frames: dict[Key | None, Frame], nested: Mapping[int, Reading]) -> Frame:
    """Return the frame of a span, and make it and those above it where they are new."""
    path: list[Reading] = []
    here: Reading | None = reading
    if id(reading) in nested:
        path.append(reading)
    for here in reading.above():
        if here.role == TOOL:
            opener = run_of(here)
            if not path or path[-1] is not opener:
                path.append(opener)
        elif id(here) in nested:
            path.append(here)
    frame = frames[None]
    for opener in reversed(path):
        known = frames.get(opener.key)
        if known is None:
            known = frames[opener.key] = Frame(opener, frame)
        frame = known
    return frame


def _find_parent(thread: Thread, thread_of: Mapping[int, Thread]) -> None:
    """Find who led to a thread: in its own frame whoever acted last, else whoever did in the frame above."""
    frame: Frame | None = thread.frame
    while frame is not None and not frame.calls:
        frame = frame.above
    if frame is not None:
        thread.parent_call = frame.calls[-1]
        thread.parent = thread_of[id(frame.calls[-1])]


def _name(threads: Iterable[Thread], trajectory_id: str) -> None:
    bases: dict[int, str] = {}
    taken: dict[str, int] = defaultdict(int)
    for thread in threads:
        if thread.parent is None and id(thread.frame) not in bases and not taken:
            thread.trajectory_id = trajectory_id
        else:
            above = _base(thread.frame, bases) if id(thread.frame) in bases else None
            if above is None:
                above = thread.parent.trajectory_id if thread.parent is not None else trajectory_id
            name = f"{above}/{thread.agent}"
            taken[name] += 1
            thread.trajectory_id = name if taken[name] == 1 else f"{name}.{taken[name]}"
        bases.setdefault(id(thread.frame), thread.trajectory_id)
        taken[thread.trajectory_id] += taken[thread.trajectory_id] == 0


def _base(frame: Frame, bases: Mapping[int, str]) -> str:
    return bases[id(frame)]
