"""Offer the command that says before any training how much looks clonable."""

import json
from dataclasses import replace
from pathlib import Path

import click

from imitrace.config import read_config, workspace_home
from imitrace.exceptions import ConfigError
from imitrace_trainer.progress import progress_bar


@click.command()
@click.argument("cohort", required=False)
@click.option("--agent", help="Scan all of this agent's trajectories, without a cohort.")
@click.option(
    "--promise",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    default=0.95,
    show_default=True,
    help="Share of a clone's decisions that must be the expert's.",
)
@click.option("--source", help="A snapshot folder, a .duckdb file, or a collector's address  [default: the workspace]")
@click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration  [default: ./imitrace.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def scan(  # noqa: PLR0913 - a command has the parameters of its options
    cohort: str | None,
    agent: str | None,
    promise: float,
    source: str | None,
    home: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Say how much of COHORT's traffic, or of an agent's, a clone could act on, before training one.

    \b
    Examples:
      imitrace scan airline
      imitrace scan --agent airline --promise 0.98 --json
    """
    from imitrace_trainer.cohort import CohortConfig, cohort_from_config
    from imitrace_trainer.curate import curate
    from imitrace_trainer.scan import ScanConfig
    from imitrace_trainer.scan import scan as scanned
    from imitrace_trainer.source_copies import at_hand
    from imitrace_trainer.sources import open_source
    from imitrace_trainer.tool_ledger import read_ledger

    if (cohort is None) == (agent is None):
        raise ConfigError("scan needs a cohort or --agent, and not both, for instance 'imitrace scan airline'")
    asked = cohort_from_config(read_config(config), cohort) if cohort else CohortConfig(name="scan", agent=str(agent))
    folder = workspace_home(home)
    with progress_bar() as progress:
        rules = read_ledger(folder).rules(asked.agent)
        judged = replace(asked, hindsight=0.0)  # a scan plays every task as one to judge on, and failures are none
        with at_hand(open_source(source, folder), folder, progress) as opened:
            curated = curate(opened.frames(), judged, rules, progress)
            found = scanned(curated, ScanConfig(promise=promise, split=asked.split), progress)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else found.render())
