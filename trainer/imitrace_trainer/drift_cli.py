"""Offer the command that looks for drift of a champion's traffic."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from imitrace.config import read_config, workspace_home
from imitrace.exceptions import ConfigError
from imitrace_trainer.progress import progress_bar

_EXIT: Final = {"none": 0, "drift": 1, "insufficient": 3}


@click.command()
@click.argument("clone")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="How many of the last days count as recent.")
@click.option("--since", help="When the recent traffic begins, ISO 8601, UTC unless it says otherwise.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a page with plots to this file.")
@click.option("--source", help="A snapshot folder, a .duckdb file, or a collector's address  [default: the workspace]")
@click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration  [default: ./imitrace.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def drift(  # noqa: PLR0913 - a command has the parameters of its options
    clone: str,
    days: float | None,
    since: str | None,
    html: Path | None,
    source: str | None,
    home: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Compare recent traffic with what CLONE's champion was trained on. Exits 0 none, 1 drift, 3 insufficient.

    Two figures are told: distribution-shift-detector and clone-vs-expert-action-disagreement-rate. A look that finds no
    drift is noted as evidence for the clone. See docs/drift.md.

    \b
    Examples:
      imitrace drift airline
      imitrace drift airline --days 1 --html drift.html
      imitrace drift airline --since 2026-03-01 --json
    """
    from imitrace_trainer.alerting.telling import told_afterwards
    from imitrace_trainer.config import clone_from_config
    from imitrace_trainer.drift.page import render
    from imitrace_trainer.drift_stage import DAY, drift_stage

    _one_thread()
    settings, folder = read_config(config), workspace_home(home)
    wanted = clone_from_config(settings, clone, Path())
    now = int(datetime.now(UTC).timestamp() * 10**9)
    begin = None if days is None else now - int(days * DAY)
    if since is not None:
        if days is not None:
            raise ConfigError("drift takes --days or --since, and not both")
        begin = _moment(since)
    with told_afterwards(folder, settings), progress_bar() as progress:
        report = drift_stage(folder, wanted, source, progress, now=now, since=begin)
    if html is not None:
        _write(html, render(report))
    click.echo(json.dumps(report.to_json(), indent=1) if as_json else report.render())
    sys.exit(_EXIT[report.verdict])


def _moment(text: str) -> int:
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConfigError(f"--since is {text!r}, allowed: ISO 8601, such as 2026-03-01") from error
    return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 10**9)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"--html {path} can't be written: {error.strerror}; name a file in a folder") from error


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)
