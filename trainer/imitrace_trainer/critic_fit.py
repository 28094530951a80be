"""Fit a critic to calls of successes and failures, and refuse it where it knows no more than how long it took.

After: logistic regression with balanced classes (King & Zeng 2001), calibrated by Platt's method (1999) on other tasks.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from imitrace.canonical import text_hash
from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.calibration import Calibration, fit_calibration
from imitrace_trainer.critic import Critic, feature_weight
from imitrace_trainer.discrimination import auroc_by_task
from imitrace_trainer.encoding import FloatArray, IntArray, Vocabulary, feature_id, view_state
from imitrace_trainer.intervals import rate_at_most
from imitrace_trainer.judged_texts import judged_texts
from imitrace_trainer.policy import State
from imitrace_trainer.reading import Reader
from imitrace_trainer.task_draws import Share
from imitrace_trainer.thresholds import design_effects
from imitrace_trainer.veto_rules import Judged, learn_rules

Numbers = npt.NDArray[np.float64]

_FOLDS = 5
_TASKS = 3
"""Tasks that a feature must be seen in."""
_RIDGE = 1.0
_STEPS = 60
_LEAST_TASKS = 5
"""Tasks with a success, and with a failure, without which nothing is fitted."""


@dataclass(frozen=True, kw_only=True)
class CriticConfig:
    """How a critic is fitted and when it vetoes."""

    enabled: bool = True
    """Whether there is one."""
    veto: float = 0.02
    """Share of the calls in successes that it may veto, proven on the calibration tasks."""
    irreversible_veto: float = 0.1
    """The same for tools that can't be undone: a larger share, so more is asked of a call."""
    confidence: float = 0.9
    """Confidence of that proof."""
    calls: int = 6_000
    """Most calls that it is fitted to and calibrated on, by whole tasks, those with failures first."""

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> "CriticConfig":
        """Return the settings of a ``[clone.NAME.critic]`` table.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        allowed = [field.name for field in fields(cls)]
        for key, value in table.items():
            if key not in allowed:
                raise ConfigError(f"critic {key} is unknown, allowed: {', '.join(allowed)}")
            if key == "enabled":
                if not isinstance(value, bool):
                    raise ConfigError(f"critic enabled is {value!r}, allowed: true or false")
            elif key == "calls":
                if type(value) is not int or value < 1:
                    raise ConfigError(f"critic calls is {value!r}, allowed: a whole number from 1")
            elif isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
                raise ConfigError(f"critic {key} is {value!r}, allowed: a number over 0 and under 1")
        values: dict[str, Any] = dict(table)
        return cls(**values)


@dataclass(frozen=True)
class CriticCase:
    """A call that somebody made, and how its trajectory ended."""

    state: State
    action: Action
    trajectory: str
    task: str
    success: bool


@dataclass(frozen=True)
class _Calls:
    """Calls made ready to be weighed; of each array an entry a call."""

    judged: list[Judged]
    ids: list[tuple[int, ...]]
    """Of the features, each once."""
    steps: Numbers
    """How many steps came before."""

    @property
    def tasks(self) -> list[str]:
        return [one.task for one in self.judged]

    @property
    def success(self) -> Numbers:
        return np.array([one.success for one in self.judged], dtype=np.float64)

    def of(self, rows: Sequence[int]) -> "_Calls":
        return _Calls([self.judged[row] for row in rows], [self.ids[row] for row in rows], self.steps[list(rows)])


def fit_critic(
    train: Sequence[CriticCase],
    calibration: Sequence[CriticCase],
    config: CriticConfig,
    reader: Reader | None = None,
    seed: int = 0,
) -> Critic:
    """Fit a critic to ``train``, and its threshold to ``calibration``, whose tasks must be others.

    Its values are used where their area under the ROC curve, on tasks that the fit never saw, is surely larger than
    that of the number of steps so far; and where the calibration tasks suffice to prove a threshold. Else it is refused
    with the reason, and only its rules hold.

    Args:
        train: calls of trajectories that succeeded or failed, of each in the order of its steps.
        calibration: the same of other tasks.
        config: what it may veto.
        reader: reads messages; None: a new one.
        seed: of the folds and of the interval.
    """
    reader = reader or Reader()
    shown, kept = (_read(_drawn(cases, config.calls, seed), reader) for cases in (train, calibration))
    lack = _lack(shown, kept)
    if lack is not None:
        nothing = Vocabulary(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.float32))
        report = _counts(shown, kept)
        return Critic(nothing, np.zeros(1, dtype=np.float32), Calibration(), lack, report=report)
    fitted = _fitted(shown, kept)
    rules = tuple(learn_rules(shown.judged, kept.judged))
    measured, length = _measure(_together(shown, kept), seed)
    loose, strict = (
        choose_veto(fitted, kept.judged, share, config.confidence) for share in (config.veto, config.irreversible_veto)
    )
    report = {**_counts(shown, kept), "auroc": asdict(measured), "by_length": asdict(length), "config": asdict(config)}
    found = replace(
        fitted,
        refused=_refused(measured, length, fitted, loose),
        threshold=loose or 0.0,
        irreversible_threshold=strict or 0.0,
        rules=rules,
    )
    return replace(found, report=report | {"calibration_vetoed": _vetoed(found, kept)})


def choose_veto(critic: Critic, kept: Sequence[Judged], share: float, confidence: float) -> float | None:
    """Return the highest threshold below which at most this share of the successes' calls lies; None: none is proven.

    Thresholds are tried upwards, a veto more at a time, by the exact binomial bound (Clopper & Pearson 1934) of as many
    cases as would tell as much if the calls of a task were independent (Kish 1965), until the first that fails.
    """
    spared = sorted((critic.value(one.texts), one.task) for one in kept if one.success)
    if not spared:
        return None
    values = [value for value, _ in spared]
    effect = design_effects(values, [task for _, task in spared])[-1]
    threshold = None
    for vetoed, value in enumerate(values):
        if not rate_at_most(vetoed / effect, len(values) / effect, share, confidence):
            break
        threshold = value
    return threshold


def _refused(measured: Share, length: Share, fitted: Critic, threshold: float | None) -> str | None:
    if measured.low <= length.value:
        return f"AUROC {_told(measured)}, not surely over the {_told(length)} of the number of steps so far"
    if fitted.calibration.weights[0] <= 0:
        return "on the calibration tasks failures score higher than successes"
    if threshold is None:
        return "the calibration tasks are too few to prove that successes are spared"
    return None


def _lack(shown: _Calls, kept: _Calls) -> str | None:
    """Say why there is nothing to fit, if so."""
    for part, calls, least in (("training", shown, _LEAST_TASKS), ("calibration", kept, 1)):
        for kind, success in (("failed", False), ("succeeded", True)):
            found = len({one.task for one in calls.judged if one.success == success})
            if found < least:
                return f"{found} {part} tasks {kind}, needed {least}: it learns from successes and failures"
    return None


def _counts(shown: _Calls, kept: _Calls) -> dict[str, Any]:  # JSON
    """Return of each part how many tasks and calls succeeded and failed."""
    return {
        part: {
            kind: {
                "tasks": len({one.task for one in calls.judged if one.success == success}),
                "calls": sum(one.success == success for one in calls.judged),
            }
            for kind, success in (("success", True), ("failure", False))
        }
        for part, calls in (("train", shown), ("calibration", kept))
    }


def _vetoed(critic: Critic, kept: _Calls) -> dict[str, int]:
    """Return how many calls of the calibration tasks the critic would veto, by how their trajectories ended."""
    hit = [one for one in kept.judged if critic.judge(one.texts).veto is not None]
    return {"success": sum(one.success for one in hit), "failure": sum(not one.success for one in hit)}


def _drawn(cases: Sequence[CriticCase], most: int, seed: int) -> list[CriticCase]:
    """Return the calls of as many whole tasks as have no more than ``most``, those with a failure first."""
    by_task: dict[str, list[CriticCase]] = defaultdict(list)
    for case in cases:
        by_task[case.task].append(case)
    order = sorted(by_task, key=lambda task: (all(case.success for case in by_task[task]), text_hash(f"{seed}:{task}")))
    kept: list[CriticCase] = []
    for task in order:
        if kept and len(kept) + len(by_task[task]) > most:
            break
        kept += by_task[task]
    return kept


def _read(cases: Sequence[CriticCase], reader: Reader) -> _Calls:
    judged: list[Judged] = []
    ids: list[tuple[int, ...]] = []
    steps: list[int] = []
    for case in cases:
        view = view_state(case.state.messages, case.state.tools, reader)
        texts = judged_texts(view, case.action)
        judged.append(Judged(texts, case.trajectory, case.task, case.success))
        ids.append(tuple(dict.fromkeys(map(feature_id, texts.features()))))
        steps.append(len(view.actions))
    return _Calls(judged, ids, np.array(steps, dtype=np.float64))


def _together(shown: _Calls, kept: _Calls) -> _Calls:
    return _Calls(shown.judged + kept.judged, shown.ids + kept.ids, np.concatenate([shown.steps, kept.steps]))


def _fitted(shown: _Calls, kept: _Calls) -> Critic:
    """Return a critic fitted to some tasks and calibrated on others."""
    of_task: dict[str, set[int]] = defaultdict(set)
    for one, ids in zip(shown.judged, shown.ids, strict=True):
        of_task[one.task].update(ids)
    vocabulary = Vocabulary.learn(of_task.values(), minimum=_TASKS)
    weights = _weights(_Rows.of(shown, vocabulary), shown.success)
    evidence = _Rows.of(kept, vocabulary).times(weights).reshape(-1, 1).tolist()
    calibration = fit_calibration(evidence, [one.success for one in kept.judged], [0.0] * len(evidence))
    return Critic(vocabulary, weights, calibration, None)


@dataclass(frozen=True)
class _Rows:
    """The features of calls as a sparse matrix, a row a call, each of whose features counts the same."""

    columns: IntArray
    each: Numbers
    calls: IntArray
    shape: tuple[int, int]

    @classmethod
    def of(cls, calls: _Calls, vocabulary: Vocabulary) -> "_Rows":
        rows = [vocabulary.rows(ids) for ids in calls.ids]
        lengths = [len(row) for row in rows]
        return cls(
            np.array([column for row in rows for column in row], dtype=np.int64),
            np.repeat([feature_weight(row) for row in rows], lengths).astype(np.float64),
            np.repeat(np.arange(len(rows)), lengths),
            (len(rows), len(vocabulary.ids)),
        )

    def times(self, weights: FloatArray | Numbers) -> Numbers:
        """Return the log-odds of each call; the bias is the last weight."""
        told = np.bincount(self.calls, self.each * weights[self.columns], self.shape[0])
        return np.asarray(told + weights[-1], dtype=np.float64)

    def back(self, gaps: Numbers) -> Numbers:
        """Return the gradient of the weights, the bias last, for one of each call's log-odds."""
        told = np.bincount(self.columns, self.each * gaps[self.calls], self.shape[1])
        return np.append(told, gaps.sum())


