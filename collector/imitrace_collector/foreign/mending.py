"""Put back what an instrumentor left out of a request, where an earlier answer of the same agent proves it."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from imitrace.messages import Message
from imitrace.shapes.content_parts import Part
from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.chains import Print
from imitrace_collector.foreign.joined_results import taken_apart
from imitrace_collector.foreign.kept_histories import LOST, answerer, counted_after, doubt, goes_on_from, keeps_silent
from imitrace_collector.foreign.runs import Run
from imitrace_collector.foreign.threads import Frame


def mend(frame: Frame, runs: Iterable[Run]) -> None:
    """Mend the requests of a frame's calls, and say of each what is still missing.

    An assistant's message without anything in it, and results whose calls are not there, are the answer of an earlier
    call; ids are those that the results have, or the calls, where the others have none. A request that begins with
    results, or names the response before it, goes on from a history that the model's service keeps: from what the
    earlier call saw. Results of several calls in one message are taken apart where the runs of the tools prove them.

    Args:
        frame: of the calls.
        runs: the tools' runs in it.
    """
    by_id: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_id[run.call_id or ""].append(run)
    earlier: list[tuple[Call, tuple[Print, ...]]] = []
    silent = keeps_silent(frame.calls)
    for place, call in enumerate(frame.calls):
        had = call.prints
        call.see(tuple(_identified(_apart(call.seen, by_id) if by_id else call.seen)))
        _restore(call, frame.calls[:place], silent)
        if any(map(_lacking, call.seen)) or _orphaned(call.seen):
            _fill(call, had, earlier)
            call.see(tuple(_identified(call.seen)))
        for problem in _problems(call.seen):
            call.blame(problem)
        call.see(tuple(message for message in call.seen if message["parts"]))
        earlier.append((call, had))


def _restore(call: Call, earlier: Sequence[Call], silent: bool) -> None:
    """Put what a model's service kept before what a request holds, or say that nothing tells what that was."""
    before, rule = goes_on_from(call, earlier), "after an earlier answer"
    if before is None and silent:
        before, rule = counted_after(call, earlier), "after the newest answer, by its tokens"
    if before is None or before.answer is None:
        problem = LOST if before is not None else None if call.accumulated else doubt(call, earlier, silent)
        if problem:
            call.blame(problem)
        return
    own = [message for message in call.seen if message["role"] == "system"]
    history = [message for message in before.seen if message["role"] != "system" or not own]
    rest = [message for message in call.seen if message["role"] != "system"]
    call.see((*own, *history, before.answer, *rest))
    _say(call, rule)
    for problem in filter(None, (before.seen_problem, before.answer_problem)):
        call.blame(problem)


def _say(call: Call, rule: str) -> None:
    if call.seen_from is not None:
        call.seen_from = (f"{call.seen_from[0]}, {rule}", call.seen_from[1])


def _fill(call: Call, had: tuple[Print, ...], earlier: Sequence[tuple[Call, tuple[Print, ...]]]) -> None:
    seen: list[Message] = []
    place = 0
    filled = False
    calls = [one for one, _ in earlier]
    for message in call.seen:
        found = None
        if _lacking(message):
            found = next((one.answer for one, own in reversed(earlier) if own == had[:place]), None)
        elif message["role"] == "tool" and _orphan(message, _last_calls(seen)):
            asking = answerer(message, calls)
            found = asking.answer if asking is not None else None
            seen += [found] if found else []
            found, filled = None, filled or found is not None
        filled = filled or found is not None
        seen.append(found or message)
        place += message["role"] != "system"
    call.see(tuple(seen))
    if filled:
        _say(call, "with earlier answers")


def _lacking(message: Message) -> bool:
    return message["role"] == "assistant" and not message["parts"]


def _orphaned(seen: Sequence[Message]) -> bool:
    calls: set[str | None] | None = None
    for message in seen:
        if message["role"] == "tool":
            if _orphan(message, calls):
                return True
        else:
            calls = {part.get("id") for part in _calls(message)} or None
    return False


def _orphan(result: Message, calls: set[str | None] | None) -> bool:
    """Return whether a result is of none of the calls before it."""
    names = {part.get("id") for part in result["parts"]}
    return not calls or (None not in names | calls and not names & calls)


def _last_calls(before: Sequence[Message]) -> set[str | None] | None:
    """Return the ids of the calls in the last message that is no result; None where it has none."""
    last = next((message for message in reversed(before) if message["role"] != "tool"), None)
    return ({part.get("id") for part in _calls(last)} or None) if last is not None else None


def _calls(message: Message) -> list[Part]:
    return [part for part in message["parts"] if part.get("type") == "tool_call"]


def _groups(seen: Sequence[Message]) -> Iterator[tuple[Message, list[Message]]]:
    """Yield each message that is no result, with the results behind it."""
    group: tuple[Message, list[Message]] | None = None
    for message in seen:
        if message["role"] == "tool" and group is not None:
            group[1].append(message)
            continue
        if group is not None:
            yield group
        group = (message, [])
    if group is not None:
        yield group


def _apart(seen: Sequence[Message], runs: Mapping[str, Sequence[Run]]) -> Sequence[Message]:
    """Return messages with the results of several calls each in its own, where that is proven."""
    found: list[Message] | None = None
    for place in range(len(seen) - 1, 0, -1):
        before = seen[place - 1]
        if len(before["parts"]) < 2 or seen[place]["role"] != "tool" or before["role"] == "tool":
            continue
        if place + 1 < len(seen) and seen[place + 1]["role"] == "tool":
            continue
        apart = taken_apart(_calls(before), seen[place : place + 1], runs)
        if apart:
            found = list(seen) if found is None else found
            found[place : place + 1] = apart
    return seen if found is None else found


def _identified(seen: Sequence[Message]) -> Iterator[Message]:
    """Yield messages, with ids where calls and results are as many and only one side has them."""
    for message, results in _groups(seen):
        calls = _calls(message)
        if len(calls) != len(results) or not calls:
            yield message
            yield from results
            continue
        theirs = [part.get("id") for result in results for part in result["parts"]]
        own = [part.get("id") for part in calls]
        if len(theirs) == len(own) and not set(theirs) & set(own) and None not in theirs:
            names = iter(theirs)
            parts = [{**part, "id": next(names)} if part in calls else part for part in message["parts"]]
            yield {**message, "parts": parts}
            yield from results
            continue
        yield message
        for result, name in zip(results, own, strict=True):
            parts = [{**part, "id": name} if part.get("id") is None else part for part in result["parts"]]
            yield {**result, "parts": parts}


def _problems(seen: Sequence[Message]) -> Iterator[str]:
    empty = sum(1 for message in seen if not message["parts"])
    if empty:
        yield f"{empty} of the {len(seen)} messages that it saw are empty"
    for message, results in _groups(seen):
        if message["role"] == "tool":  # at the very beginning
            results = [message, *results]
        if not results:  # the answer of a run that ended with it, or that was handed over, may have none
            continue
        named = [part.get("id") for part in _calls(message)]
        of = [part.get("id") for result in results for part in result["parts"]]
        if None in (*named, *of):
            missing, stray = len(named) - len(of), len(of) - len(named)
        else:
            missing, stray = len({*named} - {*of}), len({*of} - {*named})
        if missing > 0:
            yield f"the results of {missing} tool calls in it are missing"
        if stray > 0:
            yield f"the calls of {stray} tool results in it are missing"
