"""Bring recorded decisions to the tools of today: rewrite calls, mask what has no successor, offer what there is now.

What was said and done before a decision stays as it was; the tools offered, and the call that is learned, are current.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import polars as pl

from imitrace.canonical import canonical_json, content_hash
from imitrace.schema import TOOLS
from imitrace_trainer.argument_fit import all_fit, misfit_of
from imitrace_trainer.argument_maps import ArgumentMap
from imitrace_trainer.frames import gather
from imitrace_trainer.portions import portions
from imitrace_trainer.survey import Frames
from imitrace_trainer.tool_contracts import Contract, Contracts, find_contracts
from imitrace_trainer.tool_ledger import ToolRules

CHANGES: Final[Mapping[str, str]] = {
    "renamed": "has another name, and maybe other arguments",
    "mapped": "has other arguments",
    "carried": "was made under an older contract and fits the one in force as it is",
    "retired": "context only: its tool is retired",
    "misfit": "context only: its arguments don't fit the contract in force",
}
"""What can become of a call."""
COLUMNS: Final = {"tool_change": "string?", "tool_reason": "string?"}
"""What ``migrate`` adds to steps: one of ``CHANGES``, and why the step is masked where it is."""
_KEYS: Final = ("trajectory_id", "step_index")
_CALL: Final = pl.Struct({"name": pl.String(), "arguments": pl.String()})
_NOTHING: Final = (None, None)


Call = tuple[str | None, str | None, str | None, str | None]
"""A call's name and arguments, None where they are what they were, and ``COLUMNS``."""


@dataclass(frozen=True)
class Fate:
    """What becomes of the calls of one contract."""

    name: str
    """The tool's name now."""
    maps: tuple[ArgumentMap, ...] = ()
    renamed: bool = False
    retired: bool = False
    guessed: bool = False
    """Nobody knows under which contract the call was made: map it only where it does not fit as it is."""
    contract: Contract | None = None
    """The one in force; None where nobody knows it."""
    same: bool = True
    """Whether the call was made under it."""

    @property
    def idle(self) -> bool:
        """Tell whether there is nothing to do or to check."""
        unjudged = self.contract is None or (self.same and all_fit(self._parameters))
        return unjudged and not (self.maps or self.renamed or self.retired)

    @cached_property
    def misfit(self) -> Callable[[Mapping[str, Any]], str | None]:
        """Say why arguments don't fit the contract in force, None when they do."""
        return misfit_of(self._parameters, strict=not self.same)

    @property
    def _parameters(self) -> object:
        return ((self.contract.definition if self.contract else None) or {}).get("parameters")

    def rewrite(self, arguments: str | None) -> Call:
        """Return a call's name, arguments, what was done, and why it is masked if it is; None is what it was."""
        if self.retired:
            return None, None, "retired", f"tool {self.name!r} is retired"
        before = _object(arguments)
        problem = self.misfit(before) if self.guessed or not self.maps else None
        after = before
        if self.maps and (problem or not self.guessed):
            for each in self.maps:
                after = each.apply(after)
            problem = self.misfit(after)
        if problem:
            return None, None, "misfit", f"{self.name}: {problem}"
        text = None if after is before or canonical_json(after) == canonical_json(before) else canonical_json(after)
        change = "renamed" if self.renamed else "mapped" if text else None if self.same else "carried"
        return self.name, text, change, None


def find_fate(name: str, schema_hash: str | None, rules: ToolRules, current: Mapping[str, Contract]) -> Fate:
    """Return what becomes of calls of a tool that were made under a contract.

    Args:
        name: the tool, as it was called.
        schema_hash: the contract's; None where the tool was not among those offered.
        rules: what was decided.
        current: the contract in force, by tool.
    """
    maps: list[ArgumentMap] = []
    first, known = name, schema_hash
    while True:
        for move in rules.maps.get(name, ()):
            if known is None or known in move.sources or (not move.sources and known != move.target):
                maps += [move.arguments] if move.arguments else []
                known = (move.target or _hash(current.get(name))) if known else None
        if name not in rules.renamed:
            break
        move = rules.renamed[name]
        maps += [move.arguments] if move.arguments else []
        name = move.to or ""
        known = move.target or _hash(current.get(name))
    contract = current.get(name)
    return Fate(
        name=name,
        maps=tuple(maps),
        renamed=name != first,
        retired=name in rules.deprecated,
        guessed=schema_hash is None and name == first,
        contract=contract,
        same=name == first and schema_hash is not None and schema_hash == _hash(contract),
    )


