"""Decide who acts: the clone where it is proven and sure, the expert everywhere else. Pure: numbers in, a word out."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from imitrace.exceptions import ConfigError
from imitrace.messages import Action, Message, message_actions
from imitrace_trainer.intervals import rate_at_most
from imitrace_trainer.policy import Decision, Policy, State, same_action

COHORT_TAG = "cohort"
"""The tag that names the slice which the gate judges."""
NO_COHORT = "all"
"""The slice of trajectories without that tag."""


def cohort_of(tags: Mapping[str, str]) -> str:
    """Return the slice that a trajectory with these tags belongs to."""
    return tags.get(COHORT_TAG, NO_COHORT)


@dataclass(frozen=True, kw_only=True)
class RouteConfig:
    """What the route promises."""

    error: float = 0.02
    """Share of the clone's decisions that may differ from the expert's, proven on the calibration tasks."""
    irreversible_error: float = 0.01
    """The same for tools that can't be undone."""
    confidence: float = 0.9
    """Confidence of that proof."""
    irreversible: tuple[str, ...] = ()
    """Names of the tools that can't be undone."""

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> "RouteConfig":
        """Return the settings of a ``[clone.NAME.route]`` table.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        allowed = [field.name for field in fields(cls)]
        for key, value in table.items():
            if key not in allowed:
                raise ConfigError(f"route {key} is unknown, allowed: {', '.join(allowed)}")
            if key == "irreversible":
                if not isinstance(value, (list, tuple)) or not all(isinstance(name, str) for name in value):
                    raise ConfigError(f"route irreversible is {value!r}, allowed: a list of tool names")
            elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
                raise ConfigError(f"route {key} is {value!r}, allowed: a number over 0 and under 1")
        values: dict[str, Any] = dict(table)
        values["irreversible"] = tuple(values.get("irreversible", ()))
        return cls(**values)


NEVER = 2.0
"""A threshold that no confidence reaches."""


@dataclass(frozen=True)
class Thresholds:
    """The confidence from which the clone may act; above 1 means never."""

    reversible: float
    irreversible: float
    irreversible_tools: tuple[str, ...] = ()
    replies: float = NEVER
    """For texts, which can't be taken back either."""

    def of(self, tool: str | None) -> float:
        """Return the threshold for a tool's call, or for a reply."""
        if tool is None:
            return self.replies
        return self.irreversible if tool in self.irreversible_tools else self.reversible

    def with_irreversible(self, tools: Iterable[str]) -> "Thresholds":
        """Return these thresholds with more tools that can't be undone."""
        return replace(self, irreversible_tools=tuple(sorted({*self.irreversible_tools, *tools})))

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Thresholds":
        """Return what ``to_json`` gave."""
        tools = tuple(record["irreversible_tools"])
        return cls(record["reversible"], record["irreversible"], tools, record.get("replies", NEVER))


_PARTS = 40
_STARTS = (10, 20)


def choose_threshold(
    confidences: Sequence[float],
    right: Sequence[bool],
    error: float,
    confidence: float,
    tasks: Sequence[Hashable] | None = None,
) -> float:
    """Return the lowest confidence above which the error is proven to be small.

    Thresholds are tried downwards, a fortieth of the decisions at a time, each by the exact binomial bound (Clopper &
    Pearson 1934), until the first that fails: a fixed sequence keeps the promise without correction (Angelopoulos et
    al. 2021). Two sequences share the allowed risk: one starts at the most confident quarter, for clones that are good
    at little, one at the most confident half, where a few faults weigh less.

    Decisions of one task tend to be right or wrong together, so they count for fewer: the bound is that of as many
    cases as would tell as much if they were independent (Korn & Graubard 1998, with Kish's design effect).

    Args:
        confidences: of decisions that were not trained on, shape (n,).
        right: whether each was the expert's, shape (n,).
        error: the largest share of wrong decisions promised.
        confidence: of the one-sided bound.
        tasks: of each decision its task; None: all are independent.

    Returns:
        The threshold, or ``NEVER`` where nothing can be promised.
    """
    names = range(len(right)) if tasks is None else tasks
    ranked = sorted(zip(confidences, right, names, strict=True), key=lambda one: one[:2], reverse=True)
    effects = design_effects([hit - sure for sure, hit, _ in ranked], [name for _, _, name in ranked])
    each = 1 - (1 - confidence) / len(_STARTS)
    judged = [(sure, hit) for sure, hit, _ in ranked]
    return min(_walk_down(judged, effects, (start, error, each)) for start in _STARTS)


