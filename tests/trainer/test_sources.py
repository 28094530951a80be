import hashlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from imitrace.exceptions import DatasetError
from imitrace.schema import SCHEMA_VERSION, TABLES
from imitrace_trainer.sources import Source, open_source

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]
MakeSnapshot = Callable[..., Path]

HOLD = "import duckdb, sys; held = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@contextmanager
def collector(answers: Mapping[str, bytes], token: str = "") -> Iterator[str]:
    """Serve a body for each table on a free port; 404 for others, 401 without the token."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = answers.get(self.path.removeprefix("/v1/tables/").partition("?fresh=")[0])
            welcome = not token or self.headers["Authorization"] == f"Bearer {token}"
            self.send_response(200 if body is not None and welcome else 404 if welcome else 401)
            self.end_headers()
            self.wfile.write(body if body is not None and welcome else b"no")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def streams(tables: Tables) -> dict[str, bytes]:
    bodies = {}
    for table, frame in tables.items():
        buffer = io.BytesIO()
        frame.write_ipc_stream(buffer)
        bodies[table] = buffer.getvalue()
    return bodies


def write_store(path: Path, tables: Tables) -> Path:
    with duckdb.connect(path) as connection:
        for table, frame in tables.items():
            connection.register("rows", frame.to_arrow())
            connection.execute(f"CREATE TABLE {table} AS SELECT *, 1 AS extra FROM rows")  # noqa: S608 - test data
            connection.unregister("rows")
    return path


def collected(source: Source) -> Tables:
    return {table: frame.collect() for table, frame in source.frames().items()}


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_snapshot_a_store_and_a_collector_give_the_same_tables(
    tmp_path: Path, make_tables: MakeTables, make_snapshot: MakeSnapshot
) -> None:
    cases = [{"id": "1", "scores": {"s": 0.5}}, {"id": "2", "ended_at": None, "tags": {"intent": "refund"}}]
    wanted = make_tables(*cases)
    store = write_store(tmp_path / "store.duckdb", wanted)
    with collector(streams(wanted)) as address:
        for url in (str(make_snapshot(*cases)), str(store), address):
            found = collected(open_source(url, tmp_path))
            for table, columns in TABLES.items():
                assert found[table].columns == list(columns)
                assert_frame_equal(found[table], wanted[table], check_row_order=False)


def test_a_source_names_itself(tmp_path: Path, make_snapshot: MakeSnapshot) -> None:
    folder = make_snapshot({"id": "1"})
    assert open_source(str(folder), tmp_path).describe() == f"snapshot {folder}"
    assert open_source("http://127.0.0.1:1", tmp_path).describe() == "collector http://127.0.0.1:1"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, f"schema_version {SCHEMA_VERSION + 1}, .*: upgrade imitrace"),
        ({"schema_version": None}, "schema_version None, expected a whole number"),
        ({"counts": {"trajectories": 2}}, r"trajectories\.parquet has 1 rows, its manifest says 2"),
        ({"counts": None}, r"trajectories\.parquet has 1 rows, its manifest says None"),
    ],
)
def test_a_snapshot_that_is_not_as_its_manifest_says_is_refused(
    tmp_path: Path, make_snapshot: MakeSnapshot, changes: dict[str, object], message: str
) -> None:
    folder = make_snapshot({"id": "1"})
    edit_manifest(folder, **changes)
    with pytest.raises(DatasetError, match=message):
        open_source(str(folder), tmp_path).frames()


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("steps.parquet", None, r"steps\.parquet can't be read"),
        ("steps.parquet", b"junk", r"steps\.parquet can't be read"),
        ("manifest.json", None, r"snapshot has no manifest\.json, expected a folder made by imitrace"),
        ("manifest.json", b"{", r"manifest\.json can't be read"),
        ("manifest.json", b"[]", r"schema_version None"),
    ],
)
def test_a_snapshot_with_a_broken_file_is_refused(
    tmp_path: Path, make_snapshot: MakeSnapshot, file: str, content: bytes | None, message: str
) -> None:
    folder = make_snapshot({"id": "1"})
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_source(str(folder), tmp_path).frames()


def test_a_snapshots_files_are_compared_with_the_hashes_in_its_manifest(make_snapshot: MakeSnapshot) -> None:
    folder = make_snapshot({"id": "t"})
    manifest = json.loads((folder / "manifest.json").read_text())
    content = (folder / "steps.parquet").read_bytes()
    manifest["files"] = {"steps.parquet": {"sha256": hashlib.sha256(content).hexdigest(), "rows": 2}}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert set(open_source(str(folder), folder).frames()) == set(TABLES)
    pl.read_parquet(folder / "steps.parquet").reverse().write_parquet(folder / "steps.parquet")
    with pytest.raises(DatasetError, match=r"steps\.parquet has sha256 \w+, its manifest says \w+: make it again"):
        open_source(str(folder), folder).frames()
    (folder / "steps.parquet").unlink()
    with pytest.raises(DatasetError, match=r"steps\.parquet can't be read"):
        open_source(str(folder), folder).frames()


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (None, "table steps: column 'policy_role' is missing, expected string"),
        (pl.lit(1, pl.Int64), "table steps: column 'policy_role' is Int64, expected string"),
        (pl.lit(None, pl.String), "table steps: column 'policy_role' is null in 2 rows, expected string"),
    ],
)
@pytest.mark.parametrize("kind", ["store", "collector"])
def test_a_column_that_is_not_as_the_schema_says_is_named(
    tmp_path: Path, make_tables: MakeTables, kind: str, column: pl.Expr | None, message: str
) -> None:
    tables = make_tables({"id": "1"})
    steps = tables["steps"].drop("policy_role")
    tables["steps"] = steps if column is None else steps.with_columns(policy_role=column)
    with collector(streams(tables)) as address:
        url = address if kind == "collector" else str(write_store(tmp_path / "x.duckdb", tables))
        with pytest.raises(DatasetError, match=message):
            open_source(url, tmp_path).frames()


def test_a_store_that_another_process_holds_says_so(tmp_path: Path, make_tables: MakeTables) -> None:
    store = write_store(tmp_path / "x.duckdb", make_tables({"id": "1"}))
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(DatasetError, match="is held by a running collector; name its address"):
            open_source(str(store), tmp_path).frames()
        holder.communicate()


@pytest.mark.parametrize(
    ("content", "message"), [(b"junk" * 2000, "can't be opened"), (None, "table trajectories can't")]
)
def test_a_file_that_is_no_store_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "x.duckdb"
    if content is None:
        duckdb.connect(path).close()
    else:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=message):
        open_source(str(path), tmp_path).frames()


def test_a_collector_that_does_not_answer_is_named_with_its_mend(tmp_path: Path) -> None:
    with collector({}) as address:
        pass
    with pytest.raises(DatasetError, match=f"no collector answers at {address} .*'imitrace collect'") as caught:
        open_source(address, tmp_path).frames()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda body: None, "/v1/tables/trajectories answers 404 Not Found, expected an Arrow stream$"),
        (lambda body: b"<html>", "sent 6 bytes that are no whole Arrow stream"),
        (lambda body: body[:-8], "are no whole Arrow stream, try again"),
        (lambda body: b"<html>" + body[-8:], "sent no Arrow stream"),
    ],
)
def test_an_answer_that_is_no_whole_table_is_refused(
    tmp_path: Path, make_tables: MakeTables, change: Callable[[bytes], bytes | None], message: str
) -> None:
    bodies = {table: change(body) for table, body in streams(make_tables({"id": "1"})).items()}
    with (
        collector({table: body for table, body in bodies.items() if body is not None}) as address,
        pytest.raises(DatasetError, match=message),
    ):
        open_source(address, tmp_path).frames()


def test_a_collectors_token_is_sent(tmp_path: Path, make_tables: MakeTables, monkeypatch: pytest.MonkeyPatch) -> None:
    with collector(streams(make_tables({"id": "1"})), token="key") as address:
        monkeypatch.delenv("IMITRACE_TOKEN", raising=False)
        with pytest.raises(DatasetError, match=r"answers 401 Unauthorized, .*set IMITRACE_TOKEN"):
            open_source(address, tmp_path).frames()
        monkeypatch.setenv("IMITRACE_TOKEN", "key")
        assert len(collected(open_source(address, tmp_path))["trajectories"]) == 1


def test_a_workspace_with_a_running_collector_is_read_through_it(tmp_path: Path, make_tables: MakeTables) -> None:
    with collector(streams(make_tables({"id": "1"}))) as address:
        (tmp_path / "collector.json").write_text(json.dumps({"pid": os.getpid(), "http": address}))
        source = open_source(None, tmp_path)
        assert source.describe() == f"collector {address}"
        assert len(collected(source)["steps"]) == 2


def ended_process() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        return process.pid


@pytest.mark.parametrize(
    "record",
    [
        None,
        "not JSON",
        {"pid": "x"},
        {"pid": os.getpid(), "http": "http://127.0.0.1:x"},
        {"pid": os.getpid(), "http": "http://127.0.0.1:1"},
        {"pid": ended_process, "http": "http://127.0.0.1:1"},
        {"pid": 2**80, "http": "http://127.0.0.1:1"},
    ],
)
def test_a_workspace_without_a_running_collector_is_read_from_its_store(
    tmp_path: Path, make_tables: MakeTables, record: Any
) -> None:
    write_store(tmp_path / "traces.duckdb", make_tables({"id": "1"}))
    if isinstance(record, dict):
        record = json.dumps({key: value() if callable(value) else value for key, value in record.items()})
    if record is not None:
        (tmp_path / "collector.json").write_text(record)
    assert open_source(None, tmp_path).describe() == f"store {tmp_path / 'traces.duckdb'}"


def test_an_empty_workspace_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no traces: record some with 'imitrace collect' .* 'imitrace import'"):
        open_source(None, tmp_path)


def test_a_source_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="source 'nowhere' does not exist, expected a snapshot folder, a store file"):
        open_source("nowhere", tmp_path)


def test_a_store_whose_steps_are_not_all_derived_is_refused(tmp_path: Path, make_tables: MakeTables) -> None:
    path = tmp_path / "traces.duckdb"
    write_store(path, make_tables({"id": "1"}))
    with duckdb.connect(path) as connection:
        connection.execute("CREATE TABLE chunks (chunk BIGINT); INSERT INTO chunks VALUES (1), (2), (3)")
        connection.execute("CREATE TABLE IF NOT EXISTS meta (key VARCHAR, value VARCHAR)")
        connection.execute("INSERT INTO meta VALUES ('derived_chunk', '1')")
    with pytest.raises(DatasetError, match=r"holds 2 chunks of which no steps .* `imitrace trajectories`"):
        open_source(str(path), tmp_path).frames()
    with duckdb.connect(path) as connection:
        connection.execute("UPDATE meta SET value = '3' WHERE key = 'derived_chunk'")
    assert open_source(str(path), tmp_path).frames()


def test_a_store_that_keeps_each_state_once_gives_them_as_lists(tmp_path: Path, make_tables: MakeTables) -> None:
    wanted = make_tables({"id": "1"}, {"id": "2"})
    path = write_store(tmp_path / "store.duckdb", wanted)
    with duckdb.connect(path) as connection:
        connection.execute(
            "CREATE TABLE bare_steps AS SELECT * EXCLUDE (state), 0::BIGINT AS history, "
            "len(state)::BIGINT AS history_length FROM steps; "
            "CREATE TABLE histories AS "
            "SELECT trajectory_id, 0::BIGINT AS history, i - 1 AS position, state[i] AS message_id "
            "FROM (SELECT trajectory_id, arg_max(state, len(state)) AS state FROM steps GROUP BY 1), "
            "range(1, 100) r(i) WHERE i <= len(state) ORDER BY random(); DROP TABLE steps; "
            "INSERT INTO bare_steps SELECT * REPLACE (9 AS step_index, 7 AS history, 0 AS history_length) "
            "FROM bare_steps LIMIT 1"
        )
    found = open_source(str(path), tmp_path).frames()["steps"].collect()
    empty = found.filter(pl.col("step_index") == 9)
    assert empty["state"].to_list() == [[]]
    assert_frame_equal(found.filter(pl.col("step_index") != 9), wanted["steps"], check_row_order=False)


READ_AND_FIT = """
import sys
from pathlib import Path

import imitrace_trainer.stages  # and with it torch
from imitrace_trainer.sources import open_source

print(len(open_source(None, Path(sys.argv[1])).frames()["trajectories"].collect()))
"""


def test_a_process_that_reads_a_store_and_has_torch_ends_without_a_word(stored: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", READ_AND_FIT, str(stored)], capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.stderr) == ("8\n", "")
