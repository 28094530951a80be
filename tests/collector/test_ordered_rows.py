"""Rows come in order, each once, however they are cut; and who reads slowly holds no memory of those who write."""

from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.schema import TABLES
from imitrace_collector.ordered_rows import Selected, in_order
from imitrace_collector.store import Reader, Store
from imitrace_collector.table_stream import Selection, stream_table

KEYS = st.lists(st.integers(0, 12), max_size=60)


@given(KEYS, st.integers(1, 20), st.integers(1, 7))
def test_rows_come_in_order_each_once_whatever_the_portions(keys: list[int], portion: int, most: int) -> None:
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE scores (trajectory_id VARCHAR, step_index BIGINT, name VARCHAR, "
            "scored_at BIGINT, evaluator VARCHAR, evaluator_version VARCHAR, label VARCHAR, value DOUBLE, "
            "explanation VARCHAR)"
        )
        for number, key in enumerate(keys):
            connection.execute("INSERT INTO scores (trajectory_id, step_index) VALUES (?, ?)", [f"t{key}", -number])
        rows = Selected(
            table="scores",
            columns=["trajectory_id", "step_index"],
            where="step_index <= $most",
            parameters={"most": 0},
            ordered=True,
        )
        found = in_order(Reader(connection), rows, most, portion)
        batches = list(found)
        whole = connection.sql("SELECT trajectory_id, step_index FROM scores ORDER BY ALL").fetchall()
    assert all(len(batch) <= most for batch in batches)
    assert [tuple(row.values()) for batch in batches for row in batch.to_pylist()] == whole


@pytest.mark.parametrize("table", TABLES)
def test_a_table_without_rows_has_its_columns(tmp_path: Path, table: str) -> None:
    with Store.open(tmp_path / "s.duckdb") as store, store.reader() as reader:
        found = reader.table(table)
        assert found.schema.names == list(TABLES[table])
        assert found.read_all().num_rows == 0


def test_streams_that_are_read_slowly_leave_memory_to_whoever_commits(tmp_path: Path) -> None:
    with Store.open(tmp_path / "s.duckdb") as store:
        with store.session() as session, session.transaction():
            session.execute(
                "INSERT INTO messages SELECT md5(n::VARCHAR), 'user', repeat(md5(n::VARCHAR), 30) "
                "FROM range(200000) r(n)"
            )
        streams = [stream_table(store, "messages", Selection()) for _ in range(6)]
        try:
            assert all(next(stream) for stream in streams)
            with store.reader() as reader:
                (held,) = reader.rows(
                    "SELECT sum(memory_usage_bytes) AS bytes FROM duckdb_memory() "
                    "WHERE tag IN ('ORDER_BY', 'ALLOCATOR')"
                )
            assert held["bytes"] < 16 * 2**20
        finally:
            for stream in streams:
                stream.close()
