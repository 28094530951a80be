from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from imitrace_collector.sql_process import connect, run
from imitrace_collector.sql_wire import Request, SqlError

REQUEST = Request(sql="", parameters=(), rows=1, seconds=1.0, size=1, memory=64_000_000, as_json=True, tables={})


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with connect(REQUEST, None) as opened:
        yield opened


def functions(kinds: str) -> list[str]:
    with duckdb.connect() as plain:
        found = plain.execute(
            "SELECT DISTINCT function_name FROM duckdb_functions() WHERE function_type IN (SELECT unnest($kinds)) "
            "AND regexp_full_match(function_name, '[a-z_0-9]+') ORDER BY 1",
            {"kinds": kinds.split()},
        ).fetchall()
    return [name for (name,) in found]


def test_no_function_of_duckdb_reads_or_makes_a_file(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    with duckdb.connect(str(secret)) as other:
        other.execute("CREATE TABLE t AS SELECT 'hunter2' AS a")
    for name in ("a.csv", "a.json", "a.txt"):
        (tmp_path / name).write_text('{"a": "hunter2"}\n')
    paths = [f"'{secret}'", *(f"'{tmp_path}/{name}'" for name in ("a.csv", "a.json", "a.txt", "*", "new"))]
    calls = [f"FROM {name}({path})" for name in functions("table table_macro") for path in paths]
    calls += [f"SELECT {name}({path})" for name in functions("scalar macro aggregate pragma") for path in paths]
    ran = 0
    for call in calls:
        try:
            told = str(connection.execute(call).fetchmany(10))
            ran += 1
        except (duckdb.Error, RuntimeError) as error:
            told = str(error)
        assert "hunter2" not in told, call
    assert ran > 100
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "a.txt", "secret"]


@pytest.mark.parametrize("setting", ["enable_external_access", "memory_limit", "temp_directory", "threads"])
def test_no_setting_can_be_changed(connection: duckdb.DuckDBPyConnection, setting: str) -> None:
    for statement in (
        f"SET {setting} = '1'",
        f"RESET {setting}",
        f"SET GLOBAL {setting} = '1'",
        f"PRAGMA {setting}='1'",
    ):
        with pytest.raises(duckdb.Error, match=r"locked|cannot be|configuration"):
            connection.execute(statement)


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM steps",
        "INSERT INTO steps SELECT * FROM steps",
        "CREATE TABLE t (a INT)",
        "DROP VIEW steps",
        "ATTACH '{file}' AS other",
        "COPY (SELECT 1) TO '{file}'",
        "COPY steps FROM '{file}'",
        "EXPORT DATABASE '{file}'",
        "INSTALL httpfs",
        "LOAD '{file}'",
        "SET memory_limit = '50GB'",
        "RESET enable_external_access",
        "PRAGMA database_list",
        "CALL pragma_version()",
        "CHECKPOINT",
        "VACUUM",
        "BEGIN",
        "EXPLAIN ANALYZE SELECT 1",
        "EXECUTE p",
        "CREATE SECRET (TYPE s3)",
        "USE memory",
        "WITH x AS (DELETE FROM steps RETURNING *) SELECT * FROM x",
        "FROM query('DELETE FROM steps')",
        "SELECT * FROM '{file}'",
        "SELECT * FROM store.steps",
        "SELECT * FROM enable_logging()",
    ],
)
def test_nothing_can_be_written_set_or_opened(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, statement: str
) -> None:
    file = tmp_path / "secret.csv"
    file.write_text("hunter2,1\n")
    connection.execute("CREATE VIEW steps AS SELECT 1 AS a")
    with pytest.raises((SqlError, duckdb.Error)):
        run(connection, replace(REQUEST, sql=statement.format(file=file)))
    assert [path.name for path in tmp_path.iterdir()] == ["secret.csv"]
    assert connection.execute("SELECT count(*) FROM steps").fetchall() == [(1,)]
