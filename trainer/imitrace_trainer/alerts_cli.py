"""Offer the commands about alerts: what stands, tell it now, and try the way."""

import json
import sys
from pathlib import Path

import click

from imitrace.config import read_config, workspace_home

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
_CONFIG = click.option("--config", type=click.Path(path_type=Path), help="Configuration  [default: ./imitrace.toml]")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group(invoke_without_command=True)
@_HOME
@_JSON
@click.pass_context
def alerts(context: click.Context, home: Path | None, as_json: bool) -> None:
    """List what stands against clones: drift, failed gates, lapsed evidence, stepped back cohorts, failed refreshes.

    'imitrace drift' and 'imitrace refresh' tell what began and what ended when they are done. Exits 1 where something
    stands.

    \b
    Examples:
      imitrace alerts
      imitrace alerts send
      imitrace alerts test
    """
    if context.invoked_subcommand is not None:
        context.obj = home
        return
    from imitrace_trainer.alerting.alert_file import AlertFile
    from imitrace_trainer.alerting.standing import standing

    folder = workspace_home(home)
    found, broken = standing(folder)
    known = {alert.key: alert for alert in AlertFile(folder).read() if alert.ended is None}
    rows = []
    for one in found:
        alert = known.get(one.key)
        rows.append({**vars(one), "since": alert and alert.since, "told": [*alert.told] if alert else []})
    for problem in broken:
        click.echo(f"imitrace: {problem}", err=True)
    lines = [_line(row) for row in rows]
    click.echo(json.dumps(rows, indent=1) if as_json else "\n".join(lines) or "nothing stands")
    sys.exit(1 if rows or broken else 0)


@alerts.command()
@_HOME
@_CONFIG
@click.pass_obj
def send(group_home: Path | None, home: Path | None, config: Path | None) -> None:
    """Tell now what began and what ended since the last time. Exits 1 where a channel did not take it.

    \b
    Examples:
      imitrace alerts send
    """
    from imitrace_trainer.alerting.telling import tell_alerts

    problems = tell_alerts(workspace_home(home or group_home), read_config(config))
    for problem in problems:
        click.echo(f"imitrace: {problem}", err=True)
    sys.exit(1 if problems else 0)


@alerts.command()
@_CONFIG
def test(config: Path | None) -> None:
    """Send an alert that means nothing by every channel. Exits 1 where one did not take it, or there is none.

    \b
    Examples:
      imitrace alerts test
    """
    from imitrace_trainer.alerting.telling import try_alert

    found = try_alert(read_config(config))
    for channel, problem in found.items():
        click.echo(f"{channel}: {problem or 'taken'}")
    if not found:
        click.echo("no channel: set alerts.webhook in imitrace.toml, or OTEL_EXPORTER_OTLP_ENDPOINT")
    sys.exit(0 if found and not any(found.values()) else 1)


def _line(row: dict[str, object]) -> str:
    about = f" {row['about']}" if row["about"] else ""
    return f"{row['name']}  {row['clone']}{about}  since {row['since'] or 'now'}: {row['why']}"
