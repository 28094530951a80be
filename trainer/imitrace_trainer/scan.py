"""Say before any training how much of an agent's traffic a clone could act on, and what blocks it.

What a clone would do is guessed by small models that never saw a decision's task; then splits are drawn and played.
"""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np

from imitrace.canonical import text_hash
from imitrace.exceptions import DatasetError
from imitrace.messages import Action
from imitrace_trainer.argument_guess import Guess, guess_calls, walk
from imitrace_trainer.calibration import fit_calibration
from imitrace_trainer.cohort import SplitConfig
from imitrace_trainer.curate import Curated
from imitrace_trainer.encoding import MESSAGE, FloatArray, IntArray, StateView, view_state
from imitrace_trainer.failures import OUTCOMES as ENDED_BADLY
from imitrace_trainer.features import GROUPS, ChoiceEncoder
from imitrace_trainer.frames import gather
from imitrace_trainer.knowledge import Knowledge, learn_knowledge
from imitrace_trainer.out_of_fold import FOLDS, fold_of, out_of_fold, sketch
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.reading import Reader
from imitrace_trainer.rehearsal import BoolArray, Draws, Judged, Predicted, rehearse, tasks_needed
from imitrace_trainer.route import repeats
from imitrace_trainer.route_rules import COHORT_TAG, NO_COHORT

_RARE: Final = 5
"""Tasks below which a tool is called too rarely to be learnt."""
_OTHER_TASKS: Final = 3
"""Tasks that use a value before it is offered anywhere: so many that it never comes from the judged task alone."""
_TINY: Final = 1e-9
_NAMED: Final = 5
REASONS: Final = {
    "text": "text, which the expert writes",
    "contradicting": "the same state led to different actions",
    "rare": f"a tool that fewer than {_RARE} tasks call",
    "free text": "an argument whose value is nowhere in the conversation",
    "action": "another action was likelier",
    "argument": "another value was likelier for an argument",
    "unsure": "guessed right, but not surely enough",
}
"""Why a decision is left to the expert, in the order in which they are asked."""


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """What is promised, and how much is looked at."""

    promise: float = 0.95
    """Share of a clone's decisions that must be the expert's, proven."""
    confidence: float = 0.9
    """Of that proof."""
    most: int = 20_000
    """Decisions that are looked at, by whole tasks drawn by the split's seed."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """Shares of the tasks that calibrate and judge."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is predicted of one kind of task, or of one action."""

    name: str
    decisions: int
    tasks: int
    coverage: Predicted
    blocked: dict[str, int]
    """By reason of ``REASONS``: decisions that the expert keeps."""

    def __str__(self) -> str:
        why = max(self.blocked, key=lambda reason: self.blocked[reason], default=None)
        told = f"  {why} {self.blocked[why]}" if why else ""
        return f"{self.name:<36}{self.decisions:>7}{self.tasks:>7}  {self.coverage}{told}"


