"""Clone behaviour: fit the networks to an expert's decisions by maximum likelihood, one loop read top to bottom."""

import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from imitrace.exceptions import CloneError
from imitrace_trainer.bags import pack
from imitrace_trainer.calibration import fit_calibration
from imitrace_trainer.checkpoints import NOTHING_KEPT, Checkpoints
from imitrace_trainer.demonstrations import (
    ChoiceCase,
    ChoiceRows,
    Demonstration,
    SlotRows,
    encode_choices,
    encode_slots,
    learn_slot_vocabulary,
    learn_vocabularies,
    read_choices,
    read_decisions,
)
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.encoding import IntArray
from imitrace_trainer.family import OWN_ODDS, Clone, Scored
from imitrace_trainer.features import GROUPS
from imitrace_trainer.knowledge import learn_knowledge
from imitrace_trainer.neighbours import Neighbours
from imitrace_trainer.network import ArgumentNetwork, ChoiceNetwork, NetworkConfig, group_log_softmax
from imitrace_trainer.policy import same_action
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.reading import Reader
from imitrace_trainer.training import Course, FloatArray, Learnt, one_thread, train

_JUDGED_AT_ONCE = 512
_STEPS = 40
"""Gradient steps at least for each of ``epochs``: eight passes over 300 arguments are 24, which teach little."""
_MOST_EPOCHS = 60
_TEMPERATURES = tuple(2 ** (power / 2) for power in range(-4, 7))


@dataclass(frozen=True, kw_only=True)
class BCConfig:
    """How a clone is fitted."""

    epochs: int = 8
    """Passes over the training decisions at most; three for every four go over their arguments, more where these are so
    few that it would be less than 40 gradient steps for each."""
    patience: int = 3
    """Passes in a row, each proven worse on the calibration tasks than the best, after which it stops; 0: never."""
    batch: int = 64
    """Decisions a gradient step; slots go two times as many."""
    learning_rate: float = 0.01
    """AdamW's peak rate; it falls to a tenth along a cosine."""
    weight_decay: float = 0.1
    """AdamW's decoupled decay (Loshchilov & Hutter 2019)."""
    feature_dropout: float = 0.6
    """Share of a state's features left out at each pass."""
    argument_dropout: float = 0.3
    """Share of an argument option's features left out at each pass."""
    smoothing: float = 0.1
    """Share of each target that is spread over all actions (Szegedy et al. 2016)."""
    leave_out: str = ""
    """Groups of features that are left out, with commas between: to see what each is worth."""
    refit: bool = True
    """Whether the calibration tasks, once they have chosen and calibrated, are learnt from too, by a second fit."""
    replies: bool = True
    """Whether replies that the expert gives again and again are learned as templates."""
    seed: int = 0
    """Seeds weights, order and dropout: the same seed and data give the same weights on CPUs of one kind."""
    device: str = "auto"
    """``auto`` takes CUDA where there is one; else ``cpu`` or ``cuda``."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of features that are kept.

        Raises:
            CloneError: what is to be left out is no group, or all of them.
        """
        left_out = {name.strip() for name in self.leave_out.split(",")} - {""}
        unknown = sorted(left_out - set(GROUPS))
        if unknown or left_out == set(GROUPS):
            raise CloneError(f"leave_out is {self.leave_out!r}, allowed: some of {', '.join(GROUPS)}")
        return tuple(group for group in GROUPS if group not in left_out)


@dataclass(frozen=True)
class FitReport:
    """What the fit saw and reached."""

    decisions: int
    slots: int
    coverage: float
    """Share of the expert's argument values that were among the candidates."""
    choice_loss: list[float]
    """Mean cross-entropy of each epoch, in nats."""
    argument_loss: list[float]
    calibration_cases: int
    judged_loss: list[float] = field(default_factory=list)
    """Cross-entropy on the calibration tasks after each epoch, at the best temperature."""
    kept_epoch: int = 0
    """The epoch, from 1, whose weights were kept: the last that the calibration tasks do not prove worse."""


