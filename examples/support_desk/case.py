"""Hold what an expert sees of a ticket, and the moves from which procedures are put together.

A procedure is written as a generator: it walks from the start of the ticket, passes over what was done already, and
yields the one action that comes next. It is never resumed; each decision walks again.
"""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from imitrace.messages import Action
from support_desk.conversation import Conversation
from support_desk.shop import Address

T = TypeVar("T")
Moves = Generator[Action, None, T]
"""A walk that yields the next action, or returns what it has learned."""
Seen = dict[str, Any]  # a tool's answer
"""What a tool showed."""


@dataclass(frozen=True)
class Case:
    """Hold the conversation, and what the customer has said in it."""

    kind: str
    talk: Conversation
    facts: dict[str, str]
    """What was said so far: order_id, email, item, reason, name, zip, new_email."""
    new_address: Address | None
    choice: str | None
    """What the customer wants instead of a refund, once it was said: credit or keep."""
    confirmed: bool
    product: str

    def call(self, name: str, /, **arguments: Any) -> Action:  # the tool's arguments
        """Return a tool call."""
        return Action("tool_call", name, arguments, call_id=f"call_{self.talk.decisions}")

    def close(self, resolution: str) -> Moves[None]:
        """End the ticket."""
        while True:
            yield self.call("close_ticket", resolution=resolution)

    def ask(self, question: str) -> Moves[None]:
        """Ask the customer; the answer shows in the facts next time."""
        while True:
            yield self.call("ask_customer", question=question)

    def fact(self, name: str) -> Moves[str]:
        """Return what the customer said, or ask for it."""
        if name not in self.facts:
            yield from self.ask(name)
        return self.facts[name]

    def read(self, tool: str, /, **arguments: Any) -> Moves[Seen]:  # the tool's arguments
        """Return what a tool showed, or call it."""
        while (seen := self.talk.seen(tool, **arguments)) is None:
            yield self.call(tool, **arguments)
        return seen

    def settle(self, tool: str, key: str, /, **arguments: Any) -> Moves[None]:  # the tool's arguments
        """Set something that can be written over, unless the latest call for this ``key`` set just that."""
        while self.talk.latest(tool, key, arguments[key]) != arguments:
            yield self.call(tool, **arguments)

    def account(self) -> Moves[str]:
        """Return the account's email, or find it out."""
        if "email" in self.facts:
            return self.facts["email"]
        if "name" not in self.facts:
            yield from self.ask("email")
        found = yield from self.read("find_customer", name=self.facts["name"], zip=self.facts["zip"])
        return str(found["email"])

    def find_order(self) -> Moves[str]:
        """Return the id of the order that the customer means, or find it out."""
        said = self.facts.get("order_id")
        if said and not self.talk.failed("get_order", order_id=said):
            return said
        if "email" not in self.facts and "name" not in self.facts:
            yield from self.ask("order_id")
        email = yield from self.account()
        found = yield from self.read("search_orders", email=email)
        orders = found["orders"]
        if len(orders) == 1:
            return str(orders[0]["order_id"])
        item = yield from self.item()
        named = [order["order_id"] for order in orders if any(mentions(item, name) for name in order["items"])]
        if len(named) != 1:
            yield from self.ask("order_id")
        return str(named[0])

    def item(self) -> Moves[str]:
        """Return how the customer named the item, or ask."""
        if "item" not in self.facts:
            yield from self.ask("which_item")
        return self.facts["item"]

    def order(self) -> Moves[Seen]:
        """Return the order that the customer means, or read it."""
        order_id = yield from self.find_order()
        return (yield from self.read("get_order", order_id=order_id))

    def did(self, tool: str, order: Seen) -> bool:
        """Return whether a tool was run on an order."""
        return self.talk.seen(tool, order_id=order["order_id"]) is not None


def mentions(item: str, name: str) -> bool:
    """Return whether an item's full name is what the customer called ``item``."""
    return item.lower() in name.lower()