@dataclass(frozen=True, kw_only=True)
class Scan:
    """How much looks clonable."""

    promise: float
    trajectories: int
    tasks: int
    decisions: int
    failures: int
    """Decisions of trajectories that failed, from which is learnt and which are not counted, unless all failed."""
    calls: float
    """Share of the decisions that are tool calls: no clone covers more."""
    coverage: Predicted
    """Share of the decisions that a clone would act on, of a split's held-out tasks."""
    agreement: Predicted | None
    """Share of those that are the expert's; None: there are none."""
    decided: float
    """Share of the draws in which a threshold was proven."""
    tasks_needed: int | None
    """With how many tasks it is proven in four draws of five; None: not with sixteen times as many."""
    trajectories_needed: int | None
    """How many more trajectories that is, by the mean of a task; 0: enough."""
    kinds: list[Part]
    """By value of the tag ``cohort``."""
    actions: list[Part]
    """By the expert's action, the most frequent first."""
    blocked: dict[str, int]
    free_text: dict[str, int]
    """Calls whose value for an argument is nowhere in the conversation, by ``TOOL.parameter``."""
    contradictions: int
    """Decisions that differ from the most frequent one in the same state."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)

    def render(self) -> str:
        """Return the scan as text."""
        apart = [f"{self.failures} decisions of failures are not counted, only learnt from"] if self.failures else []
        return "\n".join(
            [
                f"{self.decisions} decisions of {self.tasks} tasks, {self.calls:.0%} of them tool calls",
                *apart,
                f"predicted coverage at {self.promise:.0%} agreement  {self.coverage} of all decisions",
                f"agreement where a clone would act    {self.agreement or 'none to judge'}",
                f"proven in {self.decided:.0%} of the draws: {self._needed()}",
                f"\n{'what':<36}{'steps':>7}{'tasks':>7}  coverage, and what blocks most",
                *map(str, (*(self.kinds if len(self.kinds) > 1 else ()), *self.actions)),
                f"\n{self.contradictions} decisions are not the usual one of their state; left to the expert:",
                *(f"  {count:>7}  {REASONS[reason]}" for reason, count in self.blocked.items()),
                *(f"  {count:>7}    of these {slot}" for slot, count in list(self.free_text.items())[:_NAMED]),
            ]
        )

    def _needed(self) -> str:
        if self.trajectories_needed is None:
            return "more trajectories alone won't do, it errs too often even where it is surest"
        return f"record some {self.trajectories_needed} more trajectories" if self.trajectories_needed else "enough"


@dataclass
class _Seen:
    """Decisions, a list a column."""

    views: list[StateView] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    tasks: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)
    states: list[str] = field(default_factory=list)
    """One text for equal states."""
    again: list[bool] = field(default_factory=list)
    failed: list[bool] = field(default_factory=list)

    @property
    def labels(self) -> list[str]:
        return [action.name or MESSAGE for action in self.actions]

    def only(self, rows: Sequence[int]) -> "_Seen":
        """Return some of the decisions."""
        return _Seen(**{name: [column[row] for row in rows] for name, column in vars(self).items()})


@dataclass(frozen=True)
class _Guessed:
    """What models that never saw a decision's task make of it."""

    judged: Judged
    same: BoolArray
    """Whether they name the expert's action, shape (n,)."""
    guesses: list[Guess | None]
    """Of each call's arguments; None for messages."""

    def only(self, rows: Sequence[int]) -> "_Guessed":
        """Return those of some of the decisions."""
        return _Guessed(self.judged.only(rows), self.same[rows], [self.guesses[row] for row in rows])


def scan(curated: Curated, config: ScanConfig, progress: Progress = silent) -> Scan:
    """Predict how much of what a cohort keeps a clone could act on.

    Raises:
        DatasetError: there are too few tasks, one kind of action only, or no share for calibration or gate.
    """
    if not (config.split.calibration and config.split.gate):
        raise DatasetError(
            f"split.calibration {config.split.calibration:g} and split.gate {config.split.gate:g} leave nothing to "
            "prove a clone on or to judge it on, set both over 0"
        )
    seen = _look(curated, config, progress)
    labels = seen.labels
    if len(set(seen.tasks)) < 2 * FOLDS or len(set(labels)) < 2:
        raise DatasetError(
            f"{len(set(seen.tasks))} tasks with {len(set(labels))} kinds of action can't be scanned, "
            f"wanted at least {2 * FOLDS} tasks and 2 kinds; record more, or widen the cohort"
        )
    counted = [row for row, failed in enumerate(seen.failed) if not failed] or list(range(len(labels)))
    share = len({seen.tasks[row] for row in counted}) / len(set(seen.tasks))
    failures = len(labels) - len(counted)
    seen, found = seen.only(counted), _guessed(seen, config, progress).only(counted)
    progress("rehearse", 0.0)
    draws = rehearse(found.judged, 1 - config.promise, config.confidence, config.split)
    needed = tasks_needed(found.judged, 1 - config.promise, config.confidence, config.split)
    why, labels, count = _blocked(seen, found, draws), seen.labels, len(curated.trajectories)
    known = share * curated.trajectories["task_key"].n_unique()
    return Scan(
        promise=config.promise,
        trajectories=count,
        tasks=len(set(seen.tasks)),
        decisions=len(labels),
        failures=failures,
        calls=float(np.mean([label != MESSAGE for label in labels])),
        coverage=draws.coverage(np.ones(len(labels), dtype=np.bool_)),
        agreement=draws.agreement(found.judged.right) if draws.acted.any() else None,
        decided=draws.decided,
        tasks_needed=needed,
        trajectories_needed=None if needed is None else math.ceil(max(0, needed - known) * count / known),
        kinds=_parts(seen.kinds, draws, seen.tasks, why),
        actions=_parts(labels, draws, seen.tasks, why),
        blocked=_counted(why),
        free_text=dict(Counter(slot for guess in found.guesses if guess for slot in set(guess.missing)).most_common()),
        contradictions=_contradicting(seen)[1],
    )


