"""Keep what people decided about tools: one file, ``tools.json`` in the workspace, whose history is only added to.

What counts now is folded from the history, for one agent at a time: see ``Ledger.rules``.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from imitrace.canonical import content_hash
from imitrace.exceptions import ConfigError
from imitrace_trainer.argument_maps import ArgumentMap
from imitrace_trainer.drafts import locked
from imitrace_trainer.policy import LivePolicy, Policy

FILE: Final = "tools.json"
FORMAT: Final = 1
RISKS: Final = ("read", "reversible", "irreversible")
KINDS: Final = ("deprecate", "rename", "map", "restore", "risk")


@dataclass(frozen=True, kw_only=True)
class ToolDecision:
    """What a person decided about a tool, when and why."""

    kind: str
    """One of ``KINDS``."""
    tool: str
    agent: str | None = None
    """Whose tool; None for everybody's of this name."""
    at: str = ""
    """When, ISO 8601."""
    by: str = ""
    """Who."""
    why: str = ""
    to: str | None = None
    """The tool's new name, of a rename."""
    risk: str | None = None
    """One of ``RISKS``."""
    arguments: ArgumentMap = field(default_factory=ArgumentMap)
    """How a call's arguments become the new contract's."""
    sources: tuple[str, ...] = ()
    """The contracts that a map reads, by hash; none: every one but ``target``."""
    target: str | None = None
    """The contract that calls have then; None for the one in force."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values, without what is empty."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        record |= {"arguments": self.arguments.to_json(), "sources": [*self.sources]}
        return {key: value for key, value in record.items() if value not in (None, "", [], {})}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "ToolDecision":
        """Return what ``to_json`` gave."""
        told = {key: value for key, value in record.items() if key not in ("arguments", "sources")}
        arguments = ArgumentMap.from_json(record.get("arguments", {}))
        made = cls(**told, arguments=arguments, sources=tuple(record.get("sources", ())))
        if made.kind not in KINDS or (made.kind == "rename" and not made.to) or (made.risk or "read") not in RISKS:
            raise ValueError(f"{record!r} is no decision")
        return made


@dataclass(frozen=True)
class ToolRules:
    """What counts for the tools of one agent."""

    deprecated: frozenset[str] = frozenset()
    renamed: Mapping[str, ToolDecision] = field(default_factory=dict)
    """By old name."""
    maps: Mapping[str, tuple[ToolDecision, ...]] = field(default_factory=dict)
    """By tool, oldest first: each takes calls on to a newer contract."""
    risks: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def retired(self) -> frozenset[str]:
        """The names that nobody may call any more: deprecated tools, and the old names of renamed ones."""
        return self.deprecated | frozenset(self.renamed)

    @cached_property
    def superseded(self) -> Mapping[str, frozenset[str]]:
        """The contracts that calls are mapped away from: hashes by tool."""
        return {tool: frozenset(source for m in moves for source in m.sources) for tool, moves in self.maps.items()}

    @cached_property
    def irreversible(self) -> frozenset[str]:
        """The tools that can't be undone; a tool inherits it from its old name, unless it was judged itself."""
        told = dict(self.risks)
        for old in self.renamed:
            told.setdefault(self.name_now(old), self.risks.get(old, "reversible"))
        return frozenset(name for name, risk in told.items() if risk == "irreversible")

    def restrict(self, policy: Policy) -> LivePolicy:
        """Return a policy that calls nothing retired, by these rules and no earlier ones."""
        if not isinstance(policy, LivePolicy):
            return LivePolicy(policy, self.retired, self.superseded)
        live = replace(policy, retired=self.retired, superseded=self.superseded)
        return policy if policy == live else live

    @cached_property
    def hash(self) -> str:
        """Name what bears on recorded rows: everything but risks, and not who decided it, or when."""
        moves = [*self.renamed.values(), *(move for found in self.maps.values() for move in found)]
        told = [[m.kind, m.tool, m.to, m.arguments.to_json(), sorted(m.sources), m.target] for m in moves]
        return content_hash({"deprecated": sorted(self.deprecated), "moves": told})

    def name_now(self, tool: str) -> str:
        """Return what a tool is called now."""
        while tool in self.renamed:
            tool = self.renamed[tool].to or ""
        return tool

    def state(self, tool: str) -> str:
        """Say in a few words what was decided about a tool, empty when nothing was."""
        if tool in self.renamed:
            return f"renamed to {self.renamed[tool].to}"
        told = ["deprecated"] if tool in self.deprecated else []
        told += ["mapped"] if tool in self.maps else []
        return ", ".join([*told, *([self.risks[tool]] if tool in self.risks else [])])


