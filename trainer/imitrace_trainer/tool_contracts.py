"""Find every tool contract that a source has seen: who was offered it, from when to when, and how often it was called.

A contract is an agent's tool with one definition, named by the definition's hash.
"""

import json
from bisect import bisect_right
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final

import polars as pl

from imitrace_trainer.frames import gather
from imitrace_trainer.survey import Frames

_RECENT: Final = 10
"""Trajectories: what was offered in as many of the newest counts as offered still."""
_CHANCE: Final = 0.01
"""A tool is gone when not to see it for so long would be less likely than this."""
_SPAN: Final = (pl.col("started_at").min().alias("first_seen"), pl.col("started_at").max().alias("last_seen"))
_NANOSECONDS: Final = 10**9


@dataclass(frozen=True)
class Contract:
    """An agent's tool under one definition."""

    agent: str
    name: str
    schema_hash: str | None
    """Of the definition; None for calls of a tool that was not among those offered."""
    definition: Mapping[str, Any] | None
    first_seen: int
    """Nanoseconds since 1970, UTC."""
    last_seen: int
    offered: int
    """At how many steps."""
    called: int

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values, times in ISO 8601."""
        return {**asdict(self), "first_seen": moment(self.first_seen), "last_seen": moment(self.last_seen)}


@dataclass(frozen=True)
class Contracts:
    """All contracts that a source has seen, and when each agent's trajectories began."""

    all: tuple[Contract, ...]
    """By agent, tool and first sight."""
    starts: Mapping[str, Sequence[int]]
    """By agent: when each trajectory with tools began, oldest first."""
    offering: Mapping[tuple[str, str], int]
    """By agent and tool: how many trajectories offered it."""

    def of(self, agent: str | None = None, name: str | None = None) -> list[Contract]:
        """Return the contracts of an agent, of a tool, or of both."""
        return [c for c in self.all if agent in (None, c.agent) and name in (None, c.name)]

    def agents(self) -> list[str]:
        """Name the agents."""
        return sorted({contract.agent for contract in self.all})

    def current(self, agent: str, superseded: Mapping[str, Container[str]] | None = None) -> dict[str, Contract]:
        """Return the contract in force of each of an agent's tools.

        Of those among the newest trajectories' it is the one that came last, so that a deployment that is half done
        counts as done; of tools that are gone, the last one seen.

        Args:
            agent: whose.
            superseded: by tool, the hashes of contracts that were decided to be old.
        """
        starts = self.starts.get(agent, ())
        horizon = starts[-_RECENT] if len(starts) >= _RECENT else 0
        old = superseded or {}
        best: dict[str, tuple[tuple[bool, int, int, str], Contract]] = {}
        for contract in self.of(agent):
            if contract.schema_hash is None:
                continue
            seen = min(contract.last_seen, horizon) if horizon else 0
            rank = (
                contract.schema_hash not in old.get(contract.name, ()),
                seen,
                contract.first_seen,
                contract.schema_hash,
            )
            if contract.name not in best or rank > best[contract.name][0]:
                best[contract.name] = rank, contract
        return {name: contract for name, (_, contract) in best.items()}

    def vanished(self, agent: str) -> dict[str, int]:
        """Return the tools that an agent is offered no more, and how many trajectories began since each was last seen.

        A tool is gone when, had it been offered as often as before, all of these would have missed it by chance in one
        case of a hundred or less.
        """
        starts = self.starts.get(agent, ())
        gone = {}
        for name in sorted({c.name for c in self.of(agent) if c.schema_hash is not None}):
            spans = [c for c in self.of(agent, name) if c.schema_hash is not None]
            since = len(starts) - bisect_right(starts, max(c.last_seen for c in spans))
            until = len(starts) - since - bisect_right(starts, min(c.first_seen for c in spans) - 1)
            share = self.offering.get((agent, name), 0) / (until + 1)
            if since and (1 - min(share, 1.0)) ** since <= _CHANCE:
                gone[name] = since
        return gone


def find_contracts(frames: Frames, agent: str | None = None) -> Contracts:
    """Return the contracts that a source has seen, of one agent or of all.

    Args:
        frames: the tables of ``schema.TABLES`` by name; steps and tools are looked at.
        agent: whose; None for everybody's.
    """
    steps = frames["steps"] if agent is None else frames["steps"].filter(pl.col("agent") == agent)
    tools = frames["tools"].sort("tools_hash", "position").unique(["tools_hash", "name"], keep="first")
    listed = steps.filter(pl.col("tools_hash").is_not_null())
    lists = listed.group_by("agent", "tools_hash").agg(pl.len().alias("offered"), *_SPAN)
    calls = (
        steps.filter((pl.col("action_kind") == "tool_call") & pl.col("action_name").is_not_null())
        .group_by("agent", "tools_hash", pl.col("action_name").alias("name"))
        .agg(pl.len().alias("called"), *_SPAN)
    )
    names = tools.select("tools_hash", "name")
    met = listed.select("agent", "trajectory_id", "tools_hash").unique().join(names, on="tools_hash")
    found = gather(
        {
            "offered": lists.join(tools, on="tools_hash").sort("first_seen"),
            "called": calls.join(tools, on=["tools_hash", "name"], how="left"),
            "starts": listed.group_by("agent", "trajectory_id").agg(pl.col("started_at").min()).sort("started_at"),
            "offering": met.unique(["agent", "trajectory_id", "name"]).group_by("agent", "name").len(),
        }
    )
    starts: dict[str, list[int]] = {}
    for whose, start in found["starts"].select("agent", "started_at").iter_rows():
        starts.setdefault(whose, []).append(start)
    offering = {(whose, name): count for whose, name, count in found["offering"].iter_rows()}
    rows = [*found["offered"].iter_rows(named=True), *found["called"].iter_rows(named=True)]
    return Contracts(_merged(rows), starts, offering)


def moment(nanoseconds: int) -> str:
    """Return a time in ISO 8601, UTC, to the second."""
    return datetime.fromtimestamp(nanoseconds // _NANOSECONDS, UTC).isoformat(timespec="seconds")


def _merged(rows: Iterable[Mapping[str, Any]]) -> tuple[Contract, ...]:
    found: dict[tuple[str, str, str | None], Contract] = {}
    for row in rows:
        key = (row["agent"], row["name"], row["schema_hash"])
        before = found.get(key)
        if before is None:
            definition = json.loads(row["definition"]) if row["definition"] else None
            before = Contract(*key, definition, row["first_seen"], row["last_seen"], 0, 0)
        found[key] = replace(
            before,
            first_seen=min(before.first_seen, row["first_seen"]),
            last_seen=max(before.last_seen, row["last_seen"]),
            offered=before.offered + row.get("offered", 0),
            called=before.called + row.get("called", 0),
        )
    return tuple(sorted(found.values(), key=lambda c: (c.agent, c.name, c.first_seen, c.schema_hash or "")))