@dataclass(frozen=True)
class Lesson:
    """What all families learn from, read and encoded once."""

    train: Sequence[Demonstration]
    caller: EmbeddedPolicy
    """It reads states and fills arguments; its choice network is not fitted yet."""
    choices: list[ChoiceRows]
    judged: list[ChoiceRows]
    """Of the calibration decisions those whose action was seen in training: they say when to stop."""
    judged_tasks: IntArray
    """The task of each, numbered from 0."""
    slots: int
    coverage: float
    kept: Checkpoints
    """Where it is kept how far the fit has come."""
    learnt: dict[str, Learnt]
    """By stage, as far as it has run."""

    def report(self, clone: Clone) -> FitReport:
        """Return what the fit of a clone saw and reached."""
        choice = self.learnt.get("choose", Learnt([], [], [], 0))
        return FitReport(
            decisions=len(self.train),
            slots=self.slots,
            coverage=self.coverage,
            choice_loss=choice.losses,
            argument_loss=self.learnt["arguments"].losses,
            calibration_cases=clone.calibration.cases,
            judged_loss=choice.judged,
            kept_epoch=choice.kept,
        )


def fit(
    shown: Sequence[Demonstration],
    calibration: Sequence[Demonstration],
    config: BCConfig,
    progress: Progress = silent,
) -> tuple[EmbeddedPolicy, FitReport]:
    """Fit an embedded clone to decisions and calibrate it on ``calibration``, whose tasks must be others.

    Raises:
        CloneError: there is nothing to learn: no decisions, or only one kind of action.
    """
    with one_thread():
        lesson = prepare(shown, config, progress, calibration)
        policy = fit_embedded(lesson, config, progress)
        calibrate(policy, calibration)
    return policy, lesson.report(policy)


def prepare(  # noqa: PLR0913 - what a lesson is made of, each named at the call
    shown: Sequence[Demonstration],
    config: BCConfig,
    progress: Progress = silent,
    calibration: Sequence[Demonstration] = (),
    kept: Checkpoints = NOTHING_KEPT,
    reader: Reader | None = None,
) -> Lesson:
    """Read and encode decisions, and fit what fills a call's arguments.

    Args:
        shown: what to train on.
        config: how.
        progress: told how far it is.
        calibration: of other tasks, which say when to stop.
        kept: where to keep how far the fit has come, and to take it up from.
        reader: reads messages; None: one of its own.

    Raises:
        CloneError: there is nothing to learn: no decisions, or only one kind of action.
    """
    check_trainable(shown)
    device = pick_device(config.device)
    torch.manual_seed(config.seed)
    progress("read", 0.0)
    reader = reader or Reader()
    knowledge = learn_knowledge(read_decisions(shown, reader))
    cases = read_choices(shown, knowledge, config.groups, reader)
    vocabularies = learn_vocabularies(cases, knowledge)
    vocabularies["slots"], slots, coverage = learn_slot_vocabulary(shown, knowledge, reader, random.Random(config.seed))
    sizes = NetworkConfig(
        features=len(vocabularies["features"].ids),
        descriptions=len(vocabularies["descriptions"].ids),
        slots=len(vocabularies["slots"].ids),
        actions=len(knowledge.actions),
        groups=_telling(cases, config.groups),
    )
    policy = EmbeddedPolicy(sizes, knowledge, vocabularies)
    policy.reader = reader
    choices = encode_choices(cases, vocabularies["features"], sizes.groups)
    policy.neighbours = Neighbours.learn(sizes.features, [row.bags for row in choices], config.seed)
    known = [one for one in calibration if one.label in knowledge.actions] if config.patience else []
    judged = encode_choices(
        read_choices(known, knowledge, config.groups, reader), vocabularies["features"], sizes.groups
    )
    tasks = np.unique([one.task for one in known], return_inverse=True)[1]
    encoded = encode_slots(slots, vocabularies["slots"])
    arguments = train(_argument_course(policy.ranker, encoded, config, device), kept, progress)
    policy.ranker.eval()
    learnt = {"arguments": arguments}
    return Lesson(shown, policy, choices, judged, tasks, len(slots), coverage.share, kept, learnt)


