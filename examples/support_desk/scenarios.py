"""Write the tasks in which the customer may have what is asked for: one function per kind of request."""

from collections.abc import Collection
from typing import Any, Final

from support_desk.catalog import BRANDS, PRODUCTS
from support_desk.ledger import Entry, Goal
from support_desk.scene import Fields, Scene
from support_desk.shop import Order, OrderSpec
from support_desk.tools import CANCEL_REASONS, REFUND_REASONS
from support_desk.world import late_credit

PARCEL_SPECS: Final = {
    "processing": OrderSpec(status="processing", days_ago=(0, 4)),
    "in_transit": OrderSpec(status="shipped", days_ago=(2, 7)),
    "lost": OrderSpec(status="shipped", days_ago=(12, 25), parcel="lost"),
    "delivered": OrderSpec(status="delivered", days_ago=(1, 6)),
    "cancelled": OrderSpec(status="cancelled", days_ago=(3, 12)),
}
_RETURN_REASONS: Final = tuple(reason for reason in REFUND_REASONS if reason != "duplicate_charge")
_SMALL: Final = (15, 95)
_LARGE: Final = (130, 420)


def closed(resolution: str, evidence: Collection[tuple[str, ...]] = (), **rest: Any) -> Goal:  # Goal's other fields
    """Return the goal to close the ticket with a resolution, having looked up the evidence."""
    return Goal(tickets=frozenset({("closed", resolution)}), evidence=frozenset(evidence), **rest)


def checked(order: Order, action: str) -> set[tuple[str, ...]]:
    """Return the evidence that eligibility was checked."""
    return {("check_eligibility", order.id, action)}


def done(*entries: Entry) -> frozenset[Entry]:
    """Return what is to be done."""
    return frozenset(entries)


def parcel_goal(order: Order, state: str) -> Goal:
    """Return how a question about a parcel ends, by the parcel's state."""
    evidence = [("get_tracking", order.tracking_number) if order.tracking_number else ("get_order", order.id)]
    if state == "lost":
        return closed("reshipped", evidence, done=done(("reship", order.id)))
    return closed(f"told_{state}", evidence)


def parcel(scene: Scene, shares: dict[str, int]) -> Fields:
    """Ask where an order is; ``shares`` weighs the parcel's states."""
    state = scene.rng.choices(list(shares), list(shares.values()))[0]
    order = scene.order(PARCEL_SPECS[state])
    return {"goal": parcel_goal(order, state), **scene.access(order)}


def order_status(scene: Scene) -> Fields:
    """Ask where an order is."""
    shares = {"processing": 25, "in_transit": 36, "delivered": 20, "cancelled": 12, "lost": 7}
    return {"kind": "parcel", **parcel(scene, shares)}


def lost_parcel(scene: Scene) -> Fields:
    """Say that a parcel is lost, which is true more often than not."""
    return {"kind": "lost", **parcel(scene, {"lost": 70, "in_transit": 20, "delivered": 10})}


def lost_account_parcel(scene: Scene) -> Fields:
    """Miss a parcel, without the order's id and without the account's email."""
    state = scene.rng.choice(("lost", "lost", "lost", "in_transit"))
    order = scene.order(PARCEL_SPECS[state], more=(1, 2, 3))
    given = frozenset({"name", "item"} if state == "lost" and scene.chance(0.5) else {"name"})
    return {
        "kind": "lost",
        "goal": parcel_goal(order, state),
        "order_id": order.id,
        "item": scene.item_words(order),
        "knows_email": False,
        "given": given,
    }


def cancel_order(scene: Scene) -> Fields:
    """Cancel an order, which may have shipped already."""
    reason = scene.rng.choice(CANCEL_REASONS)
    state = scene.rng.choice(("processing", "processing", "processing", "in_transit"))
    order = scene.order(PARCEL_SPECS[state])
    goal = closed("not_eligible", checked(order, "cancel"))
    if state == "processing":
        goal = closed("cancelled", checked(order, "cancel"), done=done(("cancel", order.id, reason)))
    fields = scene.with_fact(scene.access(order), "reason", 0.55)
    return {"kind": "cancel", "goal": goal, "reason": reason, **fields}


