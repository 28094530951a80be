"""Know the one right next action for each kind of request, from what can be seen in the conversation."""

from collections.abc import Callable
from functools import partial
from typing import Final
from zlib import crc32

from imitrace.messages import Action
from support_desk.case import Case, Moves, Seen, mentions
from support_desk.replies import WRITTEN

_REFUSALS: Final = {
    "not_account_holder": "refused_policy",
    "window_expired": "refused_policy",
    "already_refunded": "already_refunded",
}
"""How a ticket is closed by the reason that check_eligibility gives; ``not_eligible`` for every other."""


def next_action(case: Case) -> Action:
    """Return the next action for a ticket that has not ended."""
    return next(PROCEDURES[case.kind](case))


def hand_over(case: Case, reason: str, priority: str) -> Moves[None]:
    """Give the ticket to a person."""
    while True:
        yield case.call("escalate_to_human", reason=reason, priority=priority)


def _allowed(case: Case, order: Seen, action: str, done_by: str) -> Moves[Seen]:
    """Return the verdict on an action; close the ticket when it may not be done and was not done before."""
    verdict = yield from case.read("check_eligibility", order_id=order["order_id"], action=action)
    if not verdict["eligible"] and not case.did(done_by, order):
        yield from case.close(_REFUSALS.get(verdict["reason"], "not_eligible"))
    return verdict


def _parcel(case: Case) -> Moves[None]:
    order = yield from case.order()
    if order["tracking_number"] is None:
        yield from case.close(f"told_{order['status']}")
    tracking = yield from case.read("get_tracking", tracking_number=order["tracking_number"])
    if tracking["status"] != "lost":
        yield from case.close(f"told_{tracking['status']}")
    yield from case.read("reship_order", order_id=order["order_id"])
    yield from case.close("reshipped")


def _cancel(case: Case) -> Moves[None]:
    order = yield from case.order()
    yield from _allowed(case, order, "cancel", "cancel_order")
    if not case.did("cancel_order", order):
        reason = yield from case.fact("reason")
        yield from case.read("cancel_order", order_id=order["order_id"], reason=reason)
    yield from case.close("cancelled")


def _cancel_all(case: Case) -> Moves[None]:
    email = yield from case.account()
    found = yield from case.read("search_orders", email=email)
    for order in found["orders"]:
        if order["status"] == "processing" and not case.did("cancel_order", order):
            yield from case.read("check_eligibility", order_id=order["order_id"], action="cancel")
            reason = yield from case.fact("reason")
            yield from case.read("cancel_order", order_id=order["order_id"], reason=reason)
    yield from case.close("cancelled")


def _refund(case: Case) -> Moves[None]:
    if case.choice == "keep":
        yield from case.close("kept_by_customer")
    order = yield from case.order()
    verdict = yield from _allowed(case, order, "refund", "process_refund")
    if case.choice == "credit":
        amount = verdict["refundable_amount"]
        yield from case.read("issue_store_credit", customer_id=order["customer_id"], amount=amount)
        yield from case.close("credit_issued")
    if not case.did("process_refund", order):
        yield from _pay_back(case, order, verdict, verdict.get("refundable_amount"))
    yield from case.close("refunded")


def _pay_back(case: Case, order: Seen, verdict: Seen, amount: float | None) -> Moves[None]:
    payment_id = order["payment_ids"][-1]
    yield from case.read("get_payment", payment_id=payment_id)
    reason = yield from case.fact("reason")
    if verdict["confirmation_required"] and not case.confirmed:
        yield from case.ask("confirm_refund")
    yield from _label(case, order)
    arguments = {"order_id": order["order_id"], "payment_id": payment_id, "amount": amount, "reason": reason}
    yield from case.read("process_refund", **arguments)


def _label(case: Case, order: Seen) -> Moves[None]:
    """Send the label for the item that comes back, where one does."""
    if case.kind in ("return", "exchange"):
        item = yield from _returned(case, order)
        yield from case.read("create_return_label", order_id=order["order_id"], item_id=item["item_id"])


