"""Say by a trajectory's tags which way decisions go: by eq, in, regex, and, or, not; the first that holds counts."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, Literal

from imitrace.exceptions import ConfigError

COHORT_TAG: Final = "cohort"
"""The tag that names the slice which the gate judges."""
NO_COHORT: Final = "all"
"""The slice of trajectories without that tag."""

Condition = Callable[[Mapping[str, str]], bool]

_TESTS: Final = ("eq", "in", "regex")
_JOINS: Final = ("and", "or", "not")
_DEPTH: Final = 20


def cohort_of(tags: Mapping[str, str]) -> str:
    """Return the slice that a trajectory with these tags belongs to."""
    return tags.get(COHORT_TAG, NO_COHORT)


@dataclass(frozen=True)
class Rule:
    """Where decisions go of trajectories whose tags meet a condition."""

    when: Mapping[str, Any]
    """``{tag, eq}``, ``{tag, in}`` or ``{tag, regex}``, or ``{and}``, ``{or}``, ``{not}`` of such."""
    to: Literal["clone", "expert"]
    """``clone``: where the gate, the thresholds and the rest of the route let it; ``expert``: always."""

    @cached_property
    def _holds(self) -> Condition:
        return condition(self.when, "when")

    def holds(self, tags: Mapping[str, str]) -> bool:
        """Tell whether a trajectory's tags meet the condition; one without a ``cohort`` is of cohort ``all``."""
        return self._holds({COHORT_TAG: NO_COHORT, **tags})

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values, and as it stands in ``imitrace.toml``."""
        return {"when": dict(self.when), "to": self.to}


def rule_from(table: object, where: str) -> Rule:
    """Return the rule of a ``[[clone.NAME.route.rules]]`` table.

    Raises:
        ConfigError: names the key, the value, and what is allowed.
    """
    if not isinstance(table, Mapping) or set(table) != {"when", "to"}:
        raise ConfigError(f"{where} is {table!r}, allowed: {{ when = {{ tag = ..., eq = ... }}, to = ... }}")
    if table["to"] not in ("clone", "expert"):
        raise ConfigError(f"{where}.to is {table['to']!r}, allowed: clone, expert")
    condition(table["when"], f"{where}.when")
    return Rule(table["when"], table["to"])


def condition(table: object, where: str, depth: int = 0) -> Condition:
    """Return a condition on tags as a function; a tag that is absent meets no test.

    Raises:
        ConfigError: it is of no known form, nested too deep, or a regular expression that can't be read.
    """
    if depth > _DEPTH:
        raise ConfigError(f"{where} is nested deeper than {_DEPTH}, allowed: {_DEPTH}; write it flatter")
    if isinstance(table, Mapping) and len(table) == 1 and (join := next(iter(table))) in _JOINS:
        return _joined(join, table[join], where, depth)
    if isinstance(table, Mapping) and len(table) == 2 and isinstance(table.get("tag"), str):
        test = next(key for key in table if key != "tag")
        if test in _TESTS:
            return _tested(table["tag"], (test, table[test]), where)
    raise ConfigError(
        f"{where} is {table!r}, allowed: tag with one of {', '.join(_TESTS)}, or one of {', '.join(_JOINS)}"
    )


def _joined(join: str, parts: object, where: str, depth: int) -> Condition:
    if join == "not":
        inner = condition(parts, f"{where}.not", depth + 1)
        return lambda tags: not inner(tags)
    if not isinstance(parts, list) or not parts:
        raise ConfigError(f"{where}.{join} is {parts!r}, allowed: a list of conditions, one or more")
    inners = [condition(part, f"{where}.{join}[{number}]", depth + 1) for number, part in enumerate(parts)]
    combine = all if join == "and" else any
    return lambda tags: combine(inner(tags) for inner in inners)


def _tested(tag: str, test: tuple[str, object], where: str) -> Condition:
    kind, value = test
    if kind == "in":
        if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
            raise ConfigError(f"{where}.in is {value!r}, allowed: a list of texts")
        wanted = frozenset(value)
        return lambda tags: tags.get(tag) in wanted
    if not isinstance(value, str):
        raise ConfigError(f"{where}.{kind} is {value!r}, allowed: a text")
    if kind == "eq":
        return lambda tags: tags.get(tag) == value
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise ConfigError(f"{where}.regex is {value!r}, which can't be read: {error}") from error
    return lambda tags: tag in tags and pattern.search(tags[tag]) is not None
