import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace.schema import SCHEMA_VERSION
from imitrace_trainer.curation import page_of
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.tool_ledger import read_ledger

if TYPE_CHECKING:
    import polars as pl

Desk = Callable[..., "dict[str, pl.DataFrame]"]
Json = dict[str, Any]  # a JSON object

DECIDING = ["deprecate", "rename", "map", "restore", "risk"]


def tool(name: str, *required: str) -> Json:
    properties = {argument: {"type": "string"} for argument in required}
    return {"name": name, "parameters": {"type": "object", "properties": properties, "required": [*required]}}


OLD = [tool("look", "order"), tool("refund", "order"), tool("call")]
NEW = [tool("find", "order_id"), tool("refund", "order", "reason")]
BEFORE = {"tools": OLD, "calls": [("look", {"order": "W1"}), ("refund", {"order": "W1"}), ("call", {})]}
AFTER = {"tools": NEW, "calls": [("find", {"order_id": "W2"}), ("refund", {"order": "W2", "reason": "late"})]}


@pytest.fixture
def desk(make_desk: Desk, tmp_path: Path) -> tuple[str, ...]:
    """The options that name a workspace, and a snapshot of an agent whose tools changed."""
    folder = tmp_path / "snapshot"
    folder.mkdir()
    tables = make_desk(*[BEFORE] * 5, *[AFTER] * 5)
    for table, frame in tables.items():
        frame.write_parquet(folder / f"{table}.parquet")
    counts = {table: len(frame) for table, frame in tables.items()}
    (folder / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "counts": counts}))
    return "--source", str(folder), "--home", str(tmp_path / "home")


