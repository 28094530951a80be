"""Offer the command that says what a clone saves."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from imitrace.config import read_config, workspace_home
from imitrace.exceptions import ConfigError
from imitrace_trainer.progress import progress_bar


@click.command()
@click.argument("name", metavar="CLONE|AGENT")
@click.option("--since", help="Only from this day or time on, for instance 2026-11-01.")
@click.option(
    "--rows", type=click.Path(path_type=Path, dir_okay=False), help="Write every charge there, as JSON lines."
)
@click.option("--source", help="A snapshot folder, a .duckdb file, or a collector's address  [default: the workspace]")
@click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration  [default: ./imitrace.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def savings(  # noqa: PLR0913 - a command has the parameters of its options
    name: str,
    since: str | None,
    rows: Path | None,
    source: str | None,
    home: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Say what a clone, or all clones of an agent, saved: what the expert would have cost, less all that they cost.

    \b
    Examples:
      imitrace savings airline
      imitrace savings airline --since 2026-11-01 --rows charges.jsonl
      imitrace savings airline --json
    """
    from imitrace_trainer.prices import prices_from_config
    from imitrace_trainer.savings import savings as saved
    from imitrace_trainer.savings import scope_of, write_rows
    from imitrace_trainer.source_copies import at_hand
    from imitrace_trainer.sources import open_source

    folder, prices, start = workspace_home(home), prices_from_config(read_config(config)), _nanoseconds(since)
    with progress_bar() as progress, at_hand(open_source(source, folder), folder, progress) as opened:
        frames = opened.frames()
        found = saved(folder, frames, scope_of(folder, frames, name, start), prices)
    if rows is not None:
        write_rows(rows, found)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else found.render())


def _nanoseconds(since: str | None) -> int:
    if since is None:
        return 0
    try:
        moment = datetime.fromisoformat(since)
    except ValueError as error:
        raise ConfigError(f"--since is {since!r}, expected a day or a time such as 2026-11-01") from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()) * 10**9
