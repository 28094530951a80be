"""Generate a shop: customers, orders, payments and shipments, all immutable, from a random generator."""

import string
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta
from random import Random
from typing import Final

from support_desk.catalog import (
    BRANDS,
    CARRIERS,
    CITIES,
    FIRST_NAMES,
    LAST_NAMES,
    MAIL_DOMAINS,
    PAYMENT_METHODS,
    PRODUCTS,
    STREET_KINDS,
    STREETS,
)

TODAY: Final = date(2026, 6, 15)
"""The day on which every task is worked."""

_ALPHANUMERIC: Final = string.ascii_lowercase + string.digits


@dataclass(frozen=True, slots=True)
class Address:
    """Hold where a parcel goes."""

    street: str
    city: str
    zip: str


@dataclass(frozen=True, slots=True)
class Item:
    """Hold one line of an order; the name is a brand and a product."""

    id: str
    name: str
    product: str
    quantity: int
    price: float

    @property
    def total(self) -> float:
        """Return quantity times price."""
        return round(self.quantity * self.price, 2)


@dataclass(frozen=True, slots=True)
class Payment:
    """Hold one payment; ``refunded`` is what had gone back before the task began."""

    id: str
    order_id: str
    method: str
    amount: float
    refunded: float = 0.0


@dataclass(frozen=True, slots=True)
class Shipment:
    """Hold a parcel; status is in_transit, delivered or lost."""

    tracking_number: str
    order_id: str
    carrier: str
    status: str
    promised: date
    delivered: date | None


@dataclass(frozen=True, slots=True)
class Customer:
    """Hold a customer's account."""

    id: str
    name: str
    email: str
    address: Address


@dataclass(frozen=True, slots=True)
class Order:
    """Hold an order as it was when the task began; status is processing, shipped, delivered or cancelled."""

    id: str
    customer_id: str
    status: str
    placed: date
    items: tuple[Item, ...]
    payment_ids: tuple[str, ...]
    tracking_number: str | None
    address: Address

    @property
    def total(self) -> float:
        """Return the sum over the items."""
        return round(sum(item.total for item in self.items), 2)


