"""Spend a champion's budget for false alarms over all the looks of its life, and remember what was spent.

Look ``t`` may err with probability ``level(alpha, t)``; over any number of looks these sum to at most ``alpha``, so the
chance that any look ever errs is at most ``alpha`` (union bound, Bonferroni 1936; spending over looks, Lan and DeMets
1983). That holds however looks depend on each other: windows may overlap, and all are compared with the same training.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from imitrace_trainer.drafts import locked
from imitrace_trainer.state_files import StateFile

FORMAT: Final = 1
KEPT: Final = 100
"""Looks that are remembered one by one, the newest."""

_SUM: Final = 2.1097428013
"""Of 1 / (n log(n)^2) over all n from 2."""


def level(alpha: float, look: int) -> float:
    """Return how likely a false alarm may be at a look, counted from 1."""
    return alpha / (_SUM * (look + 1) * math.log(look + 1) ** 2)


@dataclass(frozen=True)
class Look:
    """One look at recent traffic that was paid for."""

    number: int
    at: str
    """ISO 8601."""
    level: float
    trajectories: int
    verdict: str
    why: tuple[str, ...] = ()


@dataclass(frozen=True)
class Watch:
    """What is remembered of a clone's looks for drift."""

    champion: int = 0
    """The version that all of this is of."""
    looks: int = 0
    spent: float = 0.0
    seen: int = 0
    """Nanoseconds since 1970: when the newest trajectory ended that a look has judged."""
    alarm: Look | None = None
    """The first look that found drift by chance-bound tests; it stands until there is another champion."""
    last: tuple[Look, ...] = ()
    """Oldest first."""

    def of(self, champion: int) -> "Watch":
        """Return this for a champion: another one begins anew."""
        return self if self.champion == champion else Watch(champion)

    def after(self, look: Look, seen: int, *, alarmed: bool) -> "Watch":
        """Return this with one look more."""
        return replace(
            self,
            looks=look.number,
            spent=self.spent + look.level,
            seen=max(self.seen, seen),
            alarm=self.alarm or (look if alarmed else None),
            last=(*self.last, look)[-KEPT:],
        )

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Watch":
        """Return what ``to_json`` gave."""
        told = {name: record[name] for name in cls.__dataclass_fields__}
        alarm = None if told["alarm"] is None else _look(told["alarm"])
        return cls(**{**told, "alarm": alarm, "last": tuple(map(_look, told["last"]))})


class WatchFile:
    """``clones/NAME/drift.json`` in a workspace: read and written whole, by one at a time."""

    def __init__(self, home: Path, name: str) -> None:
        self._clones = home / "clones"
        self.path = self._clones / name / "drift.json"
        self._file = StateFile(self.path, FORMAT, "delete it, and looks are counted anew")

    def read(self) -> Watch:
        """Return what is remembered, nothing where there is no file.

        Raises:
            CloneError: it was damaged by hand, or a newer imitrace wrote it.
        """
        return self._file.read(Watch.from_json) or Watch()

    @contextmanager
    def held(self) -> Iterator[Watch]:
        """Let nobody else write until it is done, and give what is remembered."""
        with locked(self._clones):
            yield self.read()

    def write(self, watch: Watch) -> None:
        """Replace the file, while it is ``held``."""
        self._file.write(watch.to_json())


def _look(record: dict[str, Any]) -> Look:
    return Look(**{**record, "why": tuple(record["why"])})