def migrate(frames: Frames, rules: ToolRules, agent: str) -> dict[str, pl.LazyFrame]:
    """Return the tables with an agent's steps and tools brought to the contracts in force.

    Steps get ``tool_change`` and ``tool_reason`` (see ``COLUMNS``), trajectories ``retired_tool``: which of their calls
    is the first of a retired tool. Steps of other agents, states, and the order of rows, are as they were. Calls are
    judged here, once; where a map writes their arguments anew, it does so whenever the plan is run.

    Args:
        frames: the tables of ``schema.TABLES`` by name.
        rules: what was decided about the agent's tools.
        agent: whose calls.
    """
    contracts = find_contracts(frames, agent)
    current = contracts.current(agent, rules.superseded)
    fates = _fates(contracts, rules, current)
    changed = _changed(frames, fates, agent)
    retired = changed.filter(pl.col("tool_change") == "retired").group_by("trajectory_id")
    first = pl.format("step {}: {}", "step_index", "tool_reason").sort_by("step_index").first().alias("retired_tool")
    lists = _lists(frames, rules, current, agent).filter(pl.col("new_hash") != pl.col("tools_hash"))
    steps = _with(_rewritten(frames, fates, agent), changed, _KEYS)
    return {
        **frames,
        "trajectories": _with(frames["trajectories"], retired.agg(first), _KEYS[:1]),
        "steps": _offering(steps, lists, agent).select(*frames["steps"].collect_schema().names(), *COLUMNS),
        "tools": _with_lists(frames["tools"], lists),
    }


def count_changes(steps: pl.DataFrame) -> dict[str, int]:
    """Return how many steps each of ``CHANGES`` befell."""
    found = dict(steps["tool_change"].drop_nulls().value_counts().iter_rows())
    return {change: found[change] for change in CHANGES if change in found}


def _object(text: str | None) -> dict[str, Any]:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _hash(contract: Contract | None) -> str | None:
    return contract.schema_hash if contract else None


def _fates(contracts: Contracts, rules: ToolRules, current: Mapping[str, Contract]) -> dict[tuple[str, str], Fate]:
    """Return what becomes of each contract's calls, by name and hash (empty where it is unknown)."""
    called = [contract for contract in contracts.all if contract.called]
    found = {(c.name, c.schema_hash or ""): find_fate(c.name, c.schema_hash, rules, current) for c in called}
    return {key: fate for key, fate in found.items() if not fate.idle}


def _changed(frames: Frames, fates: Mapping[tuple[str, str], Fate], agent: str) -> pl.DataFrame:
    """Return the keys of the steps to whose calls something happens, with ``COLUMNS``."""
    kinds = {"trajectory_id": pl.String, "step_index": pl.Int64, **dict.fromkeys(COLUMNS, pl.String)}
    found = [pl.DataFrame(schema=kinds)]
    if not fates:
        return found[0]
    listed = list(fates.values())
    calls = _fated(frames, fates, agent).filter(pl.col("fate").is_not_null())
    for portion in portions(calls.select(*_KEYS, "fate", "action_arguments"), ["action_arguments"]):
        each = portion.select("fate", "action_arguments").iter_rows()
        told = [listed[fate].rewrite(arguments)[2:] for fate, arguments in each]
        columns = dict(zip(COLUMNS, zip(*told, strict=True), strict=True))
        verdicts = portion.select(_KEYS).with_columns(pl.Series(name, columns[name], pl.String) for name in COLUMNS)
        found.append(verdicts.filter(pl.col("tool_change").is_not_null()))
    return pl.concat(found).unique(_KEYS, keep="first", maintain_order=True)


def _fated(frames: Frames, fates: Mapping[tuple[str, str], Fate], agent: str) -> pl.LazyFrame:
    """Return the steps with ``fate``, the place among ``fates`` of what becomes of their calls."""
    numbers = pl.LazyFrame(
        [(*key, number) for number, key in enumerate(fates)],
        schema={"action_name": pl.String, "call_schema": pl.String, "fate": pl.Int64},
        orient="row",
    )
    offered = (
        frames["tools"]
        .sort("tools_hash", "position")
        .unique(["tools_hash", "name"], keep="first")
        .select("tools_hash", pl.col("name").alias("action_name"), pl.col("schema_hash").alias("call_schema"))
    )
    mine = (pl.col("agent") == agent) & (pl.col("action_kind") == "tool_call")
    return (
        frames["steps"]
        .join(offered, on=["tools_hash", "action_name"], how="left", maintain_order="left")
        .with_columns(pl.col("call_schema").fill_null(""))
        .join(numbers, on=["action_name", "call_schema"], how="left", maintain_order="left")
        .with_columns(pl.when(mine).then("fate").alias("fate"))
    )


