"""Read a cohort: which agent's trajectories, how good they must be, and how they are split."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from typing import Any, Final

from imitrace.exceptions import ConfigError
from imitrace.redaction.rules import RULES as REDACTIONS
from imitrace.semconv import POLICY_ROLES
from imitrace_trainer.conditions import Condition

SPLITS: Final = ("train", "calibration", "gate")
SPLIT_BY: Final = ("task", "trajectory")
TEACHERS: Final = ("expert", "human")
"""Roles whose steps a clone learns from, and evaluators that may confirm a clone's."""
MOST_WEIGHT: Final = 5.0
"""By how much a rare cohort, or a longer trajectory, may weigh more; each factor for itself."""
FORBIDDEN: Final = ("refuse", "reject")
PERSONAL_DATA: Final = ("reject", "mask", "count")
RETIRED_TOOLS: Final = ("mask", "drop")

_Readers = Mapping[str, Callable[[object, str], Any]]  # each gives its field's type

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How a cohort is cut into train, calibration and gate."""

    by: str = "task"
    """What is never cut in two: ``task`` or ``trajectory``."""
    calibration: float = 0.2
    """Share of the tasks that calibrates confidence, in [0, 1)."""
    gate: float = 0.2
    """Share of the tasks that the gate judges on, in [0, 1)."""
    seed: int = 0
    """Which of the equally good splits."""
    near: float | None = None
    """Share of users' words from which two tasks stay in one split; None: only equal tasks do."""


