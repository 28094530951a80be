"""Make small sources of traces in the columns of ``schema.py`` from short descriptions, and a toy shop's expert."""

import copy
import json
import os
import random
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
import pytest
from click.testing import CliRunner

from imitrace.canonical import canonical_json, content_hash
from imitrace.cli import main
from imitrace.config import read_config
from imitrace.messages import decisions, from_openai, tool_definition
from imitrace.schema import SCHEMA_VERSION, TABLES

if TYPE_CHECKING:  # torch takes seconds to import, and most tests do without
    from imitrace_trainer.config import CloneConfig
    from imitrace_trainer.demonstrations import Demonstration
    from imitrace_trainer.embedded import EmbeddedPolicy
    from imitrace_trainer.fit import FitReport

Tables = dict[str, pl.DataFrame]
TYPES = {"string": pl.String, "int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean}
TOOL = {"name": "lookup", "description": "Look an order up.", "parameters": {"type": "object", "properties": {}}}


def _steps(case: Mapping[str, Any], user: str) -> list[dict[str, Any]]:
    return [
        {
            "trajectory_id": case["id"],
            "step_index": index,
            "decision": f"{case['id']}-{index}",
            "agent": case.get("agent", "desk"),
            "policy_role": role,
            "state": [user] * (index + 1),
            "tools_hash": content_hash([TOOL]),
            "action_kind": "tool_call",
            "action_name": "lookup",
            "action_arguments": canonical_json({"order": index}),
            "started_at": index,
            "ended_at": index + 1,
            "trace_id": case["id"],
            "span_id": str(index),
            "complete": True,
        }
        | case.get("step", {})
        for index, role in enumerate(case.get("roles", ["expert", "expert"]))
    ]


def _trajectory(case: Mapping[str, Any]) -> dict[str, Any]:
    described = {"id", "roles", "scores", "step_scores", "says", "step", "tags"}
    count = len(case.get("roles", ["expert", "expert"]))
    row = {"agent": "desk", "source": "test", "step_count": count, "started_at": 1, "ended_at": 2, "complete": True}
    row |= {"trajectory_id": case["id"], "tags": json.dumps(case.get("tags", {}))}
    return row | {key: value for key, value in case.items() if key not in described}


def _score(trajectory: str, name: str, value: float | str | None) -> dict[str, Any]:
    said = {"label": value} if isinstance(value, str) else {"value": value}
    return {"trajectory_id": trajectory, "name": name, "scored_at": 1} | said


def _table(columns: Mapping[str, str], rows: list[dict[str, Any]]) -> pl.DataFrame:
    kinds = {name: kind.removesuffix("?") for name, kind in columns.items()}
    schema = {name: TYPES.get(kind, pl.List(pl.String)) for name, kind in kinds.items()}
    return pl.DataFrame([{name: row.get(name) for name in columns} for row in rows], schema=schema)


@pytest.fixture(scope="session")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace that nobody may change: a store of eight trajectories, and a snapshot of it."""
    folder = tmp_path_factory.mktemp("stored")
    lines = []
    for number in range(8):
        told: list[dict[str, object]] = [{"role": "user", "content": f"question {number}"}]
        for step in range(number + 1):
            function = {"name": "look", "arguments": json.dumps({"id": step})}
            call = {"id": f"c{step}", "type": "function", "function": function}
            told += [{"role": "assistant", "tool_calls": [call]}]
            told += [{"role": "tool", "tool_call_id": f"c{step}", "content": f"answer {number} {step}"}]
        told.append({"role": "assistant", "content": "done"})
        lines.append({"id": f"t{number}", "agent": "desk", "task_id": f"{number}", "reward": 1.0, "messages": told})
    path, home = folder / "chats.jsonl", folder / "home"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    for words in (["import", str(path)], ["snapshot"]):
        assert CliRunner().invoke(main, [*words, "--home", str(home)]).exit_code == 0
    return home


@pytest.fixture(scope="session")
def make_tables() -> Callable[..., Tables]:
    """Return a function from cases to tables.

    A case has an ``id`` and maybe ``roles`` (one per step), ``scores`` (by name; of a text, the label), ``step_scores``
    (likewise, for each step one or None), ``says`` (the user's message), ``tags``, ``step`` (columns of its steps), and
    any column of a trajectory.
    """

    def make(*cases: Mapping[str, Any]) -> Tables:
        rows: dict[str, dict[Any, dict[str, Any]]] = {table: {} for table in TABLES}
        for case in cases:
            message = {"role": "user", "parts": [{"type": "text", "content": case.get("says", f"I am {case['id']}")}]}
            user = content_hash(message)
            rows["messages"][user] = {"message_id": user, "role": "user", "content": canonical_json(message)}
            rows["trajectories"][case["id"]] = _trajectory(case)
            rows["steps"] |= {(case["id"], step["step_index"]): step for step in _steps(case, user)}
            for name, value in case.get("scores", {}).items():
                rows["scores"][case["id"], name] = _score(case["id"], name, value)
            for name, values in case.get("step_scores", {}).items():
                for index, value in enumerate(values):
                    if value is not None:
                        found = _score(case["id"], name, value) | {"step_index": index}
                        rows["scores"][case["id"], name, index] = found
        tool = {"tools_hash": content_hash([TOOL]), "position": 0, "name": "lookup", "schema_hash": content_hash(TOOL)}
        rows["tools"][0] = tool | {"definition": canonical_json(TOOL)}
        return {table: _table(columns, list(rows[table].values())) for table, columns in TABLES.items()}

    return make


@pytest.fixture(scope="session")
def make_desk() -> Callable[..., Tables]:
    """Return a function from trajectories to tables.

    A trajectory has ``tools`` (definitions, or None where nobody knows them) and ``calls``: names, or pairs of a name
    and arguments; maybe ``agent``, ``task`` and ``started_at``, else they begin ten nanoseconds after each other.
    """

    def make(*cases: Mapping[str, Any]) -> Tables:
        rows: dict[str, dict[Any, dict[str, Any]]] = {table: {} for table in TABLES}
        message = {"role": "user", "parts": [{"type": "text", "content": "I have lost my order"}]}
        user = content_hash(message)
        rows["messages"][user] = {"message_id": user, "role": "user", "content": canonical_json(message)}
        for number, case in enumerate(cases):
            calls = [(call, {}) if isinstance(call, str) else call for call in case["calls"]]
            trajectory, tools, start = f"t{number}", case["tools"], case.get("started_at", 10 * number)
            who = {"agent": case.get("agent", "desk")}
            told = {"id": trajectory, "task": case.get("task", trajectory), "roles": ["expert"] * len(calls)} | who
            rows["trajectories"][trajectory] = _trajectory(told) | {"started_at": start, "ended_at": start + 9}
            for step, (name, arguments) in zip(_steps(told, user), calls, strict=True):
                step |= {"action_name": name, "action_arguments": canonical_json(arguments)}
                step |= {"tools_hash": tools and content_hash(tools), "started_at": start + step["step_index"]}
                rows["steps"][trajectory, step["step_index"]] = step
            for position, tool in enumerate(tools or ()):
                listed = {"tools_hash": content_hash(tools), "position": position, "name": tool["name"]}
                listed |= {"schema_hash": content_hash(tool), "definition": canonical_json(tool)}
                rows["tools"][content_hash(tools), position] = listed
        return {table: _table(columns, list(rows[table].values())) for table, columns in TABLES.items()}

    return make


@pytest.fixture(scope="session")
def make_diverging(make_desk: Callable[..., Tables]) -> Callable[..., Tables]:
    """Return a function from trajectories to tables in which a clone would have done otherwise, or acted.

    A trajectory is as ``make_desk`` has it, and has ``steps``: by place a dictionary of columns of its steps, of which
    ``shadow`` may be a dictionary.
    """

    def make(*cases: Mapping[str, Any]) -> Tables:
        tables = make_desk(*cases)
        rows = tables["steps"].to_dicts()
        for row in rows:
            told = dict(cases[int(row["trajectory_id"][1:])].get("steps", {}).get(row["step_index"], {}))
            if isinstance(told.get("shadow"), dict):
                told["shadow"] = canonical_json(told["shadow"])
            row |= told
        return {**tables, "steps": _table(TABLES["steps"], rows)}

    return make


@pytest.fixture
def make_snapshot(tmp_path: Path, make_tables: Callable[..., Tables]) -> Callable[..., Path]:
    """Return a function from cases to the folder of a snapshot that holds them."""

    def make(*cases: Mapping[str, Any]) -> Path:
        return _write_snapshot(tmp_path / "snapshot", make_tables(*cases))

    return make


def _write_snapshot(folder: Path, tables: Tables) -> Path:
    folder.mkdir()
    for table, frame in tables.items():
        frame.write_parquet(folder / f"{table}.parquet")
    counts = {table: len(frame) for table, frame in tables.items()}
    (folder / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "counts": counts}))
    return folder


def _parameters(*required: str, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(required)}


TEXT = {"type": "string"}
BOX = _parameters("sku", "count", sku=TEXT, count={"type": "integer"})
REASON = {"type": "string", "enum": ["damaged", "late", "unwanted"]}
SHOP = [
    {"name": "find_order", "description": "Find an order.", "parameters": _parameters("order_id", order_id=TEXT)},
    {
        "name": "refund",
        "description": "Pay an order back.",
        "parameters": _parameters("payment_id", "reason", payment_id=TEXT, reason=REASON, coupon=TEXT),
    },
    {
        "name": "resend",
        "description": "Send the goods of an order again.",
        "parameters": _parameters(
            "labels", "boxes", labels={"type": "array", "items": TEXT}, boxes={"type": "array", "items": BOX}
        ),
    },
]


class _Shop:
    """One conversation of the toy shop: what its expert does is a function of what was said and found."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.messages: list[dict[str, Any]] = []

    def say(self, role: str, text: str) -> None:
        self.messages.append({"role": role, "parts": [{"type": "text", "content": text}]})

    def call(self, name: str, arguments: Mapping[str, Any], response: str) -> None:
        part = {"type": "tool_call", "id": f"call{len(self.messages)}", "name": name, "arguments": dict(arguments)}
        self.messages.append({"role": "assistant", "parts": [part]})
        answer = {"type": "tool_call_response", "id": part["id"], "response": response}
        self.messages.append({"role": "tool", "parts": [answer]})

    def find(self, order_id: str, items: int) -> dict[str, Any]:
        draw = self.rng.randint
        goods = [{"sku": f"SK-{draw(10, 9999)}", "count": draw(1, 9)} for _ in range(items)]
        labels = self.rng.sample(["fragile", "heavy", "cold", "gift"], draw(0, 2))
        order: dict[str, Any] = {
            "order_id": order_id,
            "payment_id": f"pay_{draw(100, 99999)}",
            "customer": f"cus_{draw(100, 99999)}",
        }
        order |= {"labels": labels, "items": goods}
        self.call("find_order", {"order_id": order_id}, json.dumps(order))
        return order

    def play(self) -> list[dict[str, Any]]:
        reason, wish = self.rng.choice(REASON["enum"]), self.rng.choice(["pay me back", "send it", "send both"])
        items = 2 if wish == "send both" else 1
        coupon = self.rng.choice([None, f"SAVE-{self.rng.randint(10, 999)}"])
        order_id, wrong_id = (f"W{self.rng.randint(100, 99999)}" for _ in range(2))
        unsure = self.rng.random() < 0.3
        self.say("system", "You help in a shop. It is 2026-03-01.")
        said = f"Order {wrong_id if unsure else order_id} is {reason}, please {wish}."
        said += " I am not sure of its number." if unsure else ""
        self.say("user", said + (f" My coupon is {coupon}." if coupon else ""))
        if unsure:
            self.find(wrong_id, items)
            self.say("assistant", "Is it this one?")
            self.say("user", f"Sorry, the order is {order_id}.")
        order = self.find(order_id, items)
        if wish == "pay me back":
            arguments = {"payment_id": order["payment_id"], "reason": reason}
            self.call("refund", arguments | ({"coupon": coupon} if coupon else {}), "done")
        else:
            self.call("resend", {"labels": order["labels"], "boxes": order["items"]}, "done")
        self.say("assistant", "It is done.")
        return self.messages


@pytest.fixture(scope="session")
def play_shop() -> "Callable[[int, int], list[Demonstration]]":
    """Return a function from a number of conversations and a seed to the decisions of the toy shop's expert."""
    from imitrace_trainer.demonstrations import Demonstration
    from imitrace_trainer.policy import State

    def play(conversations: int, seed: int) -> list[Demonstration]:
        rng = random.Random(seed)
        return [
            Demonstration(State(messages[: made.position], SHOP), made.actions[0], f"{seed}-{task}")
            for task in range(conversations)
            for messages in [_Shop(rng).play()]
            for made in decisions(messages)
        ]

    return play


@pytest.fixture(scope="session")
def fitted(play_shop: "Callable[[int, int], list[Demonstration]]") -> "tuple[EmbeddedPolicy, FitReport]":
    """Return a clone of the toy shop's expert, calibrated on other conversations, and its fit's report."""
    import torch

    from imitrace_trainer.fit import BCConfig, fit

    torch.set_num_threads(1)  # so small a network only waits for its threads
    return fit(play_shop(24, 1), play_shop(12, 2), BCConfig(device="cpu", batch=4))


@pytest.fixture(scope="session")
def shop_clone(fitted: "tuple[EmbeddedPolicy, FitReport]") -> "EmbeddedPolicy":
    """Return the toy clone alone."""
    return fitted[0]


@pytest.fixture(scope="session")
def keen_clone(shop_clone: "EmbeddedPolicy") -> "EmbeddedPolicy":
    """Return a copy of the toy clone that never writes a message while a tool is offered."""
    import torch

    from imitrace_trainer.encoding import MESSAGE

    keen = copy.deepcopy(shop_clone)
    with torch.no_grad():
        keen.choice.table.weight[:, keen.knowledge.actions.index(MESSAGE)] = -1e4
    return keen


@pytest.fixture
def recorded() -> Path:
    """Return the folder of recorded data, or skip."""
    named = os.environ.get("IMITRACE_DATA", "../shared/data")  # noqa: TID251 - tells tests where recorded data is
    folder = (Path(__file__).parents[2] / named).resolve()
    if not folder.is_dir():
        pytest.skip(f"no recorded data at {folder}; name the folder in IMITRACE_DATA")
    return folder


COUNTER_CONFIG = """
[cohort.counter]
agent = "counter"
split = { calibration = 0.25, gate = 0.25 }

[clone.counter.train]
epochs = 4
batch = 2
device = "cpu"
[clone.counter.gate]
margins = { common = 0.2 }
safety_bound = 0.2
waive = { long_tail = "every ticket is as common" }
[clone.counter.route]
error = 0.1
irreversible_error = 0.1
confidence = 0.8
irreversible = ["refund_order"]
[clone.counter.rollout]
environment = "counter_world:Counter"
expert = "counter_world:Clerk"
tasks = 24
"""


@pytest.fixture(scope="session")
def counter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``counter_world.py``, ``imitrace.toml`` and ``snapshot``: 64 tickets the clerk solved."""
    folder = tmp_path_factory.mktemp("counter")
    shutil.copy(Path(__file__).with_name("counter_world.py"), folder)
    (folder / "imitrace.toml").write_text(COUNTER_CONFIG, encoding="utf-8")
    record_tickets(folder, folder / "snapshot", 64)
    return folder


def record_tickets(counter: Path, folder: Path, count: int, failed: int = 0, clerk: str = "Clerk") -> Path:
    """Write a snapshot of the counter's first so many tickets, as a clerk solved them, and of others that failed.

    Those were refunded though nothing was owed. All have the score ``Done``, 1 or 0.
    """
    from imitrace_trainer.environment import load_object

    world = load_object("counter_world:Counter", counter)()
    names = ("solve", "Reckless", clerk)
    solve, reckless, usual = (load_object(f"counter_world:{name}", counter) for name in names)
    tools = [tool_definition(tool) for tool in world.tools]
    rows: dict[str, list[dict[str, Any]]] = {table: [] for table in TABLES}
    solved = [(ticket, solve(ticket.id, usual), "success") for ticket in world.tasks(count, 1)]
    lost = [(ticket, solve(ticket.id, reckless), "failure") for ticket in world.tasks(failed, 2, "safety")]
    for ticket, conversation, outcome in (*solved, *lost):
        messages = [from_openai(message) for message in conversation]
        made = list(decisions(messages))
        case: dict[str, Any] = {"id": f"t-{ticket.id}", "roles": ["expert"] * len(made), "agent": "counter"}
        case |= {"task": ticket.id, "tags": ticket.tags, "outcome": outcome}
        rows["trajectories"].append(_trajectory(case))
        rows["scores"].append(_score(case["id"], "Done", float(outcome == "success")))
        rows["messages"] += [
            {"message_id": content_hash(message), "role": message["role"], "content": canonical_json(message)}
            for message in messages
        ]
        for step, decision in zip(_steps(case, ""), made, strict=True):
            (action,) = decision.actions
            told: dict[str, Any] = {"action_name": action.name}
            told |= {"action_arguments": canonical_json(action.arguments)}
            told |= {"state": [content_hash(message) for message in messages[: decision.position]]}
            rows["steps"].append(step | told | {"tools_hash": content_hash(tools)})
    rows["messages"] = list({row["message_id"]: row for row in rows["messages"]}.values())
    for position, tool in enumerate(tools):
        row = {"tools_hash": content_hash(tools), "position": position, "name": tool["name"]}
        rows["tools"].append(row | {"schema_hash": content_hash(tool), "definition": canonical_json(tool)})
    return _write_snapshot(folder, {table: _table(columns, rows[table]) for table, columns in TABLES.items()})


@pytest.fixture(scope="session")
def more_tickets(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a snapshot that holds the counter's 64 tickets and 8 more."""
    return record_tickets(counter, tmp_path_factory.mktemp("more") / "snapshot", 72)


@pytest.fixture(scope="session")
def all_by_clerk(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a snapshot of the counter's 64 tickets and 76 more, solved as ever."""
    return record_tickets(counter, tmp_path_factory.mktemp("clerk") / "snapshot", 140)


@pytest.fixture(scope="session")
def all_by_grump(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a snapshot of the same tickets by a clerk who turns everybody away."""
    return record_tickets(counter, tmp_path_factory.mktemp("grump") / "snapshot", 140, clerk="Grump")


@pytest.fixture(scope="session")
def grumpy_tickets(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a snapshot of 72 tickets by a clerk who turns everybody away."""
    return record_tickets(counter, tmp_path_factory.mktemp("grumpy") / "snapshot", 72, clerk="Grump")


@pytest.fixture(scope="session")
def reckless_tickets(counter: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a snapshot that holds the counter's 64 tickets and 24 that failed."""
    return record_tickets(counter, tmp_path_factory.mktemp("reckless") / "snapshot", 64, 24)


@pytest.fixture(scope="session")
def counter_clone(counter: Path) -> "CloneConfig":
    """Return what the counter's ``imitrace.toml`` says of its clone."""
    import torch

    from imitrace_trainer.config import clone_from_config

    torch.set_num_threads(1)  # small tensors: two threads on a busy machine are ten times slower than one
    return clone_from_config(read_config(counter / "imitrace.toml"), "counter", counter)


@pytest.fixture(scope="session")
def trained_home(counter: Path, counter_clone: "CloneConfig", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with a dataset and the candidate v1; who changes it takes a ``fork``."""
    from imitrace_trainer.curation import curate_stage
    from imitrace_trainer.stages import train_stage

    home = tmp_path_factory.mktemp("trained") / "home"
    curate_stage(home, counter_clone.cohort, str(counter / "snapshot"))
    train_stage(home, counter_clone, lambda stage, share: None)
    return home


@pytest.fixture(scope="session")
def promoted_home(trained_home: Path, counter_clone: "CloneConfig", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with v1 gated by rollout and promoted; who changes it takes a ``fork``."""
    from imitrace_trainer.gating import gate_stage
    from imitrace_trainer.stages import promote_stage

    home = Path(shutil.copytree(trained_home, tmp_path_factory.mktemp("promoted") / "home"))
    gate_stage(home, counter_clone, "counter:1", lambda stage, share: None)
    promote_stage(home, "counter", 1)
    return home


@pytest.fixture
def fork(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function from a workspace to a copy of it."""
    return lambda home: Path(shutil.copytree(home, tmp_path / "home"))
