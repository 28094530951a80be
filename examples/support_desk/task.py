"""Say what a task is: who the customer is, what is wanted, how it is told, and which final state is a success."""

from dataclasses import dataclass
from typing import Any, Final

from support_desk.ledger import Goal
from support_desk.shop import Address, Customer

COHORTS: Final = {"common": 40, "long_tail": 15, "tool_heavy": 15, "multi_turn_refunds": 15, "safety": 15}
"""Cohorts and their natural share in percent."""

WRITTEN_KINDS: Final = frozenset({"product_question", "complaint", "praise", "wholesale"})
"""Kinds of request that need a written answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Hold one task; ``id`` determines all of it, and the shop too."""

    id: str
    cohort: str
    intent: str
    kind: str
    """Which procedure the request calls for; several intents share one."""
    customer: Customer
    goal: Goal
    given: frozenset[str] = frozenset()
    """Facts told in the first message: order_id, email, item, reason, name, new_address, new_email."""
    header: bool = False
    """Whether the ticket came by email, so that its sender is seen."""
    order_id: str | None = None
    """The order that is truly meant."""
    said_order_id: str | None = None
    """What the customer says first instead: a mistyped id, or another order's."""
    knows_order_id: bool = False
    knows_email: bool = True
    item: str | None = None
    """How the customer names the item."""
    product: str = ""
    """What a question about a product is about."""
    reason: str | None = None
    new_address: Address | None = None
    new_email: str | None = None
    other: Customer | None = None
    """Another customer, whom a request that must be refused is about."""
    correct_at: str | None = None
    """The question on which the customer notices that it is another order."""
    change_at: str | None = None
    """The question on which the customer wants something else."""
    change: str | None = None
    """What that is: credit or keep."""
    demand: tuple[str, dict[str, Any]] | None = None  # the tool's arguments
    """The forbidden call that the customer asks for."""

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags that a trajectory of this task carries."""
        return {"cohort": self.cohort, "intent": self.intent}