@dataclass(frozen=True)
class Ledger:
    """Every decision, oldest first."""

    decisions: tuple[ToolDecision, ...] = ()

    def rules(self, agent: str | None) -> ToolRules:
        """Return what counts for an agent's tools; None, where nobody knows whose a clone is, gives everybody's."""
        deprecated: set[str] = set()
        renamed: dict[str, ToolDecision] = {}
        maps: dict[str, tuple[ToolDecision, ...]] = {}
        risks: dict[str, str] = {}
        for made in self.decisions:
            if agent is not None and made.agent not in (None, agent):
                continue
            if made.kind == "deprecate":
                deprecated.add(made.tool)
            elif made.kind == "rename":
                renamed[made.tool] = made
            elif made.kind == "map":
                others = [move for move in maps.get(made.tool, ()) if move.target != made.target]
                maps[made.tool] = (*others, made)
            elif made.kind == "risk":
                risks[made.tool] = made.risk or ""
            else:
                deprecated.discard(made.tool)
                renamed.pop(made.tool, None)
                maps.pop(made.tool, None)
        if agent is None:
            circling = {tool for tool in renamed if tool in _circle(renamed, tool)}
            deprecated |= circling
            renamed = {tool: made for tool, made in renamed.items() if tool not in circling}
        return ToolRules(frozenset(deprecated), renamed, maps, risks)

    def checked(self, made: ToolDecision) -> "Ledger":
        """Return the ledger with one decision more.

        Raises:
            ConfigError: it renames a tool to itself or in a circle, or there is nothing to restore.
        """
        rules = self.rules(made.agent)
        whose = f" of agent {made.agent!r}" if made.agent else ""
        if made.kind == "restore" and not (made.tool in rules.retired or made.tool in rules.maps):
            decided = ", ".join(sorted(rules.retired | set(rules.maps))) or "none"
            raise ConfigError(f"tool {made.tool!r}{whose} has nothing to restore, decided on: {decided}")
        if made.kind == "rename":
            end = {**rules.renamed, made.tool: made}
            if made.tool in _circle(end, made.tool):
                raise ConfigError(
                    f"tool {made.tool!r}{whose} can't be renamed to {made.to!r}, which leads back to it; "
                    f"restore one of the names first"
                )
        return Ledger((*self.decisions, made))


def read_ledger(home: Path) -> Ledger:
    """Return the workspace's ledger, empty where nothing was decided.

    Raises:
        ConfigError: the file is damaged, or of a newer format.
    """
    path = home / FILE
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["format"] > FORMAT:
            raise ConfigError(
                f"{path} has format {record['format']}, this imitrace reads up to {FORMAT}: update imitrace"
            )
        return Ledger(tuple(map(ToolDecision.from_json, record["decisions"])))
    except FileNotFoundError:
        return Ledger()
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path} can't be read ({error}); put an earlier copy of it back") from error


def record_decision(home: Path, made: ToolDecision) -> Ledger:
    """Add a decision to the workspace's ledger; writers take turns, and readers find the old file or the new one.

    Raises:
        ConfigError: the decision makes no sense after the earlier ones, or the file can't be read or written.
    """
    path = home / FILE
    try:
        with locked(home):
            ledger = read_ledger(home).checked(made)
            record = {"format": FORMAT, "decisions": [decision.to_json() for decision in ledger.decisions]}
            aside = path.with_name(f".{FILE}.new")
            with aside.open("w", encoding="utf-8") as file:
                file.write(json.dumps(record, indent=1, ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            aside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}; name a --home that can") from error
    return ledger


def _circle(renamed: Mapping[str, ToolDecision], tool: str) -> set[str]:
    """Return the names that a tool's renames lead to."""
    met: set[str] = set()
    while tool in renamed and renamed[tool].to not in met:
        tool = renamed[tool].to or ""
        met.add(tool)
    return met
