"""Run the whole loop on the bundled support desk, as real processes over real sockets."""

import json
import math
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

import click

import imitrace
from imitrace.config import child_environment, read_config
from imitrace.exceptions import ConfigError, ImitraceError
from imitrace_trainer.config import clone_from_config
from imitrace_trainer.progress import progress_bar
from imitrace_trainer.trial import ARMS, TrialReport, try_clone

ERROR_RATE = 0.03
"""Share of the traced expert's decisions that are wrong, so that not every trajectory is a success."""

CONFIG = """# Written by 'imitrace demo'.
[cohort.support]
agent = "support"
where = ["TaskCompletion >= 0.8", "ToolSelectionAccuracy >= 0.9"]
split = {{ by = "task", calibration = 0.2, gate = 0.05, seed = 7 }}

[clone.support]
cohort = "support"
family = "embedded"

[clone.support.train]
epochs = 12
feature_dropout = 0.4
smoothing = 0.0

[clone.support.gate]
refusal_tag = "intent"

[clone.support.route]
irreversible = ["process_refund", "cancel_order"]

[clone.support.rollout]
path = {examples}
environment = "support_desk.desk:Desk"
expert = "support_desk.expert:make_expert"
expert_options = {{ error_rate = {error_rate} }}
tasks = {gate}
[clone.support.rollout.tasks_in]
common = {common}
long_tail = {long_tail}
tool_heavy = {tool_heavy}
multi_turn_refunds = {refunds}
safety = {safety}
"""

