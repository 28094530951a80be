"""Offer the commands that ask the store: in SQL, and for what came in of one trace."""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imitrace.config import workspace_home
from imitrace_collector.cli import asked, fresh_options, open_collector, open_store

if TYPE_CHECKING:
    import pyarrow as pa

    from imitrace_collector.sql import Json
    from imitrace_collector.table_stream import Selection

    Tables = Callable[[str, Selection], AbstractContextManager[Iterable[pa.RecordBatch]]]

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
_LIMIT = click.option(
    "--limit", default=10_000, show_default=True, type=click.IntRange(1, 1_000_000), help="How many rows at most."
)


@click.command()
@click.argument("query")
@_LIMIT
@_HOME
@click.option("--json", "form", flag_value="json", help="Print JSON: columns, types, rows, truncated.")
@click.option("--csv", "form", flag_value="csv", help="Print CSV.")
@fresh_options
def sql(query: str, limit: int, home: Path | None, form: str | None, fresh: int | None) -> None:
    """Run one SELECT over trajectories, steps, messages, tools, scores, spans and log_records.

    DuckDB's dialect; times are nanoseconds since 1970. It can't write or reach anything else, and ends after 10 s.

    \b
    Examples:
      imitrace sql "SELECT agent, count(*) FROM trajectories GROUP BY ALL"
      imitrace sql "FROM steps WHERE NOT complete" --limit 20 --json
      imitrace sql "SELECT name, avg(value) FROM scores GROUP BY 1" --csv > scores.csv
    """
    from imitrace_collector.sql_rendering import render_csv, render_table

    answer = _answer(workspace_home(home), query, limit, fresh)
    if form == "json":
        click.echo(json.dumps(answer))
    else:
        click.echo((render_csv if form == "csv" else render_table)(answer["columns"], answer["rows"]))
    if answer["truncated"]:
        click.echo(f"imitrace: only the first {len(answer['rows'])} rows; raise --limit, or ask for less", err=True)


@click.command()
@click.argument("trace_id")
@click.option("--width", default=160, show_default=True, type=click.IntRange(20), help="Where lines are cut.")
@_HOME
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def spans(trace_id: str, width: int, home: Path | None, as_json: bool) -> None:
    """Print what came in of one trace as a tree: name, service, duration and attributes of each span.

    \b
    Examples:
      imitrace spans 5b8efff798038103d269b633813fc60c
      imitrace spans 5b8efff798038103d269b633813fc60c --json
    """
    from imitrace_collector.traces import render_trace, trace_detail

    folder = workspace_home(home)
    client = open_collector(folder)
    if client is not None:
        detail = client.get(f"/v1/traces/{trace_id}")
    else:
        with open_store(folder) as store:
            detail = trace_detail(store, trace_id)
    click.echo(json.dumps(detail) if as_json else render_trace(detail, width))


@click.command()
@click.option("--agent", help="Only this agent's.")
@click.option("--trajectory", help="Only this trajectory's.")
@_HOME
@click.option("--jsonl", is_flag=True, help="Print a JSON object a line.")
@fresh_options
def steps(agent: str | None, trajectory: str | None, home: Path | None, jsonl: bool, fresh: int | None) -> None:
    """Print a line for each step: who decided what, what came back, and whether it is whole.

    \b
    Examples:
      imitrace steps --trajectory conv-1
      imitrace steps --agent support --jsonl | head
    """
    from imitrace_collector.step_lines import COLUMNS, offered_tools, render_steps, step_lines
    from imitrace_collector.table_stream import Selection

    chosen = Selection(agent=agent, trajectory=trajectory)
    with _tables(workspace_home(home), fresh) as tables:
        with tables("tools", chosen) as tools:
            offered = offered_tools(tools)
        with tables("steps", replace(chosen, columns=tuple(COLUMNS))) as rows:
            lines = step_lines(rows, offered)
            if not jsonl:
                click.echo(render_steps(lines))
            for line in lines:
                click.echo(json.dumps(line))


@click.command()
@click.option(
    "--traces", default=1000, show_default=True, type=click.IntRange(1, 100_000), help="How many, the newest."
)
@_HOME
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def dialects(traces: int, home: Path | None, as_json: bool) -> None:
    """Say of the newest traces, by service, which instrumentation was recognised, and what was not.

    Where spans have no content, it says what turns that on.

    \b
    Examples:
      imitrace dialects
      imitrace dialects --traces 100 --json
    """
    from imitrace_collector.explanations import explain_services, render_services

    folder = workspace_home(home)
    client = open_collector(folder)
    if client is not None:
        found = client.get("/v1/dialects", traces=traces)
    else:
        with open_store(folder) as store:
            found = explain_services(store, traces)
    click.echo(json.dumps(found) if as_json else render_services(found))


@click.command()
@click.option("--trace", required=True, help="A trace's id.")
@_HOME
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@fresh_options
def doctor(trace: str, home: Path | None, as_json: bool, fresh: int | None) -> None:
    """Explain how each step of the trajectories that a trace belongs to was made, and from which spans.

    \b
    Examples:
      imitrace doctor --trace 5b8efff798038103d269b633813fc60c
    """
    from imitrace_collector.explanations import explain_trace, render_trace

    folder = workspace_home(home)
    client = open_collector(folder)
    if client is not None:
        found = client.get(f"/v1/traces/{trace}/steps", **asked(fresh))
    else:
        with open_store(folder) as store:
            found = explain_trace(store, trace)
    click.echo(json.dumps(found) if as_json else render_trace(found))


@contextmanager
def _tables(folder: Path, fresh: int | None) -> "Iterator[Tables]":
    """Return what opens a table's rows as Arrow batches: the running collector's, else the store's own."""
    import pyarrow as pa

    from imitrace_collector.table_stream import select_rows

    client = open_collector(folder)
    if client is None:
        with open_store(folder) as store:
            yield partial(select_rows, store)
        return

    @contextmanager
    def read(table: str, selection: "Selection") -> "Iterator[Iterable[pa.RecordBatch]]":
        query = selection.query() | asked(fresh)
        with client.stream(f"/v1/tables/{table}", **query) as answer, pa.ipc.open_stream(answer) as stream:
            yield stream

    yield read


def _answer(folder: Path, query: str, limit: int, fresh: int | None) -> "Json":
    from imitrace_collector.sql import SqlLimits, SqlQuery, run_sql

    client = open_collector(folder)
    if client is not None:
        answer: Json = client.post("/v1/sql", {"sql": query, "limit": limit}, **asked(fresh))
        return answer
    with open_store(folder) as store:
        return run_sql(store, SqlQuery(query, limits=SqlLimits(rows=limit))).to_json()
