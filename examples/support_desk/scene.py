"""Set the scene of a task: its customer and the crowd, orders, and how the customer tells which one is meant."""

from random import Random
from typing import Any, Final

from support_desk.shop import Customer, Order, OrderSpec, ShopBuilder

Fields = dict[str, Any]  # arguments of Task
"""Some of a task's fields."""

_ACCESS: Final = {"id": 42, "typo": 6, "item": 20, "email": 12, "asked_id": 11, "asked_email": 9}
"""Ways to tell which order is meant, and their share: by id, by item, by account only, or when asked."""

_OTHER_SPECS: Final = (
    OrderSpec(status="processing", days_ago=(0, 3)),
    OrderSpec(status="shipped", days_ago=(2, 8)),
    OrderSpec(status="delivered", days_ago=(3, 80)),
    OrderSpec(status="delivered", days_ago=(3, 25), items=2),
    OrderSpec(status="cancelled", days_ago=(5, 30)),
)


class Scene:
    """Hold the shop of one task while it is being written, and what it takes to draw the rest."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.builder = ShopBuilder(rng)
        self.customer = self.builder.customer()
        self.others: list[Customer] = self.builder.crowd()

    def chance(self, share: float) -> bool:
        """Return True in that share of cases."""
        return self.rng.random() < share

    def other(self) -> Customer:
        """Return another customer."""
        return self.rng.choice(self.others)

    def order(self, spec: OrderSpec, more: tuple[int, ...] = (0, 0, 1, 2, 3)) -> Order:
        """Add the order a task is about, and some more of the same customer."""
        order = self.builder.order(self.customer, spec)
        for _ in range(self.rng.choice(more)):
            self.builder.order(self.customer, self.rng.choice(_OTHER_SPECS))
        return order

    def item_words(self, order: Order) -> str:
        """Return how the customer names the order's first item: with the brand or without."""
        item = order.items[0]
        return item.name if self.chance(0.4) else item.product

    def access(self, order: Order, ways: dict[str, int] | None = None) -> Fields:
        """Return how the customer tells which order is meant."""
        shares = ways or _ACCESS
        way = self.rng.choices(list(shares), list(shares.values()))[0]
        header = self.chance(0.5) and not way.startswith("asked")
        given: set[str] = set()
        if way in ("id", "typo"):
            given.add("order_id")
        if way == "item" or (way in ("id", "typo", "asked_id", "asked_email") and self.chance(0.25)):
            given.add("item")
        if way in ("item", "email") and not header:
            given.add("email")
        return {
            "order_id": order.id,
            "said_order_id": self._mistyped(order.id) if way == "typo" else None,
            "knows_order_id": way in ("id", "typo", "asked_id"),
            "header": header,
            "given": frozenset(given),
            "item": self.item_words(order),
        }

    def account(self) -> Fields:
        """Return how the customer tells who asks, where no order is meant: by header, in the text, or when asked."""
        way = self.rng.choice(("header", "header", "email", "asked"))
        return {"header": way == "header", "given": frozenset({"email"} if way == "email" else ())}

    def with_fact(self, fields: Fields, name: str, share: float) -> Fields:
        """Return the fields, in that share of cases with one more fact told up front."""
        given = fields["given"] | ({name} if self.chance(share) else set())
        return fields | {"given": frozenset(given)}

    def _mistyped(self, order_id: str) -> str:
        digits = list(order_id)
        while "".join(digits) in self.builder.shop.orders:
            at = self.rng.randrange(2, len(digits))
            digits[at] = str(self.rng.randrange(10))
        return "".join(digits)
