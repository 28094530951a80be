"""Answer HTTP: OTLP in, tables and trajectories out."""

import asyncio
import io
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus

import pyarrow as pa
from google.protobuf import json_format
from google.rpc import code_pb2, status_pb2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from imitrace.exceptions import ImitraceError, StoreError, WireError
from imitrace.schema import TABLES
from imitrace_collector import otlp
from imitrace_collector.batcher import Batcher
from imitrace_collector.config import CollectorConfig
from imitrace_collector.derive import Deriver
from imitrace_collector.reads import NotFoundError, list_trajectories, lost_records, traces_of, trajectory_detail
from imitrace_collector.rows import Batch
from imitrace_collector.snapshot import write_snapshot
from imitrace_collector.store import Store

ARROW_STREAM = "application/vnd.apache.arrow.stream"
MAX_LISTED = 10_000
RETRY_AFTER_SECONDS = 1


class UnsupportedError(WireError):
    """Report a content type or encoding that no OTLP request has."""


_RPC_CODES = {
    400: code_pb2.INVALID_ARGUMENT,
    401: code_pb2.UNAUTHENTICATED,
    404: code_pb2.NOT_FOUND,
    405: code_pb2.UNIMPLEMENTED,
    413: code_pb2.RESOURCE_EXHAUSTED,
    415: code_pb2.INVALID_ARGUMENT,
    503: code_pb2.UNAVAILABLE,
}
_STATUS = (
    (otlp.TooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE),
    (UnsupportedError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE),
    (WireError, HTTPStatus.BAD_REQUEST),
)
"""Our errors and the HTTP status for each; the first that fits."""


