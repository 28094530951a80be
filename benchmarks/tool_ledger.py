"""Rename a tool, retire another and change a third's arguments: count a clone's dead calls and the rows that are kept.

python benchmarks/tool_ledger.py            # 10,000 decisions, some minutes
python benchmarks/tool_ledger.py --quick    # 400 decisions
python benchmarks/tool_ledger.py --json     # the same as JSON
"""

import json
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch

from imitrace.canonical import canonical_json, content_hash
from imitrace.messages import Action, Message, decisions
from imitrace.schema import SCHEMA_VERSION, TABLES
from imitrace_trainer.argument_fit import misfit
from imitrace_trainer.argument_maps import ArgumentMap
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.fit import BCConfig, fit
from imitrace_trainer.policy import Policy, State, same_action
from imitrace_trainer.sources import open_source
from imitrace_trainer.stages import demonstrations
from imitrace_trainer.tool_contracts import find_contracts
from imitrace_trainer.tool_findings import complete_decision, find_changes
from imitrace_trainer.tool_ledger import ToolDecision, read_ledger, record_decision
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions

AGENT = "desk"
PACKAGES = ("imitrace", "polars", "torch")
_TYPES = {"string": pl.String, "int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean}
_OLD_SHARE = 0.9
"""Of the recorded tasks: how many were solved before the tools changed."""


def _tool(name: str, description: str, **properties: Any) -> Json:
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": description, "parameters": parameters}


TEXT = {"type": "string"}
CLOSE = _tool("close", "Close the ticket.", resolution={"type": "string", "enum": ["refunded", "refused", "heard"]})
OLD_TOOLS = [
    _tool("find_order", "Find an order.", order=TEXT),
    _tool(
        "refund",
        "Pay an order back.",
        payment_id=TEXT,
        reason={"type": "string", "enum": ["broken", "late", "unwanted"]},
    ),
    _tool("call_colleague", "Ask a colleague to take over.", topic={"type": "string", "enum": ["complaint"]}),
    CLOSE,
]
NEW_TOOLS = [
    _tool("get_order", "Find an order.", order_id=TEXT),
    _tool(
        "refund",
        "Pay an order back.",
        payment_id=TEXT,
        reason={"type": "string", "enum": ["damaged", "late", "unwanted"]},
        currency={"type": "string", "enum": ["EUR", "USD"]},
    ),
    CLOSE,
]
LEDGER = (
    ToolDecision(kind="rename", tool="find_order", to="get_order", arguments=ArgumentMap(rename={"order": "order_id"})),
    ToolDecision(kind="deprecate", tool="call_colleague"),
    ToolDecision(
        kind="map",
        tool="refund",
        arguments=ArgumentMap(values={"reason": (("broken", "damaged"),)}, constant={"currency": "EUR"}),
    ),
)
MAPPED = {"find_order": "renamed", "refund": "mapped"}
"""The tools whose recorded calls have a successor, and what becomes of these."""


@dataclass(frozen=True)
class Desk:
    """A support desk: what its expert does is a function of what was said and found."""

    new: bool
    """Whether it has the tools of today."""

    @property
    def tools(self) -> list[Json]:
        return NEW_TOOLS if self.new else OLD_TOOLS

    def solve(self, task: int) -> list[Message]:
        """Return the whole conversation of a task."""
        draw = random.Random(f"desk {task}")
        order, reason = f"W{draw.randrange(100, 99999)}", draw.choice(["broken", "late", "unwanted"])
        said = f"Order {order} came {reason}, I want my money back."
        if draw.random() < 0.25:
            said = draw.choice(["I have a complaint.", "I am angry and want to complain.", "Hear my complaint!"])
            told = [("user", said), *([] if self.new else [("call_colleague", {"topic": "complaint"}, "she is told")])]
            return _conversation([*told, ("close", {"resolution": "heard"}, "closed")])
        record = {"order": order, "payment_id": f"pay_{draw.randrange(100, 99999)}", "paid": draw.random() < 0.7}
        found = ("get_order", {"order_id": order}) if self.new else ("find_order", {"order": order})
        moves: list[tuple[Any, ...]] = [("user", said), (*found, json.dumps(record))]
        if record["paid"]:
            arguments = {"payment_id": record["payment_id"], "reason": reason}
            if self.new:
                arguments |= {"reason": reason.replace("broken", "damaged"), "currency": "EUR"}
            moves.append(("refund", arguments, "done"))
        return _conversation([*moves, ("close", {"resolution": "refunded" if record["paid"] else "refused"}, "closed")])

    def states(self, tasks: Iterator[int], history: "Desk | None" = None) -> Iterator[tuple[State, Action]]:
        """Yield decision after decision: the state, and what the expert did; ``history`` says whose calls it shows."""
        for task in tasks:
            messages = (history or self).solve(task)
            for made in decisions(messages):
                yield State(messages[: made.position], self.tools), made.actions[0]


def _conversation(moves: Sequence[tuple[Any, ...]]) -> list[Message]:
    messages: list[Message] = []
    for number, (name, *told) in enumerate(moves):
        if name == "user":
            messages.append({"role": "user", "parts": [{"type": "text", "content": told[0]}]})
            continue
        call = {"type": "tool_call", "id": f"c{number}", "name": name, "arguments": told[0]}
        answer = {"type": "tool_call_response", "id": f"c{number}", "response": told[1]}
        messages += [{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]
    return messages


def record(folder: Path, tasks: int) -> tuple[Path, dict[str, int]]:
    """Write a snapshot of so many tasks, the older ones by the old tools; return how often each old tool was called."""
    rows: dict[str, list[Json]] = {table: [] for table in TABLES}
    called: dict[str, int] = {}
    old = int(tasks * _OLD_SHARE)
    for task in range(tasks):
        desk, name = Desk(new=task >= old), f"t{task}"
        messages = desk.solve(task)
        ids = [content_hash(message) for message in messages]
        made = list(decisions(messages))
        span = {"started_at": task * 10**9, "ended_at": task * 10**9 + 1, "complete": True}
        trajectory = {"trajectory_id": name, "agent": AGENT, "task": name, "tags": "{}", "source": "benchmark"}
        rows["trajectories"].append({**trajectory, **span, "step_count": len(made)})
        rows["messages"] += [
            {"message_id": key, "role": message["role"], "content": canonical_json(message)}
            for key, message in zip(ids, messages, strict=True)
        ]
        for index, decision in enumerate(made):
            (action,) = decision.actions
            if not desk.new:
                called[str(action.name)] = called.get(str(action.name), 0) + 1
            rows["steps"].append(
                {
                    **span,
                    "trajectory_id": name,
                    "step_index": index,
                    "decision": f"{name}-{index}",
                    "agent": AGENT,
                    "policy_role": "expert",
                    "state": ids[: decision.position],
                    "trace_id": name,
                    "tools_hash": content_hash(desk.tools),
                    "action_kind": "tool_call",
                    "span_id": str(index),
                    "action_name": action.name,
                    "action_arguments": canonical_json(action.arguments),
                }
            )
    rows["messages"] = list({row["message_id"]: row for row in rows["messages"]}.values())
    for tools in (OLD_TOOLS, NEW_TOOLS):
        for position, tool in enumerate(tools):
            row = {"tools_hash": content_hash(tools), "position": position, "name": tool["name"]}
            rows["tools"].append({**row, "schema_hash": content_hash(tool), "definition": canonical_json(tool)})
    return _written(folder, rows), called


def _written(folder: Path, rows: Mapping[str, list[Json]]) -> Path:
    folder.mkdir(parents=True)
    for table, columns in TABLES.items():
        kinds = {name: kind.removesuffix("?") for name, kind in columns.items()}
        schema = {name: _TYPES.get(kind, pl.List(pl.String)) for name, kind in kinds.items()}
        shaped = [{name: row.get(name) for name in columns} for row in rows[table]]
        pl.DataFrame(shaped, schema=schema).write_parquet(folder / f"{table}.parquet")
    counts = {table: len(rows[table]) for table in TABLES}
    (folder / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "counts": counts}))
    return folder


