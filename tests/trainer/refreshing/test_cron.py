"""A refresh that the real cron daemon starts, in the bare environment that it gives."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from imitrace.cli import main
from imitrace_trainer.refreshing.crontab import read_crontab, write_crontab
from imitrace_trainer.refreshing.runs import Run, Runs
from imitrace_trainer.registry import Registry

_SECONDS = 240.0
"""Cron looks at its tables once a minute, and the turn takes a while on a busy machine."""
_PID = Path("/var/run/crond.pid")
_OTHERS = "# kept by hand\n0 5 1 1 * /bin/true # not ours\n"

pytestmark = [
    pytest.mark.skipif(shutil.which("cron", path="/usr/sbin") is None, reason="the cron daemon is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may start the cron daemon"),
]


def running() -> bool:
    """Tell whether a cron daemon runs: it locks its pid file."""
    try:
        return Path(f"/proc/{int(_PID.read_text())}/comm").read_text().strip() == "cron"
    except (OSError, ValueError):
        return False


@pytest.fixture
def cron() -> Iterator[str]:
    """Start the daemon where none runs, give the user's crontab, and put it back as it was."""
    before = read_crontab()
    daemon = None if running() else subprocess.Popen(["/usr/sbin/cron", "-f"])
    pause = threading.Event()
    try:
        while not running() or time.time() < _PID.stat().st_mtime + 2:  # cron tells tables apart by the second
            pause.wait(0.05)
        yield before
    finally:
        if read_crontab() != before:
            write_crontab(before)
        if daemon is not None:
            daemon.terminate()
            daemon.wait(20)


def finished(home: Path) -> Run | None:
    return next((run for run in Runs(home, "counter").all() if run.state != "running"), None)


def command(*arguments: object) -> str:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_cron_refreshes_trains_and_promotes(counter: Path, tmp_path: Path, cron: str) -> None:
    folder = tmp_path / "a desk, 100%"
    folder.mkdir()
    shutil.copy(counter / "counter_world.py", folder)
    table = f'[clone.counter.schedule]\ncron = "* * * * *"\nsource = "{counter / "snapshot"}"\n'
    (folder / "imitrace.toml").write_text((counter / "imitrace.toml").read_text() + table)
    rooms = [
        name for name in sys.path if any((Path(name) / room).is_dir() for room in ("imitrace", "imitrace_trainer"))
    ]
    path = f"PYTHONPATH={':'.join(rooms)}\n"
    write_crontab(f"{cron}{path}{_OTHERS}")
    given = ("counter", "--home", folder / "home", "--config", folder / "imitrace.toml")
    command("schedule", *given, "--install")
    command("schedule", *given, "--install")
    installed, began, pause = read_crontab(), datetime.now(UTC), threading.Event()
    limit = time.monotonic() + _SECONDS
    while finished(folder / "home") is None:
        assert time.monotonic() < limit, "cron started nothing that finished"
        pause.wait(0.2)
    assert command("schedule", *given, "--remove") == "counter is refreshed by no crontab any more\n"
    log = (folder / "home" / "runs" / "counter" / "refresh.log").read_text()
    run = finished(folder / "home")
    assert run is not None
    assert (run.outcome, run.champion, run.exit_code) == ("promoted", {"before": None, "after": 1}, 0), log
    assert datetime.fromisoformat(run.started_at) > began
    assert run.attempts[0].pid != os.getpid()
    assert Registry(folder / "home").aliases("counter")["champion"] == 1
    assert log.endswith("v1 acts in common, safety\n")
    assert installed.count("# imitrace counter in ") == 2
    assert read_crontab() == f"{cron}{path}{_OTHERS}"
