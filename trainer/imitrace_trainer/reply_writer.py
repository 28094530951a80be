"""Say what an expert says again and again: templates are chosen like tools, and their slots filled like arguments.

A clone decides as it did without; only where it would leave a message to the expert a second, smaller clone looks for a
template, whose tools are the templates. What it would say is said only where it is proven that the expert would say the
same; everywhere else a message means escalate, as before.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imitrace.messages import Action
from imitrace_trainer.calibration import Calibration, fit_calibration
from imitrace_trainer.checkpoints import NOTHING_KEPT, Checkpoints
from imitrace_trainer.demonstrations import Demonstration, well_ended_rows
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.family import Clone, Parts, Scored, act_on_all
from imitrace_trainer.fit import BCConfig, fit_embedded, prepare
from imitrace_trainer.phrases import PhraseReader
from imitrace_trainer.policy import Decision, State, same_action
from imitrace_trainer.progress import Progress, Stage, silent
from imitrace_trainer.reading import Reader
from imitrace_trainer.reply_slots import ReplyTemplate
from imitrace_trainer.reply_templates import Mined, mine
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.thresholds import NEVER, choose_threshold
from imitrace_trainer.training import one_thread

_PREFIX = "replies."
_TINY = 1e-9
_STEPS = 32
"""Gradient steps an epoch at least, where batches of four give so many: replies are few."""


@dataclass(frozen=True)
class Draft:
    """A reply that could be said."""

    text: str
    template: str
    """The template's name."""
    confidence: float
    """Calibrated probability that the expert would say exactly this, white space and case aside."""
    ood: float


