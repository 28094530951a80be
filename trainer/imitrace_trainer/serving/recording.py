"""Record what was asked and answered as steps, in a thread of its own, so that no request waits for it."""

import json
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from imitrace.context import Trajectory, entered
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.history import HistoryReader, OfferedTools, WireMessage
from imitrace.provider import active, faults
from imitrace.semconv import ERROR_TYPE
from imitrace.shapes.chat_shapes import wire_messages
from imitrace.shapes.streams import Joiner
from imitrace.steps import LEFT_EARLY, Step
from imitrace.verdict import Verdict
from imitrace_trainer.serving.asked import Asked, Form, Json
from imitrace_trainer.serving.conversations import Conversation, Conversations
from imitrace_trainer.serving.metrics import Metrics
from imitrace_trainer.serving.naming import naming
from imitrace_trainer.serving.server_events import MEDIA_TYPE, decoded, events_in

_JOIN_SECONDS = 5.0
_SWEEP_SECONDS = 30.0
_DECODED_TIMES = 20
"""How much larger than it came an answer may be when it is decoded."""


@dataclass(frozen=True)
class Seen:
    """A request as it was read: what is asked, in which conversation, and both as a clone and the trace take them."""

    asked: Asked
    conversation: Conversation
    texts: Sequence[str]
    """Each message as canonical JSON."""
    tools: OfferedTools | None