def _telling(cases: Sequence[ChoiceCase], groups: Sequence[str]) -> tuple[str, ...]:
    """Leave ``system`` out where all prompts say the same: it would have weights that nothing teaches."""
    varied = any(len(case.features["system"]) for case in cases)
    return tuple(group for group in groups if group != "system" or varied)


def fit_embedded(lesson: Lesson, config: BCConfig, progress: Progress = silent) -> EmbeddedPolicy:
    """Fit the choice network, to the epoch that does best on the calibration decisions."""
    policy = lesson.caller
    course = _choice_course(policy, lesson, config, pick_device(config.device))
    lesson.learnt["choose"] = train(course, lesson.kept, progress)
    policy.choice.eval()
    return policy


def check_trainable(shown: Sequence[Demonstration]) -> None:
    """Refuse training data from which nothing can be learned.

    Raises:
        CloneError: no decisions, or one kind of action only.
    """
    if not shown:
        raise CloneError("no decision to train on: the dataset's train split is empty; curate with a wider cohort")
    labels = {demonstration.label for demonstration in shown}
    if len(labels) == 1:
        raise CloneError(
            f"all {len(shown)} decisions are {labels.pop()!r}: a clone needs two kinds of action; widen the cohort"
        )


def pick_device(name: str) -> torch.device:
    """Return the device to train on.

    Raises:
        CloneError: CUDA was asked for and there is none, or the name is none of these.
    """
    if name not in ("auto", "cpu") and not re.fullmatch(r"cuda(:[0-9]+)?", name):
        raise CloneError(f"device {name!r} is unknown, allowed: auto, cpu, cuda")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise CloneError(f"device {name!r} is not available on this machine; allowed: auto, cpu")
    return torch.device(name)


def _choice_course(policy: EmbeddedPolicy, lesson: Lesson, config: BCConfig, device: torch.device) -> Course:
    described = [policy.knowledge.tools.get(name) for name in policy.knowledge.actions]
    choices, judged = lesson.choices, lesson.judged

    def loss(batch: list[int]) -> Tensor:
        rows = [choices[index] for index in batch]
        return choice_loss(policy.choice, policy.describe(described), rows, config.feature_dropout, config.smoothing)

    def judge() -> FloatArray:
        descriptions = policy.describe(described)
        parts = [judged[start : start + _JUDGED_AT_ONCE] for start in range(0, len(judged), _JUDGED_AT_ONCE)]
        logits = torch.cat([_logits(policy.choice, descriptions, part, 0.0).float() for part in parts])
        losses = tempered_losses(logits, torch.tensor([row.label for row in judged], device=device))
        summed = np.bincount(lesson.judged_tasks, losses)
        return np.asarray(summed * (len(summed) / len(losses)))

    def arrays() -> Iterator[npt.NDArray[np.generic]]:
        yield np.array([config.feature_dropout, config.smoothing, len(choices)])
        yield policy.descriptions.ids
        for row in (*choices, *judged):
            yield from (row.bags.rows, row.bags.weights, row.affordance, row.offered, np.array(row.label))

    return Course(
        name="choose",
        network=policy.choice,
        size=len(choices),
        loss=loss,
        judge=judge if judged else None,
        arrays=arrays,
        epochs=config.epochs,
        batch=config.batch,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        patience=config.patience,
        seed=config.seed,
        device=device,
    )


def choice_loss(
    network: ChoiceNetwork,
    descriptions: Tensor,
    rows: Sequence[ChoiceRows],
    feature_dropout: float,
    smoothing: float = 0.0,
) -> Tensor:
    """Return the mean negative log-likelihood of the expert's actions, -1/n sum log pi(a|s).

    A share ``smoothing`` of each target is spread over the actions on offer.
    """
    device = descriptions.device
    shares = _logits(network, descriptions, rows, feature_dropout).log_softmax(dim=1)
    offered = torch.from_numpy(np.stack([row.offered for row in rows])).to(device)
    labels = torch.tensor([row.label for row in rows], device=device)
    spread = (shares * offered).sum(dim=1) / offered.sum(dim=1)
    taken = shares.gather(1, labels.unsqueeze(1)).squeeze(1)
    return torch.as_tensor(-((1 - smoothing) * taken + smoothing * spread).mean())