@dataclass
class ReplyWriter:
    """Drafts replies from templates."""

    policy: EmbeddedPolicy
    """Chooses among the templates, as tools, and fills their slots; its calibration is that of replies."""
    templates: Sequence[ReplyTemplate]
    threshold: float = NEVER
    """The confidence from which a draft may be said."""
    _offered: list[dict[str, Any]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._offered = [template.tool for template in self.templates]

    def draft(self, state: State, share: float) -> Draft | None:
        """Return what the expert might say, or None where no template is chosen or a slot can't be filled.

        Args:
            state: what the expert would see.
            share: the probability that the expert writes at all.
        """
        written = self._write(state)
        if written is None:
            return None
        text, scored, distance = written
        calibration = self.policy.calibration
        confidence = calibration.confidence(self._evidence(scored, share))
        return Draft(text, str(scored.action.name), confidence, calibration.relative_distance(distance))

    def _write(self, state: State) -> tuple[str, Scored, float] | None:
        """Return the likeliest text with its raw probabilities, and the state's distance."""
        scored, distance = self.policy.score(replace(state, tools=self._offered))
        template = next((one for one in self.templates if one.name == scored.action.name), None)
        text = template.fill(scored.action.arguments) if template else None
        return None if text is None else (text, scored, distance)

    def calibrate(self, clone: Clone, shown: Sequence[Demonstration], promise: RouteConfig) -> None:
        """Fit confidence on decisions of other tasks, and choose from which confidence a draft may be said."""
        evidence, right, distances, drafted = [], [], [], []
        for one in shown:
            share = _message_share(clone.act(one.state))
            written = self._write(one.state) if share is not None else None
            if share is None or written is None:
                continue
            text, scored, distance = written
            evidence.append(self._evidence(scored, share))
            right.append(same_action(Action("message", message=text), one.action))
            distances.append(distance)
            drafted.append(one)
        self.policy.calibration = fit_calibration(evidence, right, distances, [one.failed for one in drafted])
        confidences = [self.policy.calibration.confidence(one) for one in evidence]
        told = well_ended_rows(drafted)
        self.threshold = choose_threshold(
            [confidences[row] for row in told],
            [right[row] for row in told],
            promise.irreversible_error,
            promise.confidence,
            [drafted[row].task for row in told],
        )

    def _evidence(self, scored: Scored, share: float) -> list[float]:
        bounded = min(max(share, _TINY), 1 - 1e-6)
        return [*self.policy.evidence(scored), math.log(bounded / (1 - bounded))]

    def parts(self) -> Parts:
        """Return what is to be kept."""
        parts = self.policy.parts()
        templates = [{"pieces": list(one.pieces), "kinds": list(one.kinds)} for one in self.templates]
        kept = {"templates": templates, "threshold": self.threshold, "calibration": self.policy.calibration.to_json()}
        return Parts(parts.tensors, {**parts.record, **kept})

    @classmethod
    def of_parts(cls, parts: Parts, reader: Reader) -> "ReplyWriter":
        """Return the writer whose ``parts`` these are.

        Raises:
            ValueError: one part does not fit the others.
        """
        policy = EmbeddedPolicy.of_parts(parts)
        policy.calibration = Calibration(**parts.record["calibration"])
        policy.reader = PhraseReader(reader)
        templates = [ReplyTemplate(tuple(one["pieces"]), tuple(one["kinds"])) for one in parts.record["templates"]]
        return cls(policy, templates, parts.record["threshold"])


@dataclass
class Replying:
    """A clone that also replies, where it is sure."""

    clone: Clone
    writer: ReplyWriter

    @property
    def family(self) -> str:
        """Name the family of the clone that decides."""
        return self.clone.family

    @property
    def calibration(self) -> Calibration:
        """Return the calibration of everything but replies."""
        return self.clone.calibration

    @calibration.setter
    def calibration(self, calibration: Calibration) -> None:
        self.clone.calibration = calibration

    @property
    def reader(self) -> Reader:
        """Reads messages, each once."""
        return self.clone.reader

    @property
    def tools(self) -> Sequence[dict[str, Any]]:
        """Return the newest definition of every tool that was offered in training."""
        return self.clone.tools

    def act(self, state: State) -> Decision:
        """Return the decision for a state: the clone's own, and for a message the text where that is sure."""
        return self._said(state, self.clone.act(state))

    def act_batch(self, states: Sequence[State]) -> list[Decision]:
        """Return the decision for each state, as ``act`` does; at once where the family can, but for the texts."""
        made = act_on_all(self.clone, states)
        return [self._said(state, decision) for state, decision in zip(states, made, strict=True)]

    def _said(self, state: State, decision: Decision) -> Decision:
        draft = self.draft(state, decision)
        if draft is None or draft.confidence < self.writer.threshold:
            return decision
        said = Action("message", message=draft.text)
        return replace(decision, action=said, confidence=draft.confidence, ood=max(decision.ood, draft.ood))

    def draft(self, state: State, decision: Decision) -> Draft | None:
        """Return what could be said, however sure, where the clone's decision is a message."""
        share = _message_share(decision)
        return None if share is None else self.writer.draft(state, share)

    def score(self, state: State) -> tuple[Scored, float]:
        """Return the clone's own action with its raw probabilities, and the state's distance."""
        return self.clone.score(state)

    def evidence(self, scored: Scored) -> list[float]:
        """Return what the clone's confidence is calibrated on."""
        return self.clone.evidence(scored)

    def parts(self) -> Parts:
        """Return what is to be kept of both."""
        own, replies = self.clone.parts(), self.writer.parts()
        tensors = {**own.tensors, **{_PREFIX + name: tensor for name, tensor in replies.tensors.items()}}
        return Parts(tensors, {**own.record, "replies": replies.record})


def unsaid(decision: Decision) -> Decision:
    """Return a decision as it would be without templates: a message is left to the expert."""
    return replace(decision, action=Action("message", message="")) if decision.action.message else decision


def _message_share(decision: Decision) -> float | None:
    """Return how likely a message is where that is the decision, None where it is a call."""
    return decision.tools.get("message", 0.0) if decision.action.kind == "message" else None


@dataclass(frozen=True, kw_only=True)
class ReplyConfig:
    """How a writer is fitted, and what it is held to."""

    fit: BCConfig
    """The clone's own."""
    promise: RouteConfig
    """What the route promises: a reply can't be taken back, so it is held to ``irreversible_error``."""


@dataclass(frozen=True)
class Taught:
    """A clone after its expert's replies were looked at."""

    clone: Clone
    """It replies where that is proven, else it is as it was."""
    lack: str | None
    """Why it says nothing; None: it does."""

    def by(self, clone: Clone) -> Clone:
        """Return another clone with the same replies, such as the same one after it learnt from more tasks."""
        return Replying(clone, self.clone.writer) if isinstance(self.clone, Replying) else clone


def with_replies(
    clone: Clone,
    shown: tuple[Sequence[Demonstration], Sequence[Demonstration]],
    config: ReplyConfig,
    progress: Progress = silent,
    kept: Checkpoints = NOTHING_KEPT,
) -> Taught:
    """Teach a clone the replies that its expert gives again and again.

    Nothing is mined or fitted where not even a writer that never errs could be proven good enough.

    Args:
        clone: fitted and calibrated.
        shown: the decisions to train on, and those to calibrate on, whose tasks must be others.
        config: how to fit, and what for.
        progress: told how far it is.
        kept: where to keep how far the fit has come, and to take it up from.
    """
    others = [one.action.message for one in shown[1] if one.action.message]
    if few := _too_few(len(others), "calibration replies", config.promise):
        return Taught(clone, few)
    mined = mine(shown[0], PhraseReader(clone.reader))
    if not mined.templates:
        return Taught(clone, "the expert gives no reply again and again")
    if few := _too_few(sum(map(mined.fits, others)), "calibration replies that fit a template", config.promise):
        return Taught(clone, few)
    with one_thread():
        writer = ReplyWriter(fit_writer(mined, shown, config.fit, progress, kept), mined.templates)
        writer.calibrate(clone, shown[1], config.promise)
    if writer.threshold == NEVER:
        return Taught(clone, "what it would say could not be proven good enough on the calibration tasks")
    return Taught(Replying(clone, writer), None)


def _too_few(count: int, what: str, promise: RouteConfig) -> str | None:
    """Say that so many could not prove the promise even if all were right, where that is so."""
    best = choose_threshold([1.0] * count, [True] * count, promise.irreversible_error, promise.confidence)
    return (
        f"{count} {what} are too few to prove at most {promise.irreversible_error:.0%} wrong" if best == NEVER else None
    )


def fit_writer(
    mined: Mined,
    shown: tuple[Sequence[Demonstration], Sequence[Demonstration]],
    config: BCConfig,
    progress: Progress = silent,
    kept: Checkpoints = NOTHING_KEPT,
) -> EmbeddedPolicy:
    """Fit what chooses among the templates and fills them; where the expert calls a tool, nothing is to be said.

    Args:
        mined: from the decisions to train on.
        shown: these, and those to calibrate on, which say when to stop.
        config: how to fit.
        progress: told how far it is.
        kept: where to keep how far the fit has come, and to take it up from.
    """

    def told(stage: str, share: float) -> None:
        progress(Stage(f"replies: {stage}", getattr(stage, "note", "")), share)

    train, calibration = (_lessons(part, mined) for part in shown)
    config = replace(config, batch=min(config.batch, max(4, len(train) // _STEPS)))
    lesson = prepare(train, config, told, calibration, kept, mined.reader)
    lesson.caller.knowledge.vocabulary.clear()  # what was told to others is not told here unless it is said here
    return fit_embedded(lesson, config, told)


def _lessons(shown: Sequence[Demonstration], mined: Mined) -> list[Demonstration]:
    """Return every reply as the call of its template, and as many calls, where nothing is to be said."""
    offered = [template.tool for template in mined.templates]
    replies = [one for one in shown if one.action.kind == "message"]
    calls = [one for one in shown if one.action.kind == "tool_call"]
    quiet = calls[:: max(1, len(calls) // max(1, len(replies)))][: len(replies)]
    lessons = []
    for one in (*replies, *quiet):
        found = mined.label(one.action.message) if one.action.message else None
        action = Action("tool_call", found[0].name, found[1]) if found else Action("message", message="")
        lessons.append(Demonstration(replace(one.state, tools=offered), action, one.task))
    return lessons


def restored(clone: Clone, parts: Parts) -> Clone:
    """Return a clone that was read back with its replies, if it has any.

    Raises:
        ValueError: one part does not fit the others.
    """
    record = parts.record.get("replies")
    if record is None:
        return clone
    tensors = {name.removeprefix(_PREFIX): one for name, one in parts.tensors.items() if name.startswith(_PREFIX)}
    return Replying(clone, ReplyWriter.of_parts(Parts(tensors, record), clone.reader))


def reply_threshold(clone: Clone) -> float:
    """Return the confidence from which a clone may reply."""
    return clone.writer.threshold if isinstance(clone, Replying) else NEVER
