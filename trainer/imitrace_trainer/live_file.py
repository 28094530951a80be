"""Remember what was compared of a champion in service, how its promise stands in each cohort, and past alarms."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from imitrace_trainer.betting import Fortune
from imitrace_trainer.drafts import locked
from imitrace_trainer.state_files import StateFile

FORMAT: Final = 1
_KEPT: Final = 20


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """A promise that was broken."""

    version: int
    cohort: str
    at: str
    """ISO 8601."""
    why: str
    did: str
    """What came of it."""


@dataclass(frozen=True, kw_only=True)
class Live:
    """What is remembered."""

    champion: int = 0
    """The version that all but the alarms is of."""
    seen: int = 0
    """Nanoseconds since 1970: when the newest trajectory ended that was counted."""
    cohorts: Mapping[str, Fortune] = field(default_factory=dict)
    alarms: tuple[Alarm, ...] = ()
    """The newest, oldest first, of other versions too."""

    @property
    def decisions(self) -> int:
        """Return how many decisions were compared."""
        return sum(one.decisions for one in self.cohorts.values())

    def of(self, champion: int) -> "Live":
        """Return this for a champion: another one begins anew."""
        return self if self.champion == champion else Live(champion=champion, alarms=self.alarms)


class LiveFile:
    """``clones/NAME/live.json`` in a workspace: read and written whole, by one at a time."""

    def __init__(self, home: Path, name: str) -> None:
        self._clones = home / "clones"
        self.path = self._clones / name / "live.json"
        self._file = StateFile(self.path, FORMAT, "delete it, and all are counted anew")

    def read(self) -> Live:
        """Return what is remembered, nothing where there is no file.

        Raises:
            CloneError: it was damaged by hand, or a newer imitrace wrote it.
        """
        return self._file.read(_read) or Live()

    @contextmanager
    def held(self) -> Iterator[Live]:
        """Let nobody else write until it is done, and give what is remembered."""
        with locked(self._clones):
            yield self.read()

    def write(self, live: Live) -> None:
        """Replace the file, while it is ``held``."""
        self._file.write({**asdict(live), "alarms": [asdict(one) for one in live.alarms[-_KEPT:]]})


def _read(record: dict[str, Any]) -> Live:
    fortunes = {name: Fortune(**{**told, "logs": tuple(told["logs"])}) for name, told in record["cohorts"].items()}
    return Live(**{**record, "cohorts": fortunes, "alarms": tuple(Alarm(**one) for one in record["alarms"])})
