"""The record of runs, and the lock that dies with its holder."""

import json
import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.refreshing.run_lock import LockedError, held, run_lock
from imitrace_trainer.refreshing.runs import Run, Runs, Seen, names

NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)
HOLD = """
import sys
from pathlib import Path
from imitrace_trainer.refreshing.run_lock import run_lock
with run_lock(Path(sys.argv[1]), "desk"):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "desk")
    run = replace(runs.begin(None, NOW), seen=Seen(3, 4, 0, "t", "l"), due=("why",), champion={"before": 1})
    runs.write(run)
    assert (runs.all(), names(tmp_path)) == ([run], ["desk"])
    assert [path.name for path in runs.folder.iterdir()] == [f"{run.id}.json"]


def test_a_run_that_is_taken_up_stays_one_run(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "desk")
    first = replace(runs.begin(None, NOW), stage="gate", version=3)
    again = runs.begin(first, NOW + timedelta(hours=1))
    assert (again.id, again.started_at, again.version, again.stage) == (first.id, first.started_at, 3, "look")
    assert len(again.attempts) == 2


def test_a_record_of_a_newer_imitrace_is_read_and_a_broken_one_is_named(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "desk")
    run = runs.begin(None, NOW)
    runs.write(run)
    path = runs.folder / f"{run.id}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"colour": "red"}))
    assert runs.all() == [run]
    path.write_text(path.read_text()[:40])
    with pytest.raises(ConfigError, match=f"{run.id}.json can't be read .* delete it"):
        runs.all()


def test_records_of_runs_with_nothing_to_do_are_not_kept_for_ever(tmp_path: Path) -> None:
    runs = Runs(tmp_path, "desk")
    for hour in range(104):
        run = runs.begin(None, NOW + timedelta(hours=hour))
        outcome = "promoted" if hour == 0 else "not_due"
        runs.write(replace(run, state="finished", outcome=outcome))
    runs.prune()
    kept = runs.all()
    assert [run.outcome for run in kept] == ["promoted", *["not_due"] * 100]
    assert kept[1].started_at == (NOW + timedelta(hours=4)).isoformat(timespec="microseconds")


def test_a_state_that_nobody_knows_is_refused() -> None:
    with pytest.raises(ValueError, match="allowed: running, finished, failed"):
        Run.from_json({"id": "1", "clone": "desk", "state": "lost", "started_at": "", "attempts": []})


def test_a_lock_names_its_holder_and_goes_when_that_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert held(tmp_path)
        told = f"another refresh of desk runs: process {process.pid} on "
        with pytest.raises(LockedError, match=told), run_lock(tmp_path, "desk"):
            pass
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not held(tmp_path)
    with run_lock(tmp_path, "desk"):
        assert held(tmp_path)
    assert not held(tmp_path)


def test_asking_whether_a_lock_is_held_makes_no_file(tmp_path: Path) -> None:
    assert not held(tmp_path)
    assert list(tmp_path.iterdir()) == []
