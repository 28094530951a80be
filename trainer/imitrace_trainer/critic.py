"""Estimate whether a call in a state leads to success, and veto what failures have and successes have not.

The critic never teaches an action: the clone is fitted without it, and a veto means that the expert acts.
"""

from collections.abc import Sized
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from imitrace.messages import Action
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.encoding import FloatArray, IntArray, Vocabulary, feature_id, view_state
from imitrace_trainer.judged_texts import JudgedTexts, judged_texts
from imitrace_trainer.policy import Decision, Policy, State
from imitrace_trainer.reading import Reader
from imitrace_trainer.veto_rules import VetoRule

_TOLD = 3
"""Features that a veto names."""


@dataclass(frozen=True)
class Judgement:
    """What a critic says of a call."""

    value: float | None
    """Probability that the trajectory succeeds; None while the critic is off."""
    veto: str | None = None
    """Why the clone may not do it; None: it may."""
    veto_irreversible: str | None = None
    """Why it may not if it can't be undone, of which more is asked; None: it may."""


@dataclass(frozen=True)
class Critic:
    """A weight a feature, a threshold for its values, and rules that hold by themselves."""

    vocabulary: Vocabulary
    weights: FloatArray
    """One a feature of the vocabulary, the bias last: log-odds before calibration."""
    calibration: Calibration
    refused: str | None
    """Why its values are not used; None: they are."""
    threshold: float = 0.0
    """Below it a call is vetoed."""
    irreversible_threshold: float = 0.0
    """The same where the call can't be undone."""
    rules: tuple[VetoRule, ...] = ()
    report: dict[str, Any] = field(default_factory=dict)  # JSON
    """What it was fitted on and how it was measured."""

    def judge(self, texts: JudgedTexts) -> Judgement:
        """Return what it says of a call."""
        rule = next((rule for rule in self.rules if rule.meets(texts)), None)
        veto = f"veto: {rule}" if rule else None
        if self.refused is not None:
            return Judgement(None, veto, veto)
        value = self.value(texts)
        return Judgement(
            value, veto or self._veto(texts, value, self.threshold), veto or self._veto(texts, value, self.asked)
        )

    @property
    def asked(self) -> float:
        """The threshold of what can't be undone."""
        return max(self.threshold, self.irreversible_threshold)

    def value(self, texts: JudgedTexts) -> float:
        """Return the probability of success."""
        return self.calibration.confidence([self.score(texts)])

    def score(self, texts: JudgedTexts) -> float:
        """Return the log-odds of success before calibration."""
        rows = encode(texts, self.vocabulary)
        return float(self.weights[rows].sum() * feature_weight(rows) + self.weights[-1])

    def _veto(self, texts: JudgedTexts, value: float, threshold: float) -> str | None:
        if value >= threshold:
            return None
        against = ", ".join(self._against(texts)) or "nothing that speaks for it"
        return f"veto: critic {value:.3f}, below {threshold:.3f}; {against}"

    def _against(self, texts: JudgedTexts) -> list[str]:
        """Return the features that speak most against a call, the worst first."""
        weighed = {text: self.vocabulary.rows([feature_id(text)]) for text in texts.features()}
        told = {text: float(self.weights[rows[0]]) for text, rows in weighed.items() if rows}
        worst = sorted((weight, text) for text, weight in told.items() if weight < 0)[:_TOLD]
        scale = feature_weight(np.zeros(len(told)))
        return [f"{text} ({weight * scale:+.2f})" for weight, text in worst]

    def to_json(self) -> dict[str, Any]:
        """Return all but the weights and the vocabulary as JSON values."""
        return {
            "refused": self.refused,
            "threshold": self.threshold,
            "irreversible_threshold": self.irreversible_threshold,
            "rules": [rule.to_json() for rule in self.rules],
            "calibration": self.calibration.to_json(),
            "report": self.report,
        }

    def lines(self) -> list[str]:
        """Return for the card how well it was measured, or why it is off, and what it forbids."""
        told = self.report
        if self.refused is not None:
            first = f"- off: {self.refused}"
        else:
            auroc, length = (
                "{value:.3f} [{low:.3f}, {high:.3f}]".format(**told[name]) for name in ("auroc", "by_length")
            )
            vetoed = told["calibration_vetoed"]
            calls = {kind: told["calibration"][kind]["calls"] for kind in vetoed}
            first = (
                f"- on: AUROC {auroc} on tasks it was not fitted to; the number of steps so far reaches {length}; "
                f"on the calibration tasks it vetoes {vetoed['success']} of {calls['success']} calls in successes and "
                f"{vetoed['failure']} of {calls['failure']} in failures"
            )
        return [first, *(f"- never {rule}" for rule in self.rules)]


def encode(texts: JudgedTexts, vocabulary: Vocabulary) -> IntArray:
    """Return the rows of a call's features, each once."""
    features = dict.fromkeys(map(feature_id, texts.features()))
    return np.array(vocabulary.rows(features), dtype=np.int64)


def feature_weight(rows: Sized) -> float:
    """Return what each feature of a call counts, so that a call of many features is no surer."""
    return float(1 / max(1, len(rows)) ** 0.5)


@dataclass(frozen=True)
class CriticisedPolicy:
    """A policy whose calls a critic judges; what it does is the same."""

    policy: Policy
    critic: Critic
    reader: Reader

    def act(self, state: State) -> Decision:
        """Return the policy's decision with the critic's word on it."""
        decision = self.policy.act(state)
        if decision.action.kind != "tool_call":
            return decision
        judged = self.judge(state, decision.action)
        return replace(decision, critic=judged.value, veto=judged.veto, veto_irreversible=judged.veto_irreversible)

    def judge(self, state: State, action: Action) -> Judgement:
        """Return what the critic says of a call in a state."""
        return self.critic.judge(judged_texts(view_state(state.messages, state.tools, self.reader), action))
