"""Put back what an instrumentor left out of a request, where an earlier answer of the same agent proves it."""

from collections.abc import Iterable, Iterator, Sequence

from imitrace.messages import Message
from imitrace.shapes.content_parts import Part
from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.chains import Print
from imitrace_collector.foreign.threads import Frame


def mend(frame: Frame) -> None:
    """Mend the requests of a frame's calls, and say of each what is still missing.

    An assistant's message without anything in it, and results whose calls are not there, are the answer of an earlier
    call; ids are those that the results have, or the calls, where the others have none.
    """
    earlier: list[tuple[Call, tuple[Print, ...]]] = []
    for call in frame.calls:
        had = call.prints
        call.see(tuple(_identified(call.seen)))
        if any(map(_lacking, call.seen)) or _orphaned(call.seen):
            _fill(call, had, earlier)
            call.see(tuple(_identified(call.seen)))
        for problem in _problems(call.seen):
            call.blame(problem)
        call.see(tuple(message for message in call.seen if message["parts"]))
        earlier.append((call, had))


def _fill(call: Call, had: tuple[Print, ...], earlier: Sequence[tuple[Call, tuple[Print, ...]]]) -> None:
    seen: list[Message] = []
    place = 0
    filled = False
    for message in call.seen:
        found = None
        if _lacking(message):
            found = next((one.answer for one, own in reversed(earlier) if own == had[:place]), None)
        elif message["role"] == "tool" and _orphan(message, _last_calls(seen)):
            found = _answer_to(message, earlier)
            seen += [found] if found else []
            found, filled = None, filled or found is not None
        filled = filled or found is not None
        seen.append(found or message)
        place += message["role"] != "system"
    call.see(tuple(seen))
    if filled and call.seen_from is not None:
        call.seen_from = (f"{call.seen_from[0]}, with earlier answers", call.seen_from[1])


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


def _answer_to(message: Message, earlier: Iterable[tuple[Call, tuple[Print, ...]]]) -> Message | None:
    wanted = {part.get("id") for part in message["parts"]} - {None}
    for call, _ in reversed(list(earlier)):
        if wanted and call.answer and wanted & {part.get("id") for part in _calls(call.answer)}:
            return call.answer
    return None


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
        calls = {part.get("id") for part in _calls(message)}
        told = {part.get("id") for result in results for part in result["parts"]}
        if None in told | calls or not told:
            continue
        if calls - told:
            yield f"the results of {len(calls - told)} tool calls in it are missing"
        if told - calls:
            yield f"the calls of {len(told - calls)} tool results in it are missing"
