"""Say how often a correction counts beside what was known, so that corrections are a wanted share of what is learnt."""

from typing import Final

MOST: Final = 20.0
"""How often a correction counts at most."""


def weight_of(corrections: int, known: float, mix: float) -> float:
    """Return the weight of each correction, from over 0 to ``MOST``; 1 where no share is wanted.

    Args:
        corrections: how many there are.
        known: what else is learnt, by weight.
        mix: the share of all that is learnt that corrections are to be, from 0 (none is wanted) and under 1.
    """
    return min(MOST, mix / (1 - mix) * known / corrections) if mix and corrections and known else 1.0