def _look(curated: Curated, config: ScanConfig, progress: Progress) -> _Seen:
    frames = {table: getattr(curated, table) for table in ("steps", "messages", "tools")}
    tables = gather(frames)
    messages = {name: json.loads(text) for name, text in tables["messages"].select("message_id", "content").iter_rows()}
    tools: dict[str | None, list[dict[str, Any]]] = defaultdict(list)  # JSON schemas
    for name, text in tables["tools"].select("tools_hash", "definition").iter_rows():
        tools[name].append(json.loads(text))
    steps = tables["steps"].filter("loss_mask")
    chosen = _drawn(steps["task"].to_list(), config)
    seen, reader = _Seen(), Reader()
    for number, step in enumerate(steps.iter_rows(named=True)):
        if step["task"] not in chosen:
            continue
        progress("read", number / len(steps))
        state = [messages[name] for name in step["state"]]
        arguments = step["action_arguments"]
        action = Action(step["action_kind"], step["action_name"], json.loads(arguments) if arguments else {})
        seen.views.append(view_state(state, tools[step["tools_hash"]], reader))
        seen.actions.append(action)
        seen.tasks.append(step["task"])
        seen.kinds.append(json.loads(step["tags"]).get(COHORT_TAG, NO_COHORT))
        seen.states.append(text_hash(" ".join(step["state"])))
        seen.again.append(action.kind == "tool_call" and repeats(action, state))
        seen.failed.append(step["outcome"] in ENDED_BADLY)
    return seen


def _drawn(tasks: Sequence[str], config: ScanConfig) -> set[str]:
    """Return as many tasks as have no more decisions than are looked at."""
    counts, total = Counter(tasks), 0
    chosen: set[str] = set()
    for task in sorted(counts, key=lambda name: text_hash(f"scan {config.split.seed}:{name}")):
        total += counts[task]
        if chosen and total > config.most:
            break
        chosen.add(task)
    return chosen


def _guessed(seen: _Seen, config: ScanConfig, progress: Progress) -> _Guessed:
    names = sorted(set(seen.labels))
    folds = fold_of(seen.tasks, config.split.seed)
    indexes = np.array([names.index(label) for label in seen.labels], dtype=np.int64)
    knowledge = learn_knowledge(zip(seen.views, seen.actions, seen.tasks, strict=True), _OTHER_TASKS)
    encoder, sketches = ChoiceEncoder(knowledge.origins(), GROUPS, knowledge.prompt), []
    for number, view in enumerate(seen.views):
        progress("encode", number / len(seen.views))
        sketches.append(sketch(encoder(view, names)[0]))
    progress("guess", 0.0)
    shares = out_of_fold(sketches, indexes, folds, config.split.seed)
    guesses = _guesses(seen, knowledge, folds, progress)
    return _Guessed(_judged(seen, shares, indexes, names, guesses), shares.argmax(axis=1) == indexes, guesses)


def _guesses(seen: _Seen, knowledge: Knowledge, folds: IntArray, progress: Progress) -> list[Guess | None]:
    """Return what is made of each call's arguments; None for messages."""
    rows = [row for row, action in enumerate(seen.actions) if action.kind == "tool_call"]
    calls = []
    for number, row in enumerate(rows):
        progress("guess", number / len(rows))
        action, view = seen.actions[row], seen.views[row]
        tool = view.tools.get(str(action.name), {"name": action.name, "parameters": {}})
        calls.append(walk(knowledge, view, tool, action.arguments))
    found: list[Guess | None] = [None] * len(seen.actions)
    for row, guess in zip(rows, guess_calls(calls, folds[rows]), strict=True):
        found[row] = guess
    return found


