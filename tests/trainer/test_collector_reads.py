import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import polars as pl
import pytest

from imitrace.exceptions import DatasetError
from imitrace_collector import config
from imitrace_trainer import collector_reads
from imitrace_trainer.collector_reads import AS_OF_HEADER, PENDING_HEADER, CollectorTables

ROWS = pl.DataFrame({"trajectory_id": ["t1", "t2"]})
WHOLE = ROWS.write_ipc_stream(None).getvalue()
Answer = tuple[int, dict[str, str], bytes]
BEHIND = (
    503,
    {PENDING_HEADER: "3", AS_OF_HEADER: "7"},
    json.dumps({"message": "3 chunks are still to be derived, in about 4 s; ask again"}).encode(),
)


@contextmanager
def collector(answers: Callable[[int], Answer]) -> Iterator[tuple[str, list[str]]]:
    """Give the n-th request the n-th answer; what was asked is kept."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            status, headers, body = answers(len(asked) - 1)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector_reads, "_PAUSE_SECONDS", 0.0)


def test_a_collector_that_is_behind_is_asked_on_and_says_what_is_left() -> None:
    told: list[str] = []
    with collector(lambda n: BEHIND if n < 2 else (200, {AS_OF_HEADER: "7"}, WHOLE)) as (url, asked):
        tables = CollectorTables(url, say=told.append)
        for table in ("trajectories", "steps"):
            assert pl.concat(tables.batches(table)).equals(ROWS)
    queries = [parse_qs(urlsplit(path).query) for path in asked]
    assert [query.get("as_of") for query in queries] == [None, ["7"], ["7"], ["7"]]  # later tables wait for no more
    assert {query["fresh"][0] for query in queries} == {"10"}
    assert told == [f"waiting for {url}: 3 chunks are still to be derived, in about 4 s"] * 2


def test_it_is_not_waited_for_without_end() -> None:
    with (
        collector(lambda n: BEHIND) as (url, asked),
        pytest.raises(DatasetError, match=r"answers 503 .*: 3 chunks are still to be derived; try again later"),
    ):
        list(CollectorTables(url, 0.0, say=lambda line: None).batches("scores"))
    assert len(asked) == 1


def test_a_collector_that_refuses_for_another_reason_is_not_asked_again() -> None:
    with collector(lambda n: (503, {}, b"")) as (url, asked), pytest.raises(DatasetError, match="answers 503"):
        list(CollectorTables(url).batches("scores"))
    assert len(asked) == 1


def test_both_sides_have_the_same_names_for_what_they_say() -> None:
    assert (PENDING_HEADER, AS_OF_HEADER) == (config.PENDING_HEADER, config.AS_OF_HEADER)
