"""Offer the commands that look after a store: each parses, calls one function and prints."""

import dataclasses
import json
from datetime import UTC, datetime
from pathlib import Path

import click

from imitrace.config import workspace_home
from imitrace.exceptions import StoreError
from imitrace_collector.cli import open_collector

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command()
@click.option("--older-than", help="What nothing came in for since so long, like 30d; m, h, d or w.")
@click.option("--agent", help="Only this agent's; with --older-than.")
@click.option("--max-bytes", help="The oldest, until the file is no larger than this, like 10GB.")
@click.option("--dry-run", is_flag=True, help="Only say what would expire.")
@_HOME
@_JSON
def expire(  # noqa: PLR0913 - one for each option of the command
    older_than: str | None, agent: str | None, max_bytes: str | None, dry_run: bool, home: Path | None, as_json: bool
) -> None:
    """Delete old trajectories, with all that came in for them; no collector may run.

    A running collector does so by itself, where its configuration says what to keep. `imitrace compact` gives the
    space back to the disk.

    \b
    Examples:
      imitrace expire --older-than 90d --dry-run
      imitrace expire --older-than 30d --agent support
      imitrace expire --max-bytes 10GB --json
    """
    from imitrace_collector import retention
    from imitrace_collector.amounts import age, size
    from imitrace_collector.store import Store

    if not (older_than or max_bytes) or (agent and (max_bytes or not older_than)):
        raise click.UsageError("say --older-than, --max-bytes, or --older-than with --agent")
    limit = age(older_than) if older_than else None
    config = retention.RetentionConfig(
        max_age=None if agent else limit,
        agents={agent: limit} if agent else {},
        max_bytes=size(max_bytes) if max_bytes else None,
    )
    with Store.open(_stopped(workspace_home(home)), create=False) as store:
        gone = retention.expire(store, config, int(datetime.now(UTC).timestamp()) * 10**9, dry_run=dry_run)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "agents": retention.as_json(gone)}))
        return
    for name, counted in gone.items():
        click.echo(
            f"{name}: {counted.trajectories} trajectories, {counted.others} others, {counted.spans} spans, "
            f"{counted.log_records} log records, {counted.bytes} bytes {'would expire' if dry_run else 'expired'}"
        )
    if not gone:
        click.echo("nothing expires" if dry_run else "nothing expired")


@click.command()
@_HOME
@_JSON
def compact(home: Path | None, as_json: bool) -> None:
    """Write the store's file anew without what was deleted; no collector may run.

    A crash at any point leaves one whole store. A running collector does so by itself after what expired.

    \b
    Examples:
      imitrace compact
      imitrace compact --json
    """
    from imitrace_collector import compaction
    from imitrace_collector.store import Store

    with Store.open(_stopped(workspace_home(home)), create=False) as store:
        done = compaction.compact(store)
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(done)))
    else:
        click.echo(f"{done.before} bytes before, {done.after} after")


@click.command()
@click.argument("target", type=click.Path(path_type=Path, file_okay=False))
@_HOME
@_JSON
def backup(target: Path, home: Path | None, as_json: bool) -> None:
    """Write one consistent copy of the store into a new folder below TARGET, and print its path.

    With a collector running it is asked, and goes on taking what comes in.

    \b
    Examples:
      imitrace backup /mnt/backups
      imitrace backup /mnt/backups --json
    """
    from imitrace_collector.backup import write_backup
    from imitrace_collector.config import STORE_FILE
    from imitrace_collector.store import Store

    folder = workspace_home(home)
    client = open_collector(folder)
    if client is not None:
        written = client.post("/v1/backup", {"target": str(target.absolute())})
    else:
        with Store.open(folder / STORE_FILE, create=False) as store:
            written = write_backup(store, target, datetime.now(UTC))
    click.echo(json.dumps(written) if as_json else written["path"])


@click.command()
@click.argument("backup", type=click.Path(path_type=Path, file_okay=False))
@click.option("--force", is_flag=True, help="Put a store that is there aside.")
@_HOME
@_JSON
def restore(backup: Path, force: bool, home: Path | None, as_json: bool) -> None:
    """Put the store of a backup in place, after its hash and its counts are checked; no collector may run.

    \b
    Examples:
      imitrace restore /mnt/backups/20261121T120000000000Z
      imitrace restore /mnt/backups/20261121T120000000000Z --home /var/lib/imitrace --force
    """
    from imitrace_collector import backup as backups

    done = backups.restore(backup, _stopped(workspace_home(home)), datetime.now(UTC), force=force)
    if as_json:
        click.echo(json.dumps(done))
        return
    kept = f"; the former one is {done['kept']}" if done["kept"] else ""
    click.echo(f"{done['counts']['spans']} spans restored to {done['path']}{kept}")


@click.command()
@_HOME
@_JSON
def migrate(home: Path | None, as_json: bool) -> None:
    """Bring a store that an older imitrace wrote to this version; no collector may run.

    It is written anew beside the older file, which stays as traces.duckdb.v1 (or its number) until you delete it.

    \b
    Examples:
      imitrace migrate
      imitrace migrate --home /var/lib/imitrace --json
    """
    from imitrace_collector import migrations

    done = migrations.migrate(_stopped(workspace_home(home)))
    if as_json:
        click.echo(json.dumps(dataclasses.asdict(done) | {"kept": done.kept and str(done.kept)}))
    elif done.kept:
        click.echo(
            f"store_version {done.before} to {done.after}: {done.spans} spans, {done.logs} log records; "
            f"the older file is {done.kept}"
        )
    else:
        click.echo(f"the store has store_version {done.after}, as this program needs")


def _stopped(folder: Path) -> Path:
    """Return where a workspace's store is, if no collector runs on it."""
    from imitrace_collector.config import STORE_FILE

    client = open_collector(folder)
    if client is not None:
        raise StoreError(f"a collector runs on {folder} at {client.endpoint}; stop it first")
    return folder / STORE_FILE
