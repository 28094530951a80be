"""Offer the calls about whole trajectories: open one, mark an agent, say the outcome, give a score."""

import math
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from imitrace.binding import wrap
from imitrace.context import Trajectory, current
from imitrace.exceptions import WireError
from imitrace.provider import active, faults
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
from imitrace.shapes.plain import wire_text

if TYPE_CHECKING:
    from imitrace.propagation import Headers
    from imitrace.spans import AttributeValue

P = ParamSpec("P")
R = TypeVar("R")


def trajectory(
    task: str | None = None,
    *,
    id: str | None = None,  # noqa: A002 - `id=` is what the caller writes
    tags: Mapping[str, str] | None = None,
    agent: str | None = None,
    joins: "Headers | None" = None,
) -> Trajectory:
    """Return a trajectory to open with ``with`` or ``async with``.

    An exception that leaves it makes its outcome ``failure`` (``abandoned`` for a cancellation or an interrupt),
    unless ``outcome()`` was called before.

    Args:
        task: task id or intent; train and test never share one.
        id: name of the trajectory, for instance the conversation's; 32 random hex digits when not given. One that is
            opened again, later or in another process, goes on.
        tags: what cohorts are made of, for instance ``{"cohort": "common"}``.
        agent: agent name when it is not the configured one.
        joins: headers or environment variables into which another process put its trajectory by ``inject``: what runs
            here becomes a part of that one. Headers that name none are ignored.
    """
    return Trajectory(task, id, tags, agent, joins)


def inject(headers: MutableMapping[str, str] | None = None) -> MutableMapping[str, str]:
    """Put the current trajectory into headers for another service or process, as W3C traceparent and baggage.

    Nothing is put in outside of a trajectory. One that is not sampled is said to be so, and left out there too. The
    other side opens ``imitrace.trajectory(joins=headers)``; for a child process give
    ``env={**os.environ, **imitrace.inject()}`` and ``joins=os.environ``.

    Args:
        headers: what to put it into; a new dictionary when not given.

    Returns:
        The same headers.
    """
    headers = {} if headers is None else headers
    inside = current()
    pipeline = active()
    if inside is not None and pipeline is not None:
        with pipeline.faults.guard("inject"):
            from imitrace.propagation import write_origin

            origin = inside.origin()
            if origin is not None:
                write_origin(origin, headers)
    return headers


@overload
def agent(function: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def agent(
    *, name: str | None = None, task: str | Callable[..., str] | None = None, tags: Mapping[str, str] | None = None
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def agent(
    function: Callable[..., object] | None = None,
    *,
    name: str | None = None,
    task: str | Callable[..., str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> Callable[..., Any]:
    """Run each call of a function inside a trajectory of its own: ``@agent`` or ``@agent(name=...)``.

    The function may be plain or async, or a generator of either kind, whose trajectory ends when it does.

    Args:
        function: the function, when used without brackets.
        name: agent name when it is not the configured one.
        task: task id or intent of every run, or a function of the same arguments that returns it.
        tags: tags of every run.
    """

    def scope(arguments: Mapping[str, Any]) -> Trajectory:
        named = task
        if callable(task):
            named = None
            with faults().guard("task"):
                named = task(**arguments)
        return Trajectory(None if named is None else str(named), tags=tags, agent=name)

    def decorate(decorated: Callable[P, R]) -> Callable[P, R]:
        return wrap(decorated, scope, active)

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
    around = inside if inside is not None and inside.pipeline is not None else None
    pipeline = active() if around is None else around.pipeline
    if pipeline is None or (inside is not None and around is None and trajectory_id is None):
        return
    with pipeline.faults.guard("score"):
        own = None if around is None else around.id
        target = own if trajectory_id is None or trajectory_id == own else pipeline.clean(trajectory_id)
        if target is None or (value is None and label is None):
            raise WireError(f"score {name!r} needs a value or a label, and a trajectory around it or trajectory_id=")
        if value is not None and not math.isfinite(value):
            raise WireError(f"score {name!r} is {value}, allowed: a finite number")
        if not pipeline.config.sampler.records(target):
            return
        texts = {
            SCORE_NAME: name,
            TRAJECTORY_ID: target,
            SCORE_LABEL: None if label is None else pipeline.clean(label),
            SCORE_EXPLANATION: None if explanation is None else pipeline.clean(explanation),
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
        parent = around.span().context if around is not None and target == around.id else None
        pipeline.emit_event(EVENT_SCORE, attributes, parent)