def imitrace(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def test_the_list_shows_every_contract_and_what_it_is_now(desk: tuple[str, ...]) -> None:
    assert imitrace("tools", "deprecate", "call", *desk).exit_code == 0
    lines = imitrace("tools", *desk).stdout.splitlines()
    assert lines[0].split() == [
        "agent",
        "tool",
        "contract",
        "offered",
        "called",
        "first",
        "seen",
        "last",
        "seen",
        "now",
    ]
    told = [(*line.split()[1:2], *line.split()[3:5], *line.split()[7:]) for line in lines[1:]]
    assert told == [
        ("call", "15", "5", "vanished,", "deprecated"),
        ("find", "10", "5", "current"),
        ("look", "15", "5", "vanished"),
        ("refund", "15", "5", "older"),
        ("refund", "10", "5", "current"),
    ]
    rows = json.loads(imitrace("tools", "--agent", "desk", "--json", *desk).stdout)
    assert (rows[0]["name"], rows[0]["now"]) == ("call", "vanished, deprecated")
    assert rows[1]["definition"] == NEW[0]


def test_diff_blocks_until_every_breaking_change_is_decided(desk: tuple[str, ...]) -> None:
    first = imitrace("tools", "diff", *desk)
    assert first.exit_code == 1
    assert first.stdout.splitlines() == [
        "desk  call  vanished: not offered in 5 trajectories since 1970-01-01T00:00:00+00:00, called 5 times before",
        "  ! undecided: imitrace tools rename call NEW, or imitrace tools deprecate call",
        "desk  look  vanished: not offered in 5 trajectories since 1970-01-01T00:00:00+00:00, called 5 times before",
        "  ! undecided: imitrace tools rename look NEW, or imitrace tools deprecate look",
        "desk  refund  changed: another contract since 1970-01-01T00:00:00+00:00, 5 calls under the older one",
        "  ! reason: added, required",
        "  ! undecided: imitrace tools map refund ..., see imitrace tools map --help",
    ]
    for decision in (
        ("deprecate", "call", "--why", "the desk closed"),
        ("rename", "look", "find", "--argument", "order=order_id"),
        ("map", "refund", "--default", "reason=unknown"),
    ):
        assert imitrace("tools", *decision, *desk).exit_code == 0
    last = imitrace("tools", "diff", "--json", *desk)
    assert (last.exit_code, [row["blocks"] for row in json.loads(last.stdout)]) == (0, [False, False, False])


def test_a_decision_tells_what_it_leaves_unmapped(desk: tuple[str, ...]) -> None:
    told = imitrace("tools", "rename", "look", "find", "--by", "ann", *desk).stdout.splitlines()
    assert told[0].startswith("rename look to find (ann, 20")
    assert told[1:] == [
        "  not mapped, calls that do not fit are masked: order: removed",
        "  not mapped, calls that do not fit are masked: order_id: added, required",
    ]
    record = json.loads(imitrace("tools", "risk", "refund", "irreversible", "--agent", "desk", "--json", *desk).stdout)
    assert (record["kind"], record["agent"], record["risk"], record["unmapped"]) == ("risk", "desk", "irreversible", [])
    assert record["by"]


def test_what_is_restored_is_as_it_was_and_the_history_stays(desk: tuple[str, ...]) -> None:
    before = imitrace("tools", *desk).stdout
    imitrace("tools", "deprecate", "call", *desk)
    assert imitrace("tools", "restore", "call", "--home", desk[3]).exit_code == 0
    assert imitrace("tools", *desk).stdout == before
    assert [made.kind for made in read_ledger(Path(desk[3])).decisions] == ["deprecate", "restore"]


def test_curate_migrates_and_says_how_many_calls(desk: tuple[str, ...], tmp_path: Path) -> None:
    config = tmp_path / "imitrace.toml"
    config.write_text('[cohort.desk]\nagent = "desk"\nsplit = { calibration = 0, gate = 0 }\n', encoding="utf-8")
    plain = imitrace("curate", "desk", "--config", config, *desk)
    assert "  calls: misfit 5\n" in plain.stdout
    imitrace("tools", "rename", "look", "find", "--argument", "order=order_id", *desk)
    imitrace("tools", "deprecate", "call", *desk)
    imitrace("tools", "map", "refund", "--default", "reason=unknown", *desk)
    assert "  calls: renamed 5, mapped 5, retired 5\n" in imitrace("curate", "desk", "--config", config, *desk).stdout
    dataset = open_dataset(Path(desk[3]), "desk")
    assert dataset.manifest["tools"]["steps"] == {"renamed": 5, "mapped": 5, "retired": 5}
    assert dataset.manifest["tools"]["ledger"] == read_ledger(Path(desk[3])).rules("desk").hash
    assert {tool["name"] for example in dataset.examples() for tool in example.tools} == {"find", "refund"}
    shown = page_of(dataset).read_text(encoding="utf-8")
    assert "Calls as they are now" in shown
    assert "tool &#x27;call&#x27; is retired" in shown
    assert not re.search(r"<td class=name>(look|call)<", shown)  # tools have the names of today
    assert "tools:" in imitrace("datasets", "diff", "desk@1", "desk@2", "--home", desk[3]).stdout
    imitrace("tools", "risk", "refund", "irreversible", *desk)
    assert imitrace("curate", "desk", "--config", config, *desk).stdout.startswith("desk v2 ")
    config.write_text(config.read_text(encoding="utf-8") + 'retired_tools = "drop"\n', encoding="utf-8")
    assert "rejected: retired_tools 5\n  calls" not in imitrace("curate", "desk", "--config", config, *desk).stdout
    assert open_dataset(Path(desk[3]), "desk").rejected_counts() == {"retired_tools": 5}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tools", "--agent", "shop"), "agent 'shop' was never seen with tools, seen: desk"),
        (("tools", "deprecate", "lok"), "tool 'lok' was never seen, seen: call, find, look, refund"),
        (("tools", "risk", "look", "high"), "risk of tool 'look' is 'high', allowed: read, reversible, irreversible"),
        (("tools", "map", "refund"), "the map of tool 'refund' is empty: give --argument, --drop, --value, --default "),
        (("tools", "map", "refund", "--drop", "a", "--argument", "a=b"), "argument 'a' is named by two options"),
        (("tools", "restore", "look"), "tool 'look' has nothing to restore, decided on: none"),
        (("tools", "rename", "look", "look"), "tool 'look' can't be renamed to 'look', which leads back to it"),
    ],
)
def test_a_users_error_is_one_line_and_changes_nothing(
    desk: tuple[str, ...], words: tuple[str, ...], message: str
) -> None:
    result = imitrace(*words, *desk)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"imitrace: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert read_ledger(Path(desk[3])).decisions == ()


def test_an_option_before_the_decision_is_told_its_place(desk: tuple[str, ...]) -> None:
    result = imitrace("tools", *desk, "diff")
    assert (result.exit_code, "write --source behind 'diff'" in result.stderr) == (2, True)


def test_a_source_without_tools_says_so(make_snapshot: Callable[..., Path], tmp_path: Path) -> None:
    bare = make_snapshot({"id": "t", "step": {"action_kind": "message", "action_name": None, "tools_hash": None}})
    given = ("--source", bare, "--home", tmp_path)
    assert imitrace("tools", *given).stdout == "no tool was ever offered or called: trace an agent with tools first\n"
    assert imitrace("tools", "diff", *given).stdout == "no tool has vanished or changed\n"


@pytest.mark.parametrize("name", ["", "diff", *DECIDING])
def test_every_command_about_tools_has_examples(name: str) -> None:
    told = imitrace("tools", *([name] if name else []), "--help").stdout
    assert f"imitrace tools {name}".strip() in told
    assert "Examples:" in told
