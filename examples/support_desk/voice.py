"""Put words into a customer's mouth: choose a wording, fill it in, mistype it now and then."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from support_desk.phrasings import OPENINGS, REFERENCES
from support_desk.replies import ANSWERS, CLOSINGS, GIVEN, GREETINGS, REASONS, SUBJECTS
from support_desk.task import Task

_TYPIST_SHARE: Final = 0.3
_TYPO_SHARE: Final = 0.07
_SHORTEST_TYPO: Final = 5


@dataclass(frozen=True)
class Voice:
    """Speak for one customer; the same seed says the same words."""

    task: Task
    seed: int = 0
    slots: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.slots.update(_slots(self.task))

    def say(self, topic: str, wordings: Sequence[str], **slots: str) -> str:
        """Return one of the wordings, chosen by task, seed and topic, with its slots filled."""
        rng = Random(f"{self.task.id}/{self.seed}/{topic}")
        text = _mistype(rng.choice(wordings), rng) if self._typist() else rng.choice(wordings)
        return text.format_map({**self.slots, **slots})

    def answer(self, topic: str, **slots: str) -> str:
        """Return the answer to a question."""
        return self.say(f"answer {topic}", ANSWERS[topic], **slots)

    def fact(self, name: str) -> str:
        """Return a sentence that tells a fact."""
        wordings = REASONS[self.task.reason or ""] if name == "reason" else GIVEN[name]
        return self.say(f"fact {name}", wordings)

    def opening(self) -> str:
        """Return the customer's first message."""
        task = self.task
        head = f"From: {task.customer.email}\nSubject: {self.say('subject', SUBJECTS)}\n\n" if task.header else ""
        request = self.say("opening", OPENINGS[task.kind], ref=self._reference())
        facts = [self.fact(name) for name in ("reason", "new_address", "new_email", "name") if name in task.given]
        if "email" in task.given and not task.header:
            facts.append(self.fact("email"))
        body = " ".join([request[0].upper() + request[1:], *facts])
        parts = [self.say("greeting", GREETINGS), body, self.say("closing", CLOSINGS)]
        return head + "\n".join(part for part in parts if part)

    def _reference(self) -> str:
        named = "+".join(name for name in ("order_id", "item") if name in self.task.given)
        return self.say("reference", REFERENCES[named])

    def _typist(self) -> bool:
        return Random(f"{self.task.id}/typist").random() < _TYPIST_SHARE


def _slots(task: Task) -> dict[str, str]:
    slots = {
        "name": task.customer.name,
        "email": task.customer.email,
        "zip": task.customer.address.zip,
        "order_id": task.said_order_id or task.order_id or "",
        "item": task.item or "",
        "product": task.product,
        "new_email": task.new_email or "",
    }
    if task.new_address:
        slots |= {"street": task.new_address.street, "city": task.new_address.city, "code": task.new_address.zip}
    if task.other:
        slots |= {
            "other_name": task.other.name,
            "other_email": task.other.email,
            "other_zip": task.other.address.zip,
        }
    if task.demand and "amount" in task.demand[1]:
        slots["amount"] = f"{task.demand[1]['amount']:.2f}"
    return slots


def _mistype(text: str, rng: Random) -> str:
    return " ".join(_misspell(word, rng) for word in text.split(" "))


def _misspell(word: str, rng: Random) -> str:
    """Return a word, perhaps with two letters swapped, one dropped or one doubled; slots and ids stay whole."""
    if len(word) < _SHORTEST_TYPO or not word.isalpha() or rng.random() >= _TYPO_SHARE:
        return word
    at = rng.randrange(1, len(word) - 1)
    return rng.choice(
        (
            word[:at] + word[at + 1] + word[at] + word[at + 2 :],
            word[:at] + word[at + 1 :],
            word[:at] + word[at] + word[at:],
        )
    )
