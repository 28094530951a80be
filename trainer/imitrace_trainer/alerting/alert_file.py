"""Remember which conditions were told, and which of those that ended were not yet called resolved."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from imitrace.exceptions import ConfigError
from imitrace_trainer.alerting.standing import Condition
from imitrace_trainer.drafts import locked
from imitrace_trainer.state_files import StateFile

FORMAT: Final = 1
FILE: Final = "alerts.json"
_LOCK: Final = "alerts"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A condition and who knows of it."""

    name: str
    clone: str
    about: str
    why: str
    since: str
    """When it was first seen, ISO 8601."""
    told: tuple[str, ...] = ()
    """The channels that know that it stands."""
    ended: str | None = None
    """When it was seen to be over."""
    closed: tuple[str, ...] = ()
    """The channels that know that it is over."""

    @property
    def key(self) -> str:
        """Return the key of its condition."""
        return Condition(name=self.name, clone=self.clone, about=self.about, why="").key

    @property
    def state(self) -> str:
        """Return what it is called: ``firing`` or ``resolved``."""
        return "firing" if self.ended is None else "resolved"

    def owed(self, channels: Sequence[str]) -> list[str]:
        """Return the channels that don't know yet; of what is over only those that were told that it stood."""
        if self.ended is None:
            return [one for one in channels if one not in self.told]
        return [one for one in channels if one in self.told and one not in self.closed]

    def knows(self, channel: str) -> "Alert":
        """Return this with one more channel that knows its state."""
        if self.ended is None:
            return replace(self, told=(*self.told, channel))
        return replace(self, closed=(*self.closed, channel))


def followed(alerts: Sequence[Alert], conditions: Sequence[Condition], at: str, *, ending: bool = True) -> list[Alert]:
    """Return alerts by what stands now: those that go on are kept, with what is said of them now.

    Args:
        alerts: what is remembered.
        conditions: what stands.
        at: the time, ISO 8601.
        ending: whether what is not among ``conditions`` is over.
    """
    now = {condition.key: condition for condition in conditions}
    kept: list[Alert] = []
    for alert in alerts:
        condition = now.get(alert.key)
        if alert.ended is not None:  # it is only owed to somebody; should it stand again, that is another
            kept.append(alert)
        elif condition is None:
            kept.append(replace(alert, ended=at) if ending else alert)
        else:
            kept.append(replace(alert, why=now.pop(alert.key).why))
    return [*kept, *(Alert(**vars(one), since=at) for one in now.values())]


class AlertFile:
    """``alerts.json`` in a workspace: read and written whole, by one at a time."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.path = home / FILE
        self._file = StateFile(self.path, FORMAT, "delete it: all is told anew", ConfigError)

    def read(self) -> list[Alert]:
        """Return the alerts that stand, or whose end somebody does not know yet.

        Raises:
            ConfigError: the file was damaged by hand, or a newer imitrace wrote it.
        """
        return self._file.read(lambda record: [Alert(**_tupled(told)) for told in record["alerts"]]) or []

    @contextmanager
    def held(self) -> Iterator[list[Alert]]:
        """Let nobody else tell until it is done, and give the alerts."""
        with locked(self._home / _LOCK):
            yield self.read()

    def write(self, alerts: Sequence[Alert]) -> None:
        """Replace the file, while it is ``held``."""
        self._file.write({"alerts": [asdict(alert) for alert in alerts]})


def _tupled(told: dict[str, Any]) -> dict[str, Any]:
    return {**told, "told": tuple(told["told"]), "closed": tuple(told["closed"])}
