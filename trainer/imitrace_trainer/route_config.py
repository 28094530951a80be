"""Hold what a clone's route promises, and how it acts on it: the table ``[clone.NAME.route]``."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Final

from imitrace.exceptions import ConfigError
from imitrace_trainer.route_rules import Rule, rule_from

_COUNTS: Final = ("handovers", "hold", "canary_decisions")
_DAYS: Final = ("gate_days", "drift_days", "tools_days")
_FLAGS: Final = ("second_key", "unaudited")


@dataclass(frozen=True, kw_only=True)
class RouteConfig:
    """What the route promises, when the expert takes over, and how long evidence lasts."""

    error: float = 0.02
    """Share of the clone's decisions that may differ from the expert's, proven on the calibration tasks."""
    irreversible_error: float = 0.01
    """The same for tools that can't be undone."""
    confidence: float = 0.9
    """Confidence of that proof."""
    irreversible: tuple[str, ...] = ()
    """Names of the tools that can't be undone."""
    second_key: bool = True
    """Whether a second family must propose the very same call where it can't be undone."""
    rules: tuple[Rule, ...] = ()
    """Where decisions go by tags; the first that holds counts, and without one the clone is asked."""
    audit: float = 0.05
    """Share of the decisions trusted to the clone that go to the expert all the same, drawn at random."""
    unaudited: bool = False
    """Says that ``audit = 0`` is meant: nobody will notice where the clone is wrong."""
    canary: float = 0.0
    """Share of the trajectories in which a new champion is trusted at first; 0: in all, at once."""
    canary_hours: float = 24.0
    """After which it may act in all, if so many decisions were compared by then and none of its promises is broken."""
    canary_decisions: int = 200
    """Trusted decisions that an expert took, and that must have been compared by then."""
    handovers: int = 3
    """After so many handovers for doubt in one trajectory the expert keeps the rest of it."""
    hold: int = 0
    """How many further decisions the expert keeps after a handover for doubt."""
    gate_days: float = 30
    """Days after which a gate's record counts no more; 0: it never ages."""
    tools_days: float = 30
    """Days after which the agent's tools must have been looked at again, by ``tools diff``, a gate or a refresh."""
    drift_days: float = 0
    """Days after which drift must have been looked for again; 0: it need not be."""

    def __post_init__(self) -> None:
        """Refuse a route that nobody watches and nobody asked for.

        Raises:
            ConfigError: ``audit`` is 0 without ``unaudited``.
        """
        if not self.audit and not self.unaudited:
            raise ConfigError(
                "route audit is 0, so nobody would notice where the clone is wrong, allowed: a number over 0 and "
                "under 1; or say unaudited = true"
            )

    @classmethod
    def from_table(cls, table: Mapping[str, object]) -> "RouteConfig":
        """Return the settings of a ``[clone.NAME.route]`` table.

        Raises:
            ConfigError: a key is unknown, or a value is not allowed.
        """
        allowed = [field.name for field in fields(cls)]
        for key, value in table.items():
            if key not in allowed:
                raise ConfigError(f"route {key} is unknown, allowed: {', '.join(allowed)}")
            _check(key, value)
        values: dict[str, Any] = dict(table)
        values["irreversible"] = tuple(values.get("irreversible", ()))
        values["rules"] = tuple(
            rule_from(rule, f"route rules[{number}]") for number, rule in enumerate(values.get("rules", ()))
        )
        return cls(**values)

    def to_json(self) -> dict[str, Any]:
        """Return this as the table that ``from_table`` reads."""
        return asdict(self) | {"irreversible": [*self.irreversible], "rules": [rule.to_json() for rule in self.rules]}


def _check(key: str, value: object) -> None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if key == "irreversible":
        ok = isinstance(value, (list, tuple)) and all(isinstance(name, str) for name in value)
        wanted = "a list of tool names"
    elif key == "rules":
        ok, wanted = isinstance(value, (list, tuple)), "a list of rules"
    elif key in _FLAGS:
        ok, wanted = isinstance(value, bool), "true, false"
    elif key in _COUNTS:
        ok, wanted = type(value) is int and value >= 0, "a whole number from 0"
    elif key in _DAYS:
        ok, wanted = number and 0 <= value <= 36_500, "days from 0, which is for ever"  # type: ignore[operator]
    elif key == "canary_hours":
        ok, wanted = number and 0 <= value <= 876_000, "hours from 0"  # type: ignore[operator]
    elif key in ("audit", "canary"):
        ok, wanted = number and 0 <= value < 1, "a number from 0 to under 1"  # type: ignore[operator]
    else:
        ok, wanted = number and 0 < value < 1, "a number over 0 and under 1"  # type: ignore[operator]
    if not ok:
        raise ConfigError(f"route {key} is {value!r}, allowed: {wanted}")
