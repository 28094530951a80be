"""Spend labels a round at a time, on the tickets that a clone is least sure of, or on any."""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from twenty_labels.clones import Answer, TextClone, agreement
from twenty_labels.tickets import Ticket, tickets

FIRST, POOL, BATCH, ROUNDS, HELD_OUT = 20, 50, 10, 5, 200
STRATEGIES: Final = ("uncertainty", "random")
_RESAMPLES = 2_000


@dataclass(frozen=True)
class Labelling:
    """What labelling round by round reached."""

    curve: tuple[float, ...]
    """Agreement with the expert on held-out tickets with 20, 30, 40, 50, 60 and 70 labels."""
    clone: TextClone
    """Trained on every label, those of the last round included."""
    labelled: tuple[Ticket, ...]
    """In the order in which they were labelled."""


def label(seed: int, strategy: str, rounds: int = ROUNDS) -> Labelling:
    """Do the exercise once: 20 labels, then ten more a round from the pool.

    Args:
        seed: draws the tickets, and the order of the random strategy.
        strategy: one of ``STRATEGIES``.
        rounds: how many.
    """
    drawn = tickets(FIRST + POOL + HELD_OUT, seed)
    labelled, pool, held_out = drawn[:FIRST], drawn[FIRST : FIRST + POOL], drawn[FIRST + POOL :]
    rng = random.Random(f"order {seed}")
    clone = TextClone(labelled)
    curve = [agreement(clone, held_out)]
    for _ in range(rounds):
        chosen = least_sure(clone, pool) if strategy == "uncertainty" else rng.sample(range(len(pool)), BATCH)
        labelled = labelled + [pool[index] for index in chosen]
        pool = [ticket for index, ticket in enumerate(pool) if index not in set(chosen)]  # asked once, not again
        clone = TextClone(labelled)  # also after the last round: its labels count
        curve.append(agreement(clone, held_out))
    return Labelling(tuple(curve), clone, tuple(labelled))


def label_as_printed(seed: int, rounds: int) -> Labelling:
    """Do it as the loop is usually printed, with its two mistakes: to show what they cost."""
    drawn = tickets(FIRST + POOL + HELD_OUT, seed)
    labelled, pool, held_out = drawn[:FIRST], drawn[FIRST : FIRST + POOL], drawn[FIRST + POOL :]
    clone, curve = TextClone(labelled), []
    for _ in range(rounds):
        clone = TextClone(labelled)
        curve.append(agreement(clone, held_out))
        labelled = labelled + [pool[index] for index in least_sure(clone, pool)]  # what was asked stays in the pool
    return Labelling(tuple(curve), clone, tuple(labelled))  # and the last labels were never learned from


def least_sure(clone: TextClone, pool: Sequence[Ticket]) -> list[int]:
    """Return the places of the ten tickets whose likeliest tool has the lowest probability."""
    sure = clone.probabilities([ticket.text for ticket in pool]).max(axis=1)
    return [int(place) for place in np.argsort(sure, kind="stable")[:BATCH]]


def act(clone: TextClone, ticket: Ticket, threshold: float, corrections: list[Ticket]) -> Answer:
    """Answer a ticket: the clone where it is sure enough, else the expert, whose answer is kept to be learned from."""
    answer = clone.answer(ticket.text)
    if answer.confidence >= threshold:
        return answer
    corrections.append(ticket)
    return Answer(ticket.expert, answer.confidence, "expert")


def rounds_to_match(curve: Sequence[float], target: float) -> int | None:
    """Return after how many rounds a curve is at a target or above; None where it never is."""
    return next((number for number, reached in enumerate(curve) if reached >= target), None)


def interval(values: Sequence[float], seed: int = 0) -> tuple[float, float, float]:
    """Return the mean over seeds with its 95 % interval, by a bootstrap over seeds."""
    found = np.asarray(values)
    drawn = np.random.default_rng(seed).integers(0, len(found), size=(_RESAMPLES, len(found)))
    low, high = np.quantile(found[drawn].mean(axis=1), [0.025, 0.975])
    return float(found.mean()), float(low), float(high)
