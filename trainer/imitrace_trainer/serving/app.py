"""Put the proxy's routes together: OpenAI's API, our own ``/v1/act``, and what watches it."""

import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from imitrace.exceptions import WireError
from imitrace.history import HistoryReader
from imitrace.provider import faults
from imitrace_trainer.serving.asking import AskedClones
from imitrace_trainer.serving.config import ServeConfig
from imitrace_trainer.serving.conversations import Conversations
from imitrace_trainer.serving.headers import admitted
from imitrace_trainer.serving.metrics import Metrics
from imitrace_trainer.serving.proxy import Proxy
from imitrace_trainer.serving.questions import Question
from imitrace_trainer.serving.recording import Reader, body_json
from imitrace_trainer.serving.relay import error_body

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_ACT = "/v1/act"

Answer = Callable[[Request], Awaitable[Response]]


class Api:
    """What is not the model's: each method answers one route."""

    def __init__(self, config: ServeConfig, clone: AskedClones, metrics: Metrics, conversations: Conversations) -> None:
        self._config = config
        self._clone = clone
        self._metrics = metrics
        self._conversations = conversations

    async def health(self, request: Request) -> Response:
        """Say that it lives."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """Say that requests are answered, and where the clone may act."""
        standing = dataclasses.asdict(self._clone.standing)
        return JSONResponse({"ready": True, "shadow": self._config.shadow, "clone": standing})

    async def metrics(self, request: Request) -> Response:
        """Return what was counted, for Prometheus."""
        standing = self._clone.standing
        figures = {
            "pending_questions": self._clone.pending,
            "conversations": len(self._conversations),
            "trusted_cohorts": len(standing.cohorts),
        }
        return Response(self._metrics.render(figures), headers={"Content-Type": PROMETHEUS})

    async def act(self, request: Request) -> Response:
        """Say what the clone would do in a state, and whether it may; nothing is recorded."""
        size = request.headers.get("content-length", "")
        if not size.isdecimal() or int(size) > self._config.ask_bytes:
            message = f"the body's length must be said, and be {self._config.ask_bytes} bytes at most"
            return JSONResponse(error_body(message, "body_too_large"), 413)
        try:
            question = _question(await request.body())
        except WireError as error:
            return JSONResponse(error_body(str(error), "invalid_body"), 400)
        verdict = await self._clone.ask(question)
        return Response(
            json.dumps(verdict.shadow() | {"propensity": verdict.propensity}), media_type="application/json"
        )


class App:
    """The proxy for what is the model's, and pages for the rest."""

    def __init__(self, pages: Starlette) -> None:
        self._pages = pages

    @property
    def clone(self) -> AskedClones:
        """The clone that is served."""
        clone: AskedClones = self._pages.state.clone
        return clone

    @property
    def proxy(self) -> Proxy:
        """What stands before the model; there once the application has started."""
        proxy: Proxy = self._pages.state.proxy
        return proxy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; the model's go no way round, since there are many of them."""
        path = scope.get("path", "")
        if scope["type"] == "http" and path.startswith("/v1/") and path != _ACT:
            await self.proxy(scope, receive, send)
        else:
            await self._pages(scope, receive, send)


def create_app(config: ServeConfig) -> App:
    """Return the proxy's application; what it needs is opened when it starts and closed when it ends."""
    metrics = Metrics()
    conversations = Conversations(config.conversations, config.idle_seconds)
    clone = AskedClones(config)

    @asynccontextmanager
    async def running(app: Starlette) -> AsyncIterator[None]:
        proxy = Proxy(config, clone, Reader(conversations, config.tags), metrics)
        app.state.clone, app.state.proxy = clone, proxy
        clone.start()
        try:
            yield
        finally:
            await clone.stop()
            await proxy.stop()

    api = Api(config, clone, metrics, conversations)
    routes = [
        Route("/healthz", api.health),
        Route("/readyz", _guarded(api.ready, config)),
        Route("/metrics", _guarded(api.metrics, config)),
        Route(_ACT, _guarded(api.act, config), methods=["POST"]),
    ]
    return App(Starlette(routes=routes, lifespan=running))


def _guarded(answer: Answer, config: ServeConfig) -> Answer:
    """Return a route that asks for the token."""

    async def endpoint(request: Request) -> Response:
        if admitted(request.headers.raw, config):
            return await answer(request)
        return JSONResponse(error_body("the token is missing or wrong", "invalid_token"), 401)

    return endpoint


def _question(body: bytes) -> Question:
    """Return what ``{"messages": [...], "tools": [...], "tags": {...}, "trajectory": ID}`` asks.

    Raises:
        WireError: it is not of that form.
    """
    found = body_json(body)
    messages, tools, tags = found.get("messages"), found.get("tools") or [], found.get("tags") or {}
    texts = isinstance(tags, dict) and all(isinstance(value, str) for value in tags.values())
    if not isinstance(messages, list | str) or not messages or not isinstance(tools, list) or not texts:
        raise WireError('the body is not {"messages": [...], "tools": [...], "tags": {NAME: TEXT}}')
    reader = HistoryReader(faults())
    read = [message.raw for message in reader.read(messages, None, {})[0]]
    return Question(read, reader.read_tools(tools, None).sent, tags, found.get("trajectory"))
