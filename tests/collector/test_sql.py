import json
import math
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import StoreError
from imitrace_collector import otlp, sql
from imitrace_collector.ingest import ingest
from imitrace_collector.sql import SQL_TABLES, SqlLimits, SqlQuery, run_sql
from imitrace_collector.sql_wire import SqlError
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
SMALL = SqlLimits(seconds=2.0, memory=64_000_000)


@pytest.fixture
def filled(store: Store, export: MakeExport) -> Store:
    """Return a store with three trajectories of two steps."""
    ingest(store, [otlp.read(otlp.TRACES, export(name), 0).batch for name in ("t1", "t2", "t3")])
    return store


def rows(store: Store, text: str, *parameters: object) -> list[list[Any]]:
    return run_sql(store, SqlQuery(text, parameters)).rows


def test_duckdb_draws_no_progress_into_the_answer_of_a_slow_query(filled: Store) -> None:
    assert rows(filled, "SELECT current_setting('enable_progress_bar')") == [[False]]


@pytest.mark.parametrize(
    ("text", "parameters", "expected"),
    [
        ("SELECT count(*) FROM steps", [], [[6]]),
        ("SELECT trajectory_id FROM trajectories WHERE trajectory_id > ? ORDER BY 1 DESC", ["t1"], [["t3"], ["t2"]]),
        ("SELECT step_index FROM steps WHERE trajectory_id = $id AND step_index >= 1", {"id": "t2"}, [[1]]),
        ("SELECT count(*) FROM steps WHERE complete AND agent = 'desk' AND action_name IS NULL", [], [[3]]),
        ("SELECT count(*) FROM steps WHERE trajectory_id IN ('t1', 't2') OR step_index = 0", [], [[5]]),
        ("SELECT count(*) FROM steps WHERE agent = '\"\\' OR agent = 'a\nb'", [], [[0]]),
        (
            "SELECT count(*) FROM steps a JOIN steps b USING (decision) JOIN spans s ON s.span_id = a.span_id",
            [],
            [[18]],
        ),
        ("SELECT name, sum(value) FROM scores NATURAL JOIN trajectories GROUP BY 1", [], [["TaskCompletion", 3]]),
        ("SELECT len(state) FROM steps WHERE trajectory_id = 't1' ORDER BY step_index LIMIT 1", [], [[2]]),
        ("FROM (SELECT count(*) FROM log_records), (SELECT count(*) FROM messages), (FROM tools LIMIT 0)", [], []),
        ("SELECT 1 AS a, 2 AS a", [], [[1, 2]]),
    ],
)
def test_a_query_gives_its_rows(filled: Store, text: str, parameters: Any, expected: list[list[Any]]) -> None:
    assert run_sql(filled, SqlQuery(text, parameters)).rows == expected


@pytest.mark.parametrize("table", SQL_TABLES)
def test_every_table_has_its_columns_but_for_where_the_rest_is_kept(filled: Store, table: str) -> None:
    with filled.reader() as reader:
        names = reader.batches(f"FROM {table}", 1).schema.names
    assert run_sql(filled, SqlQuery(f"FROM {table}")).columns == [name for name in names if name != "chunk"]


def test_values_come_as_json_or_in_duckdbs_types(filled: Store) -> None:
    text = (
        "SELECT 1.5 AS a, 'nan'::FLOAT AS b, 2::HUGEINT AS c, TIMESTAMP '2026-01-02' AS d, ['x'] AS e, '9'::BLOB AS f"
    )
    result = run_sql(filled, SqlQuery(text))
    assert json.loads(json.dumps(result.to_json())) == {
        "columns": ["a", "b", "c", "d", "e", "f"],
        "types": ["DECIMAL(2,1)", "FLOAT", "HUGEINT", "TIMESTAMP", "VARCHAR[]", "BLOB"],
        "rows": [[1.5, "nan", 2, "2026-01-02 00:00:00", ["x"], "9"]],
        "truncated": False,
    }
    (row,) = pl.read_ipc_stream(run_sql(filled, SqlQuery(text, as_json=False)).to_arrow()).rows()
    assert row[3].year == 2026
    assert math.isnan(row[1])


@pytest.mark.parametrize(("most", "truncated"), [(5, True), (6, False), (7, False)])
def test_the_rows_are_cut_at_the_limit_and_it_is_said(filled: Store, most: int, truncated: bool) -> None:
    result = run_sql(filled, SqlQuery("FROM steps", limits=SqlLimits(rows=most)))
    assert (len(result.rows), result.truncated) == (min(most, 6), truncated)


