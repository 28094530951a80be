import json
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imitrace.exceptions import StoreError
from imitrace.schema import TABLES
from imitrace_collector import histories
from imitrace_collector.derived_tables import as_arrow
from imitrace_collector.histories import Histories, State, bare, goes_on, ids_of, new_in
from imitrace_collector.snapshot import write_snapshot
from imitrace_collector.sql import SqlQuery, run_sql
from imitrace_collector.store import Store
from imitrace_collector.table_stream import Selection, select_rows, stream_table

IDS = st.lists(st.sampled_from("abc"), max_size=6)
NOON = datetime(2026, 1, 2, 12, 0, 0, tzinfo=UTC)


def step(trajectory: str, index: int, state: Sequence[str]) -> dict[str, Any]:
    row = dict.fromkeys(TABLES["steps"]) | {"trajectory_id": trajectory, "step_index": index, "state": state}
    row |= dict.fromkeys(("decision", "agent", "policy_role", "action_kind", "trace_id", "span_id"), "a")
    return row | {"started_at": index, "ended_at": index, "complete": True}


def put(store: Store, rows: Sequence[dict[str, Any]]) -> None:
    steps, flat = bare(rows)
    with store.session() as session, session.transaction():
        session.derived.insert("bare_steps", as_arrow("bare_steps", steps))
        session.derived.insert("histories", flat)


def growing(trajectory: str, steps: int) -> list[dict[str, Any]]:
    """Return steps each of which sees two messages more."""
    own = Histories()
    states = [own.of([f"{trajectory}.0"])]
    for index in range(1, steps):
        new = [f"{trajectory}.{2 * index - 1}", f"{trajectory}.{2 * index}"]
        states.append(own.after(states[-1], 2 * index - 1, new))
    return [step(trajectory, index, state) for index, state in enumerate(states)]


@given(st.lists(IDS, max_size=8))
def test_a_state_is_the_ids_that_it_was_made_of_whatever_came_after(told: list[list[str]]) -> None:
    own = Histories()
    states = [own.of(ids) for ids in told]
    assert states == told
    assert [list(state) for state in states] == told
    assert [state[-1:] for state in states] == [ids[-1:] for ids in told]


@given(st.lists(st.tuples(st.integers(0, 6), IDS), max_size=8))
def test_a_state_after_another_is_its_beginning_and_what_is_new(told: list[tuple[int, list[str]]]) -> None:
    own = Histories()
    before, expected, made = State([], 0), [list[str]()], list[State]()
    for offset, new in told:
        before = own.after(before, min(offset, len(before)), new)
        expected.append([*expected[-1][:offset], *new])
        made.append(before)
    assert made == expected[1:]


def test_what_goes_on_is_kept_once() -> None:
    rows = [*growing("t", 100), *growing("u", 100)]
    assert ids_of(rows) == 2 * 199
    steps, flat = bare(rows)
    assert {row["history"] for row in steps} == {0}
    assert len(flat) == 2 * 199
    assert flat.column("position").to_pylist() == [*range(199)] * 2


def test_a_history_that_was_cut_back_begins_another_only_where_it_goes_on_otherwise() -> None:
    own = Histories()
    whole = own.of(["a", "b", "c"])
    assert own.after(whole, 1, ["b"]).history is whole.history
    assert own.after(whole, 2, ["c", "d"]).history is whole.history
    assert not goes_on(whole, 1, ["x"])
    assert own.after(whole, 1, ["x"]) == ["a", "x"]
    assert own.of(["a", "x", "y"]) == ["a", "x", "y"]
    assert own.of(["a", "b", "c", "d", "e"]).history is whole.history
    assert whole == ["a", "b", "c"]


def test_what_is_new_in_a_state_is_what_another_has_not_at_its_place() -> None:
    own = Histories()
    first = own.of(["a"])
    second = own.after(first, 1, ["b", "c"])
    assert (new_in(second, first), new_in(first, second)) == (["b", "c"], [])
    assert new_in(["a", "x", "c", "d"], second) == ["x", "d"]
    assert new_in(second, []) == ["a", "b", "c"]


def test_histories_are_numbered_by_trajectory_in_the_order_of_their_steps() -> None:
    rows = [step("t", 0, ["a"]), step("t", 1, ["b"]), step("u", 0, ["c"]), step("t", 2, ["a", "d"]), step("u", 1, [])]
    steps, flat = bare(rows)
    assert [(row["trajectory_id"], row["history"], row["history_length"]) for row in steps] == [
        *(("t", 0, 1), ("t", 1, 1), ("u", 0, 1), ("t", 0, 2), ("u", 0, 0))
    ]
    assert {tuple(row.values()) for row in flat.to_pylist()} == {
        *(("t", 0, 0, "a"), ("t", 0, 1, "d"), ("t", 1, 0, "b"), ("u", 0, 0, "c"))
    }


