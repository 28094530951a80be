"""Play the customer: tell facts when asked, correct oneself, change one's mind, confirm."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from support_desk.task import Task
from support_desk.voice import Voice

_NEEDS: Final[dict[str, tuple[str, ...]]] = {
    "parcel": ("order_id",),
    "lost": ("order_id",),
    "late": ("order_id",),
    "cancel": ("order_id", "reason"),
    "refund": ("order_id", "reason", "confirm_refund"),
    "return": ("order_id", "which_item", "reason", "confirm_refund"),
    "exchange": ("order_id", "which_item"),
    "address": ("order_id", "new_address"),
    "duplicate": ("order_id",),
    "cancel_all": ("email", "reason"),
    "update_email": ("email", "new_email"),
}
"""Which questions each kind of request gives an answer to, should the agent write freely instead of asking."""

_REFUND_KINDS: Final = frozenset({"refund", "return", "duplicate", "threat", "legal", "injection"})
_TELLS: Final = {"which_item": "item", "confirm_refund": "confirmation"}
"""Which fact answers a question, where it is not called as the question is."""


@dataclass
class Caller:
    """Hold what a customer has said so far; all of it can be read in the conversation."""

    voice: Voice
    stated: set[str] = field(default_factory=set)
    order_id: str | None = None
    """The order the customer believes to be talking about."""
    corrected: bool = False
    choice: str | None = None
    """None, or what is wanted instead of a refund: credit or keep."""
    confirmed: bool = False

    @classmethod
    def of(cls, task: Task, seed: int) -> "Caller":
        """Return the customer of a task before the first word; the seed changes the wording only."""
        stated = set(task.given) | ({"email"} if task.header else set())
        return cls(Voice(task, seed), stated, task.said_order_id or task.order_id)

    @property
    def task(self) -> Task:
        """Return the task the customer came with."""
        return self.voice.task

    def copy(self) -> "Caller":
        """Return a customer who can go another way from here."""
        return Caller(self.voice, set(self.stated), self.order_id, self.corrected, self.choice, self.confirmed)

    def key(self) -> list[object]:
        """Return what tells two states of the customer apart."""
        stated = sorted(self.stated)
        return [self.voice.seed, stated, self.order_id, self.corrected, self.choice, self.confirmed]

    def facts(self) -> dict[str, str]:
        """Return what the customer has said so far, as values."""
        task = self.task
        known = {
            "order_id": self.order_id,
            "email": task.customer.email,
            "item": task.item,
            "reason": task.reason,
            "name": task.customer.name,
            "zip": task.customer.address.zip,
            "new_email": task.new_email,
        }
        stated = self.stated | ({"zip"} if "name" in self.stated else set())
        return {name: value for name, value in known.items() if value is not None and name in stated}

    def answer(self, question: str) -> str:
        """Return the reply to a canned question, and remember what it tells."""
        told = self._order_answer() if question == "order_id" else self._answer(question)
        return " ".join([*told, *self._second_thoughts(question)])

    def follow_up(self) -> str | None:
        """Return the reply to a written message: the next thing not told yet; None when nothing is left."""
        for question in _NEEDS.get(self.task.kind, ()):
            if not self._is_told(question):
                return self.answer(question)
        return None

    def _is_told(self, question: str) -> bool:
        if question == "order_id":
            return bool(self.stated & {"order_id", "email", "name", "item"})
        if question == "confirm_refund":
            return self.confirmed or self.choice is not None
        return _TELLS.get(question, question) in self.stated

    def _order_answer(self) -> Iterator[str]:
        task = self.task
        if not task.knows_order_id or self.order_id is None:
            yield self._identify("no_order_id")
        elif "order_id" in self.stated and task.said_order_id and not task.correct_at:
            self.order_id = task.order_id
            yield self.voice.answer("order_id_again", order_id=task.order_id or "")
        else:
            self.stated.add("order_id")
            yield self.voice.answer("order_id", order_id=self.order_id)

    def _identify(self, topic: str) -> str:
        if not self.task.knows_email:
            self.stated.add("name")
            return self.voice.fact("name")
        self.stated.add("email")
        return self.voice.fact("email") if topic == "email" else self.voice.answer(topic)

    def _answer(self, question: str) -> Iterator[str]:
        if question == "email":
            yield self._identify("email")
            if self.task.knows_order_id and "order_id" not in self.stated:
                yield from self._order_answer()
        elif question == "confirm_refund":
            yield from self._confirm()
        elif (fact := _TELLS.get(question, question)) and getattr(self.task, fact) is not None:
            self.stated.add(fact)
            yield self.voice.answer(question) if question == "which_item" else self.voice.fact(fact)
        else:
            yield self.voice.answer("nothing_else")

    def _confirm(self) -> Iterator[str]:
        if self.task.kind not in _REFUND_KINDS:
            yield self.voice.answer("nothing_else")
        elif self.choice is not None:
            yield self.voice.answer(self.choice)
        elif not self._thinks_again("confirm_refund"):
            self.confirmed = True
            yield self.voice.answer("confirm_yes")

    def _thinks_again(self, question: str) -> bool:
        return self._corrects(question) or self._changes(question)

    def _corrects(self, question: str) -> bool:
        return self.task.correct_at == question and not self.corrected

    def _changes(self, question: str) -> bool:
        return self.task.change_at == question and self.choice is None

    def _second_thoughts(self, question: str) -> Iterator[str]:
        if self._corrects(question):
            wrong, self.order_id, self.corrected = self.order_id or "", self.task.order_id, True
            self.stated.add("order_id")
            yield self.voice.answer("correction", order_id=self.order_id or "", wrong_id=wrong)
        elif self._changes(question):
            self.choice = self.task.change
            yield self.voice.answer(self.choice or "keep")