class Api:
    """Hold what the routes need; each method answers one."""

    def __init__(self, config: CollectorConfig, store: Store, deriver: Deriver, batcher: Batcher[Batch]) -> None:
        self._config = config
        self._store = store
        self._deriver = deriver
        self._batcher = batcher

    async def export(self, signal: otlp.Signal, request: Request) -> Response:
        """Take an OTLP export; answers once it is durable."""
        media_type = _media_type(request)
        if media_type not in otlp.MEDIA_TYPES:
            raise UnsupportedError(f"content type is {media_type!r}, allowed: {', '.join(otlp.MEDIA_TYPES)}")
        encoding = request.headers.get("content-encoding", "identity").strip().lower()
        if encoding != "identity" and encoding not in otlp.ENCODINGS:
            raise UnsupportedError(f"content encoding is {encoding!r}, allowed: {', '.join(otlp.ENCODINGS)}")
        body = await _read_body(request, self._config.max_request_bytes)
        size, reading = await run_in_threadpool(self._read, signal, body, (encoding, media_type))
        if reading.batch != Batch():
            await asyncio.wrap_future(self._batcher.submit(reading.batch, size))
        return Response(otlp.encode(reading.response, media_type), media_type=media_type)

    def _read(self, signal: otlp.Signal, body: bytes, form: tuple[str, str]) -> tuple[int, otlp.Reading]:
        encoding, media_type = form
        plain = otlp.decompress(body, encoding, self._config.max_request_bytes)
        return len(plain), otlp.read(signal, otlp.parse(signal, plain, media_type), time.time_ns())

    def metrics(self, request: Request) -> Response:
        """Refuse metrics in words."""
        raise NotFoundError("this collector keeps traces and logs, no metrics; turn the metrics exporter off")

    def health(self, request: Request) -> Response:
        """Say that the store answers, which one it is, and how many records senders say they lost."""
        lost = sum(lost_records(self._store).values())
        store = str(self._config.store.absolute())
        return _answer({"status": "ok", "pid": os.getpid(), "store": store, "lost_records": lost})

    def table(self, request: Request) -> Response:
        """Stream one of ``schema.TABLES`` as Arrow IPC."""
        table = request.path_params["table"]
        if table not in TABLES:
            raise NotFoundError(f"table is {table!r}, allowed: {', '.join(TABLES)}")
        self._deriver.catch_up()
        return StreamingResponse(self._stream(table, request.query_params.get("agent")), media_type=ARROW_STREAM)

    def _stream(self, table: str, agent: str | None) -> Iterator[bytes]:
        sink = io.BytesIO()
        with self._store.reader() as reader, reader.table(table, agent) as batches:
            with pa.ipc.new_stream(sink, batches.schema) as stream:
                for batch in batches:
                    stream.write_batch(batch)
                    yield sink.getvalue()
                    sink.seek(0)
                    sink.truncate()
            yield sink.getvalue()

    def trajectories(self, request: Request) -> Response:
        """List the newest trajectories."""
        text = request.query_params.get("limit", "100")
        if not text.isdecimal() or not 0 < int(text) <= MAX_LISTED:
            raise WireError(f"limit is {text!r}, allowed: 1 to {MAX_LISTED}")
        self._deriver.catch_up()
        found = list_trajectories(self._store, request.query_params.get("agent"), int(text))
        return _answer({"trajectories": found, "lost_records": lost_records(self._store)})

    def trajectory(self, request: Request) -> Response:
        """Return one trajectory with its steps, scores and messages."""
        self._deriver.catch_up()
        return _answer(trajectory_detail(self._store, request.path_params["id"]))

    async def lookup(self, request: Request) -> Response:
        """Return which of the named trajectories are stored, and from which traces."""
        try:
            ids = json.loads(await _read_body(request, self._config.max_request_bytes))["trajectories"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise WireError('body is not {"trajectories": [ID, ...]}') from error
        if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
            raise WireError('body is not {"trajectories": [ID, ...]}')
        return _answer({"traces": await run_in_threadpool(traces_of, self._store, ids)})

    def snapshot(self, request: Request) -> Response:
        """Write a snapshot and say where it is."""
        self._deriver.catch_up()
        return _answer(write_snapshot(self._store, self._config.home, datetime.now(UTC)))


class TokenGuard:
    """Let through what carries the collector's token, and ``/healthz``."""

    def __init__(self, app: ASGIApp, config: CollectorConfig) -> None:
        self._app = app
        self._config = config

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer 401, or pass on."""
        if scope["type"] == "http" and scope["path"] != "/healthz":
            request = Request(scope)
            if not self._config.allows(request.headers.get("authorization")):
                answer = _refuse(request, HTTPStatus.UNAUTHORIZED, "the bearer token is missing or wrong")
                await answer(scope, receive, send)
                return
        await self._app(scope, receive, send)


def create_app(config: CollectorConfig, store: Store, deriver: Deriver, batcher: Batcher[Batch]) -> Starlette:
    """Return the collector's HTTP application; opening and closing what it is given is the caller's."""
    api = Api(config, store, deriver, batcher)
    return Starlette(
        routes=[
            Route("/v1/traces", partial(api.export, otlp.TRACES), methods=["POST"]),
            Route("/v1/logs", partial(api.export, otlp.LOGS), methods=["POST"]),
            Route("/v1/metrics", api.metrics, methods=["POST"]),
            Route("/healthz", api.health),
            Route("/v1/tables/{table}", api.table),
            Route("/v1/trajectories", api.trajectories),
            Route("/v1/trajectories/lookup", api.lookup, methods=["POST"]),
            Route("/v1/trajectories/{id:path}", api.trajectory),
            Route("/v1/snapshot", api.snapshot, methods=["POST"]),
        ],
        middleware=[Middleware(TokenGuard, config=config)],
        exception_handlers={ImitraceError: _on_our_error, HTTPException: _on_http_error},
    )


def _answer(content: object) -> Response:
    """Answer in JSON; all ASCII, for a message may hold lone surrogates, which UTF-8 can't say."""
    return Response(json.dumps(content), media_type=otlp.JSON)


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def _read_body(request: Request, limit: int) -> bytes:
    """Return the body, reading no further than ``limit``."""
    too_large = otlp.TooLargeError(f"request has more than {limit} bytes; send smaller batches")
    if int(request.headers.get("content-length", 0)) > limit:
        raise too_large
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > limit:
                raise too_large
    except ClientDisconnect as error:
        raise WireError("the sender hung up before its request was whole") from error
    return bytes(body)


def _on_our_error(request: Request, error: Exception) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), HTTPStatus.BAD_REQUEST)
    return _refuse(request, status, str(error))


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    return _refuse(request, HTTPStatus(error.status_code), error.detail)


def _refuse(request: Request, status: HTTPStatus, message: str) -> Response:
    """Answer with a ``google.rpc.Status``, in protobuf where the request was."""
    headers = {}
    if status == HTTPStatus.SERVICE_UNAVAILABLE:
        headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    body = status_pb2.Status(code=_RPC_CODES.get(status, code_pb2.UNKNOWN), message=message)
    if _media_type(request) == otlp.PROTOBUF:
        return Response(body.SerializeToString(), status, headers, otlp.PROTOBUF)
    return Response(json_format.MessageToJson(body, indent=None), status, headers, otlp.JSON)
