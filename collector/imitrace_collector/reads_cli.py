"""Offer the commands that ask the store: in SQL, and for what came in of one trace."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from imitrace.config import workspace_home
from imitrace_collector.cli import open_collector, open_store

if TYPE_CHECKING:
    from imitrace_collector.sql import Json

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
def sql(query: str, limit: int, home: Path | None, form: str | None) -> None:
    """Run one SELECT over trajectories, steps, messages, tools, scores, spans and log_records.

    DuckDB's dialect; times are nanoseconds since 1970. It can't write or reach anything else, and ends after 10 s.

    \b
    Examples:
      imitrace sql "SELECT agent, count(*) FROM trajectories GROUP BY ALL"
      imitrace sql "FROM steps WHERE NOT complete" --limit 20 --json
      imitrace sql "SELECT name, avg(value) FROM scores GROUP BY 1" --csv > scores.csv
    """
    from imitrace_collector.sql_rendering import render_csv, render_table

    answer = _answer(workspace_home(home), query, limit)
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


def _answer(folder: Path, query: str, limit: int) -> "Json":
    from imitrace_collector.sql import SqlLimits, SqlQuery, run_sql

    client = open_collector(folder)
    if client is not None:
        answer: Json = client.post("/v1/sql", {"sql": query, "limit": limit})
        return answer
    with open_store(folder) as store:
        return run_sql(store, SqlQuery(query, limits=SqlLimits(rows=limit))).to_json()
