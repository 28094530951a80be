"""Refreshes that are killed at each stage: the champion stays whole, and the next one takes the run up."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from imitrace_trainer.config import CloneConfig
from imitrace_trainer.gating import gate_stage
from imitrace_trainer.refreshing.runs import Run, Runs
from imitrace_trainer.refreshing.scheduled import Asked, scheduled_refresh
from imitrace_trainer.registry import Registry
from imitrace_trainer.spending import read_spending

Fork = Callable[[Path], Path]
_SECONDS = 120.0


def quiet(stage: str, share: float) -> None:
    pass


def newest(home: Path) -> Run | None:
    found = Runs(home, "counter").all()
    return found[-1] if found else None


def reached(home: Path, stage: str) -> bool:
    """Tell whether a run has come to a stage; "fit" is training with a checkpoint, "gated" a gate with its record."""
    if stage == "fit":
        return any((home / "fits" / "counter").rglob("*.safetensors"))
    if stage == "gated":
        return (home / "clones" / "counter" / "gates" / "v2.json").exists()
    run = newest(home)
    return run is not None and run.stage == stage


def kill_at(home: Path, stage: str, source: Path, config: Path) -> None:
    """Start a refresh as its own process and kill it, without a word, as soon as it comes to a stage."""
    command = [sys.executable, "-m", "imitrace", "refresh", "counter", "--source", str(source)]
    command += ["--home", str(home), "--config", str(config)]
    pause, limit = threading.Event(), time.monotonic() + _SECONDS
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while not reached(home, stage):
            assert process.poll() is None, "it ended before it came to the stage"
            assert time.monotonic() < limit, f"it did not come to {stage}"
            pause.wait(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize("stage", ["look", "curate", "train", "fit", "gate", "gated", "promote"])
def test_a_killed_run_leaves_the_champion_and_is_taken_up(
    counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path, stage: str
) -> None:
    home = fork(promoted_home)
    kill_at(home, stage, more_tickets, counter / "imitrace.toml")
    registry, killed = Registry(home), newest(home)
    assert killed is not None
    assert killed.state == "running"
    champion = registry.resolve("counter@champion")
    registry.check(champion)
    assert champion.version == 1 or stage in ("gated", "promote")
    made = registry.versions("counter")
    run = scheduled_refresh(Asked(home, counter_clone, str(more_tickets)), quiet, lambda text: None)
    assert (run.id, run.state, run.outcome, len(run.attempts)) == (killed.id, "finished", "promoted", 2)
    assert run.champion == {"before": 1, "after": 2}
    assert registry.versions("counter") == [1, 2]
    assert made == ([1, 2] if stage in ("gate", "gated", "promote") else [1])
    registry.check(registry.resolve("counter@champion"))
    assert registry.aliases("counter") == {"candidate": 2, "champion": 2, "previous": 1}
    assert [path.name for path in (home / "clones").glob(".new-*")] == []
    assert not (home / "fits").exists()


def test_what_a_killed_run_gated_is_not_gated_again(
    counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home = fork(promoted_home)
    kill_at(home, "gate", more_tickets, counter / "imitrace.toml")
    gate_stage(home, counter_clone, "counter:2", quiet)
    spent, _ = read_spending(home)
    run = scheduled_refresh(Asked(home, counter_clone, str(more_tickets)), quiet, lambda text: None)
    assert run.outcome == "promoted"
    assert read_spending(home)[0] == spent
