"""Learn what not to do: calls, and what was so when they were made, that many failures have and no success.

Counts are of tasks, never of steps. A rule holds by Fisher's exact test, against as many rules as were tried.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from imitrace_trainer.intervals import upper_bound
from imitrace_trainer.judged_texts import JudgedTexts

BoolArray = npt.NDArray[np.bool_]

_LEAST = 5
"""Failed tasks that a rule must have."""
_LEVEL = 0.05
"""Chance that any rule is found where outcomes and calls have nothing to do with each other."""
_USUAL = 0.2
"""Share of a tool's calls in successes which something must stand before, for its absence to be a condition."""
_MOST = 20


@dataclass(frozen=True)
class Judged:
    """One call that was made, and how its trajectory ended."""

    texts: JudgedTexts
    trajectory: str
    task: str
    success: bool


@dataclass(frozen=True)
class VetoRule:
    """A call that only failures have where ``present`` holds and ``absent`` does not."""

    tool: str
    present: str
    """A text of the state or of the call; empty: whatever holds."""
    absent: str
    """A text that must not hold; empty: none."""
    failures: int
    """Failed tasks that have it."""
    successes: int
    """Tasks with a success that calls the tool, none of which has it."""
    chance: float
    """Probability of that by chance, times the rules that were tried."""

    @property
    def conditions(self) -> int:
        """How many it has."""
        return bool(self.present) + bool(self.absent)

    def meets(self, texts: JudgedTexts) -> bool:
        """Tell whether a call is what the rule means."""
        said = texts.all
        present = not self.present or self.present in said
        return texts.tool == self.tool and present and (not self.absent or self.absent not in said)

    def __str__(self) -> str:
        where = f" with {self.present}" if self.present else ""
        unless = f" before it {self.absent}" if self.absent else ""
        most = upper_bound(0, self.successes)
        return (
            f"{self.tool}{where}{unless}: in {self.failures} failed tasks and none of {self.successes} that succeeded "
            f"(at most {most:.1%} of them, p {self.chance:.1g})"
        )

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


def learn_rules(train: Sequence[Judged], calibration: Sequence[Judged]) -> list[VetoRule]:
    """Return the rules that the training tasks prove, and that no success of the calibration tasks breaks.

    What follows a mistake is none: of a failed trajectory only the first call that any rule means is counted. Of rules
    that mean the same calls the shortest stays.

    Args:
        train: calls in the order of their trajectories' steps.
        calibration: calls of other tasks.
    """
    tables = [_Table(train, tool) for tool in sorted({one.texts.tool for one in train if not one.success})]
    tried = sum(table.tried for table in tables)
    failed, succeeded = (len({one.task for one in train if one.success == kind}) for kind in (False, True))
    proven = [rule for table in tables for rule in table.proven(tried, (failed, succeeded))]
    spared = [one.texts for one in calibration if one.success]
    kept = [rule for rule in proven if not any(rule.meets(texts) for texts in spared)]
    return _shortest(kept, [one for one in train if not one.success])


class _Table:
    """The calls of one tool beside what was so when they were made."""

    def __init__(self, train: Sequence[Judged], tool: str) -> None:
        self.tool = tool
        calls = sorted((one for one in train if one.texts.tool == tool), key=lambda one: (one.success, one.task))
        self._failed = [one for one in calls if not one.success]
        said = [one.texts.all for one in calls]
        failed_in: dict[str, set[str]] = {}
        for one, texts in zip(self._failed, said, strict=False):  # failures come first
            for text in texts:
                failed_in.setdefault(text, set()).add(one.task)
        self._texts = ["", *sorted(text for text, tasks in failed_in.items() if len(tasks) >= _LEAST)]
        self._holds = np.array([[not text or text in texts for text in self._texts] for texts in said], dtype=np.bool_)
        lasting = said[len(self._failed) :]
        usual = Counter(text for texts in lasting for text in texts if text.startswith("called "))
        self._before = sorted(text for text, count in usual.items() if count >= _USUAL * len(lasting))[:_MOST]
        lacks = [[text not in texts for texts in said] for text in self._before]
        self._lacks = {"": np.ones(len(calls), dtype=np.bool_)}
        self._lacks |= {text: np.array(row) for text, row in zip(self._before, lacks, strict=True)}
        self._succeeded = len({one.task for one in calls if one.success})
        self._tasks = len({one.task for one in self._failed})
        self._starts = np.unique(np.array([one.task for one in self._failed]), return_index=True)[1]
        self._found = {text: self._count(lacking) for text, lacking in self._lacks.items()}

    @property
    def tried(self) -> int:
        """How many rules have enough failed tasks to be looked at."""
        return sum(int((failures >= _LEAST).sum()) for failures, _ in self._found.values())

    def proven(self, tried: int, tasks: tuple[int, int]) -> Iterator[VetoRule]:
        """Yield what no success has, by chance so seldom that it holds against all that were tried.

        Args:
            tried: rules of all tools.
            tasks: all that failed, and all that succeeded: what counts where no success calls the tool at all.
        """
        failed, succeeded = (self._tasks, self._succeeded) if self._succeeded else tasks
        for absent, (failures, broken) in self._found.items():
            for place in np.flatnonzero((failures >= _LEAST) & ~broken).tolist():
                count = int(failures[place])
                chance = min(1.0, tried * _by_chance(count, failed, succeeded))
                if chance <= _LEVEL:
                    yield VetoRule(self.tool, self._texts[place], absent, count, succeeded, chance)

    def _count(self, lacking: BoolArray) -> tuple[npt.NDArray[np.int64], BoolArray]:
        """Return for each text the failed tasks that have it, and whether a success has."""
        met = self._holds & lacking[:, None]
        failures = np.logical_or.reduceat(met[: len(self._failed)], self._starts, axis=0).sum(axis=0)
        return failures, np.asarray(met[len(self._failed) :].any(axis=0))


def _by_chance(count: int, failed: int, succeeded: int) -> float:
    """Return Fisher's one-sided probability that all of ``count`` tasks drawn from both kinds are failed ones."""
    if count > failed:
        return 1.0
    return math.comb(failed, count) / math.comb(failed + succeeded, count)


def _shortest(rules: Sequence[VetoRule], failed: Sequence[Judged]) -> list[VetoRule]:
    """Return few rules that stand for all: each time the one that the most failed tasks not yet told of have first."""
    first: dict[VetoRule, set[str]] = {rule: set() for rule in rules}
    by_tool: dict[str, list[VetoRule]] = {}
    for rule in rules:
        by_tool.setdefault(rule.tool, []).append(rule)
    over: set[str] = set()
    for one in failed:
        if one.trajectory in over:
            continue
        met = [rule for rule in by_tool.get(one.texts.tool, ()) if rule.meets(one.texts)]
        over.update([one.trajectory] if met else [])
        for rule in met:
            first[rule].add(one.task)
    chosen: list[VetoRule] = []
    told: set[str] = set()
    while len(chosen) < _MOST and rules:
        best = max(rules, key=lambda rule: (len(first[rule] - told), -rule.conditions, -len(str(rule)), str(rule)))
        if len(first[best] - told) < _LEAST:
            break
        told |= first[best]
        chosen.append(best)
    return chosen