def decide(home: Path, source: Path) -> dict[str, int]:
    """Write the decisions into the ledger; return how many findings were undecided before and after."""
    contracts = find_contracts(open_source(str(source), home).frames())
    before = find_changes(contracts, read_ledger(home))
    for made in LEDGER:
        record_decision(home, complete_decision(replace(made, at="2026-11-21T00:00:00+00:00"), contracts))
    after = find_changes(contracts, read_ledger(home))
    return {"undecided_before": sum(bool(f.open) for f in before), "undecided_after": sum(bool(f.open) for f in after)}


def clone_of(home: Path, source: Path, seed: int) -> tuple[Policy, Dataset]:
    """Curate and train a clone, which calls nothing that the workspace's ledger says is retired."""
    cohort = CohortConfig(name=AGENT, agent=AGENT, split=SplitConfig(calibration=0.2, gate=0.0))
    dataset = curate_stage(home, cohort, str(source))
    train, held = (demonstrations(dataset.examples(part)) for part in ("train", "calibration"))
    policy, _ = fit(train, held, BCConfig(device="cpu", epochs=4, batch=4, seed=seed))
    return read_ledger(home).rules(AGENT).restrict(policy), dataset


def is_dead(action: Action) -> bool:
    """Tell whether the desk of today can't carry an action out."""
    tool = next((tool for tool in NEW_TOOLS if tool["name"] == action.name), None)
    if action.kind != "tool_call":
        return False
    return tool is None or misfit(tool["parameters"], action.arguments, strict=True) is not None