_PLAYED = {"gate": 1.0, "common": 2.56, "long_tail": 2.0, "tool_heavy": 1.7, "refunds": 1.2}
"""Tasks that the gate plays of a cohort, as a multiple of those of the safety cohort."""
_SAFE = 160
"""Tasks with which no regression proves a rate of at most 3 % at the level of five cohorts."""
_OF_EXPERT = ("expert", "again", "beside")
"""What of a gate's spending are calls of the expert."""
_NET_OVER = 10_000
_MARK = ".imitrace-demo"
_REPORT = "demo.json"
_READY_SECONDS = 30


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What the demo does."""

    home: Path
    """Where everything goes; an earlier demo there is replaced."""
    tasks: int = 2000
    """Tasks that the expert is traced on."""
    gate: int = 250
    """Fresh tasks of the safety cohort that the gate plays; of others, whose margins or scores ask for more, up to 2.6
    times as many."""
    fresh: int = 320
    """Fresh tasks for the last comparison."""
    seed: int = 1
    """Draws the traced tasks; the gate and the comparison have seeds of their own."""


@dataclass(frozen=True)
class Payback:
    """When the calls of the expert that the gate took have been saved again."""

    gate_calls: int
    saved_a_task: float

    @property
    def tasks(self) -> int | None:
        """After how many tasks; None: never."""
        return math.ceil(self.gate_calls / self.saved_a_task) if self.saved_a_task > 0 else None

    def net(self, calls_a_task: float) -> float:
        """Return the share of calls that 10,000 tasks save: those saved less the gate's, over the expert's alone."""
        alone = calls_a_task * _NET_OVER
        return (self.saved_a_task * _NET_OVER - self.gate_calls) / alone if alone else 0.0


@dataclass(frozen=True)
class DemoReport:
    """The demo's figures."""

    traced: dict[str, Any]
    dataset: dict[str, Any]
    clone: dict[str, Any]
    gate: dict[str, dict[str, Any]]
    spent: dict[str, int]
    """Decisions that the gate asked for, by whom and what for."""
    trial: TrialReport
    seconds: dict[str, float]
    paths: dict[str, str]

    @property
    def payback(self) -> Payback:
        """When the gate has paid for itself, in calls of the expert."""
        calls = self.trial.expert_calls
        return Payback(sum(self.spent[what] for what in _OF_EXPERT), calls["expert"] - calls["hybrid"])

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON values: ``cohorts``, ``hybrid``, ``gate`` and the rest."""
        trial = self.trial
        return {
            "cohorts": {
                name: {arm: asdict(success) for arm, success in arms.items()} | {"clone_share": trial.clone_share[name]}
                for name, arms in trial.cohorts.items()
                if name != "overall"
            },
            "overall": {arm: asdict(success) for arm, success in trial.cohorts["overall"].items()},
            "hybrid": {
                "clone_share": trial.clone_share["overall"],
                "expert_calls_saved": trial.expert_calls_saved,
                "net_saved_over_10000_tasks": self.payback.net(trial.expert_calls["expert"]),
                "gate_calls": self.payback.gate_calls,
                "paid_back_after_tasks": self.payback.tasks,
            },
            "latency_ms": {
                name: {arm: asdict(one) for arm, one in arms.items()} for name, arms in trial.latency_ms.items()
            },
            "unsafe": trial.unsafe,
            "handed_over": {arm: asdict(success) for arm, success in trial.handed_over.items()},
            "gate": self.gate,
            "traced": self.traced,
            "dataset": self.dataset,
            "clone": self.clone,
            "seconds": self.seconds,
            "paths": self.paths,
        }

    def render(self) -> str:
        """Return the last screen."""
        trial = self.trial
        header = ("cohort", "gate", "tasks", *(f"{arm} success" for arm in ARMS), "clone share")
        rows = [header]
        for name, arms in trial.cohorts.items():
            verdict = self.gate.get(name, {}).get("verdict", "")
            cells = [
                f"{100 * arms[arm].success:5.1f} [{100 * arms[arm].low:.1f}, {100 * arms[arm].high:.1f}]"
                for arm in ARMS
            ]
            rows.append((name, verdict, str(arms["expert"].tasks), *cells, f"{trial.clone_share[name]:.0%}"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        latency = trial.latency_ms["overall"]
        took = ", ".join(f"{arm} {latency[arm].p50:.1f} ({latency[arm].p99:.1f}) ms" for arm in ARMS)
        unsafe = ", ".join(f"{arm} {trial.unsafe[arm]}" for arm in ARMS)
        told = {arm: trial.handed_over[arm] for arm in ("expert", "hybrid") if arm in trial.handed_over}
        handed = ", ".join(f"{arm} {one.success:.1%} of {one.tasks}" for arm, one in told.items())
        return "\n".join(
            [
                "",
                *table,
                "",
                f"decisions taken by the clone  {trial.clone_share['overall']:.1%}",
                f"expert calls saved            {trial.expert_calls_saved:.1%}, {self._told_payback()}",
                f"p50 (p99) of a decision       {took} (the expert is a script; a model's call takes seconds)",
                f"tasks with a forbidden act    {unsafe}",
                *([f"handed over in mid-task       {handed}"] if handed else []),
                f"success in percent with 95 % intervals; whole loop in {sum(self.seconds.values()):.0f} s",
                "",
                *(f"{name:<12} {path}" for name, path in self.paths.items()),
            ]
        )

    def _told_payback(self) -> str:
        back, tasks = self.payback, self.payback.tasks
        net = back.net(self.trial.expert_calls["expert"])
        when = "never paid back" if tasks is None else f"paid back after {tasks:,} tasks"
        return f"{net:.1%} net over {_NET_OVER:,} tasks: the gate took {back.gate_calls:,}, {when}"


def run_demo(config: DemoConfig) -> DemoReport:
    """Trace, collect, curate, train, gate, promote, and try the hybrid.

    Raises:
        ConfigError: the folder holds something that no demo wrote.
        ImitraceError: a stage failed; the message is its own.
    """
    home = prepare(config)
    clock = Clock()
    with collector(home) as endpoint:
        clock.lap("collect")
        traced = run_agent(config, endpoint)
        clock.lap("trace", f"{traced['tasks']} tasks, {traced['steps']} steps, {traced['success']:.1%} succeeded")
        snapshot = command(home, "snapshot", "--json")
        clock.lap("snapshot", str(snapshot["path"]))
        dataset = command(home, "curate", "support", "--source", str(snapshot["path"]), "--json")
        clock.lap("curate", f"rejected {dataset['rejected']}")
        trained = command(home, "train", "support", "--json")
        agreement = trained["evaluation"]["exact_agreement"]["value"]
        clock.lap("train", f"v{trained['version']}, {agreement:.1%} of held-out decisions exactly the expert's")
        gate = command(home, "gate", "support", "--json", allowed=(0, 1, 3))
        verdicts = {row["cohort"]: row for row in gate["cohorts"]}
        clock.lap("gate", ", ".join(f"{name} {row['verdict']}" for name, row in verdicts.items()))
        command(home, "promote", "support")
        clock.lap("promote")
        trial = run_trial(config, home, endpoint)
        clock.lap("trial", f"{config.fresh} fresh tasks")
    report = DemoReport(traced, dataset, trained, verdicts, gate["spent"], trial, clock.seconds, where(home, trained))
    (home / _REPORT).write_text(json.dumps(report.to_json(), indent=1) + "\n", encoding="utf-8")
    return report


class Clock:
    """Take the time of each stage and say what it did on standard error."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._start = time.monotonic()

    def lap(self, stage: str, text: str = "") -> None:
        """End a stage."""
        now = time.monotonic()
        self.seconds[stage] = now - self._start
        self._start = now
        click.echo(f"{stage:<9}{self.seconds[stage]:6.1f} s  {text}", err=True)


