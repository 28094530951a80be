"""Compare what was acknowledged with what is stored: by the read API while it runs, in the file when it has stopped."""

import http.client
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa

from fault_trials.payloads import PARTS, mark
from fault_trials.process import Collector
from fault_trials.timetable import Sent
from overhead.timing import Json

STORE_FILE = "traces.duckdb"
_HEX = {"VARCHAR": "lower({0})", "BLOB": "lower(hex({0}))"}
_TABLES = {"steps": ["trace_id", "span_id"], "scores": ["trajectory_id", "step_index"]}
"""The read API's tables, and by what their rows are told apart."""
_READ_SECONDS = 900
_IDS = pa.schema([("trace_id", pa.string()), ("span_id", pa.string())])


@dataclass
class Outcome:
    """What an experiment found."""

    report: Json = field(default_factory=dict)
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    broken: list[str] = field(default_factory=list)
    """Promises that were not kept, in words."""

    def expect(self, kept: bool, promise: str) -> None:
        """Note a promise that was not kept."""
        if not kept:
            self.broken.append(promise)

    def count(self, name: str, sent: Sent, stored: Json) -> None:
        """Take over what ``compare`` found."""
        self.expect(stored.get("stopped_with", 0) == 0, f"{name}: stopped with {stored.get('stopped_with')}, not 0")
        self.expect(not stored.get("read_failed"), f"{name}: the read API failed: {stored.get('read_failed')}")
        self.acknowledged += sent.acknowledged
        self.lost += stored["lost"]
        self.duplicated += stored["duplicated"]


def stop_and_compare(collector: Collector, sent: Sent, *, derived: bool = True) -> Json:
    """Read through the API, stop the collector, read its file; return both compared with what was acknowledged.

    Without ``derived`` only the file is read: to derive all steps may take longer than to send them.
    """
    read, failed, began = {}, None, time.monotonic()
    for name, keys in _TABLES.items() if derived else ():
        try:
            read[name] = read_table(collector.http, name, keys)
        except (OSError, http.client.HTTPException, pa.ArrowException) as error:
            said = error.read(500).decode(errors="replace") if isinstance(error, urllib.error.HTTPError) else ""
            failed = f"{name}: {type(error).__name__}: {error} {said}".rstrip()
    seconds = round(time.monotonic() - began, 1)
    code = collector.stop()
    found = compare(collector.home, sent, read)
    return found | {"stopped_with": code, "read_failed": failed, "read_seconds": seconds}


def read_table(address: str, name: str, keys: list[str]) -> pa.Table:
    """Return a table's keys as the read API streams them."""
    request = urllib.request.Request(f"{address}/v1/tables/{name}?fresh={_READ_SECONDS}")  # noqa: S310 - our own address
    with (
        urllib.request.urlopen(request, timeout=_READ_SECONDS + 60) as answer,  # noqa: S310 - our own address
        pa.ipc.open_stream(answer) as stream,
    ):
        parts = [batch.select(keys) for batch in stream]
        return pa.Table.from_batches(parts, stream.schema.empty_table().select(keys).schema)


def compare(home: Path, sent: Sent, read: dict[str, pa.Table] | None = None) -> Json:
    """Return counts: ``lost`` and ``duplicated`` over the file and, where given, the tables that the read API gave.

    A row that is missing in two places counts twice; what was sent but not acknowledged may be there, or not.
    """
    with duckdb.connect(str(home / STORE_FILE), read_only=True) as store:
        key = ", ".join(f"{_as_hex(store, column)} AS {column}" for column in ("trace_id", "span_id"))
        spans = store.sql(f"SELECT {key} FROM spans").to_arrow_table()  # noqa: S608 - literals
        rows, distinct = store.execute("SELECT count(*), count(DISTINCT (trace_id, span_id)) FROM spans").fetchall()[0]
        logs = store.execute("SELECT count(*) FROM log_records").fetchall()[0][0]
    acknowledged = {"spans": _spans(sent), "steps": _spans(sent, steps=True), "scores": _scores(sent)}
    found: Json = {"spans": int(rows), "log_records": int(logs)}
    lost = {"spans": _missing(acknowledged["spans"], spans)}
    twice = {"spans": int(rows) - int(distinct)}
    for name, table in (read or {}).items():
        lost[name] = _missing(acknowledged[name], table)
        twice[name] = _twice(table)
    lost["log_records"] = max(0, acknowledged["scores"].num_rows - int(logs))
    return found | {
        "acknowledged": sent.acknowledged,
        "lost": sum(lost.values()),
        "duplicated": sum(twice.values()),
        "lost_by_table": lost,
        "duplicated_by_table": twice,
    }


def _as_hex(store: duckdb.DuckDBPyConnection, column: str) -> str:
    sql = "SELECT data_type FROM duckdb_columns() WHERE table_name = 'spans' AND column_name = ?"
    return _HEX[store.execute(sql, [column]).fetchall()[0][0]].format(column)


def _spans(sent: Sent, *, steps: bool = False) -> pa.Table:
    """Return the ids of the spans that were acknowledged, of steps only where asked."""
    ids = [] if steps else list(sent.spans)
    for _, _, signal, sender, number, count in sent.requests:
        if signal == "traces":
            trace = (mark(sender, number) + mark(sender, number // PARTS)).encode().hex()
            ids += [(trace, f"{place:016x}") for place in range(1, count + 1)]
    return pa.table({"trace_id": [trace for trace, _ in ids], "span_id": [span for _, span in ids]}, schema=_IDS)


def _scores(sent: Sent) -> pa.Table:
    keys = []
    for _, _, signal, sender, number, count in sent.requests:
        if signal == "logs":
            name = f"faults-{mark(sender, number)}{mark(sender, number // PARTS)}"
            keys += [(name, place) for place in range(1, count + 1)]
    kinds = pa.schema([("trajectory_id", pa.string()), ("step_index", pa.int64())])
    return pa.table({"trajectory_id": [name for name, _ in keys], "step_index": [at for _, at in keys]}, schema=kinds)


def _missing(wanted: pa.Table, stored: pa.Table) -> int:
    keys = ", ".join(wanted.column_names)
    sql = f"SELECT count(*) FROM wanted ANTI JOIN stored USING ({keys})"  # noqa: S608 - literals
    return _one(sql, wanted=wanted, stored=stored)


def _twice(stored: pa.Table) -> int:
    keys = ", ".join(stored.column_names)
    return _one(f"SELECT count(*) - count(DISTINCT ({keys})) FROM stored", stored=stored)  # noqa: S608 - literals


def _one(sql: str, **tables: pa.Table) -> int:
    with duckdb.connect() as memory:
        for name, table in tables.items():
            memory.register(name, table)
        return int(memory.execute(sql).fetchall()[0][0])
