import math
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceResponse,
)

from imitrace.delivery.sender import RetryConfig, Sender
from imitrace.delivery.transports import Connection
from imitrace.faults import Faults

Reply = tuple[int, bytes, dict[str, str]]
OK: Reply = (200, b"", {})
BUSY: Reply = (503, b"", {})


@contextmanager
def replying(*replies: Reply) -> Iterator[tuple[str, list[float]]]:
    """Serve the replies in turn, then success; yield the address and the times at which requests came."""
    left, times = list(replies), list[float]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            times.append(time.monotonic())
            self.rfile.read(int(self.headers["content-length"]))
            status, body, headers = left.pop(0) if left else OK
            self.send_response(status)
            for name, value in {"content-length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it so
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", times
        server.shutdown()
        thread.join()


@contextmanager
def sender(address: str, faults: Faults | None = None, **retry: float) -> Iterator[Sender]:
    config = RetryConfig(**{"first_delay": 0.1, **retry}, random=lambda: 0.0)
    made = Sender(Connection(address=address), "traces", config, faults or Faults())
    yield made
    made.close()


@pytest.mark.parametrize("status", [401, 403, 404])
def test_what_other_settings_would_mend_is_no_end_for_what_waits_on_disk(status: int) -> None:
    faults = Faults()
    with replying((status, b"", {})) as (address, times), sender(address, faults, max_delay=0.05) as to:
        assert to.send(b"request", 1, math.inf).verdict == "accepted"
    assert len(times) == 2
    assert faults.counts() == {"collector_refused": 1}
    with replying((status, b"", {})) as (address, times), sender(address) as to:
        assert to.send(b"request", 1).verdict == "refused"


def test_a_busy_collector_is_tried_again_with_delays_that_double() -> None:
    with replying(BUSY, BUSY, BUSY) as (address, times), sender(address) as to:
        assert to.send(b"request", 1).verdict == "accepted"
    first, second, third = (after - before for before, after in pairwise(times))
    assert (first >= 0.1, second >= 0.2, third >= 0.4) == (True, True, True)


def test_delays_are_bounded_and_random() -> None:
    lazy = Sender(Connection(address="http://x"), "traces", RetryConfig(random=lambda: 1.0), Faults())
    assert [lazy._delay(failures) for failures in (0, 1, 2, 10, 10**9)] == [0.125, 0.25, 0.5, 2.5, 2.5]


def test_the_wait_that_a_collector_asks_for_is_kept() -> None:
    with replying((429, b"", {"retry-after": "1"})) as (address, times), sender(address) as to:
        assert to.send(b"request", 1).verdict == "accepted"
    assert times[1] - times[0] >= 1


def test_a_wait_of_nothing_is_still_a_wait() -> None:
    with replying((429, b"", {"retry-after": "0"})) as (address, times), sender(address) as to:
        assert to.send(b"request", 1).verdict == "accepted"
    assert times[1] - times[0] >= 0.05


@pytest.mark.parametrize("reply", [BUSY, (503, b"", {"retry-after": "3600"})])
def test_patience_ends(reply: Reply) -> None:
    faults = Faults()
    with replying(*[reply] * 100) as (address, _), sender(address, faults, patience=0.3) as to:
        began = time.monotonic()
        assert to.send(b"request", 1).verdict == "later"
        assert time.monotonic() - began < 2
    assert faults.counts() == {"collector_away": 1}


def test_a_refusal_is_counted_and_not_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    no: Reply = (400, b"no tenant", {})
    with replying(no, no) as (address, times), sender(address, faults) as to:
        assert [to.send(b"request", 1).verdict for _ in range(2)] == ["refused", "refused"]
    assert (len(times), faults.counts()) == (2, {"collector_refused": 2})
    assert [record.getMessage().count("no tenant") for record in caplog.records] == [1]


@pytest.mark.parametrize(("said", "meant"), [(2, 2), (99, 3), (-1, 0)])
def test_no_more_records_are_rejected_than_there_were(said: int, meant: int) -> None:
    body = ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=said))
    faults = Faults()
    with replying((200, body.SerializeToString(), {})) as (address, _), sender(address, faults) as to:
        assert to.send(b"request", 3).rejected == meant
    assert faults.counts() == ({"collector_rejected": 1} if meant else {})


def test_closing_breaks_off_the_waiting() -> None:
    with replying(*[(503, b"", {"retry-after": "60"})] * 9) as (address, _), sender(address, patience=100.0) as to:
        threading.Timer(0.2, to.close).start()
        began = time.monotonic()
        assert to.send(b"request", 1).verdict == "later"
        assert time.monotonic() - began < 5