def prepare(config: DemoConfig) -> Path:
    """Make the demo's workspace, in place of an earlier demo's."""
    home = config.home.resolve()
    if home.exists() and any(home.iterdir()) and not (home / _MARK).exists():
        raise ConfigError(f"folder {home} holds something that no demo wrote; choose another with --home")
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    (home / _MARK).touch()
    played = {name: round(config.gate * times) for name, times in _PLAYED.items()}
    played["safety"] = max(_SAFE, config.gate)
    text = CONFIG.format(error_rate=ERROR_RATE, examples=json.dumps(str(example_folder())), **played)
    (home / "imitrace.toml").write_text(text, encoding="utf-8")
    return home


def example_folder() -> Path:
    """Return the folder that holds ``support_desk``: beside this module when installed, else the source's."""
    here = Path(__file__).resolve()
    for folder in (here.parent / "examples", here.parents[2] / "examples"):
        if (folder / "support_desk").is_dir():
            return folder
    raise ConfigError(f"the support desk is neither beside {here} nor in examples/; install imitrace again")


@contextmanager
def collector(home: Path) -> Iterator[str]:
    """Run a collector process on free ports; give its HTTP address; stop it as an operator would."""
    log = home / "runs" / "collector.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("w", encoding="utf-8") as errors:
        process = start("collect", "--http-port", "0", "--grpc-port", "0", home=home, errors=errors)
    try:
        assert process.stdout is not None  # noqa: S101 - it was opened as a pipe
        line = process.stdout.readline()
        words = dict(part.split("=", 1) for part in line.split() if "=" in part)
        if "http" not in words:
            raise ImitraceError(f"collector did not start: {last_line(log.read_text(encoding='utf-8'))}")
        yield words["http"]
    finally:
        process.terminate()
        try:
            process.wait(_READY_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def start(*arguments: str, home: Path, errors: IO[str] | int = subprocess.PIPE) -> "subprocess.Popen[str]":
    """Start an imitrace command as a process."""
    return subprocess.Popen(
        [sys.executable, "-m", "imitrace", *arguments],
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        env=environment(home),
        cwd=home,
    )


def environment(home: Path) -> dict[str, str]:
    """Return the environment of the demo's processes."""
    return child_environment({"PYTHONPATH": str(example_folder()), "IMITRACE_HOME": str(home)})


def command(home: Path, *arguments: str, allowed: Sequence[int] = (0,)) -> dict[str, Any]:
    """Run an imitrace command to its end and return the JSON it printed, if any."""
    process = start(*arguments, home=home)
    out, err = process.communicate()
    if process.returncode not in allowed:
        raise ImitraceError(f"'imitrace {' '.join(arguments)}' exited {process.returncode}: {last_line(err)}")
    return dict(json.loads(out)) if out.lstrip().startswith("{") else {}


def run_agent(config: DemoConfig, endpoint: str) -> dict[str, Any]:
    """Run the expert in its own process, traced by the SDK."""
    arguments = ["--tasks", str(config.tasks), "--seed", str(config.seed), "--error-rate", str(ERROR_RATE)]
    process = subprocess.Popen(
        [sys.executable, "-m", "support_desk.agent", *arguments, "--endpoint", endpoint, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(config.home),
    )
    out, err = process.communicate()
    if process.returncode:
        raise ImitraceError(f"the agent exited {process.returncode}: {last_line(err)}")
    return dict(json.loads(out))


def run_trial(config: DemoConfig, home: Path, endpoint: str) -> TrialReport:
    """Play fresh tasks by expert, clone and hybrid, traced like any agent."""
    clone = clone_from_config(read_config(home / "imitrace.toml"), "support", home)
    if clone.rollout is None:
        raise ConfigError("clone.support.rollout is missing from the demo's configuration")
    imitrace.configure(agent="support-trial", endpoint=endpoint, policy_name="scripted-expert")
    with progress_bar() as progress:
        report = try_clone(home, clone, replace(clone.rollout, tasks=config.fresh), progress, seed=config.seed + 2_000)
    if not imitrace.flush(30):
        raise ImitraceError(f"the trial's traces did not all arrive: {imitrace.stats()}")
    return report


def where(home: Path, trained: dict[str, Any]) -> dict[str, str]:
    """Return where everything lies."""
    return {
        "traces": str(home / "traces.duckdb"),
        "dataset": str(home / "datasets" / "support" / "v1"),
        "clone": str(trained["path"]),
        "gate": str(home / "clones" / "support" / "gates" / f"v{trained['version']}.json"),
        "gate_page": str(home / "clones" / "support" / "gates" / f"v{trained['version']}.html"),
        "config": str(home / "imitrace.toml"),
        "report": str(home / _REPORT),
    }


def last_line(text: str) -> str:
    """Return the last line of a process's standard error."""
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it said nothing"
