"""Put back what an instrumentor left out of a request, where an earlier answer of the same agent proves it."""

from collections.abc import Iterator, Sequence

from imitrace.messages import Message
from imitrace.shapes.content_parts import Part
from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.chains import Print
from imitrace_collector.foreign.threads import Frame


def mend(frame: Frame) -> None:
    """Mend the requests of a frame's calls, and say of each what is still missing.

    An assistant's message without anything in it, and results whose calls are not there, are the answer of an earlier
    call; ids are those that the results have, or the calls, where the others have none. A request that begins with
    results, or names the response before it, goes on from a history that the model's service keeps: from what the
    earlier call saw.
    """
    earlier: list[tuple[Call, tuple[Print, ...]]] = []
    kept_elsewhere = False
    for call in frame.calls:
        had = call.prints
        call.see(tuple(_identified(call.seen)))
        before = _before(call, earlier)
        if before is not None and before.answer is not None:
            own = [message for message in call.seen if message["role"] == "system"]
            history = [message for message in before.seen if message["role"] != "system" or not own]
            rest = [message for message in call.seen if message["role"] != "system"]
            call.see((*own, *history, before.answer, *rest))
            _say(call, "after an earlier answer")
            if before.seen_problem:
                call.blame(before.seen_problem)
            kept_elsewhere = True
        elif kept_elsewhere and not any(message["role"] == "assistant" for message in call.seen):
            call.blame(_KEPT_ELSEWHERE)
        if any(map(_lacking, call.seen)) or _orphaned(call.seen):
            _fill(call, had, earlier)
            call.see(tuple(_identified(call.seen)))
        for problem in _problems(call.seen):
            call.blame(problem)
        call.see(tuple(message for message in call.seen if message["parts"]))
        earlier.append((call, had))


_KEPT_ELSEWHERE = "the service keeps the history, and nothing says which answer this goes on from"


def _before(call: Call, earlier: Sequence[tuple[Call, tuple[Print, ...]]]) -> Call | None:
    """Return the call that one goes on from, where its own request does not hold the history."""
    after = call.reading.after()
    if after is not None:
        return next((one for one, _ in reversed(earlier) if after in one.response_ids), None)
    first = next((message for message in call.seen if message["role"] != "system"), None)
    if first is None or first["role"] != "tool":
        return None
    return _answerer(first, earlier)


def _say(call: Call, rule: str) -> None:
    if call.seen_from is not None:
        call.seen_from = (f"{call.seen_from[0]}, {rule}", call.seen_from[1])


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


def _answer_to(message: Message, earlier: Sequence[tuple[Call, tuple[Print, ...]]]) -> Message | None:
    found = _answerer(message, earlier)
    return found.answer if found is not None else None


def _answerer(result: Message, earlier: Sequence[tuple[Call, tuple[Print, ...]]]) -> Call | None:
    """Return the last call that asked for a result."""
    wanted = {part.get("id") for part in result["parts"]} - {None}
    for call, _ in reversed(earlier):
        if wanted and call.answer and wanted & {part.get("id") for part in _calls(call.answer)}:
            return call
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
