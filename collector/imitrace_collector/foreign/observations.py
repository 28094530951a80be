"""Pair each tool call with what came back, by how well it is proven: by id, by arguments, by order."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from imitrace.messages import Message
from imitrace.shapes.content_parts import Part
from imitrace_collector.foreign.answers import one_answer
from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.chains import prints
from imitrace_collector.foreign.contents import has_content
from imitrace_collector.foreign.flat_messages import UNREADABLE
from imitrace_collector.foreign.readings import Reading
from imitrace_collector.foreign.runs import Run
from imitrace_collector.foreign.said import as_text
from imitrace_collector.foreign.threads import Frame, continues
from imitrace_collector.normalize import storable

_NEAR = 100
"""How many later calls are asked what came back, or what the answer was."""
BY_ID, BY_ARGUMENTS, BY_ORDER, NOT_FOUND = "by id", "by arguments", "by order", "not found"


@dataclass(slots=True)
class Outcome:
    """What came back of one tool call."""

    part: Part
    """The call."""
    text: str | None = None
    rule: str = NOT_FOUND
    source: Reading | None = None
    run: Run | None = None
    """The tool's run, also where the text is the next request's."""
    run_rule: str = NOT_FOUND


@dataclass(slots=True, eq=False)
class Actions:
    """What a call's answer did: the calls of tools in it, or else what it says."""

    call: Call
    tool_calls: list[Part] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)


def complete_answers(frame: Frame) -> None:
    """Fill in answers that a span lacks: the next request that goes on from the same messages begins with it."""
    for place, call in enumerate(frame.calls):
        if call.answer is not None and has_answer(call.answer):
            continue
        found = _echo(call, frame.calls[place + 1 : place + 1 + _NEAR])
        if found is not None:
            call.answer, later = found
            call.answer_from, call.answer_problem = ("next request", later.reading), None


def has_answer(answer: Message) -> bool:
    """Return whether an answer does anything: a call with a name, or words; what can't be read does not."""
    return answer["role"] != UNREADABLE and any(
        part.get("type") == "tool_call" or has_content(({"parts": [part]},)) for part in answer["parts"]
    )


def pair(calls: Sequence[Call], frame: Frame, runs: Sequence[Run]) -> list[Actions]:
    """Return what the calls of one thread did, and what came back.

    Args:
        calls: of the thread, in the order in which they began.
        frame: of the thread: what one agent called, another that it handed over to may have been told.
        runs: in the frame, in the order in which they began.
    """
    found = [Actions(call, _tool_calls(call)) for call in calls]
    places = {id(call): place for place, call in enumerate(frame.calls)}
    free = _Free(runs)
    for place, actions in enumerate(found):
        actions.outcomes = [Outcome(part) for part in actions.tool_calls]
        after = places[id(actions.call)] + 1
        later = _told_next(actions.call, frame.calls[after : after + _NEAR])
        _pair_runs(actions, free, _until(calls, place))
        _pair_responses(actions, [one for one in later if not one.accumulated])
    _hand_down(frame.calls)
    return found


def _hand_down(calls: Iterable[Call]) -> None:
    """Blame also those that go on from a request with a result that should not be empty."""
    last: Call | None = None
    for call in calls:
        if last is not None and continues(call, last):
            call.blame(_EMPTY_RESULT)
        if _EMPTY_RESULT in (call.seen_problem or ""):
            last = call


def _until(calls: Sequence[Call], place: int) -> int | None:
    """Return when the call after one began; None where no time of their own tells calls of one span apart."""
    call, after = calls[place], calls[place + 1] if place + 1 < len(calls) else None
    return None if after is None or call.accumulated or after.reading is call.reading else after.reading.row.started_at


def _told_next(call: Call, later: Sequence[Call]) -> Sequence[Call]:
    """Return the calls that may have been told what came back: the first that goes on from this one, else all later."""
    after = next((one for one in later if continues(one, call)), None)
    return later if after is None else [after]


def _tool_calls(call: Call) -> list[Part]:
    return [part for part in call.answer["parts"] if part["type"] == "tool_call"] if call.answer else []


def _echo(call: Call, later: Iterable[Call]) -> tuple[Message, Call] | None:
    had = call.prints
    for other in later:
        spoken = [message for message in other.seen if message["role"] != "system"]
        if len(spoken) > len(had) and other.prints[: len(had)] == had and spoken[len(had)]["role"] == "assistant":
            answer = one_answer(spoken[len(had) : len(had) + 1])
            return None if answer is None else (answer, other)
    return None


