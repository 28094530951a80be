"""Read scores out of raw spans and log records; each row depends on one of them alone, so late ones count the same.

For the same reason a score's step index is the sender's, in the part that the score was given in, also where the
collector numbers the steps of several parts anew.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from imitrace import semconv
from imitrace.schema import SCORES
from imitrace_collector.normalize import Attributes, Columns, as_type, pick
from imitrace_collector.rows import LogRow, SpanRow

SCORE_COLUMNS: dict[str, str] = {
    "trajectory_id": semconv.TRAJECTORY_ID,
    "step_index": semconv.STEP_INDEX,
    "name": semconv.SCORE_NAME,
    "value": semconv.SCORE_VALUE,
    "label": semconv.SCORE_LABEL,
    "explanation": semconv.SCORE_EXPLANATION,
    "evaluator": semconv.SCORE_EVALUATOR,
    "evaluator_version": semconv.SCORE_EVALUATOR_VERSION,
}
"""Column of ``schema.SCORES`` -> attribute that fills it."""


def scores_of(spans: Iterable[SpanRow], logs: Iterable[LogRow]) -> list[Columns]:
    """Return the scores that these spans and log records carry, as rows of ``schema.SCORES``."""
    found = [score for span in spans for score in _scores_of_span(span)]
    for log in logs:
        if log.event_name == semconv.EVENT_SCORE:
            found += _score(log.attributes, log.logged_at)
    return found


def _scores_of_span(span: SpanRow) -> Iterator[Columns]:
    named = span.name.startswith(semconv.EVENT_SCORE)
    attributes = span.attributes
    if named:
        yield from _score(attributes, span.ended_at)
    place = {key: attributes[key] for key in (semconv.TRAJECTORY_ID, semconv.STEP_INDEX) if key in attributes}
    for event in span.events:
        if event["name"] == semconv.EVENT_SCORE:
            # An event on a step's or a trajectory's span is about that step or trajectory unless it names another.
            own = event["attributes"]
            yield from _score(own if semconv.TRAJECTORY_ID in own else place | own, event["time"])


def _score(attributes: Attributes, scored_at: int) -> Iterator[Columns]:
    """Yield the score, or nothing where its name or its trajectory is missing."""
    columns = pick(SCORE_COLUMNS, attributes, SCORES)
    if not columns["name"] or not columns["trajectory_id"]:
        return
    sent: Any = attributes.get(semconv.SCORE_VALUE)  # any JSON value
    if sent is not None and columns["value"] is None:
        said = columns["explanation"]
        columns["explanation"] = f"value was {as_type(sent, 'string')}, no number" + (f"; {said}" if said else "")
    yield columns | {"scored_at": min(scored_at, 2**63 - 1)}
