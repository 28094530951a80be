"""Refreshes as a scheduler calls them: due or not, within limits, on record, beside the champion."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace.exceptions import DatasetError
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.gate_rules import GateConfig
from imitrace_trainer.refreshing.config import ScheduleConfig
from imitrace_trainer.refreshing.run_lock import LockedError, run_lock
from imitrace_trainer.refreshing.runs import Run, Runs
from imitrace_trainer.refreshing.scheduled import Asked, scheduled_refresh, what_would_be_done
from imitrace_trainer.registry import Registry

Fork = Callable[[Path], Path]


def quiet(stage: str, share: float) -> None:
    pass


def go(home: Path, clone: CloneConfig, source: Path, after: timedelta = timedelta(), **asked: bool) -> Run:
    """Refresh as if so much time had gone by."""
    later = lambda: datetime.now(UTC) + after  # noqa: E731 - a clock
    return scheduled_refresh(Asked(home, clone, str(source), **asked), quiet, lambda text: None, later)


def scheduled(clone: CloneConfig, **table: object) -> CloneConfig:
    return replace(clone, schedule=ScheduleConfig(**table))  # type: ignore[arg-type]  # named by the test


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_run_leaves_its_whole_record(
    counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home = fork(promoted_home)
    run = go(home, scheduled(counter_clone, new_rows=5), more_tickets)
    assert Runs(home, "counter").all() == [run]
    assert (run.state, run.outcome, run.exit_code, run.version) == ("finished", "promoted", 0, 2)
    assert [stage["stage"] for stage in run.stages] == ["look", "curate", "train", "gate", "promote"]
    assert run.due == ("no refresh of it went the whole way yet",)
    assert run.champion == {"before": 1, "after": 2}
    assert run.dataset is not None
    assert run.dataset["version"] == 2
    assert run.gate is not None
    assert run.gate["cohorts"] == {"common": "pass", "safety": "pass"}
    assert [one["worse"] for one in run.gate["beside"]["measures"]] == [False, False]


def test_new_rows_make_it_due_and_too_few_do_not(
    counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home, hungry = fork(promoted_home), scheduled(counter_clone, new_rows=10)
    first = go(home, hungry, counter / "snapshot")
    assert (first.outcome, first.why) == (
        "unchanged",
        "the champion was trained on this dataset: nothing new to learn",
    )
    again = go(home, hungry, counter / "snapshot")
    assert (again.outcome, again.exit_code, again.why) == ("not_due", 0, "not due: 0 new rows of 10")
    more = go(home, hungry, more_tickets)
    assert (more.outcome, more.champion) == ("promoted", {"before": 1, "after": 2})
    assert more.due[0].endswith("new rows of 10")


def test_a_night_that_was_missed_is_made_up_once(
    counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork
) -> None:
    home, nightly = fork(promoted_home), scheduled(counter_clone, cron="30 3 * * *", time_zone="Europe/Berlin")
    outcomes = [
        go(home, nightly, counter / "snapshot", timedelta(days=days, seconds=seconds)).outcome
        for days, seconds in ((0, 0), (0, 1), (3, 0), (3, 1))
    ]
    assert outcomes == ["unchanged", "not_due", "unchanged", "not_due"]


def test_forced_it_is_done_though_not_due(
    counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork
) -> None:
    home, yearly = fork(promoted_home), scheduled(counter_clone, cron="@yearly")
    go(home, yearly, counter / "snapshot")
    assert go(home, yearly, counter / "snapshot").outcome == "not_due"
    assert go(home, yearly, counter / "snapshot", force=True).due == ("it was forced",)


def test_evidence_that_lapses_soon_is_renewed_by_the_gate(
    counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork
) -> None:
    home, daily = fork(promoted_home), scheduled(counter_clone, cron="@daily", new_rows=1_000)
    go(home, daily, counter / "snapshot")
    before = Registry(home).gate_record("counter", 1)
    run = go(home, daily, counter / "snapshot", timedelta(days=28))
    after = Registry(home).gate_record("counter", 1)
    assert run.outcome == "renewed"
    assert run.due[0].startswith("the champion's evidence lapses at ")
    assert before is not None
    assert after is not None
    assert after.created_at > before.created_at
    assert Registry(home).aliases("counter")["champion"] == 1


def test_a_version_that_is_proven_worse_than_the_champion_is_not_promoted(
    counter_clone: CloneConfig, promoted_home: Path, fork: Fork, grumpy_tickets: Path
) -> None:
    lax = GateConfig(margins={"common": 0.9}, safety_bound=0.2, waive={"long_tail": "all are common"})
    home = fork(promoted_home)
    run = go(home, replace(counter_clone, gate=lax), grumpy_tickets)
    assert run.gate is not None
    assert run.gate["cohorts"] == {"common": "pass", "safety": "pass"}
    assert (run.outcome, run.exit_code) == ("held", 6)
    assert run.why.startswith("v2 is proven worse than the champion (common TaskCompletion by at least ")
    assert Registry(home).aliases("counter") == {"candidate": 2, "champion": 1}
    record = Registry(home).gate_record("counter", 2)
    assert record is not None
    assert record.beside is not None
    common, safety = record.beside.measures
    assert (common.cohort, common.champion, common.worse, safety.worse) == ("common", 1.0, True, False)
    assert common.candidate < 0.8


@pytest.mark.parametrize(
    ("limit", "why", "versions"),
    [
        ({"most_rows": 20}, "decisions to train on, most_rows is 20", [1]),
        ({"most_minutes": 1e-6}, "most_minutes is 1e-06 and over", [1]),
        ({"expert_calls": 30}, "expert_calls are spent", [1, 2]),
    ],
)
def test_a_limit_stops_a_run_and_the_next_goes_on(
    counter_clone: CloneConfig,
    promoted_home: Path,
    fork: Fork,
    more_tickets: Path,
    limit: dict[str, float],
    why: str,
    versions: list[int],
) -> None:
    home = fork(promoted_home)
    run = go(home, scheduled(counter_clone, **limit), more_tickets)
    assert (run.state, run.outcome, run.exit_code) == ("failed", "stopped", 5)
    assert why in run.why
    assert Registry(home).versions("counter") == versions
    assert Registry(home).aliases("counter")["champion"] == 1
    done = go(home, scheduled(counter_clone), more_tickets)
    assert (done.outcome, Registry(home).versions("counter")) == ("promoted", [1, 2])


def test_a_run_that_fails_says_why_on_record(counter_clone: CloneConfig, promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    with pytest.raises(DatasetError, match="does not exist"):
        go(home, counter_clone, home / "nowhere")
    (run,) = Runs(home, "counter").all()
    assert (run.state, run.outcome, run.exit_code, run.stage) == ("failed", "error", 2, "look")
    assert "does not exist" in run.why


def test_a_dry_run_says_what_would_be_done_and_changes_nothing(
    counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home, hungry = fork(promoted_home), scheduled(counter_clone, new_rows=10, most_rows=9_000)
    go(home, hungry, counter / "snapshot")
    before = contents(home)
    due, plan = what_would_be_done(Asked(home, hungry, str(more_tickets)), quiet)
    assert due.reasons[0].endswith("new rows of 10")
    assert plan[-1] == "within 9000 rows"
    assert "gate it against the expert and champion v1" in plan
    nothing, none = what_would_be_done(Asked(home, hungry, str(counter / "snapshot")), quiet)
    assert (nothing.why, none) == ("not due: 0 new rows of 10", [])
    assert contents(home) == before


def test_a_call_at_which_nothing_is_due_loads_nothing_heavy(tmp_path: Path) -> None:
    config = tmp_path / "imitrace.toml"
    config.write_text('[clone.desk.schedule]\ncron = "@yearly"\n')
    runs = Runs(tmp_path, "desk")
    runs.write(replace(runs.begin(None, datetime.now(UTC)), state="finished", outcome="unchanged"))
    program = (
        "import sys\nfrom imitrace.cli import main\n"
        "try: main(sys.argv[1:])\nexcept SystemExit as end: code = end.code\n"
        "print(code, [name for name in ('torch', 'polars', 'duckdb', 'numpy') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, "refresh", "desk", "--home", str(tmp_path), "--config", str(config)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ran.stdout.splitlines()[0].startswith("not due: not before ")
    assert ran.stdout.splitlines()[1] == "0 []"
    assert [run.outcome for run in runs.all()] == ["unchanged", "not_due"]


def test_only_one_runs_at_a_time(counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    with run_lock(Runs(home, "counter").folder, "counter"):
        with pytest.raises(LockedError):
            go(home, counter_clone, counter / "snapshot")
        with pytest.raises(LockedError):
            what_would_be_done(Asked(home, counter_clone, str(counter / "snapshot")), quiet)
        result = command("refresh", "counter", "--home", home, "--config", counter / "imitrace.toml")
        assert (result.exit_code, result.stdout) == (4, "")
        assert result.stderr.startswith("imitrace: another refresh of counter runs: process ")
    assert Runs(home, "counter").all() == []


def command(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_the_commands_tell_the_same_as_json(counter: Path, promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    config = counter / "scheduled.toml"
    table = f'[clone.counter.schedule]\ncron = "@yearly"\nsource = "{counter / "snapshot"}"\n'
    config.write_text((counter / "imitrace.toml").read_text() + table)
    given = ("--home", home, "--config", config)
    first = json.loads(command("refresh", "counter", *given, "--json").stdout)
    assert (first["outcome"], first["exit_code"], first["format"]) == ("unchanged", 0, 1)
    again = command("refresh", "counter", *given)
    assert again.stdout.startswith("not due: not before ")
    dry = json.loads(command("refresh", "counter", "--dry-run", *given, "--json").stdout)
    assert (dry["due"], dry["would"]) == (False, [])
    listed = json.loads(command("runs", "counter", "--home", home, "--json").stdout)
    assert [run["outcome"] for run in listed] == ["unchanged", "not_due"]
    assert listed[0] == first
    text = command("runs", "--home", home, "--limit", 1).stdout
    assert text.startswith("counter  ")
    assert text.count("\n") == 1
    assert "not_due at look" in text


def test_a_clone_without_runs_says_which_have_some(promoted_home: Path) -> None:
    result = command("runs", "desk", "--home", promoted_home)
    assert (result.exit_code, result.stderr) == (
        2,
        "imitrace: clone 'desk' has no runs, there are of: none; run 'refresh'\n",
    )
    assert command("runs", "--home", promoted_home).stdout == "no run yet: run 'imitrace refresh'\n"
