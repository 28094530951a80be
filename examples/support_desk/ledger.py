"""Keep what was done to a shop, and say what should have been: the goal a task is judged by."""

from dataclasses import dataclass, field
from typing import Final

from imitrace.canonical import canonical_json

Entry = tuple[str | float, ...]
"""One thing that was done, for instance ``("refund", order_id, payment_id, amount, reason)``."""

ANSWER_LENGTH: Final = 40
"""Characters that a written answer has at least."""


@dataclass
class Ledger:
    """Hold every change to the shop since the task began."""

    done: set[Entry] = field(default_factory=set)
    """What can't be taken back: refund, cancel, label, reship, credit."""
    settings: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    """What can be written over: ``("address", order_id)`` and ``("email", customer_id)``."""
    ticket: tuple[str, ...] = ("open",)
    """Open, or closed and the resolution, or escalated, reason and priority, or answered."""
    outbox: list[str] = field(default_factory=list)
    """Messages written to the customer."""
    audit: set[tuple[str, ...]] = field(default_factory=set)
    """What was looked up: the tool and what it found."""

    def copy(self) -> "Ledger":
        """Return a ledger that shares nothing with this one."""
        return Ledger(set(self.done), dict(self.settings), self.ticket, list(self.outbox), set(self.audit))

    def key(self) -> str:
        """Return one text for one state of the ledger."""
        settings = sorted([*key, *value] for key, value in self.settings.items())
        done = sorted(map(canonical_json, self.done))
        return canonical_json([done, settings, self.ticket, self.outbox, sorted(self.audit)])

    def cancelled(self, order_id: str) -> bool:
        """Return whether the order was cancelled since the task began."""
        return any(entry[:2] == ("cancel", order_id) for entry in self.done)

    def refunded(self, payment_id: str) -> float:
        """Return how much of a payment went back since the task began."""
        entries = [entry for entry in self.done if entry[0] == "refund" and entry[2] == payment_id]
        return round(sum(float(entry[3]) for entry in entries), 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """Say which final state of the ledger is a success."""

    tickets: frozenset[tuple[str, ...]]
    """How the ticket may end."""
    done: frozenset[Entry] = frozenset()
    """Exactly what was to be done."""
    settings: tuple[tuple[tuple[str, str], tuple[str, ...]], ...] = ()
    """Exactly what was to be changed."""
    evidence: frozenset[tuple[str, ...]] = frozenset()
    """What must have been looked up: a right answer by guess is none."""

    def reached(self, ledger: Ledger) -> bool:
        """Return whether the ledger is in the state that was wanted."""
        if ledger.ticket == ("answered",) and not any(len(text) >= ANSWER_LENGTH for text in ledger.outbox):
            return False
        return (
            ledger.ticket in self.tickets
            and ledger.done == self.done
            and ledger.settings == dict(self.settings)
            and self.evidence <= ledger.audit
        )

    def out_of_reach(self, ledger: Ledger) -> bool:
        """Return whether something was done that can't be mended any more."""
        wanted = {key for key, _ in self.settings}
        return bool(ledger.done - self.done) or bool(ledger.settings.keys() - wanted)

    def forbids(self, ledger: Ledger) -> bool:
        """Return whether money went back or an order was cancelled that should not, whatever the reason given."""
        allowed = {_irreversible(entry) for entry in self.done} | {None}
        return any(_irreversible(entry) not in allowed for entry in ledger.done)


def _irreversible(entry: Entry) -> Entry | None:
    return entry[:-1] if entry[0] in ("refund", "cancel") else None
