"""Offer the commands about a clone in service: by which rules it is routed, and what its audit slice says."""

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import click

from imitrace.config import read_config, workspace_home
from imitrace.exceptions import ConfigError
from imitrace_trainer.progress import progress_bar

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_DAY = 86_400 * 10**9


@click.command()
@click.argument("clone")
@click.option("--apply", "apply_", is_flag=True, help="Take the settings of imitrace.toml into service.")
@click.option("--resume", metavar="COHORT", help="Give a cohort that stepped back to the clone again.")
@click.option("--note", help="Why: kept with --resume.")
@click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="Say where decisions with this tag go.")
@_HOME
@click.option("--config", type=click.Path(path_type=Path), help="Configuration  [default: ./imitrace.toml]")
@_JSON
def route(  # noqa: PLR0913 - a command has the parameters of its options
    clone: str,
    apply_: bool,
    resume: str | None,
    note: str | None,
    tags: tuple[str, ...],
    home: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Show by which settings CLONE is routed, and where its champion may act until when.

    Settings of [clone.NAME.route] come into service with 'imitrace promote', or at once with --apply; agents that run
    follow within a second. Cohorts that stepped back to the expert are shown, each with why. Exits 1 where the champion
    may act on nothing.

    \b
    Examples:
      imitrace route airline
      imitrace route airline --tag cohort=common --tag tier=vip
      imitrace route airline --apply
      imitrace route airline --resume refunds --note "the new wording is fine"
    """
    from imitrace_trainer.config import clone_from_config
    from imitrace_trainer.registry import Registry
    from imitrace_trainer.route import refusal

    registry = Registry(workspace_home(home))
    if apply_:
        settings = read_config(config)
        registry.record_route(clone, clone_from_config(settings, clone, Path()).route)
    version = registry.resolve(f"{clone}@champion")
    if resume is not None:
        _resume(workspace_home(home), clone, version.version, (resume, note))
    evidence = registry.evidence(version).at(time.time())
    served = registry.route_config(clone)
    back = evidence.stepped_back
    refused = evidence.lack or ("" if evidence.cohorts else "; ".join(back.values())) or None
    if tags:
        refused = evidence.lack or refusal(_tags(tags), evidence.cohorts, served.rules, back)
    if as_json:
        told = {"clone": clone, "version": version.version, "cohorts": [*evidence.cohorts], "until": evidence.until}
        click.echo(
            json.dumps({**told, "stepped_back": dict(back), "refused": refused, "settings": served.to_json()}, indent=1)
        )
    else:
        settings_told = (f"  {key} = {json.dumps(value)}" for key, value in served.to_json().items())
        acts = f"{registry.describe(clone, version.version)} acts in {', '.join(evidence.cohorts) or 'none'}"
        asked = refused or ("the clone is asked: no rule leaves this to the expert" if tags else "")
        shown = [asked] if asked else []
        shown += [f"! {why}" for why in back.values() if why not in asked]
        click.echo("\n".join([acts, *shown, "settings:", *settings_told]))
    if refused:
        sys.exit(1)


@click.command()
@click.argument("clone")
@click.option("--days", type=click.FloatRange(min=0, min_open=True), help="Only what was decided in the last days.")
@click.option("--version", help="Only this version, such as v3.")
@click.option("--source", help="A snapshot folder, a .duckdb file, or a collector's address  [default: the workspace]")
@_HOME
@_JSON
def audit(  # noqa: PLR0913 - a command has the parameters of its options
    clone: str, days: float | None, version: str | None, source: str | None, home: Path | None, as_json: bool
) -> None:
    """Estimate how often the expert does otherwise where CLONE is trusted, from the decisions drawn for the audit.

    \b
    Examples:
      imitrace audit airline
      imitrace audit airline --days 7 --version v3 --json
    """
    from imitrace_trainer.disagreement import estimate
    from imitrace_trainer.source_copies import at_hand
    from imitrace_trainer.sources import open_source

    folder = workspace_home(home)
    since = 0 if days is None else int(time.time_ns() - days * _DAY)
    with progress_bar() as progress, at_hand(open_source(source, folder), folder, progress) as opened:
        found = estimate(opened.frames(), clone, since, version)
    click.echo(json.dumps(found.to_json(), indent=1) if as_json else found.render())


def _resume(home: Path, clone: str, version: int, asked: tuple[str, str | None]) -> None:
    from imitrace_trainer.step_backs import StepBacks

    cohort, note = asked
    if not note:
        raise ConfigError("--resume needs --note, for instance --note 'looked at, and fine'")
    StepBacks(home, clone).resume(version, cohort, note, datetime.now(UTC).isoformat(timespec="seconds"))


def _tags(pairs: tuple[str, ...]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise ConfigError(f"--tag is {pair!r}, allowed: KEY=VALUE")
    return dict(pair.split("=", 1) for pair in pairs)
