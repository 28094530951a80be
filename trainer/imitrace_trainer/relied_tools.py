"""Know which tools a cohort's decisions were learnt with, and say where an agent is offered them no more."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import Any

from imitrace.canonical import canonical_json
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.policy import State
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.tool_changes import changes

_COMPARED = 1_000
"""Pairs of contracts whose differences are remembered."""


@dataclass(frozen=True)
class ReliedTools:
    """The tools that each cohort's evidence rests on: called in it, and offered at every decision of it.

    Agents that offer a tool now and then did so in training too, so such a tool is not relied on.
    """

    cohorts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Their names by cohort."""
    definitions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By name ``{name, description, parameters}``, as training offered them last."""

    @classmethod
    def of(cls, shown: Iterable[Demonstration], tools: Iterable[Mapping[str, Any]]) -> "ReliedTools":
        """Return what decisions rest on.

        Args:
            shown: all that a clone was fitted to and judged by.
            tools: the newest definition of every tool offered in them.
        """
        called: dict[str, set[str]] = {}
        always: dict[str, set[str]] = {}
        for one in shown:
            cohort, offered = cohort_of(one.state.tags), {tool["name"] for tool in one.state.tools}
            always[cohort] = always[cohort] & offered if cohort in always else offered
            called.setdefault(cohort, set()).update([one.action.name] if one.action.name else ())
        known = {tool["name"]: dict(tool) for tool in tools if any(tool["name"] in names for names in called.values())}
        return cls({cohort: sorted(names & always[cohort] & set(known)) for cohort, names in called.items()}, known)

    def lack(self, state: State) -> str | None:
        """Return why a state's cohort is not what was learnt: a tool is gone, or its contract breaks old calls."""
        cohort = cohort_of(state.tags)
        relied = self.cohorts.get(cohort, ())
        if not relied:
            return None
        offered = {tool["name"]: tool for tool in state.tools}
        for name in relied:
            if name not in offered:
                return f"tool {name!r}, which cohort {cohort!r} was learnt with, is not offered"
            known = self.definitions[name]
            if offered[name] != known and (broken := _broken(canonical_json(known), canonical_json(offered[name]))):
                return f"tool {name!r} has another contract than cohort {cohort!r} was learnt with: {broken}"
        return None

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return asdict(self)


@lru_cache(maxsize=_COMPARED)
def _broken(old: str, new: str) -> str:
    return "; ".join(str(change) for change in changes(json.loads(old), json.loads(new)) if change.breaking)
