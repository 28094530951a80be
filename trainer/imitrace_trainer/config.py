"""Read ``imitrace.toml``'s ``[clone.NAME]`` tables into the stages' own configuration."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from imitrace.exceptions import ConfigError
from imitrace_trainer.cohort import CohortConfig, cohort_from_config
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.critic_fit import CriticConfig
from imitrace_trainer.drift.config import DriftConfig
from imitrace_trainer.evaluators.settings import ScoreConfig, score_from_config
from imitrace_trainer.families import BEST, FAMILIES
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.gate_rules import GateConfig
from imitrace_trainer.refreshing.config import ScheduleConfig, schedule_from_config
from imitrace_trainer.route_config import RouteConfig

_KINDS = {int: "a whole number", float: "a number", str: "a text", Mapping: "a table"}
_FROM_ONE = {"epochs", "batch", "tasks"}
_BELOW_ONE = {"feature_dropout", "argument_dropout", "smoothing"}


@dataclass(frozen=True, kw_only=True)
class RolloutConfig:
    """Where a clone is played against the expert; without an environment the gate replays recorded trajectories."""

    environment: str
    """``package.module:name`` of what makes an environment."""
    expert: str
    """``package.module:name`` of what makes an expert, called with the environment and ``expert_options``."""
    expert_options: Mapping[str, Any] = field(default_factory=dict)
    """Keyword arguments for it."""
    path: str = ""
    """Folder to import them from; none: the one that ``imitrace.toml`` lies in."""
    tasks: int = 300
    """Fresh tasks a cohort."""
    tasks_in: Mapping[str, int] = field(default_factory=dict)
    """The same for single cohorts: a narrow margin needs more."""
    seed: int = 1_000
    """Draws the tasks; not a seed that traces were recorded with."""


@dataclass(frozen=True, kw_only=True)
class CloneConfig:
    """Everything that makes one clone."""

    name: str
    """The clone's name."""
    cohort: CohortConfig
    """What it learns from."""
    folder: Path
    """Where ``imitrace.toml`` lies."""
    family: str = BEST
    """Which rung of the ladder; ``best``: all are fitted, and the calibration tasks choose."""
    train: BCConfig = field(default_factory=BCConfig)
    """How it is fitted."""
    gate: GateConfig = field(default_factory=GateConfig)
    """What it must reach."""
    route: RouteConfig = field(default_factory=RouteConfig)
    """What the route promises."""
    drift: DriftConfig = field(default_factory=DriftConfig)
    """How drift is looked for."""
    critic: CriticConfig = field(default_factory=CriticConfig)
    """What its critic may veto."""
    rollout: RolloutConfig | None = None
    """Where it is played."""
    correct: CorrectConfig = field(default_factory=CorrectConfig)
    """How it is corrected there."""
    score: ScoreConfig = field(default_factory=ScoreConfig)
    """How its courses are scored, as ``imitrace score`` does."""
    schedule: ScheduleConfig | None = None
    """When it is refreshed; without, whenever somebody says so."""


def clone_from_config(config: Mapping[str, Any], name: str, folder: Path) -> CloneConfig:
    """Return the clone of this name; ``folder`` is where ``imitrace.toml`` lies.

    Raises:
        ConfigError: the table is absent, or a key or value in it is wrong.
    """
    clones = _table(config.get("clone", {}), "clone")
    if name not in clones:
        known = ", ".join(sorted(clones)) or "none"
        raise ConfigError(f"clone {name!r} is not in imitrace.toml, it has: {known}; add a table [clone.{name}]")
    where = f"clone.{name}"
    table = _table(clones[name], where)
    allowed = ("cohort", "family", "train", "gate", "route", "drift", "critic", "rollout", "correct", "schedule")
    _refuse_unknown(table, allowed, where)
    family = table.get("family", BEST)
    if family not in (BEST, *FAMILIES):
        raise ConfigError(f"{where}.family is {family!r}, allowed: {', '.join((BEST, *FAMILIES))}")
    rollout = table.get("rollout")
    return CloneConfig(
        name=name,
        cohort=cohort_from_config(config, str(table.get("cohort", name))),
        folder=folder,
        family=family,
        train=BCConfig(**_typed(table.get("train", {}), BCConfig(), f"{where}.train")),
        gate=GateConfig.from_table(_table(table.get("gate", {}), f"{where}.gate")),
        route=RouteConfig.from_table(_table(table.get("route", {}), f"{where}.route")),
        drift=DriftConfig.from_table(_table(table.get("drift", {}), f"{where}.drift")),
        critic=CriticConfig.from_table(_table(table.get("critic", {}), f"{where}.critic")),
        rollout=None if rollout is None else _rollout(rollout, f"{where}.rollout"),
        correct=CorrectConfig.from_table(_table(table.get("correct", {}), f"{where}.correct"), f"{where}.correct"),
        score=score_from_config(config),
        schedule=schedule_from_config(config, name),
    )


def _rollout(value: object, where: str) -> RolloutConfig:
    sample = RolloutConfig(environment="", expert="")
    values = _typed(value, sample, where)
    for name in ("environment", "expert"):
        if not values.get(name):
            raise ConfigError(f"{where}.{name} is missing, write 'package.module:name'")
    for cohort, count in values.get("tasks_in", {}).items():
        if type(count) is not int or count < 1:
            raise ConfigError(f"{where}.tasks_in.{cohort} is {count!r}, allowed: a whole number from 1")
    return RolloutConfig(**values)


def _typed(value: object, sample: Any, where: str) -> dict[str, Any]:  # sample is a configuration dataclass
    """Return a table whose values are of the types of the sample's fields."""
    table = _table(value, where)
    _refuse_unknown(table, tuple(field.name for field in fields(sample)), where)
    result: dict[str, Any] = {}
    for key, item in table.items():
        default = getattr(sample, key)
        wanted = Mapping if isinstance(default, Mapping) else type(default)
        number = isinstance(default, float) and isinstance(item, int) and not isinstance(item, bool)
        if not number and (not isinstance(item, wanted) or isinstance(item, bool) != isinstance(default, bool)):
            such = f" such as {default!r}" if default else ""
            raise ConfigError(f"{where}.{key} is {item!r}, allowed: {_KINDS[wanted]}{such}")
        if isinstance(default, (int, float)):
            _check_range(key, item, where)
        result[key] = float(item) if number else item
    return result


def _check_range(key: str, value: float, where: str) -> None:
    least, limit = float(key in _FROM_ONE), 1.0 if key in _BELOW_ONE else math.inf
    if not least <= value < limit:
        below = " and below 1" if limit == 1 else ""
        raise ConfigError(f"{where}.{key} is {value!r}, allowed: {least:.0f} or more{below}")


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where} = {value!r} in imitrace.toml is no table, write [{where}]")
    return value


def _refuse_unknown(table: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for key in table:
        if key not in allowed:
            raise ConfigError(f"{where}.{key} is unknown, allowed: {', '.join(allowed)}")
