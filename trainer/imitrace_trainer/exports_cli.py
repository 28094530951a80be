"""Offer the command that writes trajectories for other trainers."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imitrace.config import workspace_home
from imitrace.exceptions import ConfigError
from imitrace_trainer.datasets_cli import named_version

if TYPE_CHECKING:
    from imitrace_trainer.episodes import Tables
    from imitrace_trainer.exports import Exported


@click.command()
@click.argument("out", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--format", "form", required=True, help="openai, trl, trl-prompt-completion, sharegpt or minari.")
@click.option("--dataset", help="NAME or NAME@VERSION: what `imitrace curate` made  [default: all that is stored]")
@click.option("--split", help="Only this split of the dataset: train, calibration or gate.")
@click.option("--source", help="Without --dataset: a snapshot folder, a .duckdb file, or a collector's address.")
@click.option("--agent", help="Only this agent's trajectories.")
@click.option("--score", default="TaskCompletion", show_default=True, help="The score that is minari's reward.")
@click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def export(out: Path, form: str, home: Path | None, as_json: bool, **chosen: str | None) -> None:
    """Write trajectories into OUT for another trainer: JSON lines (packed for a name in .gz), or Parquet for minari.

    Incomplete trajectories are left out. What the format can't hold is counted and said.

    \b
    Examples:
      imitrace export airline.jsonl --format openai --dataset airline@1 --split train
      imitrace export episodes.parquet --format minari --agent airline
      imitrace export airline.jsonl.gz --format trl --source .imitrace/snapshots/20261121T080000Z-1a2b3c4d --json
    """
    from imitrace_trainer.exports import export as write

    tables = _tables(workspace_home(home), chosen)
    report = write(tables.episodes(chosen["agent"]), form, out)
    click.echo(json.dumps(vars(report)) if as_json else describe_export(report))


def describe_export(report: "Exported") -> str:
    """Return what was written in a few lines."""
    told = [f"{report.trajectories} trajectories, {report.steps} steps -> {report.path} ({report.rows} rows)"]
    told += [f"  left out: {count} trajectories {reason}" for reason, count in report.left_out.items()]
    told += [f"  not in {report.format}: {count} {what}" for what, count in report.lost.items()]
    return "\n".join(told)


def _tables(folder: Path, chosen: dict[str, str | None]) -> "Tables":
    from imitrace_trainer.datasets import open_dataset
    from imitrace_trainer.episodes import of_dataset, of_source
    from imitrace_trainer.sources import open_source

    score = str(chosen["score"])
    if chosen["dataset"] is None:
        if chosen["split"] is not None:
            raise ConfigError(f"--split {chosen['split']} needs --dataset: only a dataset has splits")
        return of_source(open_source(chosen["source"], folder), score)
    return of_dataset(open_dataset(folder, *named_version(chosen["dataset"])), chosen["split"], score)
