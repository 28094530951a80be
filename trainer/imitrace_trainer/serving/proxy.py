"""Answer the routes of OpenAI's API: by the clone where it is trusted, else as the model's own API does."""

import asyncio
import json
from collections.abc import Awaitable, Coroutine
from typing import Any

from starlette.types import Receive, Scope, Send

from imitrace_trainer.serving.asked import Form
from imitrace_trainer.serving.asking import AskedClones
from imitrace_trainer.serving.callers import Caller, HungUpError
from imitrace_trainer.serving.chat_form import ChatForm
from imitrace_trainer.serving.config import ServeConfig
from imitrace_trainer.serving.consulting import Consultant, Consulted
from imitrace_trainer.serving.headers import (
    CLONE,
    CONFIDENCE,
    admitted,
    noted,
    readable,
    upstream_headers,
)
from imitrace_trainer.serving.kept_responses import KeptResponses
from imitrace_trainer.serving.metrics import Metrics
from imitrace_trainer.serving.recording import Exchange, Reader, Recorder, Said, now_ns
from imitrace_trainer.serving.relay import Answering, Passed, Relay
from imitrace_trainer.serving.responses_form import ResponsesForm
from imitrace_trainer.serving.server_events import MEDIA_TYPE, event_text
from imitrace_trainer.serving.upstream import Upstream

FORMS: dict[str, Form] = {f"/v1/{form.path}": form for form in (ChatForm(), ResponsesForm())}
_SHADOW_PAUSE = 0.002
"""Seconds that a request has to be on its way before the clone is asked in its shadow."""