@dataclass(frozen=True, slots=True)
class Shop:
    """Hold everything the shop knew when the task began, by id."""

    customers: dict[str, Customer]
    orders: dict[str, Order]
    payments: dict[str, Payment]
    shipments: dict[str, Shipment]

    def orders_of(self, customer_id: str) -> list[Order]:
        """Return a customer's orders, the newest first."""
        found = [order for order in self.orders.values() if order.customer_id == customer_id]
        return sorted(found, key=lambda order: (order.placed, order.id), reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderSpec:
    """Say what a task needs an order to be."""

    status: str = "delivered"
    """Processing, shipped, delivered or cancelled."""
    days_ago: tuple[int, int] = (2, 20)
    """Bounds of the days since it was delivered, or since it was placed when it is not delivered."""
    total: tuple[int, int] = (15, 95)
    """Bounds of the order's total."""
    items: int = 1
    """How many lines it has."""
    parcel: str = "in_transit"
    """State of a shipped order's parcel: in_transit or lost."""
    days_late: int = 0
    """How many days after the promised one it was delivered."""
    payments: int = 1
    """How often it was paid."""
    refunded: bool = False
    """Whether the whole sum had gone back before."""


@dataclass
class ShopBuilder:
    """Fill a shop order by order; everything random comes from ``rng``."""

    rng: Random
    shop: Shop = field(default_factory=lambda: Shop({}, {}, {}, {}))
    _products: dict[str, Iterator[str]] = field(default_factory=dict)

    def customer(self) -> Customer:
        """Add a customer whose email and name no other has."""
        rng = self.rng
        taken = {customer.name for customer in self.shop.customers.values()}
        name = _fresh(lambda: f"{rng.choice(FIRST_NAMES)} {rng.choice(LAST_NAMES)}", taken)
        number = _fresh(lambda: f"C-{rng.randrange(1000, 10000)}", self.shop.customers)
        customer = Customer(number, name, self.email(name), self.address())
        self.shop.customers[number] = customer
        self._products[number] = iter(rng.sample(PRODUCTS, len(PRODUCTS)))
        return customer

    def email(self, name: str) -> str:
        """Return an address that fits the name."""
        first, last = name.lower().split(" ")
        left = self.rng.choice((f"{first}.{last}", f"{first}{last}", f"{first[0]}.{last}", f"{last}.{first}"))
        return f"{left}{self.rng.choice(('', str(self.rng.randrange(10, 99))))}@{self.rng.choice(MAIL_DOMAINS)}"

    def address(self) -> Address:
        """Return a postal address."""
        rng = self.rng
        street = f"{rng.randrange(2, 990)} {rng.choice(STREETS)} {rng.choice(STREET_KINDS)}"
        return Address(street, rng.choice(CITIES), f"{rng.randrange(10000, 99999)}")

    def order(self, customer: Customer, spec: OrderSpec) -> Order:
        """Add an order with its payments and its shipment; no product comes twice for one customer."""
        rng = self.rng
        order_id = self.order_id()
        items = self._items(customer, spec)
        total = round(sum(item.total for item in items), 2)
        payment_ids = tuple(self._payment(order_id, total, spec.refunded) for _ in range(spec.payments))
        last = TODAY - timedelta(days=rng.randint(*spec.days_ago))
        placed = last - timedelta(days=rng.randint(4, 9)) if spec.status == "delivered" else last
        tracking = self._shipment(order_id, spec, last) if spec.status in ("shipped", "delivered") else None
        order = Order(order_id, customer.id, spec.status, placed, items, payment_ids, tracking, customer.address)
        self.shop.orders[order_id] = order
        return order

    def order_id(self) -> str:
        """Return an order id that no order has yet."""
        return _fresh(lambda: f"A-{self.rng.randrange(10000, 100000)}", self.shop.orders)

    def crowd(self, count: int = 4) -> list[Customer]:
        """Add other customers with an order or two each, and return them."""
        others = [self.customer() for _ in range(count)]
        for other in others:
            for _ in range(self.rng.randint(1, 2)):
                self.order(other, OrderSpec(status=self.rng.choice(("processing", "shipped", "delivered"))))
        return others

    def _items(self, customer: Customer, spec: OrderSpec) -> tuple[Item, ...]:
        rng = self.rng
        cents = rng.randint(spec.total[0] * 100, spec.total[1] * 100) // spec.items
        quantities = [1] if spec.items == 1 else [rng.choice((1, 1, 2)) for _ in range(spec.items)]
        prices = [round(cents * rng.uniform(0.8, 1.0) / 100 / quantity, 2) for quantity in quantities]
        items = []
        for quantity, price in zip(quantities, prices, strict=True):
            product = next(self._products[customer.id])
            number = "item_" + "".join(rng.choices(_ALPHANUMERIC, k=4))
            items.append(Item(number, f"{rng.choice(BRANDS)} {product}", product, quantity, price))
        return tuple(items)

    def _payment(self, order_id: str, amount: float, refunded: bool) -> str:
        number = _fresh(lambda: "pay_" + "".join(self.rng.choices(_ALPHANUMERIC, k=5)), self.shop.payments)
        method = self.rng.choice(PAYMENT_METHODS)
        self.shop.payments[number] = Payment(number, order_id, method, amount, amount if refunded else 0.0)
        return number

    def _shipment(self, order_id: str, spec: OrderSpec, last: date) -> str:
        number = "1Z" + "".join(self.rng.choices(string.ascii_uppercase + string.digits, k=10))
        delivered = last if spec.status == "delivered" else None
        status = "delivered" if delivered else spec.parcel
        promised = last - timedelta(days=spec.days_late) if delivered else last + timedelta(days=6)
        carrier = self.rng.choice(CARRIERS)
        self.shop.shipments[number] = Shipment(number, order_id, carrier, status, promised, delivered)
        return number


def _fresh(draw: Callable[[], str], taken: Container[str]) -> str:
    value = draw()
    while value in taken:
        value = draw()
    return value
