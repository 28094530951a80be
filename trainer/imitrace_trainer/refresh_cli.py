"""Offer the commands that refresh clones, and that list what past refreshes did."""

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imitrace.config import read_config, setting, workspace_home
from imitrace.exceptions import ConfigError
from imitrace_trainer.progress import progress_bar

if TYPE_CHECKING:
    from imitrace_trainer.refreshing.runs import Run
    from imitrace_trainer.refreshing.scheduled import Asked

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder [default: ./.imitrace].")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.argument("clone")
@click.option(
    "--source", help="Where the traces are: a snapshot folder, a .duckdb file, or a collector's http:// address."
)
@click.option("--dry-run", is_flag=True, help="Say whether it is due and what would be done; change nothing.")
@click.option("--force", is_flag=True, help="Do it whether it is due or not.")
@_HOME
@click.option("--config", type=click.Path(path_type=Path), help="Configuration [default: ./imitrace.toml].")
@_JSON
def refresh(  # noqa: PLR0913 - a command has the parameters of its options
    clone: str, source: str | None, dry_run: bool, force: bool, home: Path | None, config: Path | None, as_json: bool
) -> None:
    """Do the turn for CLONE where it is due: curate, train, evaluate, gate, and promote it where it passed.

    Without a [clone.NAME.schedule] table it is always due. Exits 0 when it was promoted, or nothing was due or new; 1
    when its gate failed, or a change of a tool is undecided; 2 on an error; 3 when the gate proved nothing; 4 while
    another refresh of it runs; 5 when a limit of its schedule stopped it; 6 when the champion is better.

    \b
    Examples:
      imitrace refresh airline
      imitrace refresh airline --dry-run
      imitrace refresh airline --force --source http://127.0.0.1:4318
    """
    from imitrace_trainer.alerting.telling import told_afterwards
    from imitrace_trainer.refreshing.config import schedule_from_config
    from imitrace_trainer.refreshing.run_desk import LOCKED, dismissed
    from imitrace_trainer.refreshing.run_lock import LockedError

    settings, folder = read_config(config), workspace_home(home)
    say = (lambda _: None) if as_json else click.echo
    try:
        with told_afterwards(folder, settings, silent=dry_run):
            run = None if force or dry_run else dismissed(folder, clone, schedule_from_config(settings, clone))
            if run is not None:
                say(run.why)
            else:
                named = setting("IMITRACE_CONFIG", None if config is None else str(config), "imitrace.toml")
                asked = _asked(clone, folder, settings, Path(named or "").resolve().parent, source)
                if dry_run:
                    _plan(asked, as_json)
                    return
                run = _work(replace(asked, force=force), say)
    except LockedError as error:
        click.echo(f"imitrace: {error}", err=True)
        sys.exit(LOCKED)
    if as_json:
        click.echo(json.dumps(run.to_json(), indent=1))
    if run.outcome == "stopped":
        click.echo(f"imitrace: {run.why}", err=True)
    sys.exit(run.exit_code)


def _asked(clone: str, home: Path, settings: Mapping[str, Any], folder: Path, source: str | None) -> "Asked":
    from imitrace_trainer.config import clone_from_config
    from imitrace_trainer.refreshing.scheduled import Asked

    return Asked(home, clone_from_config(settings, clone, folder), source)


def _plan(asked: "Asked", as_json: bool) -> None:
    from imitrace_trainer.refreshing.scheduled import what_would_be_done

    with progress_bar() as progress:
        due, plan = what_would_be_done(asked, progress)
    record = {"due": bool(due.reasons), "why": due.why, "would": plan}
    text = "\n".join([due.why, *(f"would {step}" for step in plan)])
    click.echo(json.dumps(record, indent=1) if as_json else text)


def _work(asked: "Asked", say: Callable[[str], None]) -> "Run":
    from imitrace_trainer.refreshing.scheduled import scheduled_refresh

    _one_thread()
    with progress_bar() as progress:
        return scheduled_refresh(asked, progress, say)


@click.command()
@click.argument("clone", required=False)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Only the newest so many.")
@_HOME
@_JSON
def runs(clone: str | None, limit: int, home: Path | None, as_json: bool) -> None:
    """List what past refreshes of CLONE, or of all clones, did; the newest comes last.

    \b
    Examples:
      imitrace runs airline
      imitrace runs --limit 100 --json
    """
    from imitrace_trainer.refreshing.runs import Runs, names

    folder = workspace_home(home)
    known = names(folder)
    if clone is not None and clone not in known:
        raise ConfigError(f"clone {clone!r} has no runs, there are of: {', '.join(known) or 'none'}; run 'refresh'")
    found = [run for name in ([clone] if clone else known) for run in Runs(folder, name).all()]
    newest = sorted(found, key=lambda run: run.id)[-limit:]
    if as_json:
        click.echo(json.dumps([run.to_json() for run in newest], indent=1))
    else:
        lines = (run.render() if clone else f"{run.clone}  {run.render()}" for run in newest)
        click.echo("\n".join(lines) or "no run yet: run 'imitrace refresh'")


def _one_thread() -> None:
    """Keep torch to one thread: these networks are small, and two threads wait for each other more than they work."""
    import torch

    torch.set_num_threads(1)
