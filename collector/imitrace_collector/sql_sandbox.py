"""Start the process that runs a query, send it the rows it asks for, and end it when its time is over."""

import os
import queue
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pyarrow as pa

from imitrace.exceptions import StoreError
from imitrace_collector.histories import STATE, STEPS
from imitrace_collector.ordered_rows import Selected
from imitrace_collector.sql_wire import Request, Scan, SqlError
from imitrace_collector.store import Reader

_START_SECONDS = 20.0
_ROWS_AT_ONCE = 2048
_ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "2"}
"""Ask for memory as it is needed, so that a limit on it means what it says."""
_PROGRAM = """
import gc, sys
gc.disable()
sys.modules["numpy"] = None
from imitrace_collector import sql_process
gc.enable()
sql_process.main()
"""
"""Start without what is not needed: each query pays for it. DuckDB and Arrow do without NumPy where there is none, and
what is imported is no garbage."""
_OPERATORS = {"==": "=", ">": ">", "<": "<", ">=": ">=", "<=": "<="}


def run_aside(request: Request, readers: Sequence[Reader]) -> bytes:
    """Return what the process answers to a request.

    Args:
        request: the query, what it may cost, and the tables' schemas.
        readers: on one view; one less tables can be read at the same time, the last is for the states of steps.

    Raises:
        SqlError: it took more time or memory than it may.
        StoreError: the process can't be started, or the rows can't be read.
    """
    ours, theirs = socket.socketpair()
    with ours, _Feeder(ours, request, readers) as feeder:
        with theirs:
            process = _start(theirs)
        with process:
            try:
                ours.sendall(request.to_json() + b"\n")
                feeder.start()
                answer, _ = process.communicate(timeout=request.seconds + _START_SECONDS)
            except (subprocess.TimeoutExpired, BrokenPipeError):
                answer = b""
            finally:
                process.kill()
    if feeder.problem is not None:
        raise feeder.problem
    if process.returncode == 0:
        return answer
    if process.returncode in (-signal.SIGALRM, -signal.SIGKILL):
        raise SqlError(f"SQL took over {request.seconds:g} s and was ended; ask for less")
    raise SqlError(f"SQL ended its process ({process.returncode}), most likely out of its {request.memory} bytes")


def _start(control: socket.socket) -> subprocess.Popen[bytes]:
    """Start it with nothing of our environment but where its modules are: no token can be read there."""
    command = [sys.executable, "-P", "-s", "-c", _PROGRAM]
    path = os.pathsep.join(path for path in sys.path if path)
    try:
        return subprocess.Popen(
            command,
            stdin=control.fileno(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_ENVIRONMENT | {"PYTHONPATH": path},
            cwd="/",
        )
    except OSError as error:
        raise StoreError(f"the process for SQL can't be started: {error.strerror}") from error


class _Feeder:
    """Send the rows that a query's process asks for, each scan by a thread and over a connection of its own."""

    def __init__(self, control: socket.socket, request: Request, readers: Sequence[Reader]) -> None:
        self.problem: StoreError | None = None
        self._control = control
        self._columns = {name: schema.names for name, schema in request.schemas().items()}
        self._readers = readers
        self._free = queue.SimpleQueue[Reader]()
        *scanning, self._beside = readers
        for reader in scanning:
            self._free.put(reader)
        self._threads = ThreadPoolExecutor(len(scanning), "imitrace-sql")
        self._listener = threading.Thread(target=self._listen, name="imitrace-sql", daemon=True)

    def __enter__(self) -> "_Feeder":
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        if self._listener.ident is not None:
            self._listener.join()
        for reader in self._readers:
            reader.interrupt()
        self._threads.shutdown(cancel_futures=True)

    def start(self) -> None:
        """Listen to what the process asks for."""
        self._listener.start()

    def _listen(self) -> None:
        with suppress(OSError), self._control.makefile("rb") as lines:
            for line in lines:
                ours, theirs = socket.socketpair()
                with theirs:
                    socket.send_fds(self._control, [b"\n"], [theirs.fileno()])
                self._threads.submit(self._feed, Scan.from_json(line), ours)

    def _feed(self, scan: Scan, into: socket.socket) -> None:
        reader = self._free.get()
        try:
            with into, suppress(OSError), into.makefile("wb") as sink:
                batches = self._batches(reader, scan)
                with pa.ipc.new_stream(sink, batches.schema) as stream:
                    for batch in batches:
                        stream.write_batch(batch)
        except StoreError as error:
            self.problem = error
        finally:
            self._free.put(reader)

    def _batches(self, reader: Reader, scan: Scan) -> pa.RecordBatchReader:
        known = self._columns[scan.table]
        terms = [term for term in scan.terms if term.column in known and (scan.table, term.column) != (STEPS, STATE)]
        where = " AND ".join(
            f"{term.column} {_OPERATORS[term.operator]} $p{number}" for number, term in enumerate(terms)
        )
        rows = Selected(
            table=scan.table,
            columns=[name for name in scan.columns if name in known],
            where=where or "true",
            parameters={f"p{number}": term.value for number, term in enumerate(terms)},
        )
        return reader.select(rows, _ROWS_AT_ONCE, self._beside)
