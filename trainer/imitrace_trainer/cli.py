"""Offer the trainer's commands: each parses, calls one function, prints."""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from imitrace.config import read_config, setting, workspace_home
from imitrace_trainer.progress import progress_bar

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder [default: ./.imitrace].")
_CONFIG = click.option("--config", type=click.Path(path_type=Path), help="Configuration [default: ./imitrace.toml].")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_SOURCE = click.option(
    "--source", help="Where the traces are: a snapshot folder, a .duckdb file, or a collector's http:// address."
)
_DEVICE = click.option("--device", help="auto, cpu or cuda [default: auto].")

_GATE_EXIT = {"pass": 0, "fail": 1, "inconclusive": 3}


def _clone(config: Path | None, name: str) -> Any:  # CloneConfig, whose module needs torch
    from imitrace_trainer.config import clone_from_config

    named = setting("IMITRACE_CONFIG", None if config is None else str(config), "imitrace.toml")
    return clone_from_config(read_config(config), name, Path(named or "").resolve().parent)


def _one_thread() -> None:
    """Keep torch to one thread: these networks are small, and two threads wait for each other more than they work."""
    import torch

    torch.set_num_threads(1)


def _print(as_json: bool, record: Callable[[], Any], text: Callable[[], str]) -> None:
    click.echo(json.dumps(record(), indent=1, default=str) if as_json else text())


@click.command()
@click.argument("cohort")
@_SOURCE
@_HOME
@_CONFIG
@_JSON
def curate(cohort: str, source: str | None, home: Path | None, config: Path | None, as_json: bool) -> None:
    """Make a dataset version from COHORT, a [cohort.NAME] table of imitrace.toml.

    \b
    Examples:
      imitrace curate airline
      imitrace curate airline --source .imitrace/snapshots/20261121T080000Z-1a2b3c4d
    """
    from imitrace_trainer.cohort import cohort_from_config
    from imitrace_trainer.coverage import warnings
    from imitrace_trainer.curation import curate_stage
    from imitrace_trainer.datasets_cli import describe_dataset

    asked = cohort_from_config(read_config(config), cohort)
    with progress_bar() as progress:
        dataset = curate_stage(workspace_home(home), asked, source, progress)
    told = warnings(dataset)
    record = {**dataset.manifest, "created": dataset.created, "warnings": told}
    _print(as_json, lambda: record, lambda: "\n".join([describe_dataset(dataset), *(f"  ! {line}" for line in told)]))


@click.command()
@click.argument("clone")
@_DEVICE
@_HOME
@_CONFIG
@_JSON
def train(clone: str, device: str | None, home: Path | None, config: Path | None, as_json: bool) -> None:
    """Train CLONE, a [clone.NAME] table of imitrace.toml, on its cohort's newest dataset.

    \b
    Examples:
      imitrace train airline
      imitrace train airline --device cuda
    """
    from dataclasses import replace

    from imitrace_trainer.stages import train_stage

    _one_thread()
    wanted = _clone(config, clone)
    if device is not None:
        wanted = replace(wanted, train=replace(wanted.train, device=device))
    with progress_bar() as progress:
        trained = train_stage(workspace_home(home), wanted, progress)
    _print(as_json, lambda: asdict(trained), lambda: describe_trained(trained))


@click.command()
@click.argument("clone")
@_HOME
@_JSON
def evaluate(clone: str, home: Path | None, as_json: bool) -> None:
    """Compare CLONE (NAME, NAME@champion or NAME:3) with the expert on tasks it never saw.

    \b
    Examples:
      imitrace evaluate airline
      imitrace evaluate airline@champion --json
    """
    from imitrace_trainer.stages import evaluate_stage

    _one_thread()
    report = evaluate_stage(workspace_home(home), clone)
    _print(as_json, report.to_json, report.render)


@click.command()
@click.argument("clone")
@_HOME
@_CONFIG
@_JSON
def gate(clone: str, home: Path | None, config: Path | None, as_json: bool) -> None:
    """Decide per cohort whether CLONE may act. Exits 0 pass, 1 fail, 3 inconclusive.

    NAME judges the candidate; NAME@champion and NAME:3 judge that version.

    \b
    Examples:
      imitrace gate airline
      imitrace gate airline:2 --json
    """
    from imitrace_trainer.gate_text import render
    from imitrace_trainer.gating import gate_stage
    from imitrace_trainer.registry import Registry

    _one_thread()
    folder, name = workspace_home(home), clone.split("@")[0].split(":")[0]
    reference = f"{name}@candidate" if clone == name and "candidate" in Registry(folder).aliases(name) else clone
    with progress_bar() as progress:
        report = gate_stage(folder, _clone(config, name), reference, progress)
    page = str(Registry(folder).gate_page(report.clone, report.version))
    record = json.loads(report.to_json()) | {"page": page}
    _print(as_json, lambda: record, lambda: f"{render(report)}\n\n{page}")
    sys.exit(_GATE_EXIT[report.verdict])