def ask(policy: Policy, count: int, first: int) -> dict[str, dict[str, float]]:
    """Ask for so many decisions: of agents of today, of those with calls of old in their history, and of stale agents.

    Returns:
        For each: decisions, calls, those that are dead, and the share of decisions that are the expert's of today;
        of stale agents not, since nobody can do there what they are offered.
    """
    old, new = Desk(new=False), Desk(new=True)
    ways = {"today": (new, new), "old_history": (new, old), "stale": (old, old)}
    report: dict[str, dict[str, float]] = {}
    for name, (desk, history) in ways.items():
        asked = calls = dead = right = 0
        for state, wanted in desk.states(iter(range(first, first + count)), history):
            if asked == count:
                break
            action = policy.act(state).action
            asked, calls = asked + 1, calls + (action.kind == "tool_call")
            dead += is_dead(action)
            right += same_action(action, wanted)
        report[name] = {"decisions": asked, "calls": calls, "dead_calls": dead}
        if name == "today":
            report[name]["agreement"] = round(right / asked, 4)
    return report


def measure(*, tasks: int, count: int) -> Json:
    """Return what the ledger changes: with it and without, on the same recorded tasks and fresh ones."""
    torch.set_num_threads(1)
    each = -(-count // 3)
    folder = Path(tempfile.mkdtemp(prefix="imitrace-tools-"))
    try:
        source, called = record(folder / "snapshot", tasks)
        plain, _ = clone_of(folder / "plain", source, seed=1)
        (folder / "ledger").mkdir()
        undecided = decide(folder / "ledger", source)
        live, dataset = clone_of(folder / "ledger", source, seed=1)
        changed = dataset.manifest["tools"]["steps"]
        kept = dataset.tables()["steps"].filter(pl.col("loss_mask"))["tool_change"]
        mapped = sum(called[tool] for tool in MAPPED)
        asked = ask(live, each, first=10**6)
        without = ask(plain, each, first=10**6)
        before = ask(read_ledger(folder / "ledger").rules(AGENT).restrict(plain), each, first=10**6)
    finally:
        shutil.rmtree(folder)
    return {
        **undecided,
        "tasks": tasks,
        "decisions": sum(int(way["decisions"]) for way in asked.values()),
        "dead_calls": sum(int(way["dead_calls"]) for way in asked.values()),
        "dead_calls_before_retraining": sum(int(way["dead_calls"]) for way in before.values()),
        "dead_calls_without": sum(int(way["dead_calls"]) for way in without.values()),
        "agreement": asked["today"]["agreement"],
        "agreement_without": without["today"]["agreement"],
        "rows_with_a_map": mapped,
        "rows_with_a_map_kept": int(kept.is_in(list(MAPPED.values())).sum()),
        "rows_retired": called["call_colleague"],
        "rows_masked": changed.get("retired", 0) + changed.get("misfit", 0),
        "changes": changed,
        "with_ledger": asked,
        "without_ledger": without,
    }


def main() -> None:
    options = asking(__doc__, "60 recorded tasks and 400 decisions").parse_args()
    report = {
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "command": " ".join(["python", "benchmarks/tool_ledger.py", *sys.argv[1:]]),
        "versions": versions(PACKAGES),
        "quick": options.quick,
        **measure(tasks=60 if options.quick else 400, count=400 if options.quick else 10_000),
    }
    deliver(report, options, table)


def table(report: Json) -> str:
    """Return the report for people."""
    return "\n".join(f"{key:22} {value}" for key, value in report.items())


if __name__ == "__main__":
    main()