@dataclass(frozen=True, kw_only=True)
class CohortConfig:
    """Which trajectories a clone learns from."""

    name: str
    """The cohort's name, also the dataset's."""
    agent: str
    """Whose trajectories."""
    where: tuple[Condition, ...] = ()
    """What the trajectory's scores must be; all must hold."""
    roles: tuple[str, ...] = ("expert", "human")
    """Whose steps are trained on; steps of other roles are kept as context."""
    tags: dict[str, str] = field(default_factory=dict)
    """Tags that the trajectory must have, with these values."""
    min_steps: int = 1
    """How many steps the trajectory must have."""
    since: int | None = None
    """When it must have started at the earliest, in nanoseconds since 1970 UTC."""
    until: int | None = None
    """Before when it must have started, likewise."""
    mask_where: tuple[Condition, ...] = ()
    """Which of its steps' scores leave a step of the train split as context only; one of them suffices."""
    mask_cap: float = 0.5
    """Share of a trajectory's steps to learn from beyond which its wrong steps keep out the whole of it."""
    hindsight: float = 0.0
    """Share of the train split's steps to learn from that may come of failures, where a success proves them right."""
    hindsight_where: tuple[Condition, ...] = ()
    """Which of its steps' scores prove a failure's step right as well; one of them suffices."""
    failures: int = 300
    """How many failures that only ``where`` rejects the dataset keeps for a critic; none is learnt as an action."""
    confirmed: Condition | None = None
    """What a step's score by a person or the expert must be for a clone's own action to be learnt from; None: never."""
    max_repeats: int | None = None
    """How often the same calls with the same results may stand in a row; None: as often as they do."""
    duplicates: float | None = None
    """Share of words from which a trajectory is a copy of an earlier one and rejected; None: copies stay."""
    quarantine: bool = False
    """Whether texts that give the model orders, and planted triggers, keep a trajectory out."""
    personal_data: tuple[str, ...] = ()
    """Redaction rules that look for personal data that is still there."""
    personal_data_action: str = "reject"
    """What is found does: ``reject`` its trajectory, ``mask`` the steps that see or do it, or is only ``count``-ed."""
    licences: dict[str, str] = field(default_factory=dict)
    """``allowed`` or ``forbidden`` by pattern of a policy's name, such as a model; the first that fits counts."""
    label_errors: float | None = None
    """Share of the train split's steps that may be left out as likely mistaken; None: none is looked for."""
    caps: dict[str, int] = field(default_factory=dict)
    """Most trajectories of each value of a tag; which of them is drawn by the split's seed."""
    balance: str | None = None
    """The tag whose values weigh the same in training, each up to five times what it would; None: as they come."""
    several_steps: float = 1.0
    """How much more a trajectory of several steps weighs in training than one of a single step."""
    forbidden: str = "refuse"
    """What a step by a forbidden policy does: ``refuse`` the cohort, or ``reject`` its trajectory."""
    reviewed: bool = True
    """Whether decisions that people judged, see ``imitrace queue``, are learnt as they said."""
    corrected: bool = True
    """Whether corrected episodes, see ``imitrace correct``, are learnt from."""
    mix: float = 0.0
    """Share of what is learnt, by weight, that corrected episodes are to be; 0: each counts as any other decision."""
    retired_tools: str = "mask"
    """What becomes of calls of retired tools: they stay as context (``mask``), or their trajectory goes (``drop``)."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """How the tasks are split."""

    @property
    def trims_training(self) -> bool:
        """Whether a rule leaves out steps of the train split alone; in calibration and gate such steps count."""
        hides = bool(self.personal_data) and self.personal_data_action == "mask"
        return bool(self.mask_where) or self.label_errors is not None or hides


def cohort_from_config(config: Mapping[str, Any], name: str) -> CohortConfig:
    """Return the cohort of this name.

    Args:
        config: ``imitrace.toml`` as a dictionary.
        name: NAME of its table ``[cohort.NAME]``.

    Raises:
        ConfigError: the table is absent, or a key or value in it is wrong.
    """
    cohorts = config.get("cohort", {})
    if not isinstance(cohorts, Mapping):
        raise ConfigError(f"cohort = {cohorts!r} in imitrace.toml is no table, write [cohort.NAME]")
    if name not in cohorts:
        known = ", ".join(sorted(cohorts)) or "none"
        raise ConfigError(f"cohort {name!r} is not in imitrace.toml, it has: {known}; add a table [cohort.{name}]")
    if not _NAME.fullmatch(name):
        raise ConfigError(f"cohort name {name!r} can't name a folder, allowed: letters, digits, dot, dash, underscore")
    where = f"cohort.{name}"
    values = _known(cohorts[name], where, _COHORT_READERS)
    if "agent" not in values:
        raise ConfigError(f'{where}.agent is missing, name the agent, for instance agent = "{name}"')
    if values.get("hindsight") and not values.get("where"):
        raise ConfigError(f"{where}.hindsight is {values['hindsight']:g}, which needs {where}.where to say what failed")
    return CohortConfig(name=name, **values)


def _known(table: object, where: str, readers: _Readers) -> dict[str, Any]:  # of the fields' types
    allowed = ", ".join(readers)
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {table!r}, expected a table with {allowed}")
    unknown = [key for key in table if key not in readers]
    if unknown:
        raise ConfigError(f"{where} has unknown key {unknown[0]!r}, allowed: {allowed}")
    return {key: readers[key](value, f"{where}.{key}") for key, value in table.items()}


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} is {value!r}, expected text")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ConfigError(f"{where} is {value!r}, expected a list of texts")
    return tuple(value)


def _conditions(value: object, where: str) -> tuple[Condition, ...]:
    texts = _texts(value, where)
    try:
        return tuple(map(Condition.parse, texts))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _roles(value: object, where: str) -> tuple[str, ...]:
    roles = _texts(value, where)
    if not roles or not set(roles) <= set(POLICY_ROLES):
        raise ConfigError(f"{where} is {value!r}, expected one or more of {', '.join(POLICY_ROLES)}")
    return roles


def _tags(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(item, str) for item in value.values()):
        raise ConfigError(f'{where} is {value!r}, expected a table of texts such as {{ intent = "refund" }}')
    return dict(value)


def _count(value: object, where: str, least: int = 1) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{where} is {value!r}, expected a whole number of at least {least}")
    return value


def _seed(value: object, where: str) -> int:
    return _count(value, where, least=0)


def _share(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise ConfigError(f"{where} is {value!r}, expected a share of at least 0 and below 1")
    return float(value)


def _part(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 1:
        raise ConfigError(f"{where} is {value!r}, expected a share of 0 to 1")
    return float(value)


def _one_of(*allowed: str) -> Callable[[object, str], str]:
    def read(value: object, where: str) -> str:
        if value not in allowed:
            raise ConfigError(f"{where} is {value!r}, expected one of {', '.join(allowed)}")
        return str(value)

    return read


def _split(value: object, where: str) -> SplitConfig:
    split = SplitConfig(**_known(value, where, _SPLIT_READERS))
    if split.near is not None and split.by != "task":
        raise ConfigError(
            f'{where}.near is {split.near:g}, which needs by = "task"; alike tasks are kept together by it'
        )
    if split.calibration + split.gate >= 1:
        raise ConfigError(
            f"{where}.calibration {split.calibration:g} and {where}.gate {split.gate:g} leave nothing to train on, "
            "their sum must be below 1"
        )
    return split


def _time(value: object, where: str) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ConfigError(f"{where} is {value!r}, expected a time such as 2026-11-21T08:00:00Z") from error
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time())
    if not isinstance(value, datetime):
        raise ConfigError(f"{where} is {value!r}, expected a time such as 2026-11-21T08:00:00Z")
    moment = value if value.tzinfo else value.replace(tzinfo=UTC)
    since_1970 = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since_1970.days * 86_400 + since_1970.seconds) * 10**9 + since_1970.microseconds * 1_000


def _condition(value: object, where: str) -> Condition:
    return _conditions([value], where)[0]


def _likeness(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0.5 <= value <= 1:
        raise ConfigError(f"{where} is {value!r}, expected a share of 0.5 to 1")
    return float(value)


def _flag(value: object, where: str) -> bool:
    if not isinstance(value, bool):
        raise ConfigError(f"{where} is {value!r}, expected true or false")
    return value


def _redactions(value: object, where: str) -> tuple[str, ...]:
    names = _texts(value, where)
    if not set(names) <= set(REDACTIONS):
        raise ConfigError(f"{where} is {value!r}, expected some of {', '.join(REDACTIONS)}")
    return names


def _licences(value: object, where: str) -> dict[str, str]:
    if not isinstance(value, Mapping) or not set(value.values()) <= {"allowed", "forbidden"}:
        raise ConfigError(
            f"{where} is {value!r}, expected a table of allowed or forbidden such as "
            '{ "gpt-4o*" = "allowed", "*" = "forbidden" }'
        )
    return dict(value)


def _caps(value: object, where: str) -> dict[str, int]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} is {value!r}, expected a table of whole numbers by tag such as {{ intent = 500 }}")
    return {str(tag): _count(most, f"{where}.{tag}") for tag, most in value.items()}


def _factor(value: object, where: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 1 <= value <= MOST_WEIGHT:
        raise ConfigError(f"{where} is {value!r}, expected a factor of 1 to {MOST_WEIGHT:g}")
    return float(value)


_SPLIT_READERS: Final[_Readers] = {
    "by": _one_of(*SPLIT_BY),
    "calibration": _share,
    "gate": _share,
    "seed": _seed,
    "near": _likeness,
}
_COHORT_READERS: Final[_Readers] = {
    "agent": _text,
    "where": _conditions,
    "roles": _roles,
    "tags": _tags,
    "min_steps": _count,
    "since": _time,
    "until": _time,
    "confirmed": _condition,
    "mask_where": _conditions,
    "mask_cap": _part,
    "hindsight": _share,
    "hindsight_where": _conditions,
    "failures": _seed,
    "max_repeats": _count,
    "duplicates": _likeness,
    "quarantine": _flag,
    "personal_data": _redactions,
    "personal_data_action": _one_of(*PERSONAL_DATA),
    "licences": _licences,
    "forbidden": _one_of(*FORBIDDEN),
    "label_errors": _share,
    "caps": _caps,
    "balance": _text,
    "several_steps": _factor,
    "reviewed": _flag,
    "corrected": _flag,
    "mix": _share,
    "retired_tools": _one_of(*RETIRED_TOOLS),
    "split": _split,
}
