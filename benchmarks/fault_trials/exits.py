"""Send one export at a time, by HTTP or gRPC, and say in a word how it was answered."""

import gzip
import http.client
from typing import Any, NamedTuple, Protocol

import grpc
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from fault_trials.payloads import PROTOBUF

ACKNOWLEDGED, BROKEN, PARTLY = "acknowledged", "connection broken", "partly rejected"
RETRYABLE = {BROKEN, "429", "502", "503", "504"} | {
    "CANCELLED",
    "DEADLINE_EXCEEDED",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNAVAILABLE",
    "DATA_LOSS",
    "RESOURCE_EXHAUSTED",
}
"""What OTLP lets a sender try again; RESOURCE_EXHAUSTED is so with a RetryInfo only."""
_SERVICES = {"traces": "trace.v1.TraceService", "logs": "logs.v1.LogsService"}
_RESPONSES: dict[str, Any] = {"traces": ExportTraceServiceResponse, "logs": ExportLogsServiceResponse}  # untyped
_RECONNECT = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]
_RECONNECT += [("grpc.min_reconnect_backoff_ms", 100), ("grpc.use_local_subchannel_pool", 1)]


class Answer(NamedTuple):
    word: str
    retry_after: float | None = None


class Exit(Protocol):
    def send(self, body: bytes) -> Answer: ...


class HttpExit:
    """Keep one connection, and make a new one where it broke."""

    def __init__(self, address: str, signal: str, media_type: str, *, zipped: bool, limit: float) -> None:
        self._connection = http.client.HTTPConnection(address.removeprefix("http://"), timeout=limit)
        self._path = f"/v1/{signal}"
        self._headers = {"Content-Type": media_type} | ({"Content-Encoding": "gzip"} if zipped else {})
        self._zipped = zipped
        self._response = _RESPONSES[signal] if media_type == PROTOBUF else None

    def send(self, body: bytes) -> Answer:
        try:
            sent = gzip.compress(body, 1) if self._zipped else body
            self._connection.request("POST", self._path, sent, self._headers)
            found = self._connection.getresponse()
            content = found.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return Answer(BROKEN)
        if found.status != http.HTTPStatus.OK:
            after = found.getheader("Retry-After")
            return Answer(str(found.status), float(after) if after else None)
        partly = self._response is not None and self._response.FromString(content).HasField("partial_success")
        return Answer(PARTLY if partly or b"partialSuccess" in content else ACKNOWLEDGED)


class GrpcExit:
    """Keep one channel; the request goes out as the bytes that it is."""

    def __init__(self, address: str, signal: str, *, limit: float) -> None:
        channel = grpc.insecure_channel(address, options=_RECONNECT)
        path = f"/opentelemetry.proto.collector.{_SERVICES[signal]}/Export"
        self._call = channel.unary_unary(path, response_deserializer=_RESPONSES[signal].FromString)
        self._limit = limit

    def send(self, body: bytes) -> Answer:
        try:
            found = self._call(body, timeout=self._limit)
        except grpc.RpcError as error:
            return Answer(error.code().name)
        return Answer(PARTLY if found.HasField("partial_success") else ACKNOWLEDGED)
