"""Record traffic of the support desk, and train a clone of its expert that looks for drift."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pytest

from imitrace.canonical import canonical_json, content_hash
from imitrace.config import read_config
from imitrace.messages import decisions, from_openai, tool_definition
from imitrace.schema import SCHEMA_VERSION, TABLES
from imitrace_trainer.frames import empty
from support_desk import Desk, make_expert, play
from support_desk.tasks import INTENTS as INTENTS_BY_COHORT

if TYPE_CHECKING:  # torch takes seconds to import
    from imitrace_trainer.config import CloneConfig

MINUTE: Final = 60 * 10**9
INTENTS: Final = ("order_status", "cancel_order", "refund", "address_change")
CONFIG: Final = """
[cohort.support]
agent = "support"
split = { calibration = 0.25, gate = 0.5, seed = 1 }
[clone.support]
family = "linear"
[clone.support.train]
device = "cpu"
replies = false
[clone.support.critic]
enabled = false
[clone.support.drift]
draws = 500
asked = 120
decisions = 4
"""

Record = Callable[..., Path]
Rows = dict[str, list[dict[str, Any]]]


def tasks_of(intents: Sequence[str], count: int, seed: int) -> list[Any]:
    """Return tasks of the desk, as many of each intent."""
    most = -(-count // len(intents))
    cohorts = {intent: cohort for cohort, some in INTENTS_BY_COHORT.items() for intent in some}
    found: list[list[Any]] = []
    for intent in intents:
        drawn = Desk().tasks(30 * most + 60, seed, cohorts[intent])
        found.append([task for task in drawn if task.tags["intent"] == intent][:most])
    return [task for row in zip(*found, strict=True) for task in row][:count]


def rows_of(task: Any, started: int, tools: Sequence[Mapping[str, Any]], role: str = "expert") -> Rows:
    """Return the rows of one ticket that the expert worked; its steps are said to be by a role."""
    desk = Desk()
    episode = play(desk, make_expert(desk, 0.0, 1).act, desk.reset(task.id))
    messages = [from_openai(message) for message in episode.messages]
    names = [content_hash(message) for message in messages]
    made, own = list(decisions(messages)), f"t-{started}-{task.id}"
    trajectory: dict[str, Any] = {
        "trajectory_id": own,
        "agent": "support",
        "task": task.id,
        "tags": json.dumps(task.tags),
    }
    trajectory |= {"outcome": "success", "source": "test", "step_count": len(made), "complete": True}
    common: dict[str, Any] = {"trajectory_id": own, "agent": "support", "policy_role": role, "policy_name": "script"}
    common |= {"complete": True, "trace_id": own, "tools_hash": content_hash([*tools]), "started_at": started}
    steps = []
    for index, decision in enumerate(made):
        action = decision.actions[0]
        row = {"step_index": index, "decision": f"{own}-{index}", "span_id": str(index), "ended_at": started}
        row |= {"state": names[: decision.position], "action_kind": action.kind, "action_name": action.name}
        row |= {"action_arguments": canonical_json(action.arguments), "action_message": action.message}
        steps.append(common | row)
    told = [
        {"message_id": name, "role": message["role"], "content": canonical_json(message)}
        for name, message in zip(names, messages, strict=True)
    ]
    trajectory |= {"started_at": started, "ended_at": started + MINUTE - 1}
    return {"trajectories": [trajectory], "steps": steps, "messages": told, "tools": tool_rows(tools)}


def tool_rows(tools: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return tools that were offered together as rows."""
    whole = content_hash([*tools])
    return [
        {"tools_hash": whole, "position": place, "name": tool["name"]}
        | {"schema_hash": content_hash(dict(tool)), "definition": canonical_json(dict(tool))}
        for place, tool in enumerate(tools)
    ]


def written(folder: Path, parts: Sequence[Rows]) -> Path:
    """Write rows as a snapshot."""
    folder.mkdir(parents=True)
    keys = {"messages": ["message_id"], "tools": ["tools_hash", "position"]}
    counts = {}
    for table, columns in TABLES.items():
        rows = [{name: row.get(name) for name in columns} for part in parts for row in part.get(table, [])]
        frame = pl.DataFrame(rows, schema=empty(columns).schema)
        frame = frame.unique(keys[table], maintain_order=True) if table in keys else frame
        frame.write_parquet(folder / f"{table}.parquet")
        counts[table] = len(frame)
    (folder / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "counts": counts}))
    return folder


def desk_tools() -> list[dict[str, Any]]:
    """Return the desk's tools as they are offered."""
    return [tool_definition(tool) for tool in Desk().tools]


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """Return a function from a count and a seed to a snapshot of the expert's work, a ticket a minute.

    Of the tickets ``new`` are of an intent that training never had; the tool ``without`` is not offered.
    """

    def make(
        count: int = 60,
        seed: int = 9,
        start: int = 10_000,
        new: int = 0,
        without: str | None = None,
    ) -> Path:
        tools = [tool for tool in desk_tools() if tool["name"] != without]
        tasks = tasks_of(INTENTS, count - new, seed)
        tasks += tasks_of(["lost_parcel"], new, seed) if new else []
        parts = [rows_of(task, (start + number) * MINUTE, tools) for number, task in enumerate(tasks)]
        return written(tmp_path_factory.mktemp("traffic") / "snapshot", parts)

    return make


@pytest.fixture(scope="session")
def support(tmp_path_factory: pytest.TempPathFactory) -> "CloneConfig":
    """Return the configuration of the desk's clone; its folder holds ``imitrace.toml``."""
    from imitrace_trainer.config import clone_from_config

    folder = tmp_path_factory.mktemp("support")
    (folder / "imitrace.toml").write_text(CONFIG, encoding="utf-8")
    return clone_from_config(read_config(folder / "imitrace.toml"), "support", folder)


@pytest.fixture(scope="session")
def support_home(support: "CloneConfig", record: Record, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace whose champion was trained on 240 tickets; who changes it takes a ``fork``."""
    import torch

    from imitrace_trainer.curation import curate_stage
    from imitrace_trainer.stages import train_stage

    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("support-home") / "home"
    curate_stage(home, support.cohort, str(record(count=240, seed=1, start=0)))
    train_stage(home, support, lambda stage, share: None)
    crown(home, 1)
    return home


def crown(home: Path, version: int) -> None:
    """Make a version the champion, without a gate: what is tested is what comes after it."""
    aliases = home / "clones" / "support" / "aliases.json"
    aliases.write_text(json.dumps({"champion": version}), encoding="utf-8")


@pytest.fixture
def home(support_home: Path, tmp_path: Path) -> Path:
    """Return a copy of the workspace."""
    return Path(shutil.copytree(support_home, tmp_path / "home"))
