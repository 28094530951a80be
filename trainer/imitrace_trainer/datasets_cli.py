"""Offer the commands that look at datasets: each parses, calls one function, prints."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imitrace.config import workspace_home
from imitrace.exceptions import ConfigError

if TYPE_CHECKING:
    from imitrace_trainer.dataset_changes import Difference

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder [default: ./.imitrace].")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_ROWS = 20


@click.group(invoke_without_command=True)
@_HOME
@_JSON
@click.pass_context
def datasets(context: click.Context, home: Path | None, as_json: bool) -> None:
    """List the dataset versions.

    \b
    Examples:
      imitrace datasets
      imitrace datasets --json
      imitrace datasets diff airline@1 airline@2
    """
    if context.invoked_subcommand is not None:
        context.obj = home
        return
    from imitrace_trainer.datasets import list_datasets

    found = list_datasets(workspace_home(home))
    if as_json:
        click.echo(json.dumps([dataset.manifest for dataset in found], indent=1))
    else:
        click.echo("\n".join(map(describe_dataset, found)) or "no dataset yet: run 'imitrace curate'")


@datasets.command()
@click.argument("before")
@click.argument("after")
@_HOME
@_JSON
@click.pass_obj
def diff(group_home: Path | None, before: str, after: str, home: Path | None, as_json: bool) -> None:
    """Say what came and what went from version BEFORE to AFTER, and which rule did it.

    A version is NAME@VERSION; NAME alone is the newest.

    \b
    Examples:
      imitrace datasets diff airline@1 airline@2
      imitrace datasets diff airline@1 airline --json
    """
    from imitrace_trainer.dataset_changes import difference
    from imitrace_trainer.datasets import open_dataset

    folder = workspace_home(home or group_home)
    found = difference(*(open_dataset(folder, *named_version(text)) for text in (before, after)))
    if as_json:
        click.echo(json.dumps({**vars(found), "rows": found.rows.to_dicts()}, indent=1, default=str))
    else:
        click.echo(describe_difference(found))


@datasets.command()
@click.argument("dataset")
@click.option("--tag", help="Tag whose values are judged apart [default: cohort].")
@click.option("--margin", type=float, help="How much worse than the expert a clone may be [default: 0.02].")
@click.option("--disagreement", type=float, help="Share of tasks only one of both does right [default: 0.05].")
@_HOME
@_JSON
@click.pass_obj
def coverage(group_home: Path | None, /, dataset: str, home: Path | None, as_json: bool, **asked: object) -> None:
    """Say how many more tasks of each kind a decidable gate needs.

    \b
    Examples:
      imitrace datasets coverage airline
      imitrace datasets coverage airline@2 --tag intent --margin 0.05
    """
    from imitrace_trainer.coverage import CoverageConfig
    from imitrace_trainer.coverage import coverage as covered
    from imitrace_trainer.datasets import open_dataset

    config = CoverageConfig(**{key: value for key, value in asked.items() if value is not None})  # type: ignore[arg-type]  # click's types
    found = covered(open_dataset(workspace_home(home or group_home), *named_version(dataset)), config)
    click.echo(json.dumps([vars(each) for each in found], indent=1) if as_json else "\n".join(map(str, found)))


@datasets.command()
@click.argument("dataset")
@_HOME
@_JSON
@click.pass_obj
def harm(group_home: Path | None, dataset: str, home: Path | None, as_json: bool) -> None:
    """Measure what the failures that a version learns from do to guesses of what is done elsewhere.

    \b
    Examples:
      imitrace datasets harm airline
      imitrace datasets harm airline@2 --json
    """
    from imitrace_trainer.datasets import open_dataset
    from imitrace_trainer.effect import effect_of_failures

    found = effect_of_failures(open_dataset(workspace_home(home or group_home), *named_version(dataset)))
    told = f"{found.further} steps of failures, beside {found.steps} of {found.tasks} tasks\n{found}"
    click.echo(json.dumps(vars(found), indent=1) if as_json else told)


def named_version(text: str) -> tuple[str, int | None]:
    """Read NAME or NAME@VERSION.

    Raises:
        ConfigError: the version is no number.
    """
    name, at, version = text.partition("@")
    if not at:
        return name, None
    number = version.removeprefix("v")
    if not (number.isascii() and number.isdigit()):
        raise ConfigError(f"dataset version is {version!r}, expected a number, as in NAME@3")
    return name, int(number)


def describe_dataset(dataset: Any) -> str:  # Dataset, whose module needs polars
    """Return a dataset version in a few lines."""
    manifest = dataset.manifest
    splits = ", ".join(
        f"{name} {counts['tasks']} tasks {counts['trained_steps']} steps" for name, counts in manifest["splits"].items()
    )
    rejected = ", ".join(f"{rule} {count}" for rule, count in manifest["rejected"].items()) or "none"
    page = dataset.path.with_name(f"{dataset.path.name}.html")
    seen = f"\n  {page}" if page.exists() else ""
    changed = ", ".join(f"{change} {count}" for change, count in manifest.get("tools", {}).get("steps", {}).items())
    calls = f"\n  calls: {changed}" if changed else ""
    handed = manifest.get("handovers", {})
    gained = f"\n  handovers: {handed['learnt']} steps learnt behind a clone's own" if handed.get("learnt") else ""
    gained += f", in {handed['trajectories']} trajectories" if gained else ""
    told = f"rejected: {rejected}{calls}{gained}"
    return f"{dataset.name} v{dataset.version}  {splits}\n  {told}\n  {dataset.path}{seen}"


def describe_difference(found: "Difference") -> str:
    """Return a few lines on what came and went, and the first trajectories of each."""
    lines = [
        f"{found.before} -> {found.after}: {found.same} trajectories are the same, {found.changed} have other steps"
    ]
    for what, counts in (("came", found.came), ("went", found.went), ("moved", found.moved)):
        lines += [f"  {what:<6} {count:>6}  {why}" for why, count in counts.items()]
    lines += [f"  asked  {key}: {old!r} -> {new!r}" for key, (old, new) in found.asked.items()]
    rows = found.rows.head(_ROWS).iter_rows()
    lines += [f"    {trajectory}  {what}, {why}" for trajectory, what, why in rows]
    if len(found.rows) > _ROWS:
        lines.append(f"    and {len(found.rows) - _ROWS} more, all in --json")
    return "\n".join(lines)
