"""Answer HTTP: OTLP in, tables and trajectories out."""

import inspect
import json
import os
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import grpc
from google.protobuf import json_format
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from imitrace.exceptions import WireError
from imitrace.schema import TABLES
from imitrace_collector import otlp
from imitrace_collector.backup import write_backup
from imitrace_collector.budget import Reservation
from imitrace_collector.config import PENDING_HEADER, SNAPSHOT_SECONDS
from imitrace_collector.derive import Deriver
from imitrace_collector.explanations import explain_services, explain_trace
from imitrace_collector.freshness import FRESH_QUERY, Freshness
from imitrace_collector.http_exports import export, media_type, read_body
from imitrace_collector.intake import Intake
from imitrace_collector.reads import (
    NotFoundError,
    list_trajectories,
    lost_records,
    shared,
    spelled_out,
    traces_of,
    trajectory_detail,
)
from imitrace_collector.refusals import Refusal
from imitrace_collector.snapshot import write_snapshot
from imitrace_collector.sql import SqlQuery, run_sql
from imitrace_collector.store import Store
from imitrace_collector.table_stream import Selection, TableStream, stream_table
from imitrace_collector.tokens import Role
from imitrace_collector.traces import trace_detail

ARROW_STREAM = "application/vnd.apache.arrow.stream"
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
MAX_LISTED = 10_000
_STATES = {"lists": spelled_out, "shared": shared}
"""How a trajectory's states can be told."""

Answer = Callable[[Request], Response | Awaitable[Response]]


@dataclass(frozen=True)
class Door:
    """One route: what it answers, and which token opens it."""

    path: str
    method: str
    role: Role
    answer: Answer
    signal: str = ""
    """What it takes, for the routes of OTLP."""