def design_effects(surprises: Sequence[float], tasks: Sequence[Hashable]) -> list[float]:
    """Return for the first 1, 2, ... decisions how many count for one, as those of a task resemble each other.

    It is 1 + (m - 1) r (Kish 1965): m is the mean task size, weighted by size, and r the correlation within tasks over
    all decisions, by analysis of variance, plus its standard error (Donner 1986).

    Args:
        surprises: 1 or 0 for right or wrong, less the confidence: what the confidence did not know.
        tasks: of each decision its task.
    """
    alike = _alike(surprises, tasks)
    counts: Counter[Hashable] = Counter()
    squares, effects = 0, []
    for seen, task in enumerate(tasks, start=1):
        squares += 2 * counts[task] + 1
        counts[task] += 1
        effects.append(1 + (squares / seen - 1) * alike)
    return effects


_ROUNDING = 1e-12
"""A variance of values of at most 1 that equal values have by rounding."""


def _alike(values: Sequence[float], tasks: Sequence[Hashable]) -> float:
    """Return how far the values of one task resemble each other: 0 not at all, 1 they are the same."""
    sizes = Counter(tasks)
    n, k = len(values), len(sizes)
    if k == n:
        return 0.0
    if k == 1:
        return 1.0
    sums: dict[Hashable, float] = defaultdict(float)
    for value, task in zip(values, tasks, strict=True):
        sums[task] += value
    explained = sum(sums[task] ** 2 / size for task, size in sizes.items())
    between = (explained - sum(values) ** 2 / n) / (k - 1)
    within = max(0.0, sum(value * value for value in values) - explained) / (n - k)
    size = (n - sum(one * one for one in sizes.values()) / n) / (k - 1)
    spread = between + (size - 1) * within
    alike = max(0.0, (between - within) / spread) if spread > _ROUNDING else 0.0
    error = (1 - alike) * (1 + (size - 1) * alike) * math.sqrt(2 / (size * max(size - 1, 0.1) * (k - 1)))
    return min(1.0, alike + error)


def _walk_down(
    ranked: Sequence[tuple[float, bool]], effects: Sequence[float], asked: tuple[int, float, float]
) -> float:
    start, error, confidence = asked
    threshold = NEVER
    for part in range(start, _PARTS + 1):
        count = len(ranked) * part // _PARTS
        while 0 < count < len(ranked) and ranked[count][0] == ranked[count - 1][0]:
            count += 1
        effect = effects[count - 1] if count else 1.0
        if not count or not rate_at_most(0, count / effect, error, confidence):
            continue
        if not rate_at_most(sum(not hit for _, hit in ranked[:count]) / effect, count / effect, error, confidence):
            break
        threshold = ranked[count - 1][0]
    return threshold


Actor = Literal["clone", "expert"]


@dataclass(frozen=True)
class Route:
    """Who acts, and why."""

    actor: Actor
    reason: str


def route(decision: Decision, state: State, thresholds: Thresholds, passed: Collection[str]) -> Route:
    """Return who acts on a state; the default is the expert.

    Args:
        decision: what the clone would do.
        state: what both see; its ``cohort`` tag says which gate verdict counts.
        thresholds: how sure the clone must be.
        passed: the cohorts in which its gate says pass.
    """
    cohort = cohort_of(state.tags)
    action = decision.action
    veto = decision.veto_irreversible if action.name in thresholds.irreversible_tools else decision.veto
    checks = (
        (cohort in passed, f"cohort {cohort!r} has no passing gate"),
        (action.kind == "tool_call" or bool(action.message), "the clone can't write text"),
        (action.name in (None, *(tool["name"] for tool in state.tools)), f"tool {action.name!r} is not offered"),
        (decision.ood <= 1, f"out of distribution ({decision.ood:.2f})"),
        (decision.confidence >= thresholds.of(action.name), f"confidence {decision.confidence:.3f}"),
        (not repeats(decision.action, state.messages), "the same call was already made"),
        (veto is None, veto or ""),
    )
    failed = next((reason for holds, reason in checks if not holds), None)
    return Route("expert", failed) if failed else Route("clone", "trusted")


def repeats(action: Action, messages: Sequence[Message]) -> bool:
    """Tell whether an action repeats a call of this conversation, argument for argument."""
    answers = (message for message in messages if message["role"] == "assistant")
    return any(same_action(action, made) for answer in answers for made in message_actions(answer))


@dataclass(frozen=True)
class RoutedClone:
    """A clone that says of each state what it would do and whether it may."""

    policy: Policy
    thresholds: Thresholds
    passed: Collection[str]
    """The cohorts in which it may act."""
    named: tuple[str, str] | None = None
    """Its name and version, for the trace."""

    def decide(self, state: State) -> tuple[Decision, Route]:
        """Return the clone's decision and who acts."""
        decision = self.policy.act(state)
        return decision, route(decision, state, self.thresholds, self.passed)
