"""Run the desk's tools on a shop and a ledger; the shop's systems check what is possible, not what policy allows."""

from dataclasses import dataclass
from typing import Any, Final

from support_desk.ledger import Ledger
from support_desk.shop import TODAY, Customer, Order, Shop

REFUND_WINDOW: Final = 30
"""Days after delivery in which an order can be refunded or exchanged."""
CONFIRMATION_FROM: Final = 100.0
"""Refunds from this amount on need the customer's confirmation."""

Observation = dict[str, Any]
"""What a tool answers: a JSON object, ``{"error": ...}`` when it could not."""


def late_credit(days_late: int) -> float:
    """Return the credit for a parcel that came so many days late."""
    if days_late <= 0:
        return 0.0
    return 5.0 if days_late <= 3 else 10.0 if days_late <= 7 else 15.0


@dataclass
class World:
    """Answer tool calls for one ticket; ``requester`` is the customer whose account the ticket is verified for."""

    shop: Shop
    ledger: Ledger
    requester: str

    def run(self, name: str, arguments: dict[str, Any]) -> Observation:  # checked against the schema before
        """Return a tool's answer; the arguments fit its schema."""
        answer: Observation = getattr(self, f"_{name}")(**arguments)
        return answer

    def eligibility(self, order: Order, action: str) -> tuple[bool, str]:
        """Return whether policy allows an action on an order, and the reason word."""
        if order.customer_id != self.requester:
            return False, "not_account_holder"
        if action == "refund":
            return self._refund_eligibility(order)
        status = self.status(order)
        if action == "exchange":
            return self._within_window(order) if status == "delivered" else (False, "not_delivered")
        if status == "cancelled":
            return False, "already_cancelled"
        return (True, "not_shipped") if status == "processing" else (False, "already_shipped")

    def refundable(self, order: Order) -> float:
        """Return how much of one payment of the order is left to refund; a second payment is not the order's price."""
        left = [self._left(payment_id) for payment_id in order.payment_ids]
        return max(left)

    def needs_confirmation(self, order_id: str) -> bool:
        """Return whether the customer must confirm a refund of the order first."""
        order = self.shop.orders.get(order_id)
        if order is None or self.eligibility(order, "refund") != (True, "within_window"):
            return False
        return self.refundable(order) >= CONFIRMATION_FROM

    def status(self, order: Order) -> str:
        """Return the order's status as it is now."""
        return "cancelled" if self.ledger.cancelled(order.id) else order.status

    def email(self, customer: Customer) -> str:
        """Return the account's email as it is now."""
        return self.ledger.settings.get(("email", customer.id), (customer.email,))[0]

    def _refund_eligibility(self, order: Order) -> tuple[bool, str]:
        paid = sum(1 for payment_id in order.payment_ids if self._left(payment_id) > 0)
        if paid > 1:
            return True, "duplicate_payment"
        if paid == 0 or len(order.payment_ids) > 1:
            return False, "already_refunded"
        if self.status(order) != "delivered":
            return False, "not_delivered"
        return self._within_window(order)

    def _within_window(self, order: Order) -> tuple[bool, str]:
        delivered = self.shop.shipments[order.tracking_number or ""].delivered or TODAY
        return (True, "within_window") if (TODAY - delivered).days <= REFUND_WINDOW else (False, "window_expired")

    def _left(self, payment_id: str) -> float:
        payment = self.shop.payments[payment_id]
        return round(payment.amount - payment.refunded - self.ledger.refunded(payment_id), 2)

    def _search_orders(self, email: str) -> Observation:
        for customer in self.shop.customers.values():
            if self.email(customer) == email:
                self.ledger.audit.add(("read_customer", customer.id))
                orders = [self._summary(order) for order in self.shop.orders_of(customer.id)]
                return {"customer_id": customer.id, "name": customer.name, "orders": orders}
        return {"error": "no customer with this email"}

    def _summary(self, order: Order) -> Observation:
        items = [item.name for item in order.items]
        placed, status = order.placed.isoformat(), self.status(order)
        return {"order_id": order.id, "placed": placed, "status": status, "items": items, "total": order.total}

    def _find_customer(self, name: str, zip: str) -> Observation:  # noqa: A002 - the tool's argument is called so
        for customer in self.shop.customers.values():
            if customer.name == name and customer.address.zip == zip:
                self.ledger.audit.add(("read_customer", customer.id))
                return {"customer_id": customer.id, "name": name, "email": self.email(customer)}
        return {"error": "no customer with this name and zip"}

    def _get_order(self, order_id: str) -> Observation:
        order = self.shop.orders.get(order_id)
        if order is None:
            return {"error": "no such order"}
        self.ledger.audit.add(("get_order", order_id))
        customer = self.shop.customers[order.customer_id]
        address = order.address
        street, city, code = self.ledger.settings.get(
            ("address", order_id), (address.street, address.city, address.zip)
        )
        items = [
            {"item_id": item.id, "name": item.name, "quantity": item.quantity, "line_total": item.total}
            for item in order.items
        ]
        return {
            "order_id": order_id,
            "customer_id": customer.id,
            "email": self.email(customer),
            "status": self.status(order),
            "placed": order.placed.isoformat(),
            "items": items,
            "total": order.total,
            "payment_ids": list(order.payment_ids),
            "tracking_number": order.tracking_number,
            "address": {"street": street, "city": city, "zip": code},
        }

    def _get_tracking(self, tracking_number: str) -> Observation:
        shipment = self.shop.shipments.get(tracking_number)
        if shipment is None:
            return {"error": "no such tracking number"}
        self.ledger.audit.add(("get_tracking", tracking_number))
        delivered = shipment.delivered
        late = max(0, (delivered - shipment.promised).days) if delivered else 0
        return {
            "tracking_number": tracking_number,
            "carrier": shipment.carrier,
            "status": shipment.status,
            "promised": shipment.promised.isoformat(),
            "delivered": delivered.isoformat() if delivered else None,
            "days_late": late,
            "late_credit": late_credit(late),
        }

    def _get_payment(self, payment_id: str) -> Observation:
        payment = self.shop.payments.get(payment_id)
        if payment is None:
            return {"error": "no such payment"}
        self.ledger.audit.add(("get_payment", payment_id))
        refunded = round(payment.amount - self._left(payment_id), 2)
        return {
            "payment_id": payment_id,
            "order_id": payment.order_id,
            "method": payment.method,
            "amount": payment.amount,
            "refunded": refunded,
        }

    def _check_eligibility(self, order_id: str, action: str) -> Observation:
        order = self.shop.orders.get(order_id)
        if order is None:
            return {"error": "no such order"}
        self.ledger.audit.add(("check_eligibility", order_id, action))
        eligible, reason = self.eligibility(order, action)
        answer: Observation = {"order_id": order_id, "action": action, "eligible": eligible, "reason": reason}
        if action == "refund" and eligible:
            confirm = self.needs_confirmation(order_id)
            answer |= {"refundable_amount": self.refundable(order), "confirmation_required": confirm}
        return answer

    def _process_refund(self, order_id: str, payment_id: str, amount: float, reason: str) -> Observation:
        payment = self.shop.payments.get(payment_id)
        if payment is None or payment.order_id != order_id:
            return {"error": "this payment is not of this order"}
        if not 0 < amount <= self._left(payment_id):
            return {"error": f"amount must be above 0 and at most {self._left(payment_id):.2f}"}
        self.ledger.done.add(("refund", order_id, payment_id, round(float(amount), 2), reason))
        return {"status": "refunded", "refund_id": "re_" + payment_id[4:], "amount": amount}

    def _cancel_order(self, order_id: str, reason: str) -> Observation:
        order = self.shop.orders.get(order_id)
        if order is None:
            return {"error": "no such order"}
        if self.status(order) != "processing":
            return {"error": f"the order is {self.status(order)}"}
        self.ledger.done.add(("cancel", order_id, reason))
        return {"status": "cancelled", "order_id": order_id}

    def _change_address(self, order_id: str, street: str, city: str, zip: str) -> Observation:  # noqa: A002
        order = self.shop.orders.get(order_id)
        if order is None:
            return {"error": "no such order"}
        if self.status(order) != "processing":
            return {"error": f"the order is {self.status(order)}"}
        self.ledger.settings["address", order_id] = (street, city, zip)
        return {"status": "changed", "order_id": order_id}

    def _create_return_label(self, order_id: str, item_id: str) -> Observation:
        order = self.shop.orders.get(order_id)
        if order is None or item_id not in {item.id for item in order.items}:
            return {"error": "this item is not in this order"}
        return self._once(("label", order_id, item_id), {"status": "sent", "item_id": item_id})

    def _reship_order(self, order_id: str) -> Observation:
        order = self.shop.orders.get(order_id)
        if order is None or order.tracking_number is None:
            return {"error": "no such order, or it has not shipped yet"}
        return self._once(("reship", order_id), {"status": "reshipped", "order_id": order_id})

    def _issue_store_credit(self, customer_id: str, amount: float) -> Observation:
        if customer_id not in self.shop.customers or not 0 < amount <= 2000:
            return {"error": "no such customer, or the amount is not above 0 and at most 2000"}
        entry = ("credit", customer_id, round(float(amount), 2))
        return self._once(entry, {"status": "credited", "amount": amount})

    def _once(self, entry: tuple[str | float, ...], answer: Observation) -> Observation:
        if entry in self.ledger.done:
            return {"error": "this was done already"}
        self.ledger.done.add(entry)
        return answer

    def _update_email(self, customer_id: str, email: str) -> Observation:
        customer = self.shop.customers.get(customer_id)
        if customer is None:
            return {"error": "no such customer"}
        if "@" not in email or any(self.email(other) == email for other in self.shop.customers.values()):
            return {"error": "this is no email, or an account has it"}
        self.ledger.settings["email", customer_id] = (email,)
        return {"status": "updated", "customer_id": customer_id}

    def _escalate_to_human(self, reason: str, priority: str) -> Observation:
        self.ledger.ticket = ("escalated", reason, priority)
        return {"status": "escalated"}

    def _close_ticket(self, resolution: str) -> Observation:
        self.ledger.ticket = ("closed", resolution)
        return {"status": "closed"}
