"""Assemble foreign spans into trajectories: the same rows for any order, repetition and portions of arrival."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from imitrace.messages import Message
from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.conversations import Conversation, Traces, conversations_of, read_traces
from imitrace_collector.foreign.dialects import TOOL
from imitrace_collector.foreign.judgements import WHOLE, Judgement, judgements_of
from imitrace_collector.foreign.mending import mend
from imitrace_collector.foreign.observations import Actions, Outcome, complete_answers, has_answer, pair
from imitrace_collector.foreign.origins import StepOrigin, origin, span_ids
from imitrace_collector.foreign.readings import Key, Reading
from imitrace_collector.foreign.runs import Run, run_of
from imitrace_collector.foreign.step_rows import Rows
from imitrace_collector.foreign.threads import Frame, Thread, threads_of
from imitrace_collector.foreign.written_calls import read_written_calls
from imitrace_collector.normalize import Columns
from imitrace_collector.rows import LogRow, SpanRow
from imitrace_collector.trajectories import Assembled


@dataclass(frozen=True)
class Derived:
    """What foreign spans and log records come to."""

    trajectories: list[Assembled] = field(default_factory=list)
    """In the order in which they began, each after its parent."""
    scores: list[Columns] = field(default_factory=list)
    origins: list[StepOrigin] = field(default_factory=list)
    """One for each step, in the order of the steps."""


Place = tuple[str, int | None]
"""A trajectory's id and a step's index; None for the whole."""


def assemble(
    spans: Iterable[SpanRow],
    logs: Iterable[LogRow],
    traces: Traces | None = None,
    apart: AbstractSet[str] = frozenset(),
) -> Derived:
    """Return every trajectory in the spans and log records of traces that belong together, and their scores.

    Args:
        spans: all of these traces that came so far.
        logs: likewise.
        traces: what they say, where that has been read already; it is used up.
        apart: ids of conversations that are too long to be put together: each of their traces is one by itself.
    """
    spans, logs = list(spans), list(logs)
    traces = read_traces(spans, logs) if traces is None else traces
    places = _Places()
    found = Derived()
    for conversation in conversations_of(traces, apart):
        _assemble(conversation, traces, found, places)
    found.scores.extend(_scores(judgements_of(spans, logs), places))
    return found


class _Places:
    """What the trajectories and steps came from, so that scores find them."""

    def __init__(self) -> None:
        self.spans: dict[Key, Place] = {}
        self.ids: dict[str, Place] = {}
        self.responses: dict[str, Place] = {}
        self.conversations: dict[str, Place] = {}
        self.traces: dict[str, Place] = {}
        self.agents: dict[Key, Place] = {}

    def note(self, reading: Reading, place: Place) -> None:
        """Remember which step, or trajectory, a span is of; the first counts."""
        self.spans.setdefault(reading.key, place)
        self.ids.setdefault(reading.row.span_id, place)
        self.traces.setdefault(reading.row.trace_id, (place[0].partition("/")[0], None))
        for span in reading.above():
            self.agents.setdefault(span.key, (place[0], None))
            self.ids.setdefault(span.row.span_id, (place[0], None))

    def of(self, one: Judgement) -> Place | None:
        """Return what a score is about; None when nothing that came tells."""
        place = None
        if one.span is not None:
            trace_id, span_id = one.span
            place = self.spans.get((trace_id, span_id)) or self.agents.get((trace_id, span_id))
            if place is None and not trace_id:
                place = self.ids.get(span_id)
        if place is None and one.response_id:
            place = self.responses.get(one.response_id)
        if place is None and one.conversation:
            place = self.conversations.get(one.conversation)
        if place is None and one.span is not None:
            place = self.traces.get(one.span[0])
        return (place[0], None) if place is not None and one.about == WHOLE else place


def _assemble(conversation: Conversation, traces: Traces, found: Derived, places: _Places) -> None:
    threads = threads_of(conversation.calls, conversation.trajectory_id)
    frames = list({id(thread.frame): thread.frame for thread in threads}.values())
    inside = _runs_in(traces, frames, conversation)
    for frame in frames:
        complete_answers(frame)
        mend(frame, inside[id(frame)])
        read_written_calls(frame, inside[id(frame)])
    steps: dict[int, list[tuple[Call, Outcome | None]]] = {}
    for thread in threads:
        steps[id(thread)] = _steps_of(pair(thread.calls, thread.frame, inside[id(thread.frame)]))
    for thread in threads:
        _accumulate(thread, steps[id(thread)])
        rows = Rows(thread, _parent_step(thread, steps))
        for call, outcome in steps[id(thread)]:
            index = rows.add(call, outcome)
            place = (thread.trajectory_id, index)
            for span in call.spans:
                places.note(span, place)
            if outcome is not None and outcome.run is not None:
                places.spans.setdefault(outcome.run.reading.key, place)
                places.ids.setdefault(outcome.run.reading.row.span_id, place)
            for response_id in call.response_ids:
                places.responses.setdefault(response_id, place)
            found.origins.append(_origin(thread, index, call, outcome))
        if rows.steps:
            found.trajectories.append(rows.assembled([*filter(None, (conversation.problem,)), *_lost(thread)]))
    if conversation.named is not None:
        places.conversations.setdefault(conversation.named[1], (conversation.trajectory_id, None))


def _runs_in(traces: Traces, frames: Sequence[Frame], conversation: Conversation) -> dict[int, list[Run]]:
    """Return the tool runs by the frame that they are in."""
    openers = {frame.opener.key: frame for frame in frames if frame.opener is not None}
    main = next((frame for frame in frames if frame.opener is None), None)
    own = {call.reading.row.trace_id for call in conversation.calls}
    found: dict[int, list[Run]] = defaultdict(list)
    for run in traces.runs.values():
        if run.reading.row.trace_id not in own:
            continue
        above = (openers.get(run_of(span).key if span.role == TOOL else span.key) for span in run.reading.above())
        frame = next((frame for frame in above if frame is not None), main)
        if frame is not None:
            found[id(frame)].append(run)
    return found


def _steps_of(actions: Iterable[Actions]) -> list[tuple[Call, Outcome | None]]:
    found: list[tuple[Call, Outcome | None]] = []
    for one in actions:
        if one.call.answer is None or not (has_answer(one.call.answer) or one.call.answer_problem):
            continue
        found += [(one.call, outcome) for outcome in one.outcomes] or [(one.call, None)]
    return found


def _accumulate(thread: Thread, steps: Sequence[tuple[Call, Outcome | None]]) -> None:
    """Put together what calls saw whose requests nobody recorded."""
    history: tuple[Message, ...] = ()
    for call in dict.fromkeys(call for call, _ in steps):
        if not call.accumulated or call.answer is None:
            history = ()
            continue
        if not _repeats(call.seen, history):
            call.see((*history, *call.seen))
        outcomes = [outcome for one, outcome in steps if one is call and outcome is not None]
        calls = [part for part in call.answer["parts"] if part["type"] == "tool_call"]
        told: list[Message] = [
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": part["id"], "response": outcome.text}]}
            for part, outcome in zip(calls, outcomes, strict=True)
            if outcome.text is not None
        ]
        history = (*call.seen, call.answer, *told)


def _repeats(seen: Sequence[Message], history: Sequence[Message]) -> bool:
    return len(seen) >= len(history) > 0 and tuple(seen[: len(history)]) == tuple(history)


def _parent_step(thread: Thread, steps: Mapping[int, Sequence[tuple[Call, Outcome | None]]]) -> int | None:
    """Return the index of the parent's step that led to a thread: whose tool run it is in, else the last before."""
    if thread.parent is None:
        return None
    own = steps[id(thread.parent)]
    opener = thread.frame.opener
    for index, (_, outcome) in enumerate(own):
        if opener is not None and outcome is not None and outcome.run is not None and outcome.run.reading is opener:
            return index
    last = [index for index, (call, _) in enumerate(own) if call is thread.parent_call]
    return last[-1] if last else None


def _lost(thread: Thread) -> list[str]:
    silent = sum(1 for call in thread.calls if not (call.answer and has_answer(call.answer)) and not call.error_type)
    return [f"{silent} of {len(thread.calls)} model calls have no answer in their spans"] if silent else []


def _origin(thread: Thread, index: int, call: Call, outcome: Outcome | None) -> StepOrigin:
    sides = [
        origin("action", call.answer_from),
        origin("state", call.seen_from),
        origin("agent", call.agent_from),
        origin("tools", call.tools_from),
    ]
    if outcome is not None:
        said = (outcome.rule, outcome.source) if outcome.source is not None else None
        sides.append(origin("observation", said))
    return StepOrigin(thread.trajectory_id, index, call.decision, span_ids(call.copies), tuple(sides))


def _scores(judgements: Iterable[Judgement], places: _Places) -> list[Columns]:
    found = []
    for one in judgements:
        place = places.of(one)
        if place is not None:
            found.append(one.columns | {"trajectory_id": place[0], "step_index": place[1]})
    return found