def test_the_answer_is_cut_at_its_size(filled: Store) -> None:
    limits = SqlLimits(bytes=1_000_000, rows=1_000_000)
    result = run_sql(filled, SqlQuery("SELECT repeat('x', 1000) FROM range(100000)", limits=limits))
    assert result.truncated
    assert 500 < len(result.rows) < 1000
    with pytest.raises(SqlError, match="the first 256 rows have over 1000000 bytes; select fewer columns"):
        run_sql(filled, SqlQuery("SELECT repeat('x', 10000) FROM range(1000)", limits=limits))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("SELEC 1", r'syntax error at or near "SELEC" \(line 1, column 1\)'),
        ("SELECT 1\nFROM steps WHER x", r"\(line 2, column \d+\)"),
        ("SELECT nosuch FROM steps", 'column "nosuch" not found'),
        ("SELECT * FROM chunks", "Table with name chunks does not exist"),
        ("SELECT ?", "parameters"),
        ("SELECT 'x'::INT", "Could not convert string 'x' to INT32"),
        ("", "SQL is empty, allowed: one SELECT"),
        ("SELECT 1; SELECT 2", "SQL is SELECT and SELECT, allowed: one SELECT"),
        ("\ud83d", "surrogates not allowed"),
        ("(" * 100_000, "."),
        ("SELECT " + "(" * 900 + "1" + ")" * 900 + " + nosuch", "."),
    ],
)
def test_what_is_wrong_is_told_in_one_line(filled: Store, text: str, told: str) -> None:
    with pytest.raises(SqlError, match=told) as raised:
        run_sql(filled, SqlQuery(text, limits=SMALL))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT count(*) FROM steps a, range(10000000000) b, range(10000000000) c WHERE b.range % 7 = c.range % 9",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r",
        "WITH RECURSIVE r(n) AS (SELECT 'x' UNION ALL SELECT n || n FROM r) SELECT max(length(n)) FROM r",
        "SELECT sum(length(repeat('x', 4000000000 - range))) FROM range(1000000)",
        "SELECT length(repeat(range::VARCHAR, 100000)) FROM range(1000000)",
        "SELECT string_agg(repeat('x', 1000000), '') FROM range(1000000)",
        "SELECT lpad('x', 2000000000, 'y')",
        "SELECT bitstring('1', 2000000000)",
        "SELECT regexp_matches(repeat('a', 100000000), '(a+)+(a+)+(a+)+b')",
        "SELECT list_sum(range(1000000000))",
        "SELECT array_agg(range) FROM range(10000000000)",
        "FROM range(10000000000) ORDER BY hash(range) DESC",
        "SELECT hash(range) AS h, count(*) FROM range(10000000000) GROUP BY 1",
    ],
)
def test_what_would_take_everything_is_ended_in_its_own_process(filled: Store, text: str) -> None:
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(SqlError, match=r"took over 2 s|[Mm]emory|process|maximum|larger|bad"):
        run_sql(filled, SqlQuery(text, limits=SMALL))
    assert time.monotonic() - began < 2.0 + 5.0  # the limit, and the start of a process on a busy machine
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000
    assert rows(filled, "SELECT count(*) FROM steps") == [[6]]


def test_queries_wait_for_their_turn(filled: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql, "_turns", threading.BoundedSemaphore(1))
    endless = SqlQuery("SELECT count(*) FROM range(1000000000000) a WHERE hash(a) = 1", limits=SMALL)
    other = threading.Thread(target=lambda: ended(filled, endless))
    other.start()
    while sql._turns.acquire(blocking=False):
        sql._turns.release()
    with pytest.raises(StoreError, match="SQL queries run already; ask again"):
        run_sql(filled, SqlQuery("SELECT 1", limits=SqlLimits(seconds=0.1)))
    other.join()


def ended(store: Store, query: SqlQuery) -> None:
    with pytest.raises(SqlError):
        run_sql(store, query)


def test_no_thread_or_file_is_left_open(filled: Store) -> None:
    rows(filled, "FROM steps")
    before = len(list(Path("/proc/self/fd").iterdir()))
    rows(filled, "FROM steps LIMIT 1")
    for text in ("SELEC", "SELECT count(*) FROM range(1000000000000) a WHERE hash(a) = 1"):
        ended(filled, SqlQuery(text, limits=SMALL))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("imitrace-sql")]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"{", "body is not"),
        (b"[]", "body is not"),
        (b"{}", "body is not"),
        (b'{"sql": 1}', "body is not"),
        (b'{"sql": "x", "parameters": 1}', "body is not"),
        (b'{"sql": "x", "limit": "1"}', "body is not"),
        (b'{"sql": "x", "limit": true}', "body is not"),
        (b'{"sql": "x", "limit": 0}', "limit is 0, allowed: 1 to 1000000"),
        (b"[" * 100_000, "body is not"),
    ],
)
def test_a_body_that_is_no_query_is_refused(body: bytes, told: str) -> None:
    with pytest.raises(SqlError, match=told):
        SqlQuery.from_json(body)


def test_a_body_may_name_parameters_and_a_limit() -> None:
    query = SqlQuery.from_json(b'{"sql": "x", "parameters": {"a": 1}, "limit": 3}')
    assert query == SqlQuery("x", {"a": 1}, SqlLimits(rows=3))


@pytest.mark.parametrize(
    ("sql", "waits"),
    [
        ("SELECT count(*) FROM spans", False),
        ("SELECT * FROM Steps", True),
        ("SELECT * FROM query_table('st' || 'eps')", True),
        ("SELECT * FROM log_records", False),
    ],
)
def test_only_a_query_of_derived_tables_waits_for_them(sql: str, waits: bool) -> None:
    assert SqlQuery(sql).may_read_derived is waits
