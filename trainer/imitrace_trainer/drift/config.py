"""Hold how drift is looked for: the table ``[clone.NAME.drift]``."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Final

from imitrace.exceptions import ConfigError

_COUNTS: Final = {"trajectories": 10, "compared": 10, "asked": 10, "decisions": 1, "draws": 200, "seed": 0}
_EFFECTS: Final = ("distance", "features", "association", "delta", "rate")


@dataclass(frozen=True, kw_only=True)
class DriftConfig:
    """How much traffic is compared, what size of a difference matters, and how often chance may be taken for drift."""

    window_days: float = 7
    """How many of the last days are compared with training."""
    trajectories: int = 30
    """Fewest trajectories of each side, and fewest new ones since the last look; below, the answer is insufficient."""
    alpha: float = 0.05
    """How likely a false alarm may be over the whole life of a champion, however often is looked."""
    distance: float = 0.05
    """Least distance between the mean states, in standard deviations of a kernel's space, that counts as drift."""
    auroc: float = 0.55
    """Least AUROC of telling recent trajectories from those of training: 0.55 is a tenth of a wholly new kind."""
    features: float = 0.1
    """Least difference of the share of trajectories that have a feature, such as a word, in their states."""
    association: float = 0.1
    """Least Cramer's V of tools, outcomes and cohorts."""
    delta: float = 0.147
    """Least Cliff's delta of confidence, distance, length and scores."""
    rate: float = 0.05
    """Least difference of shares, of decisions or of trajectories."""
    compared: int = 2_000
    """Most trajectories of a side that are compared; more are drawn from."""
    asked: int = 300
    """Most trajectories of a side about whose states the clone is asked."""
    decisions: int = 6
    """Most decisions of each of these."""
    draws: int = 2_000
    """How often trajectories are dealt anew to see what chance does."""
    seed: int = 0
    """Draws all of this."""
    step_back: bool = True
    """Whether cohorts in which drift occurs go back to the expert at once."""

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> "DriftConfig":
        """Return the settings of a ``[clone.NAME.drift]`` table.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        allowed = [field.name for field in fields(cls)]
        for key, value in table.items():
            if key not in allowed:
                raise ConfigError(f"drift {key} is unknown, allowed: {', '.join(allowed)}")
            _check(key, value)
        values: dict[str, Any] = dict(table)
        return cls(**values)


def _check(key: str, value: object) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key == "step_back":
        ok, wanted = isinstance(value, bool), "true, false"
    elif key in _COUNTS:
        least = _COUNTS[key]
        ok, wanted = type(value) is int and value >= least, f"a whole number from {least}"
    elif key == "window_days":
        ok, wanted = number and 0 < value <= 36_500, "days, over 0"  # type: ignore[operator]
    elif key == "auroc":
        ok, wanted = number and 0.5 <= value < 1, "a number from 0.5 to under 1"  # type: ignore[operator]
    elif key in _EFFECTS:
        ok, wanted = number and 0 <= value < 1, "a number from 0 to under 1"  # type: ignore[operator]
    else:
        ok, wanted = number and 0 < value < 1, "a number over 0 and under 1"  # type: ignore[operator]
    if not ok:
        raise ConfigError(f"drift {key} is {value!r}, allowed: {wanted}")