def _judged(
    seen: _Seen, shares: FloatArray, labels: IntArray, names: Sequence[str], guesses: Sequence[Guess | None]
) -> Judged:
    """Put the guesses together, with a confidence calibrated as a clone's is."""
    likely = shares.argmax(axis=1)
    call = np.array([names[one] != MESSAGE for one in likely])
    usual: dict[int, tuple[float, float]] = {}
    for one in range(len(names)):
        made = [guess for guess, label in zip(guesses, labels, strict=True) if guess is not None and label == one]
        if made:
            usual[one] = float(np.mean([g.probability for g in made])), float(np.mean([g.weakest for g in made]))
    evidence, right = [], []
    for row, one in enumerate(likely):
        guess = guesses[row]
        same = one == labels[row]
        sure, weakest = (guess.probability, guess.weakest) if same and guess else usual.get(int(one), (1.0, 1.0))
        evidence.append([_log_odds(float(shares[row, one])), math.log(max(sure, _TINY)), _log_odds(weakest)])
        right.append(bool(same and (guess is None or guess.right)))
    calls = np.flatnonzero(call)
    hits, failed = [right[row] for row in calls], [seen.failed[row] for row in calls]
    calibrated = fit_calibration([evidence[row] for row in calls], hits, [0.0] * len(calls), failed)
    return Judged(
        tasks=seen.tasks,
        call=call,
        again=np.array(seen.again) & np.array(right),
        right=np.array(right),
        confidence=np.array([calibrated.confidence(one) for one in evidence]),
    )


def _log_odds(share: float) -> float:
    bounded = min(max(share, _TINY), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def _blocked(seen: _Seen, guessed: _Guessed, draws: Draws) -> list[str | None]:
    """Return why each decision is the expert's; None where it is covered in most draws that judged it."""
    tasks_of: dict[str, set[str]] = defaultdict(set)
    labels = seen.labels
    for label, task in zip(labels, seen.tasks, strict=True):
        tasks_of[label].add(task)
    (disputed, _), covered = _contradicting(seen), draws.mostly
    found: list[str | None] = []
    for row, (label, guess) in enumerate(zip(labels, guessed.guesses, strict=True)):
        reasons = {
            "text": guess is None,
            "contradicting": disputed[row] and not guessed.judged.right[row],
            "rare": len(tasks_of[label]) < _RARE,
            "free text": guess is not None and bool(guess.missing),
            "action": not guessed.same[row],
            "argument": guess is not None and bool(guess.wrong),
            "unsure": True,
        }
        found.append(None if covered[row] else next(reason for reason, holds in reasons.items() if holds))
    return found


def _contradicting(seen: _Seen) -> tuple[list[bool], int]:
    """Return which decisions' states led to several actions, and how many decisions are not the state's usual one."""
    led: dict[str, Counter[str]] = defaultdict(Counter)
    for state, label in zip(seen.states, seen.labels, strict=True):
        led[state][label] += 1
    fewer = sum(counts.total() - max(counts.values()) for counts in led.values())
    return [len(led[state]) > 1 for state in seen.states], fewer


def _parts(kinds: Sequence[str], draws: Draws, tasks: Sequence[str], blocked: Sequence[str | None]) -> list[Part]:
    parts = []
    for name in set(kinds):
        rows = np.array([kind == name for kind in kinds])
        own: list[int] = np.flatnonzero(rows).tolist()
        part = Part(
            name=name,
            decisions=len(own),
            tasks=len({tasks[row] for row in own}),
            coverage=draws.coverage(rows),
            blocked=_counted(blocked[row] for row in own),
        )
        parts.append(part)
    return sorted(parts, key=lambda part: (-part.decisions, part.name))


def _counted(blocked: Iterable[str | None]) -> dict[str, int]:
    counts = Counter(reason for reason in blocked if reason is not None)
    return {reason: counts[reason] for reason in REASONS if counts[reason]}
