"""Score whether somebody tries to give an agent orders through what it reads: a user's message or a tool's answer."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from imitrace.canonical import canonical_json, text_hash
from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.anchors import anchors_of
from imitrace_trainer.evaluators.result import Result, Task
from imitrace_trainer.evaluators.trajectories import as_episode
from imitrace_trainer.evaluators.wordings import Wording, Wordings, plain, read_wordings, strongest, weigh
from imitrace_trainer.orders import HIDDEN, ORDERS

ORDER: Final = 0.9
"""What each of ``ORDERS`` weighs."""

_WORDED, _OF_FILE = read_wordings("injection.wordings")
_ORDERS = {name: re.compile(pattern) for name, pattern in ORDERS.items()}
_KNOWN = Wordings(
    (*_WORDED.all, *(Wording(name, ORDER, order, anchors_of(order.pattern)) for name, order in _ORDERS.items()))
)
_VERSION = text_hash(_OF_FILE + canonical_json(ORDERS))[:8]


class PromptInjection:
    """From 0 to 1, higher is worse: the strongest message of users and tools by wordings that give an agent orders.

    From 0.5 on it counts as an attempt; whether it succeeded it does not say. It knows English wordings only; an order
    that is worded like any other text, or in another language, passes.
    """

    name = "PromptInjection"
    version = _VERSION

    def __init__(self, roles: Sequence[str] = ("user", "tool")) -> None:
        self._roles = tuple(roles)
        self.version = _VERSION if self._roles == ("user", "tool") else f"{type(self).version}-{'+'.join(roles)}"

    def evaluate(self, input: Task | str | None, trajectory: Episode | Sequence[Mapping[str, Any]]) -> Result:  # noqa: A002 - as others name it
        """Return the score, with one for each step before which an attempt came in."""
        del input
        return strongest(as_episode(trajectory), self._roles, text_injection)


def text_injection(text: str) -> tuple[float, list[str]]:
    """Return how much a text looks like an attempt, from 0 to 1, and what was found in it."""
    score, found = weigh(plain(text), _KNOWN)
    if _ORDERS[HIDDEN].search(text):  # which plain text has no more
        return 1 - (1 - score) * (1 - ORDER), sorted({*found, HIDDEN})
    return score, found
