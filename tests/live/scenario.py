"""The conversation that every live program holds: what is said, the tools, and the steps that must be read back.

Two user turns. Two orders are looked up at once, a refund fails and is tried again, the customer is told; then an
address changes, by a tool, by another agent that takes over, or by one that is a tool itself.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]  # a JSON object
Mode = Literal["direct", "handoff", "subagent"]

CONVERSATION = "conv-support-0001"
CUSTOMER = "customer-42"
SUPPORT = "support_agent"
SHIPPING = "shipping_agent"
SUPPORT_PROMPT = "You are the support agent of a small shop. Use the tools. Be brief."
SHIPPING_PROMPT = "You are the shipping agent of a small shop. You change delivery addresses."
FIRST = "Hi, order A-1001 arrived damaged. Please refund it and tell me where order A-1002 is."
SECOND = "Thanks. Please also change the delivery address of A-1002 to 5 Elm Street."
REQUEST = "Change the delivery address of A-1002 to 5 Elm Street."
REFUNDED = (
    "I refunded 42.50 USD for A-1001 (refund R-77). "
    "Order A-1002 is in transit and should arrive on 2026-03-12. Anything else?"
)
DONE = "Done: order A-1002 will now be delivered to 5 Elm Street."
FAILURE = "payment gateway timeout"
ORDERS = {
    "A-1001": {"order_id": "A-1001", "status": "delivered", "total": 42.5, "item": "teapot"},
    "A-1002": {"order_id": "A-1002", "status": "in_transit", "total": 19.0, "eta": "2026-03-12"},
}
APPROVED = {"refund_id": "R-77", "order_id": "A-1001", "amount": 42.5, "status": "approved"}
MOVED = {"order_id": "A-1002", "address": "5 Elm Street", "status": "updated"}


@dataclass(frozen=True)
class Call:
    """A tool call that the model makes."""

    name: str
    arguments: Json


LOOK_UP = (Call("get_order", {"order_id": "A-1001"}), Call("get_order", {"order_id": "A-1002"}))
REFUND = Call("issue_refund", {"order_id": "A-1001", "amount": 42.5, "reason": "damaged"})
MOVE = Call("change_address", {"order_id": "A-1002", "address": "5 Elm Street"})
ASK = Call("ask_shipping_agent", {"request": REQUEST})
HAND_OFF = Call("transfer_to_shipping_agent", {})
LAST = {"direct": MOVE, "handoff": HAND_OFF, "subagent": ASK}


@dataclass
class Shop:
    """What the tools do; the first refund fails."""

    refunds: int = 0

    def get_order(self, order_id: str) -> Json:
        return dict(ORDERS[order_id])

    def issue_refund(self, order_id: str, amount: float, reason: str) -> Json:
        self.refunds += 1
        if self.refunds == 1:
            raise RuntimeError(FAILURE)
        return APPROVED | {"order_id": order_id, "amount": amount}

    def change_address(self, order_id: str, address: str) -> Json:
        return MOVED | {"order_id": order_id, "address": address}


def run_tool(shop: Shop, name: str, arguments: str) -> str:
    """Return a tool's result as JSON, or its failure in words, as a hand-written loop would."""
    try:
        return json.dumps(getattr(shop, name)(**json.loads(arguments)))
    except RuntimeError as error:
        return f"Error: {error}"


def schema(name: str) -> Json:
    """Return the JSON schema of a tool's arguments."""
    (call,) = (call for call in (LOOK_UP[0], REFUND, MOVE, ASK) if call.name == name)
    kinds = {key: {"type": "string" if isinstance(value, str) else "number"} for key, value in call.arguments.items()}
    return {"type": "object", "properties": kinds, "required": list(kinds), "additionalProperties": False}


def decide(said: Sequence[str], calls: Sequence[str], offered: Sequence[str]) -> str | tuple[Call, ...]:
    """Return what the model answers: a text, or the calls of one decision.

    Args:
        said: the texts of the conversation so far.
        calls: the names of the tools called so far.
        offered: the names of the tools of this request, which tell whose model it is.
    """
    if "get_order" not in offered or any(SECOND in text for text in said):
        last = next(call for call in (*LAST.values(), MOVE) if call.name in offered)
        return DONE if last.name in calls else (last,)
    if "get_order" not in calls:
        return LOOK_UP
    return REFUNDED if calls.count(REFUND.name) > 1 else (REFUND,)


@dataclass(frozen=True)
class Step:
    """What must be read back of one step; ``failed`` stands for whatever the model was told of the failure."""

    agent: str
    action: Call | str
    observed: Json | str | None
    messages: int
    """How many the model saw, the system's included."""
    failed: bool = False


def steps(mode: Mode, support: str) -> list[Step]:
    """Return the steps of the script, those of the shipping agent last.

    Args:
        mode: how the address changes.
        support: the name that the first agent goes by.
    """
    first = [
        Step(support, LOOK_UP[0], ORDERS["A-1001"], 2),
        Step(support, LOOK_UP[1], ORDERS["A-1002"], 2),
        Step(support, REFUND, None, 5, failed=True),
        Step(support, REFUND, APPROVED, 7),
        Step(support, REFUNDED, None, 9),
    ]
    if mode == "direct":
        return [*first, Step(support, MOVE, MOVED, 11), Step(support, DONE, None, 13)]
    if mode == "handoff":
        return [
            *first,
            Step(support, HAND_OFF, {"assistant": SHIPPING}, 11),
            Step(SHIPPING, MOVE, MOVED, 13),
            Step(SHIPPING, DONE, None, 15),
        ]
    return [
        *first,
        Step(support, ASK, DONE, 11),
        Step(support, DONE, None, 13),
        Step(SHIPPING, MOVE, MOVED, 2),
        Step(SHIPPING, DONE, None, 4),
    ]


def offered(mode: Mode, agent: str) -> set[str]:
    """Return the names of the tools that an agent's model is offered."""
    if agent == SHIPPING:
        return {MOVE.name}
    return {LOOK_UP[0].name, REFUND.name, LAST[mode].name}
