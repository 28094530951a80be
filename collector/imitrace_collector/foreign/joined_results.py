"""Take results apart that an instrumentor wrote into one message, where the tools' own runs prove which is whose."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.messages import Message
from imitrace.shapes.content_parts import Part
from imitrace_collector.foreign.results import unwrapped
from imitrace_collector.foreign.runs import Run
from imitrace_collector.foreign.said import json_value

_DECODER = json.JSONDecoder()
_LONGEST = 2**20
"""Characters of one message that are looked through."""
_MOST = 64
"""Calls of one answer whose results are looked for, and runs of one id."""


def taken_apart(calls: Sequence[Part], results: Sequence[Message], runs: Mapping[str, Sequence[Run]]) -> list[Message]:
    """Return a message for each result where one holds those of all calls; none where nothing proves it.

    Args:
        calls: of one answer.
        results: the messages behind it.
        runs: the tools' runs, by the ids of their calls; by no text those that do not say it.
    """
    parts = [part for result in results for part in result["parts"]]
    text = parts[0].get("response") if len(parts) == 1 else None
    named = [part.get("id") for part in calls]
    if not isinstance(text, str) or not 1 < len(named) <= _MOST or None in named or len(text) > _LONGEST:
        return []
    left = [str(name) for name in named]
    given = {str(part["id"]): _runs_of(part, runs) for part in calls}
    found: list[Message] = []
    place = 0
    while left:
        place += len(text) - place - len(text[place:].lstrip())
        ends = ((name, _end(text, place, given[name])) for name in left)
        name, end = next((one for one in ends if one[1] is not None), ("", None))
        if end is None:
            return []
        left.remove(name)
        response = unwrapped(text[place:end])
        found.append({"role": "tool", "parts": [{"type": "tool_call_response", "id": name, "response": response}]})
        place = end
    return [] if text[place:].strip() else found


def _runs_of(part: Part, runs: Mapping[str, Sequence[Run]]) -> Sequence[Run]:
    """Return the runs of a call: those with its id, else those of its tool and arguments that have none."""
    found = runs.get(str(part["id"])) or [
        run for run in runs.get("", ()) if run.name == part.get("name") and run.fits(part.get("arguments"))
    ]
    return found[:_MOST]


def _end(text: str, place: int, runs: Iterable[Run]) -> int | None:
    """Return where a run's result ends that begins at a place of a text; None where none of theirs does."""
    value, end = _value_at(text, place)
    for run in runs:
        if not run.result:
            continue
        for form in (run.result, _as_python(run.result)):
            after = place + len(form)
            if text.startswith(form, place) and not text[after : after + 1].strip():
                return after
        if end is not None and _same(value, run.result):
            return end
    return None


def _as_python(result: str) -> str:
    """Return a result as Python writes it, as smolagents joins them."""
    value = json_value(result)[0]
    return result if isinstance(value, str) else repr(value)


def _value_at(text: str, place: int) -> tuple[Any, int | None]:
    try:
        return _DECODER.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None, None


def _same(value: Any, result: str) -> bool:
    seen = unwrapped(value)
    return seen == result or canonical_json(seen) == canonical_json(json_value(result)[0])
