"""Hold whom to tell and how: the table ``[alerts]``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from imitrace.exceptions import ConfigError

LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, kw_only=True)
class AlertsConfig:
    """Whom to tell."""

    webhook: str = ""
    """Where alerts are posted as JSON: https, or http on this machine; none: nowhere."""
    timeout: float = 10.0
    """Seconds that one try may take."""
    tries: int = 3
    """How often a call tries before it leaves an alert to the next."""

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "AlertsConfig":
        """Return the settings of the ``[alerts]`` table of ``imitrace.toml``, defaults without one.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        table = config.get("alerts", {})
        if not isinstance(table, Mapping):
            raise ConfigError(f"alerts = {table!r} in imitrace.toml is no table, write [alerts]")
        allowed = [field.name for field in fields(cls)]
        for key, value in table.items():
            if key not in allowed:
                raise ConfigError(f"alerts.{key} is unknown, allowed: {', '.join(allowed)}")
            _check(key, value)
        return cls(**table)


def _check(key: str, value: object) -> None:
    if key == "webhook":
        ok, wanted = isinstance(value, str) and _reachable(value), "an https:// address, or http:// on this machine"
    elif key == "tries":
        ok, wanted = type(value) is int and 1 <= value <= 10, "a whole number from 1 to 10"
    else:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        ok, wanted = number and 0 < value <= 60, "seconds over 0, at most 60"  # type: ignore[operator]
    if not ok:
        raise ConfigError(f"alerts.{key} is {value!r}, allowed: {wanted}")


def _reachable(address: str) -> bool:
    if not address:
        return True
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError:
        return False
    return bool(host) and (parts.scheme == "https" or (parts.scheme == "http" and host in LOOPBACK))
