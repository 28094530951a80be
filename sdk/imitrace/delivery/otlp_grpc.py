"""Carry OTLP requests over gRPC, as the bytes they already are."""

import threading
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import grpc
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status

from imitrace.delivery.transports import MAX_ANSWER, Answer, Connection, Signal, accepted, bounded_delay, shown

_METHODS = {
    "traces": "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
    "logs": "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
}
_COMPRESSION = {
    "gzip": grpc.Compression.Gzip,
    "deflate": grpc.Compression.Deflate,
    "none": grpc.Compression.NoCompression,
}
_LATER = frozenset(
    (
        grpc.StatusCode.ABORTED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DATA_LOSS,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.UNAVAILABLE,
    )
)
_MENDABLE = frozenset(
    (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNIMPLEMENTED)
)
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_ANSWER),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 5000),  # gRPC's own two minutes would outlast our retries
    ("grpc.primary_user_agent", "imitrace"),
)


class GrpcTransport:
    """Calls ``Export`` of one signal's service over a channel that is kept."""

    def __init__(self, connection: Connection, signal: Signal) -> None:
        self._connection = connection
        self._signal = signal
        self._metadata = tuple((name.lower(), value) for name, value in connection.headers.items())
        self._lock = threading.Lock()
        self._channel: Any = None  # grpc is untyped
        self._call: Any = None
        self._closed = False

    def post(self, body: bytes, timeout: float) -> Answer:
        """Carry a request within ``timeout`` seconds in all; never raise."""
        try:
            call = self._start(body, timeout)
            return Answer("later", "closed") if call is None else accepted(self._signal, call.result())
        except grpc.FutureCancelledError:
            return Answer("later", "broken off")
        except grpc.RpcError as error:
            return _judge(error)
        except OSError as error:  # a certificate's file
            return Answer("later", shown(f"{type(error).__name__}: {error}"))
        except (ValueError, TypeError) as error:  # metadata that gRPC can't write down
            return Answer("refused", shown(f"{type(error).__name__}: {error}"))

    def close(self) -> None:
        """Break off a try in progress; later ones end at once."""
        with self._lock:
            self._closed = True
            call, channel = self._call, self._channel
        if call is not None:
            call.cancel()
        if channel is not None:
            channel.close()

    def _start(self, body: bytes, timeout: float) -> Any:  # a grpc future, which is untyped
        with self._lock:
            if self._closed:
                return None
            if self._channel is None:
                self._channel = _open(self._connection)
            export = self._channel.unary_unary(_METHODS[self._signal])
            self._call = export.future(body, timeout=timeout, metadata=self._metadata)
            return self._call


def _open(connection: Connection) -> Any:  # a grpc channel, which is untyped
    address = urlsplit(connection.address)
    target = address.netloc.rpartition("@")[2]
    compression = _COMPRESSION[connection.compression]
    if address.scheme == "http":
        return grpc.insecure_channel(target, _OPTIONS, compression)
    files = (
        connection.certificate,
        connection.client_key or connection.client_certificate,
        connection.client_certificate,
    )
    authorities, key, chain = (None if file is None else Path(file).read_bytes() for file in files)
    credentials = grpc.ssl_channel_credentials(authorities, key, chain)
    return grpc.secure_channel(target, credentials, _OPTIONS, compression)


def _judge(error: Any) -> Answer:  # a grpc error, which is untyped
    code = error.code()
    reason = f"{code.name} {shown(error.details() or '')}".strip()
    delay = _retry_delay(error.trailing_metadata() or ())
    if code in _LATER or (code is grpc.StatusCode.RESOURCE_EXHAUSTED and delay is not None):
        return Answer("later", reason, delay=delay)
    return Answer("refused", reason, mendable=code in _MENDABLE)


def _retry_delay(metadata: Any) -> float | None:  # pairs, as grpc gives them
    """Return the seconds that a ``RetryInfo`` among the error's details asks for."""
    for name, value in metadata:
        if name != "grpc-status-details-bin":
            continue
        try:
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return bounded_delay(info.retry_delay.seconds + info.retry_delay.nanos / 1e9)
        except DecodeError:
            continue
    return None
