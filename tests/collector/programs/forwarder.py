"""Stand between agents and a collector as an OpenTelemetry Collector does: acknowledge, batch, gzip, retry.

It answers agents at once and keeps what they sent in memory; a batch is what came within a fifth of a second. It comes
again on the codes of the OTLP specification and when nobody answers, after ``Retry-After`` or twice as long each time.
On SIGTERM it sends all it has and prints what it did. Arguments: the collector's address and the token to show it.
"""

import gzip
import http.client
import json
import signal
import sys
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import urlsplit

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

BATCH_SECONDS = 0.2
RETRY = {429, 502, 503, 504}
REQUESTS: dict[str, Any] = {"/v1/traces": ExportTraceServiceRequest, "/v1/logs": ExportLogsServiceRequest}


class Lane:
    """Hold one signal's requests until the next batch, and send batches one after the other."""

    def __init__(self, path: str, collector: str, token: str) -> None:
        self.counts: Counter[str] = Counter()
        self._path = path
        self._collector = urlsplit(collector).netloc
        self._headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
        }
        self._waiting: list[bytes] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def add(self, body: bytes) -> None:
        with self._lock:
            self._waiting.append(body)

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.wait(BATCH_SECONDS):
            self._send_waiting()
        self._send_waiting()

    def _send_waiting(self) -> None:
        with self._lock:
            bodies, self._waiting = self._waiting, []
        if bodies:
            self._send(gzip.compress(b"".join(bodies)))  # messages of one kind, joined, are one message with all parts
            self.counts["batches"] += 1
            self.counts["requests"] += len(bodies)

    def _send(self, body: bytes) -> None:
        wait = 0.1
        while True:
            status, after = self._once(body)
            if status == 200:
                return
            if status not in RETRY and status != 0:
                self.counts["dropped"] += 1
                return
            self.counts["retries"] += 1
            threading.Event().wait(after or wait)
            wait = min(2 * wait, 2.0)

    def _once(self, body: bytes) -> tuple[int, float]:
        connection = http.client.HTTPConnection(self._collector, timeout=20)
        try:
            connection.request("POST", self._path, body, self._headers)
            answer = connection.getresponse()
            answer.read()
            return answer.status, float(answer.getheader("Retry-After") or 0)
        except (OSError, http.client.HTTPException):
            return 0, 0.0
        finally:
            connection.close()


class Agents(BaseHTTPRequestHandler):
    """Take what agents send."""

    lanes: ClassVar[dict[str, Lane]]
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        REQUESTS[self.path]().ParseFromString(body)
        self.lanes[self.path].add(body)
        self.send_response(200)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the parent's name
        """Say nothing."""


def main(collector: str, token: str) -> None:
    Agents.lanes = {path: Lane(path, collector, token) for path in REQUESTS}
    with ThreadingHTTPServer(("127.0.0.1", 0), Agents) as server:
        threading.Thread(target=server.serve_forever).start()
        stop = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: stop.set())
        sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
        sys.stdout.flush()
        stop.wait()
        server.shutdown()
    for lane in Agents.lanes.values():
        lane.stop()
    sys.stdout.write(json.dumps({path: lane.counts for path, lane in Agents.lanes.items()}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
