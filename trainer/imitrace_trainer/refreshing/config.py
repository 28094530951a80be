"""Hold when a clone is refreshed and what that may cost: the table ``[clone.NAME.schedule]``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from imitrace.exceptions import ConfigError
from imitrace_trainer.refreshing.times import Times

_TEXTS: Final = ("cron", "time_zone", "source")
_COUNTS: Final = ("new_rows", "most_rows", "expert_calls")


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """When a clone is refreshed, and what that may cost."""

    cron: str = ""
    """When to look whether it is due: five fields, or @daily and the like; none: whenever it is called."""
    time_zone: str = "UTC"
    """In whose clock."""
    source: str = ""
    """Where the traces are, as ``--source``; none: the workspace's own."""
    after_days: float = 0.0
    """Due when the last turn ended so many days ago; 0: time alone makes nothing due."""
    new_rows: int = 0
    """Due when so many decisions were recorded since the last turn; 0: they alone make nothing due."""
    expires_days: float = 3.0
    """Due when the champion's evidence lapses within so many days."""
    drift: bool = True
    """Due when drift was found."""
    most_minutes: float = 0.0
    """After which a run stops; the next takes it up. 0: no limit."""
    most_rows: int = 0
    """Most decisions that may be trained on; 0: no limit."""
    expert_calls: int = 0
    """Most decisions that a gate may ask of the expert; 0: no limit."""

    @property
    def times(self) -> Times | None:
        """Return when to look, None where no schedule says."""
        return Times(self.cron, self.time_zone) if self.cron else None

    @property
    def conditional(self) -> bool:
        """Tell whether something must have come about, or a time have gone by; else each time of ``cron`` is due."""
        return bool(self.after_days or self.new_rows)

    @classmethod
    def from_table(cls, table: Mapping[str, object], where: str) -> "ScheduleConfig":
        """Return the settings of a ``[clone.NAME.schedule]`` table, named ``where``.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        allowed = [field.name for field in fields(cls)]
        for key, value in table.items():
            if key not in allowed:
                raise ConfigError(f"{where}.{key} is unknown, allowed: {', '.join(allowed)}")
            _check(f"{where}.{key}", key, value)
        values: dict[str, Any] = dict(table)
        made = cls(**values)
        try:
            Times(made.cron or "@daily", made.time_zone)
        except ConfigError as error:
            raise ConfigError(f"{where}.{error}") from error
        return made


def schedule_from_config(config: Mapping[str, Any], name: str) -> ScheduleConfig | None:
    """Return the schedule of a clone of ``imitrace.toml``, None where it has none.

    Raises:
        ConfigError: a key or value in its table is wrong.
    """
    where, found = "clone", config.get("clone", {})
    for key in (name, "schedule"):
        if not isinstance(found, Mapping):
            raise ConfigError(f"{where} = {found!r} in imitrace.toml is no table, write [{where}]")
        where, found = f"{where}.{key}", found.get(key)
        if found is None:
            return None
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where} = {found!r} in imitrace.toml is no table, write [{where}]")
    return ScheduleConfig.from_table(found, where)


def _check(where: str, key: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if key in _TEXTS:
        ok, wanted = isinstance(value, str), "a text"
    elif key == "drift":
        ok, wanted = isinstance(value, bool), "true, false"
    elif key in _COUNTS:
        ok, wanted = type(value) is int and value >= 0, "a whole number from 0"
    else:
        ok, wanted = number and 0 <= value <= 36_500, "a number from 0"  # type: ignore[operator]
    if not ok:
        raise ConfigError(f"{where} is {value!r}, allowed: {wanted}")