class TableAnswer(StreamingResponse):
    """Stream a table, and end its view when the answer ends.

    A client that hangs up leaves a cancelled task, whose frames hold the stream until they are collected as garbage.
    """

    def __init__(self, stream: TableStream, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(stream, media_type=ARROW_STREAM, headers=headers)
        self._stream = stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, to the end or until the client hangs up."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._stream.close()


class Api:
    """Hold what the routes need; each method answers one."""

    def __init__(self, intake: Intake, store: Store, deriver: Deriver) -> None:
        self._intake = intake
        self._config = intake.config
        self._store = store
        self._freshness = Freshness(deriver)

    def doors(self) -> tuple[Door, ...]:
        """Return every route; there is no other way to one."""
        return (
            Door("/v1/traces", "POST", Role.INGEST, partial(export, self._intake, "traces"), "traces"),
            Door("/v1/logs", "POST", Role.INGEST, partial(export, self._intake, "logs"), "logs"),
            Door("/v1/metrics", "POST", Role.INGEST, self.no_metrics, "metrics"),
            Door("/healthz", "GET", Role.OPEN, self.health),
            Door("/readyz", "GET", Role.READ, self.ready),
            Door("/metrics", "GET", Role.READ, self.metrics),
            Door("/v1/tables/{table}", "GET", Role.READ, self.table),
            Door("/v1/sql", "POST", Role.READ, self.sql),
            Door("/v1/traces/{id}", "GET", Role.READ, self.trace),
            Door("/v1/traces/{id}/steps", "GET", Role.READ, self.explained),
            Door("/v1/dialects", "GET", Role.READ, self.dialects),
            Door("/v1/trajectories", "GET", Role.READ, self.trajectories),
            Door("/v1/trajectories/lookup", "POST", Role.READ, self.lookup),
            Door("/v1/trajectories/{id:path}", "GET", Role.READ, self.trajectory),
            Door("/v1/snapshot", "POST", Role.ADMIN, self.snapshot),
            Door("/v1/backup", "POST", Role.ADMIN, self.backup),
        )

    def no_metrics(self, request: Request) -> Response:
        """Refuse metrics in words."""
        raise NotFoundError("this collector keeps traces and logs, no metrics; turn the metrics exporter off")

    def health(self, request: Request) -> Response:
        """Say that the store answers, which one it is, and how many records senders say they lost."""
        lost = sum(lost_records(self._store).values())
        store = str(self._config.store.absolute())
        return _answer({"status": "ok", "pid": os.getpid(), "store": store, "lost_records": lost})

    def ready(self, request: Request) -> Response:
        """Say whether more is taken, and the figures by which that is so."""
        troubles = self._intake.health.troubles()
        status = HTTPStatus.SERVICE_UNAVAILABLE if troubles else HTTPStatus.OK
        return _answer({"ready": not troubles, "why_not": troubles} | self._intake.health.figures(), status)

    def metrics(self, request: Request) -> Response:
        """Return what was counted, for Prometheus."""
        gauges = {name: value for name, value in self._intake.health.figures().items() if value is not None}
        text = self._intake.metrics.render(gauges, lost_records(self._store))
        return Response(text, headers={"Content-Type": PROMETHEUS})

    def table(self, request: Request) -> Response:
        """Stream one of ``schema.TABLES`` as Arrow IPC."""
        table = request.path_params["table"]
        if table not in TABLES:
            raise NotFoundError(f"table is {table!r}, allowed: {', '.join(TABLES)}")
        asked = {name: value for name, value in request.query_params.items() if name not in FRESH_QUERY}
        selection = Selection.from_query(table, asked)
        headers = self._freshness.wait(request.query_params)
        return TableAnswer(stream_table(self._store, table, selection), headers)

    async def sql(self, request: Request) -> Response:
        """Answer one SELECT: in JSON, or as an Arrow stream where that is accepted."""
        as_arrow = ARROW_STREAM in request.headers.get("accept", "")
        with self._intake.reserve() as held:
            body = await read_body(request, self._config.max_request_bytes, held)
            query = SqlQuery.from_json(body, as_json=not as_arrow)
        headers = {}
        if query.may_read_derived:
            headers = await run_in_threadpool(self._freshness.wait, request.query_params)
        result = await run_in_threadpool(run_sql, self._store, query)
        if as_arrow:
            return Response(result.to_arrow(), headers=headers, media_type=ARROW_STREAM)
        return _answer(result.to_json(), headers=headers)

    def trace(self, request: Request) -> Response:
        """Return what came in of one trace."""
        return _answer(trace_detail(self._store, request.path_params["id"]))

    def explained(self, request: Request) -> Response:
        """Say how the steps that a trace belongs to were made."""
        headers = self._freshness.wait(request.query_params)
        return _answer(explain_trace(self._store, request.path_params["id"]), headers=headers)

    def dialects(self, request: Request) -> Response:
        """Say what was recognised of other instrumentation, and what was not."""
        text = request.query_params.get("traces", "1000")
        if not text.isdecimal():
            raise WireError(f"traces is {text!r}, expected a number")
        return _answer(explain_services(self._store, int(text)))

    def trajectories(self, request: Request) -> Response:
        """List the newest trajectories."""
        text = request.query_params.get("limit", "100")
        if not text.isdecimal() or not 0 < int(text) <= MAX_LISTED:
            raise WireError(f"limit is {text!r}, allowed: 1 to {MAX_LISTED}")
        headers = self._freshness.wait(request.query_params)
        found = list_trajectories(self._store, request.query_params.get("agent"), int(text))
        return _answer({"trajectories": found, "lost_records": lost_records(self._store)}, headers=headers)

    def trajectory(self, request: Request) -> Response:
        """Return one trajectory with its steps, scores and messages."""
        states = request.query_params.get("states", "lists")
        if states not in _STATES:
            raise WireError(f"states is {states!r}, allowed: {', '.join(_STATES)}")
        headers = self._freshness.wait(request.query_params)
        try:
            detail = trajectory_detail(self._store, request.path_params["id"])
        except NotFoundError as error:
            raise NotFoundError(f"{error}{_maybe_pending(headers)}") from error
        return _answer(_STATES[states](detail), headers=headers)

    async def lookup(self, request: Request) -> Response:
        """Return which of the named trajectories are stored, and from which traces."""
        form = '{"trajectories": [ID, ...]}'
        with self._intake.reserve() as held:
            ids = await self._asked(request, held, "trajectories", form)
            if not isinstance(ids, list) or not all(isinstance(id_, str) for id_ in ids):
                raise WireError(f"body is not {form}")
            return _answer({"traces": await run_in_threadpool(traces_of, self._store, ids)})

    async def _asked(self, request: Request, held: Reservation, key: str, form: str) -> Any:  # any JSON value
        """Return what a JSON body says under a key; ``form`` says how it must look."""
        body = await read_body(request, self._config.max_request_bytes, held)
        try:
            return json.loads(body)[key]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise WireError(f"body is not {form}") from error

    def snapshot(self, request: Request) -> Response:
        """Write a snapshot and say where it is."""
        headers = self._freshness.wait_for_all(request.query_params, SNAPSHOT_SECONDS)
        return _answer(write_snapshot(self._store, self._config.home, datetime.now(UTC)), headers=headers)

    async def backup(self, request: Request) -> Response:
        """Write a backup into a new folder on this machine and say where it is."""
        with self._intake.reserve() as held:
            target = await self._asked(request, held, "target", '{"target": FOLDER}')
        if not isinstance(target, str) or not Path(target).is_absolute():
            raise WireError(f"target is {target!r}, expected the absolute path of a folder on the collector's machine")
        return _answer(await run_in_threadpool(write_backup, self._store, Path(target), datetime.now(UTC)))


def create_app(intake: Intake, store: Store, deriver: Deriver) -> Starlette:
    """Return the collector's HTTP application; opening and closing what it is given is the caller's."""
    doors = Api(intake, store, deriver).doors()
    return Starlette(
        routes=[Route(door.path, _guarded(door, intake), methods=[door.method]) for door in doors],
        exception_handlers={HTTPException: _on_http_error},
    )


def _guarded(door: Door, intake: Intake) -> Callable[[Request], Awaitable[Response]]:
    """Return a route's endpoint: it asks for the token, answers, and says every failure in its right code."""

    async def endpoint(request: Request) -> Response:
        try:
            request.state.caller = intake.admit(request.headers.get("authorization"), door.role)
            found = door.answer(request) if _waits(door.answer) else await run_in_threadpool(_now, door.answer, request)
            response = found if isinstance(found, Response) else await found
        except Exception as error:  # also what is not ours must be told in a code on which nobody retries
            response = _refuse(request, intake.refused(error, f"{door.method} {request.url.path}"))
        if door.signal:
            intake.metrics.answered(door.signal, "http", str(response.status_code))
        return response

    return endpoint


def _waits(answer: Answer) -> bool:
    return inspect.iscoroutinefunction(answer.func if isinstance(answer, partial) else answer)


def _now(answer: Answer, request: Request) -> Any:
    return answer(request)


def _maybe_pending(headers: Mapping[str, str]) -> str:
    """Return what must be said where something is not found."""
    pending = headers.get(PENDING_HEADER)
    return f"; it may be in {pending} chunks that are not derived yet: ask with fresh=1" if pending else ""


def _answer(content: object, status: HTTPStatus = HTTPStatus.OK, headers: Mapping[str, str] | None = None) -> Response:
    """Answer in JSON; all ASCII, for a message may hold lone surrogates, which UTF-8 can't say."""
    return Response(json.dumps(content), status, headers, media_type=otlp.JSON)


def _on_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    code = grpc.StatusCode.NOT_FOUND if error.status_code == HTTPStatus.NOT_FOUND else grpc.StatusCode.UNIMPLEMENTED
    return _refuse(request, Refusal(HTTPStatus(error.status_code), code, error.detail, None))


def _refuse(request: Request, refusal: Refusal) -> Response:
    """Answer with a ``google.rpc.Status``, in protobuf where the request was."""
    body = refusal.status()
    if media_type(request) == otlp.PROTOBUF:
        return Response(body.SerializeToString(), refusal.http, refusal.headers(), otlp.PROTOBUF)
    text = json_format.MessageToJson(body, indent=None)
    return Response(text, refusal.http, refusal.headers(), otlp.JSON)
