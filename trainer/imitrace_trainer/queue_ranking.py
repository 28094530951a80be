"""Say which decisions a person should look at first: by risk times disagreement times novelty.

risk: what the worst of the tools involved can do: 1 for one that only reads, 3 for one that can be undone or of which
nobody said, 10 for one that can't be undone. A message counts as 3.

disagreement: how likely a mistake is. Where both acted differently, the clone's calibrated confidence in its own
action: a clone that is sure and differs is either right or dangerous. Where only one action is known, one less that.

novelty: the mean of how far the state is from the clone's training, d / (1 + d) with d = 1 at the accepted limit, and
of how unlike it is to what was judged already or stands above it, one less the largest cosine of its words.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from imitrace.canonical import canonical_json, text_hash
from imitrace.exceptions import ConfigError
from imitrace.messages import Action, message_text
from imitrace_trainer.queue_items import Item
from imitrace_trainer.reading import words

ORDERS: Final = ("rank", "uncertainty", "risk", "random")
"""By all three together; by how unsure the clone is; by risk alone; by a draw."""
RISKS: Final[Mapping[str, float]] = {"read": 1.0, "reversible": 3.0, "irreversible": 10.0}
UNKNOWN: Final = 0.5
"""Confidence, or share of novelty, of which nobody knows."""

Vectors = npt.NDArray[np.float32]

_SKETCH: Final = 256
_WORDS: Final = 400
_GREEDY: Final = 500
"""Places that are dealt one after the other; what is behind them is dealt at once."""


@dataclass(frozen=True)
class Ranked:
    """An item and why it stands where it does."""

    item: Item
    score: float
    risk: str
    disagreement: float
    novelty: float

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values, the item first."""
        told = {name: round(getattr(self, name), 4) for name in ("score", "disagreement", "novelty")}
        return {**self.item.to_json(), "risk": self.risk, **told}


def rank(
    items: Sequence[Item], judged: Iterable[Item], risk_of: Callable[[str, str], str], by: str = "rank", seed: int = 0
) -> list[Ranked]:
    """Return items in the order in which a person should look at them.

    Args:
        items: to be ordered.
        judged: what was looked at already; what is like it is less of a novelty.
        risk_of: the class of an agent's tool, one of ``RISKS``.
        by: one of ``ORDERS``.
        seed: draws the order of ``random``.

    Raises:
        ConfigError: there is no such order.
    """
    if by not in ORDERS:
        raise ConfigError(f"order is {by!r}, allowed: {', '.join(ORDERS)}")
    risks = [risk(item, risk_of) for item in items]
    doubts = np.array([disagreement(item) for item in items], dtype=np.float64)
    far = np.array([_distance(item) for item in items], dtype=np.float64)
    weights = np.array([RISKS[name] for name in risks]) * doubts
    known = _sketches(list(judged))
    order, new = _dealt(weights, far, _sketches(items), known)
    novelties = (far + new) / 2
    found = [
        Ranked(item, float(weights[place] * novelties[place]), risks[place], doubts[place], float(novelties[place]))
        for place, item in enumerate(items)
    ]
    if by == "rank":
        return [found[place] for place in order]
    return sorted(found, key=lambda one: _key(one, by, seed))


def risk(item: Item, risk_of: Callable[[str, str], str]) -> str:
    """Return the worst class of the tools that an item's actions call."""
    made = [action for action in (item.expert, item.clone) if action is not None]
    classes = [risk_of(item.agent, one.name or "") if one.kind == "tool_call" else "reversible" for one in made]
    return max(classes, key=lambda name: RISKS[name])


def risk_classes(
    told: Mapping[str, Mapping[str, str]], irreversible: Mapping[str, Collection[str]]
) -> Callable[[str, str], str]:
    """Return what says the class of an agent's tool.

    Args:
        told: by agent: what people said of its tools.
        irreversible: by agent: what clones of it are told can't be undone.
    """

    def risk_of(agent: str, tool: str) -> str:
        said = told.get(agent, {}).get(tool)
        if said == "irreversible" or tool in irreversible.get(agent, ()):
            return "irreversible"
        return said or "reversible"

    return risk_of


def disagreement(item: Item) -> float:
    """Return how likely a mistake is, 0 to 1."""
    sure = UNKNOWN if item.confidence is None else item.confidence
    return sure if item.expert is not None and item.clone is not None else 1 - sure


def uncertainty(item: Item) -> float:
    """Return how unsure the clone is, 0 to 1."""
    return 1 - (UNKNOWN if item.confidence is None else item.confidence)


def _key(one: Ranked, by: str, seed: int) -> tuple[float | str, ...]:
    if by == "random":
        return (text_hash(f"queue {seed}:{one.item.id}"),)
    if by == "uncertainty":
        return -uncertainty(one.item), one.item.id
    return -RISKS[one.risk], -one.score, one.item.id


def _distance(item: Item) -> float:
    return UNKNOWN if item.ood is None else max(0.0, item.ood) / (1 + max(0.0, item.ood))


def _dealt(weights: Any, far: Any, vectors: Vectors, known: Vectors) -> tuple[list[int], Any]:  # arrays of numbers
    """Return the order in which items are dealt, each as new as what is before it leaves it, and how new that was."""
    new = np.ones(len(weights))
    if len(known) and len(new):
        new = np.clip(1 - (vectors @ known.T).max(axis=1), 0, 1).astype(np.float64)
    left, order = np.ones(len(new), dtype=bool), []
    for _ in range(min(_GREEDY, len(new))):
        scores = np.where(left, weights * (far + new) / 2, -1.0)
        best = int(scores.argmax())
        order.append(best)
        left[best] = False
        nearer = np.clip(1 - vectors @ vectors[best], 0, 1)
        new = np.where(left, np.minimum(new, nearer), new)
    rest = np.flatnonzero(left)
    behind = rest[np.argsort(-(weights * (far + new))[rest], kind="stable")]
    return [*order, *behind.tolist()], new


def _sketches(items: Sequence[Item]) -> Vectors:
    """Return the words of states and actions, hashed into some columns, each row of length 1."""
    rows = np.zeros((len(items), _SKETCH), dtype=np.float32)
    for row, item in zip(rows, items, strict=True):
        for word in _features(item):
            draw = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
            row[draw % _SKETCH] += 1 if draw >> 31 else -1
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-9), dtype=np.float32)


def _features(item: Item) -> set[str]:
    said = [message_text(message) for message in item.state if message["role"] == "user"]
    last = canonical_json(item.state[-1]["parts"]) if item.state else ""
    texts = {f"said {word}" for word in words(said[-1])[:_WORDS]} if said else set()
    texts |= {f"last {word}" for word in words(last)[:_WORDS]}
    for side, action in (("expert", item.expert), ("clone", item.clone)):
        texts |= _of_action(side, action)
    return texts


def _of_action(side: str, action: Action | None) -> set[str]:
    if action is None:
        return set()
    return {f"{side} {action.kind} {action.name} {number}" for number in range(4)}  # what is done says more than a word