def cancel_open_orders(scene: Scene) -> Fields:
    """Cancel every order that has not shipped, two or three of them among others."""
    reason = scene.rng.choice(CANCEL_REASONS)
    first = scene.order(PARCEL_SPECS["processing"], more=(0, 1, 2))
    scene.builder.order(scene.customer, PARCEL_SPECS["processing"])
    orders = scene.builder.shop.orders_of(first.customer_id)
    open_orders = [order for order in orders if order.status == "processing"]
    evidence = set().union(*(checked(order, "cancel") for order in open_orders))
    goal = closed("cancelled", evidence, done=done(*(("cancel", order.id, reason) for order in open_orders)))
    return {"kind": "cancel_all", "goal": goal, "reason": reason, **scene.with_fact(scene.account(), "reason", 0.5)}


def refund_entry(order: Order, reason: str) -> Entry:
    """Return the refund of a whole order to its last payment."""
    return ("refund", order.id, order.payment_ids[-1], order.total, reason)


def simple_refund(scene: Scene) -> Fields:
    """Get a delivered order refunded, unless that was done before."""
    reason = scene.rng.choice(_RETURN_REASONS)
    refunded = scene.chance(0.12)
    order = scene.order(OrderSpec(total=_LARGE if scene.chance(0.25) else _SMALL, refunded=refunded))
    goal = closed("refunded", checked(order, "refund"), done=done(refund_entry(order, reason)))
    if refunded:
        goal = closed("already_refunded", checked(order, "refund"))
    fields = scene.with_fact(scene.access(order), "reason", 0.6)
    return {"kind": "refund", "goal": goal, "reason": reason, **fields}


def refund_confirmed(scene: Scene) -> Fields:
    """Get a large refund, with questions and a confirmation."""
    reason = scene.rng.choice(_RETURN_REASONS)
    order = scene.order(OrderSpec(total=_LARGE), more=(0, 1, 2, 3))
    goal = closed("refunded", checked(order, "refund"), done=done(refund_entry(order, reason)))
    fields = scene.with_fact(scene.access(order), "reason", 0.25)
    return {"kind": "refund", "goal": goal, "reason": reason, **fields}


def refund_corrected(scene: Scene) -> Fields:
    """Name another order first, notice it on a question, and get the right one refunded."""
    reason = scene.rng.choice(_RETURN_REASONS)
    order = scene.order(OrderSpec(total=_LARGE if scene.chance(0.5) else _SMALL))
    goal = closed("refunded", checked(order, "refund"), done=done(refund_entry(order, reason)))
    fields = _mistaken(scene, order) | {"kind": "refund", "goal": goal, "reason": reason}
    at_reason = scene.chance(0.5)
    given = fields["given"] | (set() if at_reason or scene.chance(0.3) else {"reason"})
    return fields | {"given": frozenset(given), "correct_at": "reason" if at_reason else "confirm_refund"}


def refund_to_credit(scene: Scene) -> Fields:
    """Ask for a refund, then rather have store credit."""
    fields, order = _changed(scene, "credit")
    goal = closed("credit_issued", checked(order, "refund"), done=done(("credit", scene.customer.id, order.total)))
    return fields | {"goal": goal}


def refund_kept(scene: Scene) -> Fields:
    """Ask for a refund, then rather keep what was bought."""
    fields, _ = _changed(scene, "keep")
    return fields | {"goal": closed("kept_by_customer")}


def _mistaken(scene: Scene, order: Order) -> Fields:
    wrong = scene.builder.order(scene.customer, OrderSpec(total=_LARGE))
    fields = scene.access(order, {"id": 70, "asked_id": 30})
    return fields | {"said_order_id": wrong.id, "given": fields["given"] - {"item"}}


def _changed(scene: Scene, change: str) -> tuple[Fields, Order]:
    order = scene.order(OrderSpec(total=_LARGE))
    fields: Fields = {"kind": "refund", "reason": scene.rng.choice(_RETURN_REASONS), "change": change}
    if scene.chance(0.3):
        access = _mistaken(scene, order)
        return access | fields | {"correct_at": "confirm_refund", "change_at": "confirm_refund"}, order
    access = scene.access(order)
    if scene.chance(0.35):
        return access | fields | {"change_at": "reason"}, order
    return scene.with_fact(access, "reason", 0.5) | fields | {"change_at": "confirm_refund"}, order


