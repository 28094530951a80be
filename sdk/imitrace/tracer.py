"""Offer the calls about whole trajectories: open one, mark an agent, say the outcome, give a score."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from imitrace.answers import wire_text
from imitrace.binding import wrap
from imitrace.context import Trajectory, current
from imitrace.exceptions import WireError
from imitrace.provider import active
from imitrace.semconv import (
    EVENT_SCORE,
    SCORE_EVALUATOR,
    SCORE_EVALUATOR_VERSION,
    SCORE_EXPLANATION,
    SCORE_LABEL,
    SCORE_NAME,
    SCORE_VALUE,
    STEP_INDEX,
    TRAJECTORY_ID,
)

if TYPE_CHECKING:
    from imitrace.pipeline import AttributeValue

P = ParamSpec("P")
R = TypeVar("R")


def trajectory(
    task: str | None = None,
    *,
    id: str | None = None,  # noqa: A002 - `id=` is what the caller writes
    tags: Mapping[str, str] | None = None,
    agent: str | None = None,
) -> Trajectory:
    """Return a trajectory to open with ``with`` or ``async with``.

    An exception that leaves it makes its outcome ``failure`` (``abandoned`` for a cancellation or an interrupt),
    unless ``outcome()`` was called before.

    Args:
        task: task id or intent; train and test never share one.
        id: name of the trajectory; 32 random hex digits when not given.
        tags: what cohorts are made of, for instance ``{"cohort": "common"}``.
        agent: agent name when it is not the configured one.
    """
    return Trajectory(task, id, tags, agent)


@overload
def agent(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def agent(
    *, name: str | None = None, task: str | None = None, tags: Mapping[str, str] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def agent(
    function: Callable[..., object] | None = None,
    *,
    name: str | None = None,
    task: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> Callable[..., Any]:
    """Run each call of a function, sync or async, inside a trajectory of its own: ``@agent`` or ``@agent(name=...)``.

    Args:
        function: the function, when used without brackets.
        name: agent name when it is not the configured one.
        task: task id or intent of every run.
        tags: tags of every run.
    """

    def decorate(decorated: Callable[P, R]) -> Callable[P, R]:
        return wrap(decorated, lambda _arguments: Trajectory(task, tags=tags, agent=name))

    return decorate if function is None else decorate(function)


def outcome(value: str) -> None:
    """Say how the current trajectory's task ended: ``success``, ``failure`` or ``abandoned``.

    Any other value, or a call outside of a trajectory, is counted in ``stats().faults`` and otherwise ignored.
    """
    inside = current()
    pipeline = active()
    if inside is not None:
        inside.outcome(value)
    elif pipeline is not None:
        pipeline.faults.count("outcome", f"outcome({value!r}) was called outside of a trajectory")


def score(  # noqa: PLR0913 - the fields of a score, each a plain keyword
    name: str,
    value: float | None = None,
    *,
    label: str | None = None,
    explanation: str | None = None,
    trajectory_id: str | None = None,
    step_index: int | None = None,
    evaluator: str | None = None,
    evaluator_version: str | None = None,
) -> None:
    """Score the current trajectory, or by id one of any process, also long after it ended.

    A score without value and label, or for no trajectory, is counted in ``stats().faults`` and otherwise ignored.

    Args:
        name: what is scored, for instance ``reward``.
        value: the score.
        label: the score in words.
        explanation: why.
        trajectory_id: the trajectory, when it is not the current one.
        step_index: the step, when it is not the whole trajectory.
        evaluator: who scored.
        evaluator_version: its version.
    """
    inside = current()
    pipeline = (inside.pipeline if inside is not None else None) or active()
    if pipeline is None:
        return
    with pipeline.faults.guard("score"):
        target = trajectory_id or (inside.id if inside is not None else None)
        if target is None or (value is None and label is None):
            raise WireError(f"score {name!r} needs a value or a label, and a trajectory around it or trajectory_id=")
        texts = {
            SCORE_NAME: name,
            TRAJECTORY_ID: target,
            SCORE_LABEL: label,
            SCORE_EXPLANATION: explanation,
            SCORE_EVALUATOR: evaluator,
            SCORE_EVALUATOR_VERSION: evaluator_version,
        }
        attributes: dict[str, AttributeValue] = {
            key: wire_text(text) for key, text in texts.items() if text is not None
        }
        if value is not None:
            attributes[SCORE_VALUE] = float(value)
        if step_index is not None:
            attributes[STEP_INDEX] = int(step_index)
        pipeline.emit_event(EVENT_SCORE, attributes, None if inside is None else inside.span)
