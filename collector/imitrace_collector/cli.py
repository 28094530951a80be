"""Offer the collector's commands: each parses, calls one function and prints."""

import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imitrace.config import read_config, setting, workspace_home
from imitrace.exceptions import StoreError
from imitrace.stop_signals import StopSignals
from imitrace_collector.config import FRESH_SECONDS, SNAPSHOT_SECONDS

if TYPE_CHECKING:
    from imitrace_collector.client import CollectorClient
    from imitrace_collector.importer import ImportReport, Sink
    from imitrace_collector.store import Store
    from imitrace_collector.tls import ClientTls

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
_SECONDS = click.IntRange(2, 3600)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_FILE = click.Path(path_type=Path, dir_okay=False)
_AGENT = click.option("--agent", help="Only this agent's.")


def fresh_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command ``--fresh`` and ``--fresh-for``; either says how many seconds to wait, none None."""
    seconds = click.option(
        "--fresh-for", "fresh", type=_SECONDS, help="The same, for up to so many seconds.", metavar="SECONDS"
    )
    flag = click.option(
        "--fresh",
        "fresh",
        flag_value=FRESH_SECONDS,
        type=_SECONDS,
        default=None,
        help="Wait up to two minutes until all that the collector acknowledged is derived.",
    )
    return flag(seconds(command))


@click.command()
@click.option("--host", help="Address to listen on; others than loopback need a token.  [default: 127.0.0.1]")
@click.option("--http-port", type=int, help="OTLP/HTTP and read API; 0 takes a free one.  [default: 4318]")
@click.option("--grpc-port", type=int, help="OTLP/gRPC; 0 takes a free one.  [default: 4317]")
@click.option("--token", help="Bearer token for everything  [default: IMITRACE_TOKEN]")
@click.option("--ingest-token", help="Token that may only send  [default: IMITRACE_INGEST_TOKEN]")
@click.option("--read-token", help="Token that may only read  [default: IMITRACE_READ_TOKEN]")
@click.option("--admin-token", help="Token that may do everything  [default: IMITRACE_ADMIN_TOKEN]")
@click.option("--insecure", is_flag=True, default=None, help="Listen beyond loopback without a token.")
@click.option("--tls-cert", type=_FILE, help="Certificate chain in PEM: serve by TLS only.")
@click.option("--tls-key", type=_FILE, help="Its private key in PEM.")
@click.option("--tls-client-ca", type=_FILE, help="Authorities in PEM that must have signed clients' certificates.")
@click.option("--rate-requests", type=float, help="Requests a second for each token.  [default: no limit]")
@click.option("--rate-bytes", type=float, help="Bytes a second for each token.  [default: no limit]")
@click.option("--log-format", type=click.Choice(["text", "json"]), default="text", help="Of standard error.")
@click.option("--config", "config_file", type=_FILE, help="Configuration file  [default: ./imitrace.toml]")
@_HOME
def collect(home: Path | None, config_file: Path | None, log_format: str, **given: Any) -> None:  # options by name
    """Receive OTLP traces and logs into the store, until SIGINT or SIGTERM.

    What is acknowledged is durable. While it runs, other commands ask it instead of opening the store. Limits and all
    else that has no option here may stand in the [collector] table of imitrace.toml.

    \b
    Examples:
      imitrace collect
      imitrace collect --http-port 0 --grpc-port 0 --home /var/lib/imitrace
      IMITRACE_TOKEN=secret imitrace collect --host 0.0.0.0
      imitrace collect --host 0.0.0.0 --tls-cert cert.pem --tls-key key.pem --tls-client-ca clients.pem --insecure
    """
    from imitrace_collector.config import TOKENS, config_from, quiet_grpc
    from imitrace_collector.memory import keep_small

    quiet_grpc()
    keep_small()
    from imitrace_collector.logs import configure
    from imitrace_collector.schedule import UPKEEP_TABLES, upkeep_from
    from imitrace_collector.server import CollectorServer

    tokens = {name: setting(f"IMITRACE_{name.upper()}", given[name]) for name in TOKENS}
    table = read_config(config_file).get("collector", {})
    upkeep = upkeep_from(table)
    plain = {key: value for key, value in table.items() if key not in UPKEEP_TABLES}
    config = config_from(workspace_home(home), given | tokens, plain)
    configure(log_format)
    stop = StopSignals()
    if config.exposed:
        click.echo(f"imitrace: warning: {config.host} takes requests from other machines without any token", err=True)
    with CollectorServer(config, upkeep) as server:
        click.echo(server.ready_line())
        sys.stdout.flush()
        stop.wait()


@click.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path))
@click.option("--format", "form", help="What the files are  [default: told by their content]")
@click.option("--agent", help="Agent's name, overruling the files' own.")
@click.option("--tools", type=click.Path(path_type=Path), help="JSON list of the tools that were offered.")
@click.option("--endpoint", help="A collector's address  [default: the one that runs on --home, else the store]")
@_HOME
@_JSON
def import_(files: tuple[Path, ...], form: str | None, tools: Path | None, home: Path | None, **given: Any) -> None:
    """Import trajectories from JSON Lines, JSON or Parquet, the first two also as gzip.

    Formats: chat-jsonl (one trajectory a line, with `id` and `messages` in OpenAI's form), openai-fine-tune, sharegpt,
    trl-prompt-completion, anthropic, request-log, nvidia-flywheel, tensorzero, claude-code, codex, gemini-cli, atif,
    langfuse, phoenix, mlflow. Files named .otlp.pb or .otlp.json are OTLP export requests, taken in the order given;
    steps are derived from whatever instrumentation made them.

    Importing again stores nothing twice. What can't be read is named and left out; the exit code is 2 only when nothing
    could be imported.

    \b
    Examples:
      imitrace import traces.jsonl.gz --agent airline --tools tools.json
      imitrace import ~/.claude/projects/*/*.jsonl
      imitrace import requests/*.otlp.pb
      imitrace import traces.jsonl observations.jsonl scores.jsonl --format langfuse --json
    """
    from imitrace_collector.importer import import_files, read_tools
    from imitrace_collector.imports.conversations import Given

    known = Given(agent=given["agent"], tools=read_tools(tools))
    with _sink(workspace_home(home), given["endpoint"]) as sink:
        report = import_files(files, sink, known, form)
    click.echo(json.dumps(dataclasses.asdict(report)) if given["as_json"] else _summary(report))
    for told in report.broken:
        click.echo(f"imitrace: {told}" if len(files) > 1 else f"imitrace: {files[0]}, {told}", err=True)
    if report.imported_nothing:
        sys.exit(2)


@click.command()
@_HOME
@_JSON
@click.option("--fresh-for", "fresh", type=_SECONDS, metavar="SECONDS", help="Wait no longer.  [default: 900]")
def snapshot(home: Path | None, as_json: bool, fresh: int | None) -> None:
    """Write the store's tables as an immutable folder of Parquet files and print its path.

    It has all that was acknowledged before it; a running collector may need time to derive that.

    \b
    Examples:
      imitrace snapshot
      imitrace snapshot --fresh-for 3600
      imitrace snapshot --json
    """
    from datetime import UTC, datetime

    from imitrace_collector.snapshot import write_snapshot

    folder = workspace_home(home)
    client = open_collector(folder)
    if client is not None:
        written = client.post("/v1/snapshot", **asked(fresh or SNAPSHOT_SECONDS))
    else:
        with open_store(folder) as store:
            written = write_snapshot(store, folder, datetime.now(UTC))
    click.echo(json.dumps(written) if as_json else written["path"])


@click.command()
@_HOME
@_JSON
def rebuild(home: Path | None, as_json: bool) -> None:
    """Derive trajectories, steps, messages, tools and scores anew from the raw spans; no collector may run.

    \b
    Examples:
      imitrace rebuild
    """
    from imitrace_collector.config import STORE_FILE
    from imitrace_collector.derive import rebuild as derive_anew
    from imitrace_collector.store import Store

    folder = workspace_home(home)
    client = open_collector(folder)
    if client is not None:
        raise StoreError(f"a collector runs on {folder} at {client.endpoint}; stop it, then rebuild")
    with Store.open(folder / STORE_FILE, create=False, older=True) as store:
        with store.session() as session:
            count = derive_anew(session)
        store.checkpoint()
    click.echo(json.dumps({"trajectories": count}) if as_json else f"{count} trajectories derived anew")


@click.command()
@_AGENT
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many at most.")
@_HOME
@_JSON
@fresh_options
def trajectories(agent: str | None, limit: int, home: Path | None, as_json: bool, fresh: int | None) -> None:
    """List the newest trajectories in the store, and on standard error the services that say they lost records.

    \b
    Examples:
      imitrace trajectories --agent airline
      imitrace trajectories --limit 1000 --json
    """
    from imitrace_collector.reads import list_trajectories, lost_records
    from imitrace_collector.rendering import render_list, render_losses

    folder = workspace_home(home)
    client = open_collector(folder)
    if client is not None:
        answer = client.get("/v1/trajectories", agent=agent, limit=limit, **asked(fresh))
        found, lost = answer["trajectories"], answer["lost_records"]
    else:
        with open_store(folder) as store:
            found, lost = list_trajectories(store, agent, limit), lost_records(store)
    click.echo(json.dumps(found) if as_json else render_list(found))
    if lost:
        click.echo(render_losses(lost), err=True)


@click.command()
@click.argument("trajectory_id")
@_HOME
@_JSON
@fresh_options
def show(trajectory_id: str, home: Path | None, as_json: bool, fresh: int | None) -> None:
    """Print one trajectory step by step: what the agent saw, did and got back.

    \b
    Examples:
      imitrace show airline-0-0
      imitrace show airline-0-0 --json
    """
    from imitrace_collector.reads import spelled_out, trajectory_detail, unshared
    from imitrace_collector.rendering import render_detail

    folder = workspace_home(home)
    client = open_collector(folder)
    if client is not None:
        detail = unshared(client.get(f"/v1/trajectories/{trajectory_id}", states="shared", **asked(fresh)))
    else:
        with open_store(folder) as store:
            detail = trajectory_detail(store, trajectory_id)
    click.echo(json.dumps(spelled_out(detail)) if as_json else render_detail(detail))


def open_collector(folder: Path) -> "CollectorClient | None":
    """Return a client for the collector that runs on a workspace, by the token and TLS of the environment, if any."""
    from imitrace_collector.client import running_collector

    client = running_collector(folder, setting("IMITRACE_TOKEN"), _client_tls())
    context = click.get_current_context(silent=True)
    if client is not None and context is not None:
        client.tell = lambda text: click.echo(f"imitrace: waiting: {text}", err=True)
        context.call_on_close(partial(_tell_pending, client))
    return client


def asked(fresh: int | None) -> dict[str, int]:
    """Return the query by which a read waits so many seconds until all that was acknowledged is derived."""
    return {} if fresh is None else {"fresh": fresh}


def _tell_pending(client: "CollectorClient") -> None:
    if client.pending:
        click.echo(
            f"imitrace: {client.pending} chunks are stored and not derived yet, so this is not all; "
            "ask later, or wait for them by --fresh",
            err=True,
        )


def _client_tls() -> "ClientTls":
    from imitrace_collector.tls import ClientTls

    ca, certificate, key = (
        Path(found) if (found := setting(name)) else None
        for name in ("IMITRACE_CA", "IMITRACE_CLIENT_CERT", "IMITRACE_CLIENT_KEY")
    )
    return ClientTls(ca, certificate, key)


def open_store(folder: Path) -> "Store":
    """Open the store to read, after whatever a killed collector left is derived."""
    from imitrace_collector.config import STORE_FILE
    from imitrace_collector.derive import derive_all
    from imitrace_collector.store import Store

    store = Store.open(folder / STORE_FILE, read_only=True)
    if not store.underived():
        return store
    store.close()
    with Store.open(folder / STORE_FILE, create=False) as writable, writable.session() as session:
        derive_all(session)
    return Store.open(folder / STORE_FILE, read_only=True)


@contextmanager
def _sink(folder: Path, endpoint: str | None) -> "Iterator[Sink]":
    from imitrace_collector.client import CollectorClient
    from imitrace_collector.config import STORE_FILE
    from imitrace_collector.importer import CollectorSink, StoreSink
    from imitrace_collector.store import Store

    client = (
        CollectorClient(endpoint, setting("IMITRACE_TOKEN"), tls=_client_tls()) if endpoint else open_collector(folder)
    )
    if client is not None:
        yield CollectorSink(client)
        return
    with Store.open(folder / STORE_FILE) as store:
        yield StoreSink(store)
        store.checkpoint()


def _summary(report: "ImportReport") -> str:
    foreign = f", {report.foreign_traces} traces of {report.foreign_spans} spans" if report.foreign_traces else ""
    foreign += f", {report.exports} export requests" if report.exports else ""
    return (
        f"{report.new} trajectories new, {report.stored} already stored, {report.steps} steps, "
        f"{report.scores} scores{foreign}, {len(report.broken)} lines not imported"
    )