@dataclass(frozen=True)
class Said:
    """What the model's API answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    whole: bool
    """Whether it came to its end."""

    @property
    def streamed(self) -> bool:
        """Whether it came as events."""
        return self.headers.get("content-type", "").startswith(MEDIA_TYPE)


@dataclass(frozen=True)
class Exchange:
    """A request, and what became of it."""

    form: Form
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes
    started_at: int
    """Nanoseconds since 1970."""
    seen: Seen | None = None
    """The request where it was read before."""
    said: Said | None = None
    """What the model answered, where it was asked."""
    verdict: Verdict | None = None
    answer: Json | None = None
    """What the clone answered, where it acted."""

    def settled(
        self,
        seen: Seen | None,
        verdict: Verdict | None,
        said: Said | None = None,
        answer: Json | None = None,
    ) -> "Exchange":
        """Return this with what became of it."""
        return replace(self, seen=seen, verdict=verdict, said=said, answer=answer)

    @property
    def size(self) -> int:
        """How many bytes it holds."""
        return len(self.body) + (0 if self.said is None else len(self.said.body))


class ServedStep(Step):
    """A step of what was read already."""

    def __init__(self, seen: Seen, started_at: int) -> None:
        super().__init__(None)
        self._seen = seen
        self._at = started_at

    def __enter__(self) -> "ServedStep":
        super().__enter__()
        self._started_at = self._at
        return self

    def cut(self) -> None:
        """Say that the answer did not come to its end."""
        self._marks[ERROR_TYPE] = LEFT_EARLY

    def _read(self, reader: HistoryReader, trajectory: Trajectory | None) -> None:
        known = {} if trajectory is None else trajectory.memory.known
        messages: list[WireMessage] = []
        for text in self._seen.texts:
            messages.append(known.get((text,)) or reader.made(text))
        self._decided.messages = messages
        self._decided.known = {(message.raw,): message for message in messages}
        self._decided.tools = self._seen.tools


@dataclass
class Reader:
    """Reads requests, each into its conversation."""

    conversations: Conversations
    tags: Mapping[str, str] = field(default_factory=dict)
    """Of every conversation, unless it says otherwise."""
    _latest: OfferedTools | None = None
    """What the request before offered, in whatever conversation: most offer the same."""

    def read(self, form: Form, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Seen:
        """Return a request as it was read.

        Raises:
            WireError: it can't be.
        """
        asked = form.read(body_json(body))
        reader = HistoryReader(faults())
        texts = [message.raw for message in reader.read(asked.messages, asked.system, {})[0]]
        named = naming(headers, asked.body.get("metadata"), self.tags)
        conversation = self.conversations.find(named, texts, asked.before)
        tools = reader.read_tools(asked.tools, conversation.tools or self._latest) if asked.tools else None
        conversation.tools = self._latest = tools
        return Seen(asked, conversation, texts, tools)


class Recorder:
    """Takes exchanges and records them, one after the other."""

    def __init__(self, reader: Reader, metrics: Metrics, most_bytes: int) -> None:
        self._reader = reader
        self._metrics = metrics
        self._most = most_bytes
        self._held = 0
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Exchange | threading.Event | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="imitrace-recorder", daemon=True)
        self._thread.start()

    def put(self, exchange: Exchange) -> None:
        """Take an exchange, where anything is recorded; where too much waits already it is dropped, and counted."""
        if active() is None:
            return
        with self._lock:
            if self._held + exchange.size > self._most:
                self._metrics.recorded("dropped")
                return
            self._held += exchange.size
        self._queue.put(exchange)

    def settle(self) -> None:
        """Wait until all that was taken is recorded."""
        done = threading.Event()
        self._queue.put(done)
        done.wait(_JOIN_SECONDS)

    def stop(self) -> None:
        """Record what was taken, and end every trajectory."""
        self._queue.put(None)
        self._thread.join(_JOIN_SECONDS)
        self._reader.conversations.end_all()

    def _run(self) -> None:
        while True:
            try:
                exchange = self._queue.get(timeout=_SWEEP_SECONDS)
            except queue.Empty:
                self._reader.conversations.forget_idle()
                continue
            if exchange is None:
                return
            if isinstance(exchange, threading.Event):
                exchange.set()
                continue
            try:
                self._metrics.recorded(self._record(exchange))
            except Exception as error:  # whatever a body holds, the next one is recorded
                faults().count("serve.record", f"{type(error).__name__}: {error}")
                self._metrics.recorded("failed")
            with self._lock:
                self._held -= exchange.size

    def _record(self, exchange: Exchange) -> str:
        """Record an exchange and return in a word what became of it."""
        try:
            seen = exchange.seen or self._reader.read(exchange.form, exchange.headers, exchange.body)
        except WireError:
            return "unreadable"
        answer, whole = exchange.answer, True
        if exchange.said is not None:
            if exchange.said.status // 100 != 2:
                seen.conversation.failed = True
                return "refused"
            answer, whole = _answer(exchange.said)
            if answer is None:
                seen.conversation.failed = True
                return "cut"
        with entered(seen.conversation.trajectory), ServedStep(seen, exchange.started_at) as step:
            if exchange.verdict is not None:
                step.asked(exchange.verdict, acted=exchange.answer is not None)
            step.act(answer)
            if not whole:
                step.cut()
        self._go_on(exchange.form, seen, answer)
        return "expert" if exchange.answer is None else "clone"

    def _go_on(self, form: Form, seen: Seen, answer: Any) -> None:
        """Let the conversation's next request be known by this answer."""
        if not isinstance(answer, dict):
            return
        said = wire_messages(form.said(answer), Faults())
        name = answer.get("id") if form.path == "responses" else None
        self._reader.conversations.answered(seen.conversation, seen.texts, said, name)


def body_json(body: bytes) -> Json:
    """Return a body as a JSON object.

    Raises:
        WireError: it is none.
    """
    try:
        found = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError("the body is not JSON") from error
    if not isinstance(found, dict):
        raise WireError("the body is not a JSON object")
    return found


def _answer(said: Said) -> tuple[Any, bool]:
    """Return what a model answered, None for nothing that can be read, and whether that is all of it.

    Raises:
        WireError: it can't be read.
    """
    if not (said.whole or said.streamed):
        return None, False
    body = decoded(said.body, said.headers.get("content-encoding", ""), _DECODED_TIMES * max(len(said.body), 1024))
    if not said.streamed:
        return body_json(body), True
    joiner = Joiner()
    for event in events_in(body):
        joiner.add(event)
    return joiner.answer(), joiner.finished


def now_ns() -> int:
    """Return the time as the pipeline that records has it: nanoseconds since 1970."""
    pipeline = active()
    return time.time_ns() if pipeline is None else pipeline.clock()