def _logits(network: ChoiceNetwork, descriptions: Tensor, rows: Sequence[ChoiceRows], feature_dropout: float) -> Tensor:
    """Return the logits of all actions, of those not on offer next to nothing; shape (rows, actions)."""
    device = descriptions.device
    features, weights, offsets = (tensor.to(device) for tensor in pack([row.bags for row in rows]))
    weights = nn.functional.dropout(weights, feature_dropout) if feature_dropout else weights
    affordance = torch.from_numpy(np.stack([row.affordance for row in rows])).to(device)
    offered = torch.from_numpy(np.stack([row.offered for row in rows])).to(device)
    logits, _ = network((features, weights, offsets), affordance, descriptions)
    return torch.as_tensor(logits.masked_fill(offered == 0, -1e9))


def tempered_losses(logits: Tensor, labels: Tensor) -> FloatArray:
    """Return the cross-entropy of each row at the temperature at which their mean is lowest, shape (rows,).

    Calibration mends what a temperature mends (Guo et al. 2017), so it says nothing of how well a network has learnt.
    """
    cooled = [nn.functional.cross_entropy(logits / heat, labels, reduction="none") for heat in _TEMPERATURES]
    least = min(cooled, key=lambda losses: float(losses.mean()))
    return np.asarray(least.double().cpu().numpy())


def _argument_course(
    ranker: ArgumentNetwork, slots: Sequence[SlotRows], config: BCConfig, device: torch.device
) -> Course:
    def arrays() -> Iterator[npt.NDArray[np.generic]]:
        for slot in slots:
            yield from (slot.rows, slot.lengths, np.array(slot.gold))

    return Course(
        name="arguments",
        network=ranker,
        size=len(slots),
        loss=lambda batch: argument_loss(ranker, [slots[index] for index in batch], device, config.argument_dropout),
        arrays=arrays,
        epochs=_argument_epochs(len(slots), config),
        batch=config.batch * 2,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        seed=config.seed,
        device=device,
    )


def _argument_epochs(slots: int, config: BCConfig) -> int:
    """Return how often arguments are gone over: few of them more often, so that there are enough gradient steps."""
    if not slots:
        return 0
    steps = -(-slots // (config.batch * 2))
    return max(1, config.epochs * 3 // 4, min(_MOST_EPOCHS, -(-_STEPS * config.epochs // steps)))


def argument_loss(
    network: ArgumentNetwork, slots: Sequence[SlotRows], device: torch.device, feature_dropout: float = 0.0
) -> Tensor:
    """Return the mean negative log-likelihood of the expert's choice among each slot's candidates."""
    lengths = np.concatenate([slot.lengths for slot in slots])
    sizes = [len(slot.lengths) for slot in slots]
    offsets = torch.from_numpy(np.cumsum(np.concatenate([[0], lengths]))[:-1]).to(device)
    groups = torch.from_numpy(np.repeat(np.arange(len(slots)), sizes)).to(device)
    starts = np.cumsum([0, *sizes])[:-1]
    gold = torch.tensor(starts + np.array([slot.gold for slot in slots]), device=device)
    rows = torch.from_numpy(np.concatenate([slot.rows for slot in slots])).to(device)
    weights = nn.functional.dropout(torch.ones(len(rows), device=device), feature_dropout)
    return -group_log_softmax(network(rows, offsets, weights), groups, len(slots))[gold].mean()


def calibrate(clone: Clone, demonstrations: Sequence[Demonstration]) -> list[Scored]:
    """Fit confidence and the accepted distance on decisions that were not trained on; return the clone's own."""
    found = [clone.score(demonstration.state) for demonstration in demonstrations]
    scored, distances = [one for one, _ in found], [distance for _, distance in found]
    right = [same_action(one.action, shown.action) for one, shown in zip(scored, demonstrations, strict=True)]
    evidence, failed = [clone.evidence(one) for one in scored], [shown.failed for shown in demonstrations]
    clone.calibration = fit_calibration(evidence, right, distances, failed, OWN_ODDS)
    return scored
