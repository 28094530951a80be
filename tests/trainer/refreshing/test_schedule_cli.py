"""The command that schedules: what it prints, lists and refuses."""

import json
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from imitrace.cli import main

TABLE = '[clone.airline.schedule]\ncron = "30 2 * * *"\ntime_zone = "Europe/Berlin"\n'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "imitrace.toml"
    path.write_text(TABLE)
    return path


def run(config: Path, *arguments: str) -> Result:
    given = ["--home", str(config.parent / "home"), "--config", str(config)]
    return CliRunner().invoke(main, ["schedule", "airline", *given, *arguments])


def test_it_prints_lines_of_a_crontab_and_makes_nothing(config: Path) -> None:
    result = run(config)
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("@reboot mkdir -p ")
    assert all(line.endswith(f" # imitrace airline in {config.parent.resolve()}/home") for line in lines)
    assert json.loads(run(config, "--json").stdout) == {"as": "crontab", "text": result.stdout}
    assert [path.name for path in config.parent.iterdir()] == ["imitrace.toml"]


def test_it_prints_units_and_a_job(config: Path) -> None:
    units = run(config, "--as", "systemd").stdout
    assert "OnCalendar=*-*-* 02:30:00 Europe/Berlin\nOnCalendar=*-*-* 03:00:00 Europe/Berlin\n" in units
    job = yaml.safe_load(run(config, "--as", "kubernetes", "--image", "desk:2").stdout)
    assert (job["kind"], job["spec"]["schedule"]) == ("CronJob", "30 2 * * *")


def test_it_lists_the_next_runs_in_both_clocks(config: Path) -> None:
    listed = json.loads(run(config, "--list", "--count", "3", "--json").stdout)
    assert (listed["time_zone"], len(listed["next"])) == ("Europe/Berlin", 3)
    assert {one["utc"][10:] for one in listed["next"]} <= {"T00:30:00+00:00", "T01:30:00+00:00", "T01:00:00+00:00"}
    assert len(run(config, "--list").stdout.splitlines()) == 5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--install", "--remove"], "--install, --remove and --list exclude each other; give one"),
        (["--as", "kubernetes", "--install"], "--as kubernetes only prints"),
    ],
)
def test_what_goes_not_together_is_refused(config: Path, arguments: list[str], message: str) -> None:
    result = run(config, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"imitrace: {message}")


def test_a_clone_without_a_schedule_is_told_how_to_write_one(config: Path) -> None:
    config.write_text('[clone.airline]\n[clone.desk.schedule]\ncron = "@daily"\n')
    result = run(config)
    assert result.exit_code == 2
    assert "which has the clones: airline, desk; write [clone.airline.schedule] with cron = " in result.stderr


def test_units_are_written_and_removed_also_when_the_table_went_first(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "no bus"))  # so that no real timer starts
    monkeypatch.delenv("DBUS_SESSION_BUS_ADDRESS", raising=False)
    folder = tmp_path / "user" / ".config" / "systemd" / "user"
    first, second = (run(config, "--as", "systemd", "--install", "--json") for _ in range(2))
    assert (first.exit_code, second.exit_code) == (1, 1)
    told = json.loads(first.stdout)
    assert (told["running"], told["installed"]) == (False, str(folder / "imitrace-refresh-airline.timer"))
    assert first.stderr.startswith("imitrace: the timer is written but does not run: systemctl --user ")
    names = {"imitrace-refresh-airline.service", "imitrace-refresh-airline.timer"}
    assert {path.name for path in folder.iterdir()} == names
    config.write_text("[clone.airline]\n")
    assert run(config, "--as", "systemd", "--remove").stdout == "airline is refreshed by no systemd any more\n"
    assert run(config, "--as", "systemd", "--remove").stdout == "nothing was installed\n"
    assert list(folder.iterdir()) == []
