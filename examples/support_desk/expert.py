"""Work tickets as a skilled agent does, and err now and then when told to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from imitrace.messages import Action
from support_desk.case import Case
from support_desk.conversation import Conversation
from support_desk.desk import Desk
from support_desk.mistakes import mistake
from support_desk.procedures import hand_over, next_action


@dataclass(frozen=True)
class Expert:
    """Act for the ticket that ``desk`` has open.

    It knows what the customer truly wants, but acts on what the conversation has shown so far: it uses no id that was
    not said or looked up, and the same conversation always leads to the same action.
    """

    desk: Desk
    error_rate: float = 0.0
    """Share of decisions in which ``act`` errs."""
    seed: int = 0
    """Which decisions these are; the same seed errs the same way on a task."""

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:  # OpenAI messages
        """Return what the expert does next, mistakes included; None when the ticket has ended."""
        right = self.reference(messages)
        if right is None:
            return None
        talk = Conversation(messages)
        rng = Random(f"{self.seed}/{self.desk.task.id}/{talk.decisions}")
        return mistake(right, talk, rng) if rng.random() < self.error_rate else right

    def reference(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:  # OpenAI messages
        """Return what is right to do next; None when the ticket has ended."""
        if self.desk.done:
            return None
        case = self._case(Conversation(messages))
        broken = next(hand_over(case, "agent_error", "high"))
        if self.desk.info["lost"]:
            return broken
        action = next_action(case)
        tried_in_vain = action.name is not None and case.talk.failed(action.name, **action.arguments)
        return broken if tried_in_vain else action

    def _case(self, talk: Conversation) -> Case:
        task, caller = self.desk.task, self.desk.caller
        return Case(
            kind=task.kind,
            talk=talk,
            facts=caller.facts(),
            new_address=task.new_address if "new_address" in caller.stated else None,
            choice=caller.choice,
            confirmed=caller.confirmed,
            product=task.product,
        )


def make_expert(desk: Desk, error_rate: float = 0.0, seed: int = 0) -> Expert:
    """Return an expert for the tickets of a desk.

    Args:
        desk: the desk whose present ticket the expert works on.
        error_rate: share of decisions that go wrong, 0 to 1.
        seed: which decisions these are.
    """
    return Expert(desk, error_rate, seed)