def _rewritten(frames: Frames, fates: Mapping[tuple[str, str], Fate], agent: str) -> pl.LazyFrame:
    """Return the steps with the names and arguments that their calls have now."""
    moved = {key: fate for key, fate in fates.items() if fate.maps or fate.renamed}
    if not moved:
        return frames["steps"]
    listed = list(moved.values())

    def rewrite(calls: pl.Series) -> pl.Series:
        each = zip(*(calls.struct.field(name).to_list() for name in ("fate", "action_arguments")), strict=True)
        told = [_NOTHING if fate is None else listed[fate].rewrite(arguments)[:2] for fate, arguments in each]
        return pl.DataFrame(told, schema=_CALL.to_schema(), orient="row").to_struct(calls.name)

    call = pl.struct("fate", "action_arguments").map_batches(rewrite, return_dtype=_CALL, is_elementwise=True)
    steps = _fated(frames, moved, agent).with_columns(call.alias("call"))
    return steps.with_columns(
        pl.coalesce(pl.col("call").struct.field("name"), "action_name").alias("action_name"),
        pl.coalesce(pl.col("call").struct.field("arguments"), "action_arguments").alias("action_arguments"),
    )


def _with(frame: pl.LazyFrame, more: pl.DataFrame, keys: Sequence[str]) -> pl.LazyFrame:
    """Return a frame with another's columns, null where that has no row; a join costs, and mostly there is nothing."""
    if more.is_empty():
        return frame.with_columns(pl.lit(None, more.schema[name]).alias(name) for name in more.columns[len(keys) :])
    return frame.join(more.lazy(), on=keys, how="left", maintain_order="left")


def _offering(steps: pl.LazyFrame, lists: pl.DataFrame, agent: str) -> pl.LazyFrame:
    """Return the steps with the hashes of the lists of tools that the agent would be offered now."""
    if lists.is_empty():
        return steps
    hashes = lists.lazy().select("tools_hash", "new_hash").unique().with_columns(agent=pl.lit(agent))
    return steps.join(hashes, on=["agent", "tools_hash"], how="left", maintain_order="left").with_columns(
        pl.coalesce("new_hash", "tools_hash").alias("tools_hash")
    )


def _with_lists(tools: pl.LazyFrame, lists: pl.DataFrame) -> pl.LazyFrame:
    if lists.is_empty():
        return tools
    made = lists.drop("tools_hash").rename({"new_hash": "tools_hash"}).unique().drop_nulls("name").select(list(TOOLS))
    return pl.concat([tools.join(made.lazy(), on="tools_hash", how="anti"), made.lazy()])


def _lists(frames: Frames, rules: ToolRules, current: Mapping[str, Contract], agent: str) -> pl.DataFrame:
    """Return the rows of every list of tools that the agent was offered as it would be now, with ``new_hash``.

    A list of which nothing is left has one row without a name.
    """
    mine = frames["steps"].filter(pl.col("agent") == agent).select("tools_hash").unique()
    found = gather({"tools": frames["tools"].join(mine, on="tools_hash", how="semi").sort("tools_hash", "position")})
    rows: list[dict[str, Any]] = []
    for (tools_hash,), listed in found["tools"].group_by("tools_hash", maintain_order=True):
        texts = list(_offered(listed.select("name", "schema_hash", "definition").iter_rows(), rules, current))
        new_hash = content_hash([json.loads(text) for _, _, text in texts])
        rows += [
            {"name": name, "schema_hash": schema, "definition": text, "position": position}
            | {"tools_hash": tools_hash, "new_hash": new_hash}
            for position, (name, schema, text) in enumerate(texts or [(None, None, "null")])
        ]
    kinds = {"tools_hash": pl.String, "position": pl.Int64, "name": pl.String, "schema_hash": pl.String}
    return pl.DataFrame(rows, schema={**kinds, "definition": pl.String, "new_hash": pl.String})


def _offered(
    rows: Iterable[tuple[str, str, str]], rules: ToolRules, current: Mapping[str, Contract]
) -> Iterable[tuple[str, str, str]]:
    """Yield (name, hash, definition) of a list's tools as they are now: renamed, in force, without the retired ones."""
    given: set[str] = set()
    for old, schema, text in rows:
        name = rules.name_now(old)
        if name in rules.deprecated or name in given:
            continue
        given.add(name)
        contract = current.get(name)
        if contract is not None and contract.schema_hash is not None:
            yield name, contract.schema_hash, canonical_json(contract.definition)
        elif name == old:
            yield name, schema, text
        else:
            definition = {**json.loads(text), "name": name}
            yield name, content_hash(definition), canonical_json(definition)
