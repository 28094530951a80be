import gc
import threading
from collections.abc import Callable, Iterator

import polars as pl
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import StoreError, WireError
from imitrace.schema import TABLES
from imitrace_collector import otlp
from imitrace_collector.derived_tables import arrow_schema, as_arrow
from imitrace_collector.histories import bare
from imitrace_collector.ingest import ingest
from imitrace_collector.store import Store
from imitrace_collector.table_stream import Selection, nanoseconds, stream_table

MakeExport = Callable[..., ExportTraceServiceRequest]
DAY = 86_400_000_000_000


@pytest.fixture
def filled(store: Store, export: MakeExport) -> Store:
    """Return a store with a trajectory of two steps and a score on each of three days, the second of another agent."""
    for day in range(3):
        message = export(f"t{day}")
        for span in message.resource_spans[0].scope_spans[0].spans:
            length = span.end_time_unix_nano - span.start_time_unix_nano
            span.start_time_unix_nano = day * DAY + DAY
            span.end_time_unix_nano = span.start_time_unix_nano + length
            for event in span.events:
                event.time_unix_nano = span.start_time_unix_nano
            for pair in span.attributes:
                if pair.key == "gen_ai.agent.name" and day == 1:
                    pair.value.string_value = "other"
        ingest(store, [otlp.read(otlp.TRACES, message, 0).batch])
    return store


def read(store: Store, table: str, selection: Selection) -> pl.DataFrame:
    return pl.read_ipc_stream(b"".join(stream_table(store, table, selection)))


def counts(store: Store, **selection: object) -> list[int]:
    return [read(store, table, Selection(**selection)).height for table in TABLES]  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        ({}, [3, 6, 4, 1, 3]),
        ({"agent": "desk"}, [2, 4, 4, 1, 2]),
        ({"agent": "nobody"}, [0, 0, 0, 0, 0]),
        ({"since": 2 * DAY}, [2, 4, 4, 1, 2]),
        ({"until": 2 * DAY}, [1, 2, 4, 1, 1]),
        ({"since": 2 * DAY, "until": 3 * DAY}, [1, 2, 4, 1, 1]),
        ({"since": 2 * DAY, "until": 3 * DAY, "agent": "desk"}, [0, 0, 0, 0, 0]),
        ({"since": 4 * DAY}, [0, 0, 0, 0, 0]),
    ],
)
def test_rows_are_chosen_by_agent_and_time(filled: Store, selection: dict[str, object], expected: list[int]) -> None:
    assert counts(filled, **selection) == expected


@pytest.mark.parametrize("table", TABLES)
def test_all_columns_come_in_the_contracts_types_or_those_that_are_named(filled: Store, table: str) -> None:
    assert read(filled, table, Selection()).schema == pl.from_arrow(arrow_schema(table).empty_table()).schema  # type: ignore[union-attr]
    last, first = list(TABLES[table])[-1], next(iter(TABLES[table]))
    assert read(filled, table, Selection(columns=(last, first))).columns == [last, first]


def test_a_stream_is_one_view_while_writing_goes_on(filled: Store, export: MakeExport) -> None:
    stream = stream_table(filled, "steps", Selection())
    ingest(filled, [otlp.read(otlp.TRACES, export("t9"), 0).batch])
    assert pl.read_ipc_stream(b"".join(stream)).height == 6
    assert read(filled, "steps", Selection()).height == 8


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Yield a store with 50,000 steps of 2 kB, which nobody changes."""
    row = dict.fromkeys(TABLES["steps"]) | {"state": [], "complete": True, "observation": "x" * 2000}
    row |= dict.fromkeys(("trajectory_id", "decision", "agent", "policy_role", "action_kind"), "a")
    row |= dict.fromkeys(("trace_id", "span_id"), "a") | {"started_at": 0, "ended_at": 0}
    with Store.open(tmp_path_factory.mktemp("large") / "traces.duckdb") as store:
        with store.session() as session, session.transaction():
            steps, histories = bare([row | {"step_index": number} for number in range(50_000)])
            session.derived.insert("bare_steps", as_arrow("bare_steps", steps))
            session.derived.insert("histories", histories)
        yield store


def test_a_large_table_comes_in_pieces(large: Store) -> None:
    pieces = [len(piece) for piece in stream_table(large, "steps", Selection())]
    assert len(pieces) > 10
    assert max(pieces) < 20_000_000 < sum(pieces)


def test_a_reader_that_is_too_slow_is_told_so_and_holds_nothing(large: Store) -> None:
    stream = stream_table(large, "steps", Selection(), seconds=0.05)
    next(stream)
    threading.Event().wait(0.3)
    with pytest.raises(StoreError, match=r"stream of steps took over 0.05 s; read faster, or ask for less"):
        list(stream)


@pytest.mark.parametrize("read", [0, 1])
def test_a_stream_that_is_let_go_ends_its_view_and_its_clock(large: Store, read: int) -> None:
    before = set(threading.enumerate())
    stream = stream_table(large, "steps", Selection())
    for _ in range(read):
        next(stream)
    (clock,) = set(threading.enumerate()) - before
    del stream
    gc.collect()
    clock.join(5)
    assert not clock.is_alive()


def test_a_stream_that_is_closed_ends_its_view_though_it_is_still_held(large: Store) -> None:
    stream = stream_table(large, "steps", Selection())
    next(stream)
    stream.close()
    stream.close()
    assert list(stream) == []
    with large.gate.alone(0) as nobody_reads:
        assert nobody_reads


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1700000000000000001", 1_700_000_000_000_000_001),
        ("1970-01-02", DAY),
        ("1970-01-02T00:00:00", DAY),
        ("1970-01-02T00:00:00Z", DAY),
        ("1970-01-02T01:00:00.5+01:00", DAY + 500_000_000),
        ("1969-12-31T00:00Z", -DAY),
        ("9999-12-31", 2**63 - 1),
        ("9999999999999999999", 2**63 - 1),
    ],
)
def test_a_time_is_nanoseconds_or_iso(text: str, expected: int) -> None:
    assert nanoseconds(text) == expected


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ({"since": "yesterday"}, "time is 'yesterday', expected nanoseconds"),
        ({"until": "-1"}, "time is '-1', expected nanoseconds"),
        ({"since": "9" * 5000}, "time is '999"),
        ({"columns": "agent,secret"}, "column is 'secret', trajectories has: trajectory_id, agent,"),
        ({"columns": ""}, "column is ''"),
        ({"columns": "agent; DROP TABLE steps"}, "column is 'agent; DROP"),
        ({"limit": "3"}, "query has 'limit', allowed: agent, trajectory, since, until, columns"),
    ],
)
def test_what_can_not_be_selected_is_told(query: dict[str, str], told: str) -> None:
    with pytest.raises(WireError, match=told):
        Selection.from_query("trajectories", query)


def test_a_query_is_read() -> None:
    query = {"agent": "desk", "since": "1", "until": "1970-01-02", "columns": "agent,task"}
    expected = Selection(agent="desk", since=1, until=DAY, columns=("agent", "task"))
    assert Selection.from_query("trajectories", query) == expected
