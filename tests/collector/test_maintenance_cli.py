import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store


def imitrace(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def home(tmp_path: Path, line: dict[str, object]) -> Path:
    """A workspace with one trajectory in its store."""
    (tmp_path / "chat.jsonl").write_text(json.dumps(line) + "\n")
    imitrace("import", tmp_path / "chat.jsonl", "--agent", "desk", "--home", tmp_path / "home")
    return tmp_path / "home"


def trajectories(home: Path) -> list[str]:
    listed = json.loads(imitrace("trajectories", "--home", home, "--json").output)
    return [row["trajectory_id"] for row in listed]


def test_expire_says_what_goes_and_deletes_it(home: Path) -> None:
    with Store.open(home / "traces.duckdb") as store, store.session() as session, session.transaction():
        session.execute("UPDATE chunks SET received_at = 0")
    dry = imitrace("expire", "--older-than", "30d", "--dry-run", "--home", home).output
    assert dry.startswith("desk: 1 trajectories, 0 others, 3 spans, 0 log records, ")
    assert dry.endswith(" bytes would expire\n")
    assert trajectories(home) == ["t1"]
    assert imitrace("expire", "--older-than", "30d", "--agent", "other", "--home", home).output == "nothing expired\n"
    gone = json.loads(imitrace("expire", "--older-than", "30d", "--agent", "desk", "--home", home, "--json").output)
    assert (gone["dry_run"], gone["agents"]["desk"]["spans"]) == (False, 3)
    assert trajectories(home) == []


def test_what_is_new_stays(home: Path) -> None:
    assert imitrace("expire", "--older-than", "30d", "--dry-run", "--home", home).output == "nothing expires\n"
    assert imitrace("expire", "--max-bytes", "1GB", "--home", home).output == "nothing expired\n"


@pytest.mark.parametrize("arguments", [[], ["--agent", "desk"], ["--agent", "desk", "--max-bytes", "1GB"]])
def test_expire_asks_for_a_limit(home: Path, arguments: list[str]) -> None:
    result = imitrace("expire", *arguments, "--home", home)
    assert (result.exit_code, "say --older-than, --max-bytes, or" in result.stderr) == (2, True)


def test_compact_says_how_large_the_file_was_and_is(home: Path) -> None:
    done = json.loads(imitrace("compact", "--home", home, "--json").output)
    assert done["after"] == (home / "traces.duckdb").stat().st_size
    assert f"{done['after']} bytes before" in imitrace("compact", "--home", home).output


def test_a_backup_is_restored(home: Path, tmp_path: Path) -> None:
    written = imitrace("backup", tmp_path / "backups", "--home", home).output.strip()
    told = imitrace("restore", written, "--home", tmp_path / "new").output
    assert told == f"3 spans restored to {tmp_path / 'new' / 'traces.duckdb'}\n"
    assert trajectories(tmp_path / "new") == ["t1"]
    refused = imitrace("restore", written, "--home", home)
    assert (refused.exit_code, "say --force to put it aside" in refused.stderr) == (2, True)
    done = json.loads(imitrace("restore", written, "--home", home, "--force", "--json").output)
    assert Path(done["kept"]).is_file()
    assert "; the former one is " in imitrace("restore", written, "--home", home, "--force").output


def test_migrate_says_that_nothing_is_to_be_done(home: Path) -> None:
    assert imitrace("migrate", "--home", home).output == "the store has store_version 3, as this program needs\n"
    assert json.loads(imitrace("migrate", "--home", home, "--json").output)["kept"] is None


@pytest.mark.parametrize(
    "arguments", [["expire", "--older-than", "1d"], ["compact"], ["restore", "anywhere"], ["migrate"]]
)
def test_a_store_that_a_collector_holds_is_left(
    collector: CollectorServer, config: CollectorConfig, arguments: list[str]
) -> None:
    result = imitrace(*arguments, "--home", config.home)
    assert result.exit_code == 2
    assert f"a collector runs on {config.home} at {collector.http}; stop it first" in result.stderr


@pytest.mark.parametrize("arguments", [["expire", "--older-than", "1d"], ["compact"], ["backup", "b"], ["migrate"]])
def test_without_a_store_a_command_says_so(tmp_path: Path, arguments: list[str]) -> None:
    result = imitrace(*arguments, "--home", tmp_path)
    assert (result.exit_code, "no store at" in result.stderr) == (2, True)


@pytest.mark.parametrize("command", ["expire", "compact", "backup", "restore", "migrate"])
def test_every_command_has_help_with_examples(command: str) -> None:
    result = imitrace(command, "--help")
    assert result.exit_code == 0
    assert f"Examples:\n    imitrace {command}" in result.output