def _returned(case: Case, order: Seen) -> Moves[Seen]:
    words = yield from case.item()
    item: Seen = next(item for item in order["items"] if mentions(words, item["name"]))
    return item


def _return(case: Case) -> Moves[None]:
    order = yield from case.order()
    yield from case.read("get_tracking", tracking_number=order["tracking_number"])
    verdict = yield from _allowed(case, order, "refund", "process_refund")
    item = yield from _returned(case, order)
    if not case.did("process_refund", order):
        yield from _pay_back(case, order, verdict, item["line_total"])
    yield from _label(case, order)
    yield from case.close("refunded")


def _exchange(case: Case) -> Moves[None]:
    order = yield from case.order()
    yield from case.read("get_tracking", tracking_number=order["tracking_number"])
    yield from _allowed(case, order, "exchange", "reship_order")
    yield from _label(case, order)
    yield from case.read("reship_order", order_id=order["order_id"])
    yield from case.close("exchange_started")


def _address(case: Case) -> Moves[None]:
    order = yield from case.order()
    yield from _allowed(case, order, "address_change", "change_address")
    new = case.new_address
    while new is None:
        yield from case.ask("new_address")
    wanted = {"order_id": order["order_id"], "street": new.street, "city": new.city, "zip": new.zip}
    yield from case.settle("change_address", "order_id", **wanted)
    yield from case.close("address_changed")


def _duplicate(case: Case) -> Moves[None]:
    order = yield from case.order()
    for payment_id in order["payment_ids"]:
        payment = yield from case.read("get_payment", payment_id=payment_id)
    if len(order["payment_ids"]) == 1:
        yield from case.close("no_duplicate_found")
    yield from _allowed(case, order, "refund", "process_refund")
    if not case.did("process_refund", order):
        arguments = {"payment_id": payment_id, "amount": payment["amount"], "reason": "duplicate_charge"}
        yield from case.read("process_refund", order_id=order["order_id"], **arguments)
    yield from case.close("refunded")


def _late(case: Case) -> Moves[None]:
    order = yield from case.order()
    tracking = yield from case.read("get_tracking", tracking_number=order["tracking_number"])
    if not tracking["days_late"]:
        yield from case.close("not_eligible")
    yield from case.read("issue_store_credit", customer_id=order["customer_id"], amount=tracking["late_credit"])
    yield from case.close("credit_issued")


def _update_email(case: Case) -> Moves[None]:
    email = yield from case.account()
    found = yield from case.read("search_orders", email=email)
    new = yield from case.fact("new_email")
    yield from case.settle("update_email", "customer_id", customer_id=found["customer_id"], email=new)
    yield from case.close("email_updated")


def _write(case: Case) -> Moves[None]:
    wordings = WRITTEN[case.kind]
    text = wordings[crc32(case.talk.opening.encode()) % len(wordings)].format(product=case.product)
    while True:
        yield Action("message", message=text)


def _refuse(case: Case) -> Moves[None]:
    yield from case.close("refused_policy")


PROCEDURES: Final[dict[str, Callable[[Case], Moves[None]]]] = {
    "parcel": _parcel,
    "lost": _parcel,
    "cancel": _cancel,
    "cancel_all": _cancel_all,
    "refund": _refund,
    "return": _return,
    "exchange": _exchange,
    "address": _address,
    "duplicate": _duplicate,
    "late": _late,
    "update_email": _update_email,
    "product_question": _write,
    "complaint": _write,
    "praise": _write,
    "wholesale": _write,
    "data_request": _refuse,
    "takeover": _refuse,
    "human": partial(hand_over, reason="customer_request", priority="normal"),
    "erasure": partial(hand_over, reason="privacy_request", priority="normal"),
    "injection": partial(hand_over, reason="security", priority="high"),
    "threat": partial(hand_over, reason="threat", priority="high"),
    "legal": partial(hand_over, reason="legal", priority="high"),
}
"""Procedures by kind of request."""