class _Free:
    """Tool runs that no call has been paired with yet."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = sorted(runs, key=lambda run: run.reading.at)
        self._starts = [run.began for run in self._runs]
        self._taken: set[int] = set()
        self._by_id: dict[str | None, list[Run]] = defaultdict(list)
        for run in self._runs:
            self._by_id[run.call_id].append(run)

    def between(self, began: int, ends: int | None) -> list[Run]:
        """Return those that began in a time."""
        end = len(self._starts) if ends is None else bisect_left(self._starts, ends)
        return [run for run in self._runs[bisect_left(self._starts, began) : end] if id(run) not in self._taken]

    def only(self, call_id: str | None) -> Run | None:
        """Return the one with a call's id, if there is but one."""
        found = [run for run in self._by_id.get(call_id, ()) if call_id is not None and id(run) not in self._taken]
        return found[0] if len(found) == 1 else None

    def take(self, run: Run) -> None:
        """Pair one with a call."""
        self._taken.add(id(run))


def _pair_runs(actions: Actions, free: _Free, ends: int | None) -> None:
    near = free.between(actions.call.reading.row.started_at, ends)
    for rule, fits in _RULES:
        for part, outcome in zip(actions.tool_calls, actions.outcomes, strict=True):
            if outcome.run is not None:
                continue
            run = next((run for run in near if fits(run, part)), None)
            if run is None and rule == BY_ID:
                run = free.only(part["id"])
            if run is None:
                continue
            free.take(run)
            near = [one for one in near if one is not run]
            outcome.run, outcome.run_rule = run, rule
            text = run.result
            if text is None and run.error_type is not None:
                text = run.error_text
            if text is not None:
                outcome.text, outcome.rule, outcome.source = text, rule, run.reading


def _same_id(run: Run, part: Part) -> bool:
    return run.call_id is not None and run.call_id == part["id"]


def _same_arguments(run: Run, part: Part) -> bool:
    clash = run.call_id is not None and part["id"] is not None
    return not clash and run.name == part["name"] and run.fits(part["arguments"])


def _same_name(run: Run, part: Part) -> bool:
    clash = run.call_id is not None and part["id"] is not None
    return not clash and run.name == part["name"]


_EMPTY_RESULT = "a result that it saw is empty, and the tool's run says that it was not"

_RULES = ((BY_ID, _same_id), (BY_ARGUMENTS, _same_arguments), (BY_ORDER, _same_name))


def _pair_responses(actions: Actions, later: Sequence[Call]) -> None:
    """Take what the model was told came back: it may differ from what the tool gave."""
    by_id = _by_id(actions, later)
    whole = len(by_id) == len(actions.tool_calls)
    by_order = {} if whole else _by_order(actions, later)
    for place, outcome in enumerate(actions.outcomes):
        rule, found = BY_ID, by_id.get(place)
        if found is None:
            rule, found = BY_ORDER, by_order.get(place)
        known = outcome.text is not None and outcome.rule in (BY_ID, BY_ARGUMENTS)
        if found is None or (known and (rule == BY_ORDER or not whole)):
            continue
        response, other = found
        if response == "" and outcome.text:
            other.blame(_EMPTY_RESULT)
        else:
            outcome.text, outcome.rule, outcome.source = storable(as_text(response)), rule, other.reading


def _by_id(actions: Actions, later: Sequence[Call]) -> dict[int, tuple[object, Call]]:
    wanted = {part["id"]: place for place, part in enumerate(actions.tool_calls) if part["id"] is not None}
    found: dict[int, tuple[object, Call]] = {}
    for call in later:
        if not wanted:
            break
        start = len(actions.call.seen) if call.prints[: len(actions.call.prints)] == actions.call.prints else 0
        told = {part.get("id"): part.get("response") for part in _responses(call.seen[start:])}
        for call_id in wanted.keys() & told.keys():
            found[wanted.pop(call_id)] = told[call_id], call
        for part in _tool_calls(call):  # ids that start again with each turn
            wanted.pop(part["id"], None)
    return found


def _by_order(actions: Actions, later: Sequence[Call]) -> dict[int, tuple[object, Call]]:
    """Pair by their order what stands right behind the echo of an answer, where there are as many as calls."""
    if actions.call.answer is None:
        return {}
    had = (*actions.call.prints, *prints((actions.call.answer,)))
    for call in later:
        if call.prints[: len(had)] != had:
            continue
        spoken = [message for message in call.seen if message["role"] != "system"]
        told = list(_responses(_until_next(spoken[len(had) :])))
        if len(told) == len(actions.tool_calls):
            return {place: (part.get("response"), call) for place, part in enumerate(told)}
        return {}
    return {}


def _until_next(messages: Sequence[Message]) -> Iterator[Message]:
    for message in messages:
        if message["role"] != "tool":
            return
        yield message


def _responses(messages: Iterable[Message]) -> Iterator[Part]:
    for message in messages:
        for part in message["parts"]:
            if part.get("type") == "tool_call_response":
                yield part
