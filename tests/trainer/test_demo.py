import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.demo import DemoConfig, Payback, collector, example_folder, prepare

ARMS = {"expert", "clone", "hybrid"}


def test_the_demo_runs_every_stage_as_real_processes(tmp_path: Path) -> None:
    sizes = ["--tasks", "1400", "--gate", "40", "--fresh", "24"]  # of 1000 traced tasks too little is learnt to pass
    command = ["demo", "--home", str(tmp_path / "demo"), *sizes, "--json"]
    done = subprocess.run([sys.executable, "-m", "imitrace", *command], capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    stages = ["collect", "trace", "snapshot", "curate", "train", "gate", "promote", "trial"]
    assert list(report["seconds"]) == stages
    assert {arm for cohort in report["cohorts"].values() for arm in cohort} == ARMS | {"clone_share"}
    hybrid = report["hybrid"]
    assert 0 < hybrid["clone_share"] < 1
    assert hybrid["gate_calls"] > 0
    assert hybrid["net_saved_over_10000_tasks"] < hybrid["expert_calls_saved"]
    assert "pass" in {row["verdict"] for row in report["gate"].values()} <= {"pass", "fail", "inconclusive"}
    assert all(Path(path).exists() for path in report["paths"].values())
    assert report["traced"]["failed"] == 0 and sum(report["dataset"]["rejected"].values()) > 0


@pytest.mark.parametrize(
    ("gate_calls", "saved_a_task", "tasks", "net"),
    [
        (900, 3.0, 300, 0.582),
        (900, 0.0, None, -0.018),
        (900, -1.0, None, -0.218),
        (0, 3.0, 0, 0.6),
        (10, 3.0, 4, 0.5998),
    ],
)
def test_the_gates_calls_are_paid_back_by_what_is_saved(
    gate_calls: int, saved_a_task: float, tasks: int | None, net: float
) -> None:
    back = Payback(gate_calls, saved_a_task)
    assert back.tasks == tasks
    assert back.net(5.0) == pytest.approx(net)


def test_a_folder_that_no_demo_wrote_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious", encoding="utf-8")
    (tmp_path / "demo.json").touch()
    with pytest.raises(ConfigError, match="holds something that no demo wrote; choose another with --home"):
        prepare(DemoConfig(home=tmp_path))
    assert (tmp_path / "thesis.tex").read_text(encoding="utf-8") == "precious"


def test_a_demo_takes_the_place_of_an_earlier_one(tmp_path: Path) -> None:
    (prepare(DemoConfig(home=tmp_path)) / "old").touch()
    prepare(DemoConfig(home=tmp_path))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".imitrace-demo", "imitrace.toml"]


def test_the_collector_is_stopped_also_when_a_stage_fails(tmp_path: Path) -> None:
    home = prepare(DemoConfig(home=tmp_path))
    with pytest.raises(RuntimeError), collector(home):
        process = json.loads((home / "collector.json").read_text(encoding="utf-8"))["pid"]
        raise RuntimeError
    with pytest.raises(ProcessLookupError):
        os.kill(process, signal.SIG_DFL)


def test_the_support_desk_is_found() -> None:
    assert (example_folder() / "support_desk" / "desk.py").is_file()