@click.command()
@click.argument("clone")
@click.option("--version", type=int, help="Which version [default: the candidate].")
@_HOME
@_CONFIG
def promote(clone: str, version: int | None, home: Path | None, config: Path | None) -> None:
    """Make a version of CLONE the champion; only one whose gate passed in a cohort can be.

    The settings of [clone.NAME.route] come into service with it, where imitrace.toml has such a clone.

    \b
    Examples:
      imitrace promote airline
      imitrace promote airline --version 2
    """
    from imitrace_trainer.stages import promote_stage

    known = clone in read_config(config).get("clone", {})
    promotion = promote_stage(workspace_home(home), clone, version, _clone(config, clone).route if known else None)
    click.echo(f"{clone} v{promotion.version} is champion; it may act in: {', '.join(promotion.cohorts)}")


@click.command()
@click.argument("clone")
@_HOME
def rollback(clone: str, home: Path | None) -> None:
    """Put CLONE's previous champion back.

    \b
    Examples:
      imitrace rollback airline
    """
    from imitrace_trainer.registry import Registry

    promotion = Registry(workspace_home(home)).rollback(clone)
    click.echo(f"{clone} v{promotion.version} is champion again, v{promotion.previous} is previous")


@click.command()
@click.argument("clone")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="JSON Lines, one a decision.")
@_HOME
@_JSON
def predict(clone: str, file: Path, out: Path, home: Path | None, as_json: bool) -> None:
    """Write CLONE's action for every assistant decision in FILE (chat JSONL, plain or .gz), and how often it agrees.

    Each line: id, step, action {kind, name, arguments}, confidence, ood, tools {name: probability}, acts and reason
    (would it act where its gate had passed), expert (what was done), agrees, exact. The state is the true
    history before that decision. Exits 2 when FILE has no decision that can be read; broken lines beside others are
    named and left out.

    \b
    Examples:
      imitrace predict airline held_out.jsonl.gz --out actions.jsonl
      imitrace predict airline:3 held_out.jsonl.gz --out actions.jsonl --json
    """
    from imitrace_trainer.predict import Predictor, predict_file, summary, summary_json
    from imitrace_trainer.stages import load_clone

    _one_thread()
    loaded = load_clone(workspace_home(home), clone)
    done = predict_file(Predictor(loaded.policy, loaded.tools, loaded.thresholds), file, out)
    for problem in done.broken:
        click.echo(f"{file}: {problem}", err=True)
    left_out = f"; {len(done.broken)} broken lines left out" if done.broken else ""
    version = loaded.version
    head = (
        f"{version.name} v{version.version}: {done.decisions} decisions of {done.trajectories} trajectories "
        f"-> {out}{left_out}"
    )
    _print(
        as_json,
        lambda: {"clone": version.name, "version": version.version, "out": str(out)} | summary_json(done),
        lambda: "\n".join([head, *(f"{name}:\n{one.text()}" for name, one in summary(done).items())]),
    )
    if not done.decisions:
        click.echo(
            f"imitrace: file {file} has no decision that can be read: name chat JSONL, 'id' and 'messages'", err=True
        )
        sys.exit(2)


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Where everything goes [default: ./.imitrace/demo].")
@click.option("--tasks", type=int, default=2000, show_default=True, help="Tasks that the expert is traced on.")
@click.option("--gate", type=int, default=250, show_default=True, help="Fresh tasks of a cohort that the gate plays.")
@click.option("--fresh", type=int, default=320, show_default=True, help="Fresh tasks for the last comparison.")
@click.option("--seed", type=int, default=1, show_default=True, help="Draws the tasks.")
@_JSON
def demo(home: Path | None, as_json: bool, **sizes: int) -> None:
    """Run the whole loop on the bundled support desk: trace, collect, curate, clone, gate, route.

    Real processes over real sockets, offline, on the CPU.

    \b
    Examples:
      imitrace demo
      imitrace demo --json > demo.json
    """
    from imitrace_trainer.demo import DemoConfig, run_demo

    _one_thread()
    folder = home or workspace_home() / "demo"
    report = run_demo(DemoConfig(home=folder, **sizes))
    _print(as_json, lambda: report.to_json(), lambda: report.render())


def describe_trained(trained: Any) -> str:  # Trained, whose module needs torch
    """Return what training made in a few lines."""
    fit = trained.fit
    return (
        f"{trained.name} v{trained.version} from {fit.decisions} decisions and {fit.slots} argument choices "
        f"({fit.coverage:.1%} of argument values were among the candidates)\n"
        f"{trained.evaluation.render()}\n{trained.path}"
    )
