"""Offer the command that schedules refreshes: it prints, installs, removes and lists what calls them."""

import json
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imitrace.config import read_config, setting, workspace_home
from imitrace.exceptions import ConfigError

if TYPE_CHECKING:
    from imitrace_trainer.refreshing.calls import Call
    from imitrace_trainer.refreshing.times import Times

_KINDS = ("crontab", "systemd", "kubernetes")
_UNIT_FAILED = 1


@dataclass(frozen=True)
class _Asked:
    """A schedule, and what it is to be made into."""

    kind: str
    call: "Call"
    times: "Times"
    image: str


@click.command()
@click.argument("clone")
@click.option("--as", "kind", type=click.Choice(_KINDS), default="crontab", show_default=True, help="In which form.")
@click.option("--install", is_flag=True, help="Put it into the user's crontab, or among the user's systemd units.")
@click.option("--remove", is_flag=True, help="Take it out again.")
@click.option("--list", "list_", is_flag=True, help="Say when the next runs come, in the schedule's zone and UTC.")
@click.option("--count", type=click.IntRange(1, 1000), default=5, show_default=True, help="How many --list shows.")
@click.option("--image", default="imitrace:latest", show_default=True, help="Image of a Kubernetes job.")
@click.option("--home", type=click.Path(path_type=Path), help="Workspace folder [default: ./.imitrace].")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration [default: ./imitrace.toml].")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def schedule(  # noqa: PLR0913 - a command has the parameters of its options
    clone: str,
    kind: str,
    install: bool,
    remove: bool,
    list_: bool,
    count: int,
    image: str,
    home: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Print what calls 'imitrace refresh CLONE' by its [clone.NAME.schedule] table; install, remove or list it.

    \b
    Examples:
      imitrace schedule airline
      imitrace schedule airline --install
      imitrace schedule airline --list --count 10
      imitrace schedule airline --as systemd --install
      imitrace schedule airline --as kubernetes | kubectl apply -f -
    """
    from imitrace_trainer.refreshing.calls import call_for

    if install + remove + list_ > 1:
        raise ConfigError("--install, --remove and --list exclude each other; give one")
    if kind == "kubernetes" and (install or remove):
        raise ConfigError("--as kubernetes only prints, allowed: '... --as kubernetes | kubectl apply -f -', or delete")
    named = setting("IMITRACE_CONFIG", None if config is None else str(config), "imitrace.toml")
    asked = _Asked(
        kind, call_for(clone, workspace_home(home), Path(named or "")), _times(clone, config, removed=remove), image
    )
    if list_:
        _list(asked.times, count, as_json)
    elif install:
        _install(asked, as_json)
    elif remove:
        _remove(asked, as_json)
    else:
        text = _text(asked)
        click.echo(json.dumps({"as": kind, "text": text}, indent=1) if as_json else text.rstrip("\n"))


def _times(clone: str, config: Path | None, *, removed: bool) -> "Times":
    from imitrace_trainer.refreshing.config import schedule_from_config
    from imitrace_trainer.refreshing.times import Times

    settings = read_config(config)
    found = schedule_from_config(settings, clone)
    if found is not None and found.times is not None:
        return found.times
    if removed:  # what was installed goes, although the table went first
        return Times("@daily")
    known = ", ".join(sorted(settings.get("clone", {}))) or "none"
    raise ConfigError(
        f"clone.{clone}.schedule.cron is missing from imitrace.toml, which has the clones: {known}; "
        f'write [clone.{clone}.schedule] with cron = "30 3 * * *" and time_zone = "Europe/Berlin"'
    )


def _text(asked: _Asked) -> str:
    from imitrace_trainer.refreshing.crontab import crontab_lines
    from imitrace_trainer.refreshing.kubernetes import cron_job
    from imitrace_trainer.refreshing.systemd import systemd_units
    from imitrace_trainer.refreshing.times import system_zone

    now = datetime.now(UTC)
    if asked.kind == "crontab":
        return "".join(f"{line}\n" for line in crontab_lines(asked.call, asked.times, system_zone(), now))
    if asked.kind == "kubernetes":
        return cron_job(asked.call, asked.times, asked.image)
    files = systemd_units(asked.call, asked.times, now).files
    return "\n".join(f"# {name}\n{text}" for name, text in files.items())


def _install(asked: _Asked, as_json: bool) -> None:
    from imitrace_trainer.refreshing.crontab import crontab_lines, read_crontab, with_lines, write_crontab
    from imitrace_trainer.refreshing.systemd import install_units, systemd_units, unit_folder
    from imitrace_trainer.refreshing.times import system_zone

    now, problem = datetime.now(UTC), None
    if asked.kind == "crontab":
        before = read_crontab()
        after = with_lines(before, asked.call, crontab_lines(asked.call, asked.times, system_zone(), now))
        if after != before:
            write_crontab(after)
        where = "the user's crontab"
    else:
        units, folder = systemd_units(asked.call, asked.times, now), unit_folder()
        problem, where = install_units(units, asked.call, folder), str(folder / f"{units.name}.timer")
    following = next(asked.times.after(now)).isoformat()
    record = {"installed": where, "running": problem is None, "problem": problem, "next": following}
    _say(as_json, record, f"{asked.call.clone} is refreshed from {where}, next at {following}")
    if problem is not None:
        click.echo(f"imitrace: the timer is written but does not run: {problem}", err=True)
        sys.exit(_UNIT_FAILED)


def _remove(asked: _Asked, as_json: bool) -> None:
    from imitrace_trainer.refreshing.crontab import read_crontab, without_lines, write_crontab
    from imitrace_trainer.refreshing.systemd import remove_units, systemd_units, unit_folder

    if asked.kind == "crontab":
        before = read_crontab()
        after = without_lines(before, asked.call)
        removed = after != before
        if removed:
            write_crontab(after)
    else:
        units = systemd_units(asked.call, asked.times, datetime.now(UTC))
        removed = remove_units(units, asked.call, unit_folder())
    text = f"{asked.call.clone} is refreshed by no {asked.kind} any more" if removed else "nothing was installed"
    _say(as_json, {"removed": removed}, text)


def _list(times: "Times", count: int, as_json: bool) -> None:
    found = [moment for moment, _ in zip(times.after(datetime.now(UTC)), range(count), strict=False)]
    rows = [{"local": one.isoformat(), "utc": one.astimezone(UTC).isoformat()} for one in found]
    lines = [f"{one:%a %Y-%m-%d %H:%M %Z}  {one.astimezone(UTC):%Y-%m-%d %H:%M} UTC" for one in found]
    _say(as_json, {"time_zone": times.time_zone, "cron": times.cron, "next": rows}, "\n".join(lines))


def _say(as_json: bool, record: dict[str, Any], text: str) -> None:
    click.echo(json.dumps(record, indent=1) if as_json else text)