def _weights(rows: _Rows, success: Numbers) -> FloatArray:
    """Return the weights of a penalised logistic regression, the bias last; both classes weigh the same."""
    share = success.mean()
    balance = np.where(success > 0, 0.5 / share, 0.5 / (1 - share))
    penalty = np.append(np.full(rows.shape[1], _RIDGE), 0.0)
    weights = torch.zeros(rows.shape[1] + 1, dtype=torch.float64)
    weights.grad = torch.zeros_like(weights)
    optimiser = torch.optim.LBFGS([weights], max_iter=_STEPS, line_search_fn="strong_wolfe")

    def loss() -> float:
        now = weights.numpy()
        logits = rows.times(now)
        weights.grad = torch.from_numpy(rows.back(balance * (_sigmoid(logits) - success)) + penalty * now)
        fit = balance * (np.logaddexp(0, logits) - success * logits)
        return float(fit.sum() + (penalty * now * now).sum() / 2)

    optimiser.step(loss)  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    return weights.numpy().astype(np.float32)


def _sigmoid(logits: Numbers) -> Numbers:
    return np.asarray(1 / (1 + np.exp(-np.clip(logits, -30, 30))), dtype=np.float64)


def _measure(calls: _Calls, seed: int) -> tuple[Share, Share]:
    """Return the area under the ROC curve on tasks held out in turn, and that of the number of steps so far."""
    tasks = sorted(set(calls.tasks), key=lambda task: text_hash(f"critic {seed}:{task}"))
    fold = {task: place % _FOLDS for place, task in enumerate(tasks)}
    scores = np.zeros(len(calls.judged))
    nobody = _Calls([], [], np.zeros(0))
    for number in range(_FOLDS):
        others = calls.of([row for row, task in enumerate(calls.tasks) if fold[task] != number])
        if 0 < others.success.mean() < 1:
            critic = _fitted(others, nobody)
            held = [row for row, task in enumerate(calls.tasks) if fold[task] == number]
            scores[held] = _Rows.of(calls.of(held), critic.vocabulary).times(critic.weights)
    length = auroc_by_task(-calls.steps, calls.success, calls.tasks, seed)
    if length.value < 0.5:  # here the longer ones succeed
        length = Share(1 - length.value, 1 - length.high, 1 - length.low, length.decisions)
    return auroc_by_task(scores, calls.success, calls.tasks, seed), length


def _told(share: Share) -> str:
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"