def everywhere(store: Store, folder: Path) -> list[list[dict[str, Any]]]:
    """Return all steps by every way on which they can be read."""
    order = "ORDER BY trajectory_id, step_index"
    with store.reader() as reader:
        found = [reader.rows(f"SELECT * FROM steps {order}"), reader.table("steps").read_all().to_pylist()]  # noqa: S608
    with select_rows(store, "steps", Selection()) as batches:
        found.append(pa.Table.from_batches(batches, batches.schema).to_pylist())
    found.append(pa.ipc.open_stream(b"".join(stream_table(store, "steps", Selection()))).read_all().to_pylist())
    found.append(pq.read_table(Path(write_snapshot(store, folder, NOON)["path"]) / "steps.parquet").to_pylist())
    found.append(run_sql(store, SqlQuery(f"FROM steps {order}", as_json=False)).table.to_pylist())
    return found


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(told=st.lists(st.lists(IDS, max_size=5), min_size=1, max_size=4))
def test_states_are_the_same_on_every_way_that_they_are_read(tmp_path: Path, told: list[list[list[str]]]) -> None:
    folder = tmp_path / f"{random.Random().random()}"
    rows = [step(f"t{number}", index, ids) for number, states in enumerate(told) for index, ids in enumerate(states)]
    with Store.open(folder / "s.duckdb") as store:
        put(store, rows)
        assert everywhere(store, folder) == [rows] * 6


def test_what_is_read_at_once_has_a_bound_and_nothing_is_left_out(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(histories, "_IDS", 50)
    rows = [*growing("a", 20), *(step(f"b{number:02}", 0, ["x"] * number) for number in range(20)), *growing("c", 9)]
    put(store, rows)
    assert everywhere(store, tmp_path) == [rows] * 6
    with select_rows(store, "steps", Selection(columns=("state",))) as batches:
        sizes = [(len(batch), len(batch["state"].flatten())) for batch in batches]
    assert len(sizes) > 10
    assert all(ids <= 50 for _, ids in sizes)


def test_one_trajectory_of_five_thousand_steps_is_read_within_the_memory_of_the_store(
    store: Store, tmp_path: Path
) -> None:
    put(store, growing("t", 5000))
    whole = 5000**2
    lengths = run_sql(store, SqlQuery("SELECT sum(len(state)), max(len(state)) FROM steps")).rows
    assert lengths == [[whole, 9999]]
    written = pq.ParquetFile(Path(write_snapshot(store, tmp_path, NOON)["path"]) / "steps.parquet")
    assert written.metadata.num_rows == 5000
    last = written.read_row_group(written.num_row_groups - 1, ["step_index", "state"]).to_pylist()[-1]
    assert last == {"step_index": 4999, "state": [f"t.{number}" for number in range(9999)]}
    pieces = [len(piece) for piece in stream_table(store, "steps", Selection(columns=("state",)))]
    assert max(pieces) < 16 * 2**20
    store.checkpoint()
    assert store.path.stat().st_size < 4 * 2**20


def test_many_long_trajectories_in_one_vector_of_rows_are_read(store: Store, tmp_path: Path) -> None:
    put(store, [row for number in range(20) for row in growing(f"t{number:02}", 700)])
    assert write_snapshot(store, tmp_path, NOON)["manifest"]["counts"]["steps"] == 20 * 700
    assert run_sql(store, SqlQuery("SELECT sum(len(state)) FROM steps")).rows == [[20 * 700**2]]


def test_a_history_that_is_not_whole_is_told(store: Store) -> None:
    put(store, growing("t", 3))
    with store.session() as session, session.transaction():
        session.execute("DELETE FROM histories WHERE position = 1")
    with (
        store.reader() as reader,
        pytest.raises(StoreError, match="histories have 4 of 5 messages of their steps; run `imitrace rebuild`"),
    ):
        reader.table("steps").read_all()


def test_messages_are_those_of_the_steps_that_are_chosen(store: Store) -> None:
    put(store, growing("t", 4))
    with store.session() as session, session.transaction():
        rows = [{"message_id": f"t.{number}", "role": "user", "content": json.dumps(number)} for number in range(7)]
        session.derived.insert("messages", as_arrow("messages", rows))

    def chosen(**selection: Any) -> list[str]:
        with select_rows(store, "messages", Selection(**selection)) as batches:
            return [row["message_id"] for batch in batches for row in batch.to_pylist()]

    assert chosen(until=2) == ["t.0", "t.1", "t.2"]
    assert len(chosen(trajectory="t")) == 7
    assert chosen(trajectory="u") == []
