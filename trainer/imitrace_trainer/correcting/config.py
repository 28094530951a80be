"""Say how a clone is corrected: by which method, where the expert takes over, what is kept, and what it may cost."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from imitrace.exceptions import ConfigError

METHODS: Final = ("oec", "dagger", "handover", "own")
SWITCHES: Final = ("random", "confidence", "divergence")
_CHOICES: Final = {"method": METHODS, "switch": SWITCHES}
_SHARES: Final = frozenset({"threshold", "beta"})
_FROM_ONE: Final = frozenset({"budget", "rounds", "repeats", "tries"})


@dataclass(frozen=True, kw_only=True)
class CorrectConfig:
    """How corrections are made; the table ``[clone.NAME.correct]``."""

    method: str = "oec"
    """``oec``: the clone begins and the expert finishes. ``dagger``: the expert says at every step what it would do.
    ``handover``: the clone acts where it is at least as sure as ``threshold``, the expert elsewhere, step by step; of
    what succeeds both are learnt. ``own``: the clone plays alone, and learns from what it did well."""
    switch: str = "random"
    """Where the expert takes over in ``oec``: ``random`` (after a drawn number of steps), ``confidence`` (where the
    clone is less sure than ``threshold``) or ``divergence`` (where it would do otherwise: it is asked each time)."""
    threshold: float = 0.5
    """Confidence below which the expert takes over: for the rest by ``confidence``, for this step in ``handover``."""
    horizon: int = 0
    """Longest beginning that ``random`` draws; 0: as long as nine in ten of the trajectories that were learnt from."""
    reject: bool = True
    """Whether ``oec`` and ``handover`` keep only episodes that succeed; of others that are kept the expert's steps are
    learnt alone."""
    mask: bool = True
    """Whether what the clone did itself is context that is never learnt; without, ``oec`` learns it too."""
    tries: int = 1
    """How often it may be tried, until it succeeds: in ``oec`` the expert begins anew from where it took over, in
    ``own`` the clone from the first step on, then drawing its tools by its own probabilities."""
    repeats: int = 2
    """How often a decision may be made in the same state; an episode that does it more often is stuck: ``dagger`` ends
    it there, the others drop it."""
    beta: float = 0.5
    """In round *r* of ``dagger``, from 1, the expert acts itself in a share of ``beta`` to the power of *r*."""
    rounds: int = 1
    """How often it is corrected, and fitted again in between; the last is kept, unless held-out tasks prove an earlier
    one better."""
    held_out: int = 60
    """Tasks that each of several rounds is judged on."""
    cohort: str = ""
    """To be corrected on tasks of this cohort alone; empty: as the environment mixes them."""
    tasks: int = 1_000
    """Tasks to be corrected on at most."""
    seed: int = 2_000
    """Draws the tasks, the switches, and who acts; the held-out tasks are those of the next seed."""
    budget: int = 500
    """Calls of the expert at most."""
    steps: int = 0
    """Actions carried out in the environment at most, whoever decided; 0: no limit."""
    tokens: int = 0
    """Tokens of an expert that counts them, at most; 0: no limit."""

    @classmethod
    def from_table(cls, table: Mapping[str, object], where: str = "correct") -> "CorrectConfig":
        """Return the settings of a table.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        known = {field.name: field.default for field in fields(cls)}
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key not in known:
                raise ConfigError(f"{where}.{key} is unknown, allowed: {', '.join(known)}")
            problem = _problem(key, value, known[key])
            if problem is not None:
                raise ConfigError(f"{where}.{key} is {value!r}, allowed: {problem}")
            values[key] = float(value) if key in _SHARES else value  # type: ignore[arg-type]  # it is a number
        return cls(**values)


def _problem(key: str, value: object, default: object) -> str | None:
    """Return what would be allowed, None where a value is."""
    if key in _CHOICES:
        return None if value in _CHOICES[key] else ", ".join(_CHOICES[key])
    if isinstance(default, str):
        return None if isinstance(value, str) else "a text"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if key in _SHARES:
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        return None if number and 0 <= value < 1 else "a number from 0 and under 1"  # type: ignore[operator]
    least = int(key in _FROM_ONE)
    return None if type(value) is int and value >= least else f"a whole number from {least}"