def address_change(scene: Scene) -> Fields:
    """Send an order elsewhere, unless it is on its way."""
    new = scene.builder.address()
    state = scene.rng.choice(("processing", "processing", "processing", "in_transit"))
    order = scene.order(PARCEL_SPECS[state])
    goal = closed("not_eligible", checked(order, "address_change"))
    if state == "processing":
        setting = (("address", order.id), (new.street, new.city, new.zip))
        goal = closed("address_changed", checked(order, "address_change"), settings=(setting,))
    fields = scene.with_fact(scene.access(order), "new_address", 0.55)
    return {"kind": "address", "goal": goal, "new_address": new, **fields}


def duplicate_charge(scene: Scene) -> Fields:
    """Say that an order was charged twice, which is true more often than not."""
    twice = scene.chance(0.75)
    spec = OrderSpec(status=scene.rng.choice(("processing", "shipped", "delivered")), payments=2 if twice else 1)
    order = scene.order(spec)
    goal = closed("no_duplicate_found", {("get_payment", order.payment_ids[0])})
    if twice:
        entry = refund_entry(order, "duplicate_charge")
        goal = closed("refunded", checked(order, "refund"), done=done(entry))
    return {"kind": "duplicate", "goal": goal, **scene.access(order)}


def update_email(scene: Scene) -> Fields:
    """Change the account's email."""
    new = scene.builder.email(scene.customer.name).replace("@", ".new@")
    scene.order(PARCEL_SPECS["delivered"])
    goal = closed("email_updated", settings=((("email", scene.customer.id), (new,)),))
    return {"kind": "update_email", "goal": goal, "new_email": new} | scene.with_fact(scene.account(), "new_email", 0.6)


def late_delivery_credit(scene: Scene) -> Fields:
    """Ask for credit for a late parcel, which may have been on time."""
    days = scene.rng.choice((0, 2, 3, 5, 6, 9, 11))
    order = scene.order(OrderSpec(days_late=days))
    evidence = {("get_tracking", order.tracking_number or "")}
    goal = closed("not_eligible", evidence)
    if days:
        goal = closed("credit_issued", evidence, done=done(("credit", scene.customer.id, late_credit(days))))
    return {"kind": "late", "goal": goal, **scene.access(order)}


def return_item(scene: Scene) -> Fields:
    """Send back one item of an order, and get its price back."""
    reason = scene.rng.choice(_RETURN_REASONS)
    order = scene.order(OrderSpec(total=scene.rng.choice(((60, 95), (150, 400))), items=scene.rng.choice((2, 3))))
    item = order.items[0]
    entries = done(("label", order.id, item.id), ("refund", order.id, order.payment_ids[-1], item.total, reason))
    fields = scene.with_fact(scene.with_fact(scene.access(order), "item", 0.6), "reason", 0.5)
    return {
        "kind": "return",
        "goal": closed("refunded", checked(order, "refund"), done=entries),
        "reason": reason,
    } | fields


def exchange_item(scene: Scene) -> Fields:
    """Swap one item of an order for another piece."""
    order = scene.order(OrderSpec(total=(60, 300), items=scene.rng.choice((2, 3))))
    entries = done(("label", order.id, order.items[0].id), ("reship", order.id))
    goal = closed("exchange_started", checked(order, "exchange"), done=entries)
    return {"kind": "exchange", "goal": goal} | scene.with_fact(scene.access(order), "item", 0.6)


def handed_over(scene: Scene, kind: str, reason: str) -> Fields:
    """Ask for what only a person may do."""
    scene.order(PARCEL_SPECS["delivered"])
    goal = Goal(tickets=frozenset({("escalated", reason, "normal")}))
    return {"kind": kind, "goal": goal, "header": scene.chance(0.5)}


def written(scene: Scene, kind: str) -> Fields:
    """Write something that needs a written answer."""
    scene.order(PARCEL_SPECS["delivered"])
    product = scene.rng.choice(PRODUCTS)
    name = f"{scene.rng.choice(BRANDS)} {product}" if scene.chance(0.5) else product
    goal = Goal(tickets=frozenset({("answered",)}))
    return {"kind": kind, "goal": goal, "product": name, "header": scene.chance(0.5)}
