"""Say how the proxy and the process that holds its clone speak: one JSON object a line, over a socket."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from imitrace.messages import Action
from imitrace.verdict import Standing, Verdict


@dataclass(frozen=True)
class Question:
    """A state that a clone is asked about."""

    messages: Sequence[str]
    """Each as canonical JSON of its parts form."""
    tools: str
    """The definitions of those offered, as JSON."""
    tags: Mapping[str, str]
    trajectory: str | None = None


class Posed(NamedTuple):
    """A question on its way."""

    number: int
    until: float
    """When nobody waits for an answer any more, by the clock that never runs backwards and that all processes share."""
    question: Question


def question_line(posed: Posed) -> bytes:
    """Return a question as it travels."""
    return _line({"number": posed.number, "until": posed.until, **asdict(posed.question)})


def read_question(line: bytes) -> Posed:
    """Return what ``question_line`` wrote."""
    found = json.loads(line)
    return Posed(found.pop("number"), found.pop("until"), Question(**found))


def verdict_line(number: int, verdict: Verdict) -> bytes:
    """Return an answer as it travels."""
    return _line({"number": number, "verdict": asdict(verdict)})


def standing_line(standing: Standing) -> bytes:
    """Return as it travels where a clone may act."""
    return _line({"standing": asdict(standing)})


def read_answer(line: bytes) -> tuple[int, Verdict] | Standing:
    """Return what ``verdict_line`` or ``standing_line`` wrote."""
    found = json.loads(line)
    if "standing" in found:
        told = found["standing"]
        return Standing(**{**told, "cohorts": tuple(told["cohorts"])})
    verdict = found["verdict"]
    action = verdict.pop("action")
    return found["number"], Verdict(action and Action(**action), **verdict)


def _line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"
