"""Answer OTLP over gRPC, through the same intake as HTTP."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from functools import partial
from traceback import clear_frames
from typing import Any

import grpc

from imitrace.exceptions import ConfigError
from imitrace.listening import address
from imitrace_collector import otlp
from imitrace_collector.arrivals import Arrivals
from imitrace_collector.config import CollectorConfig
from imitrace_collector.intake import Body, Export, Intake
from imitrace_collector.renewal import Renewal
from imitrace_collector.tls import Credentials
from imitrace_collector.tokens import Role

_METHODS = {
    f"/opentelemetry.proto.collector.{package}.v1.{service}Service/Export": package
    for package, service in (("trace", "Trace"), ("logs", "Logs"), ("metrics", "Metrics"))
}
_NAMES = {"trace": "traces", "logs": "logs"}
_CANCEL_SECONDS = 1.0
_STREAMS = 512
_WINDOW = 64 * 1024
_MILLISECONDS = 1000

# grpc is untyped, hence Any for its contexts and servers throughout this file.


class _Service(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc is untyped
    """Take export requests as bytes, and decide on each before its message is read.

    The handlers are of the kind that reads a stream, which looks the same on the wire: only those are called before
    the message was taken from the connection.
    """

    def __init__(self, intake: Intake, arrivals: Arrivals) -> None:
        self._intake = intake
        self._arrivals = arrivals

    def service(self, details: Any) -> Any:
        """Return the handler of a call's method; None for those that OTLP has not."""
        package = _METHODS.get(details.method)
        if package is None:
            return None
        answer: Callable[..., Any] = partial(self._export, _NAMES[package]) if package in _NAMES else _no_metrics
        return grpc.stream_unary_rpc_method_handler(answer)

    async def _export(self, signal: str, messages: AsyncIterator[bytes], context: Any) -> bytes:
        code = grpc.StatusCode.CANCELLED  # until proven otherwise: the sender may leave at any point
        try:
            answer = await self._answer(signal, context)
            code = grpc.StatusCode.OK if answer is not None else grpc.StatusCode.RESOURCE_EXHAUSTED
            if answer is None:
                await asyncio.sleep(_CANCEL_SECONDS)  # gRPC has answered and cancels this; a second answer would fail
        except Exception as error:  # every failure must be told in the right code
            refusal = self._intake.refused(error, f"grpc {signal}")
            clear_frames(error.__traceback__)  # gRPC keeps what ``abort`` raises in a cycle, and with it the message
            code = refusal.grpc
            context.set_trailing_metadata((("grpc-status-details-bin", refusal.status().SerializeToString()),))
            await context.abort(code, refusal.message)
        finally:
            self._intake.metrics.answered(signal, "grpc", code.name)
        return answer or b""

    async def _answer(self, signal: str, context: Any) -> bytes | None:
        """Return the answer's bytes; None where gRPC itself has refused the message as too large."""
        metadata = dict(context.invocation_metadata())
        caller = self._intake.admit(metadata.get("authorization"), Role.INGEST)
        with self._intake.reserve() as held:
            async with self._arrivals.place():
                message = await context.read()  # by itself: gRPC's iterators keep theirs until garbage is collected
            if message is grpc.aio.EOF:
                return None
            body = Body(message)
            del message
            held.grow(len(body.content))
            response = await self._intake.take(Export(signal, "grpc", caller), body, held)
            return otlp.encode(response, otlp.PROTOBUF)


async def _no_metrics(messages: AsyncIterator[bytes], context: Any) -> bytes:
    await context.abort(
        grpc.StatusCode.UNIMPLEMENTED, "this collector keeps traces and logs, no metrics; turn the metrics exporter off"
    )
    return b""


class GrpcServer:
    """Serve an intake by gRPC, from a thread and an event loop of its own."""

    def __init__(self, intake: Intake, renewal: Renewal | None = None) -> None:
        """Listen and start.

        Raises:
            ConfigError: the port is taken.
        """
        self._loop = asyncio.new_event_loop()
        self.arrivals = Arrivals(intake.config.body_seconds)
        self._thread = threading.Thread(target=self._loop.run_forever, name="imitrace-grpc", daemon=True)
        self._thread.start()
        try:
            starting = _start(_Service(intake, self.arrivals), intake.config, renewal)
            self._server, self.port = asyncio.run_coroutine_threadsafe(starting, self._loop).result()
        except BaseException:
            self._end()
            raise

    def stop(self, grace: float = 0.0) -> None:
        """Answer what was begun, for at most ``grace`` seconds, then close."""
        asyncio.run_coroutine_threadsafe(self._server.stop(grace), self._loop).result()
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _start(service: _Service, config: CollectorConfig, renewal: Renewal | None) -> tuple[Any, int]:
    server = grpc.aio.server(options=_options(config))
    server.add_generic_rpc_handlers((service,))
    place = address(config.host, config.grpc_port)
    try:
        if renewal is None:
            port = server.add_insecure_port(place)
        else:
            port = server.add_secure_port(place, _grpc_credentials(renewal))
    except RuntimeError as error:
        raise ConfigError(
            f"gRPC port {config.grpc_port} on {config.host} can't be listened on, most likely it is taken; "
            "name another with --grpc-port"
        ) from error
    await server.start()
    return server, port


def _grpc_credentials(renewal: Renewal) -> Any:
    given = renewal.current()

    def changed() -> Any:
        """Return what a connection that begins now needs, where that is not what the one before had."""
        nonlocal given
        before, given = given, renewal.current()
        return None if given is before else _configuration(given)

    return grpc.dynamic_ssl_server_credentials(_configuration(given), changed, renewal.asks_clients)


def _configuration(credentials: Credentials) -> Any:
    pair = (credentials.key, credentials.certificate)
    return grpc.ssl_server_certificate_configuration([pair], root_certificates=credentials.client_ca)


def _options(config: CollectorConfig) -> list[tuple[str, int]]:
    """Return the limits that gRPC keeps itself; it also decompresses, and to no more than the largest message."""
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", config.max_request_bytes),
        ("grpc.absolute_max_metadata_size", config.header_bytes),
        ("grpc.max_concurrent_streams", _STREAMS),
        ("grpc.max_allowed_incoming_connections", config.connections),
        ("grpc.http2.lookahead_bytes", _WINDOW),
        ("grpc.http2.bdp_probe", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 10 * _MILLISECONDS),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10 * _MILLISECONDS),
        ("grpc.http2.max_ping_strikes", 2),
        ("grpc.keepalive_time_ms", 60 * _MILLISECONDS),
        ("grpc.keepalive_timeout_ms", 20 * _MILLISECONDS),
        ("grpc.server_handshake_timeout_ms", int(config.header_seconds * _MILLISECONDS)),
        ("grpc.max_connection_idle_ms", 10 * 60 * _MILLISECONDS),
    ]