class Proxy:
    """What stands between agents and the model; an ASGI application for everything under ``/v1/``."""

    def __init__(self, config: ServeConfig, clone: AskedClones, reader: Reader, metrics: Metrics) -> None:
        self._config = config
        self._metrics = metrics
        self._upstream = Upstream(config)
        self._relay = Relay(self._upstream, metrics)
        self._consultant = Consultant(config, clone, reader, metrics)
        self._recorder = Recorder(reader, metrics, config.unrecorded_bytes)
        self._kept = KeptResponses(config.kept_bytes)
        self._later: set[asyncio.Task[None]] = set()
        self._now: set[asyncio.Task[object]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        self._now.add(task)
        task.add_done_callback(self._now.discard)
        caller = Caller(scope, receive)
        refusal = self._refusal(caller, scope["path"])
        if refusal is not None:
            await Answering(send, [], Passed()).refuse(*refusal)
            self._metrics.answered("refused", "proxy", refusal[0])
            return
        form = FORMS.get(scope["path"]) if caller.method == "POST" else None
        work = self._pass_through(caller, send) if form is None else self._decide(form, caller, send)
        await _unless_hung_up(caller, work)

    def _refusal(self, caller: Caller, path: str) -> tuple[int, str, str] | None:
        """Return status, words and code for a request that is not answered at all."""
        if not admitted(caller.headers, self._config):
            return 401, "the token is missing or wrong, or a web page asks", "invalid_token"
        if ".." in path.split("/") or not caller.is_under("/v1/"):
            return 400, "the path leads out of /v1/", "invalid_path"
        return None

    async def settle(self) -> None:
        """Wait until every request that came so far is answered and recorded."""
        for waiting in (self._now, self._later):
            if waiting:
                await asyncio.wait(set(waiting))
        await asyncio.to_thread(self._recorder.settle)

    async def stop(self) -> None:
        """Record what is left, and close every connection."""
        if self._later:
            await asyncio.wait(self._later, timeout=self._config.ask_seconds + 1)
        await asyncio.to_thread(self._recorder.stop)
        await self._upstream.close()

    async def _pass_through(self, caller: Caller, send: Send) -> None:
        body = caller.pieces() if caller.has_body else None
        if body is None:
            caller.skip_body()
        answer = Answering(send, noted("expert", "only decisions are a clone's"), Passed())
        await self._relay.hand_on(caller, upstream_headers(caller.headers, self._config), body, answer)
        self._metrics.answered("other", "expert", answer.passed.status)

    async def _decide(self, form: Form, caller: Caller, send: Send) -> None:
        body = await caller.body(self._config.read_bytes)
        if body is None:
            self._metrics.asked("too_large")
            self._metrics.recorded("too_large")
            await self._pass_through(caller, send)
            return
        exchange = Exchange(form, caller.headers, self._kept.spelled_out(body), now_ns())
        if self._config.shadow:
            asking = asyncio.ensure_future(self._ask_in_shadow(exchange))
            await self._ask_model(exchange, caller, send, asking)
            return
        consulted = await self._consultant.consult(form, caller.headers, exchange.body)
        if consulted.action is None or consulted.seen is None:
            await self._ask_model(exchange, caller, send, consulted)
            return
        await self._answer(exchange, consulted, send)

    async def _ask_in_shadow(self, exchange: Exchange) -> Consulted:
        await asyncio.sleep(_SHADOW_PAUSE)
        return await self._consultant.consult(exchange.form, exchange.headers, exchange.body)

    async def _answer(self, exchange: Exchange, consulted: Consulted, send: Send) -> None:
        """Answer as the clone."""
        form, seen, action, verdict = exchange.form, consulted.seen, consulted.action, consulted.verdict
        assert seen is not None and action is not None  # noqa: S101 - the caller has looked
        model = f"{verdict.clone}:{verdict.version}"
        whole = form.whole(seen.asked, action, model)
        note = [*noted("clone", verdict.reason), (CLONE, model.encode())]
        if verdict.confidence is not None:
            note.append((CONFIDENCE, f"{verdict.confidence:.4f}".encode()))
        answer = Answering(send, note, Passed())
        if seen.asked.streams:
            body = b"".join(event_text(*event) for event in form.events(seen.asked, whole))
            await answer.whole(200, f"{MEDIA_TYPE}; charset=utf-8", body)
        else:
            await answer.whole(200, "application/json", json.dumps(whole).encode())
        self._metrics.answered(form.path, "clone", 200)
        if form.path == ResponsesForm.path:
            self._kept.keep(seen.asked.body, whole)
        self._recorder.put(exchange.settled(seen=seen, verdict=verdict, answer=whole))

    async def _ask_model(
        self, exchange: Exchange, caller: Caller, send: Send, consulted: Consulted | Awaitable[Consulted]
    ) -> None:
        """Let the model answer, and record that beside what the clone said, when it has said it."""
        reason = consulted.verdict.reason if isinstance(consulted, Consulted) else "the clone is only watched"
        passed = Passed(self._config.read_bytes)
        headers = readable(upstream_headers(caller.headers, self._config), len(exchange.body))
        try:
            answer = Answering(send, noted("expert", reason), passed)
            await self._relay.hand_on(caller, headers, exchange.body, answer)
        finally:
            self._metrics.answered(exchange.form.path, "expert", passed.status)
            if isinstance(consulted, Consulted):
                self._record(exchange, passed, consulted)
            else:
                task = asyncio.ensure_future(self._record_later(exchange, passed, consulted))
                self._later.add(task)
                task.add_done_callback(self._later.discard)

    async def _record_later(self, exchange: Exchange, passed: Passed, consulted: Awaitable[Consulted]) -> None:
        self._record(exchange, passed, await consulted)

    def _record(self, exchange: Exchange, passed: Passed, consulted: Consulted) -> None:
        if not passed.kept:
            self._metrics.recorded("too_large")
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in passed.headers}
        said = Said(passed.status, headers, bytes(passed.body), passed.whole)
        self._recorder.put(exchange.settled(seen=consulted.seen, verdict=consulted.verdict, said=said))


async def _unless_hung_up(caller: Caller, work: Coroutine[Any, Any, None]) -> None:
    """Do some work for a caller; it is cancelled when the caller hangs up."""
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - a coroutine runs in one

    def hung_up(watch: asyncio.Task[None]) -> None:
        if not watch.cancelled():
            task.cancel()

    watch = asyncio.ensure_future(caller.hung_up())
    watch.add_done_callback(hung_up)
    try:
        await work
    except HungUpError:
        pass
    except asyncio.CancelledError:
        if not caller.gone:
            raise
        task.uncancel()
    finally:
        watch.remove_done_callback(hung_up)
        watch.cancel()
