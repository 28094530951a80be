import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import imitrace
from imitrace import semconv
from imitrace.steps import LEFT_EARLY
from imitrace.testing import Captured

HELLO = [{"role": "user", "content": "hi"}]


def chunk(text: str | None = None, end: str | None = None, **delta: Any) -> dict[str, Any]:
    """Return a chunk of a chat completion."""
    choice = {"index": 0, "delta": {"content": text, **delta}, "finish_reason": end}
    return {"object": "chat.completion.chunk", "model": "big", "choices": [choice]}


CHUNKS = [chunk("", role="assistant"), chunk("Hel"), chunk("lo"), chunk(end="stop")]


class Stream:
    """What clients return for a streamed answer: iterable, closable, a context manager, with a response."""

    response = "headers"

    def __init__(self, chunks: list[Any]) -> None:
        self._chunks = iter(chunks)
        self.closed = False

    def __iter__(self) -> "Stream":
        return self

    def __next__(self) -> Any:
        found = next(self._chunks)
        if isinstance(found, Exception):
            raise found
        return found

    def __enter__(self) -> "Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self.closed = True


class LaterStream:
    def __init__(self, chunks: list[Any]) -> None:
        self._chunks = iter(chunks)

    def __aiter__(self) -> "LaterStream":
        return self

    async def __anext__(self) -> Any:
        await asyncio.sleep(0)
        try:
            return next(self._chunks)
        except StopIteration:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> "LaterStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        return None


class Helper(Stream):
    """What reads itself to the end when it is asked for the whole answer, as clients' stream helpers do."""

    def get_final_answer(self) -> str:
        return f"nothing of {len(list(self))} left"


class LaterHelper(LaterStream):
    async def get_final_answer(self) -> str:
        return f"nothing of {len([found async for found in self])} left"


class MessageStreamManager:
    """What clients' stream helpers return: a manager of a stream that is read by other ways than iteration."""

    def __init__(self, snapshot: Any) -> None:
        self._snapshot = snapshot

    def __enter__(self) -> Any:
        stream = Stream([])
        stream.current_message_snapshot = self._snapshot  # type: ignore[attr-defined]  # as Anthropic's has it
        return stream

    def __exit__(self, *_: object) -> None:
        return None


def sent(seen: Captured) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in seen.steps]


def model(messages: list[Any]) -> Stream:
    return Stream(CHUNKS)


def test_a_streamed_answer_is_joined_when_it_was_read(seen: Captured) -> None:
    with imitrace.trajectory():
        stream = imitrace.step(model)(HELLO)
        assert sent(seen) == []
        assert list(stream) == CHUNKS
    (step,) = sent(seen)
    assert (step[semconv.STEP_MESSAGE], step[semconv.POLICY_NAME]) == ("Hello", "big")
    assert semconv.ERROR_TYPE not in step


def test_the_stream_is_still_the_clients_own(seen: Captured) -> None:
    stream = imitrace.step(model)(HELLO)
    assert isinstance(stream, Stream)
    assert stream.response == "headers"
    with stream as inside:
        assert len(list(inside)) == 4
    assert stream.closed
    assert len(seen.steps) == 1


@pytest.mark.parametrize("leave", ["close", "drop", "with"])
def test_a_stream_left_early_is_marked(seen: Captured, leave: str) -> None:
    stream = imitrace.step(model)(HELLO)
    next(stream)
    next(stream)
    if leave == "close":
        stream.close()
    elif leave == "with":
        with stream:
            pass
    del stream
    gc.collect()
    (step,) = sent(seen)
    assert (step[semconv.STEP_MESSAGE], step[semconv.ERROR_TYPE]) == ("Hel", LEFT_EARLY)


def test_a_stream_that_had_ended_but_was_not_exhausted_is_whole(seen: Captured) -> None:
    stream = imitrace.step(model)(HELLO)
    for found in stream:
        if found["choices"][0]["finish_reason"]:
            break
    stream.close()
    assert semconv.ERROR_TYPE not in sent(seen)[0]


def test_a_stream_that_fails_raises_on_and_is_no_decision(seen: Captured) -> None:
    @imitrace.step
    def failing(messages: list[Any]) -> Stream:
        return Stream([CHUNKS[0], ConnectionError("gone")])

    with pytest.raises(ConnectionError, match="gone"):
        list(failing(HELLO))
    assert (sent(seen), seen.stats.faults) == ([], {"step_without_action": 1})


def test_async_streams_and_clients(seen: Captured) -> None:
    @imitrace.step
    async def later(messages: list[Any]) -> LaterStream:
        return LaterStream(CHUNKS)

    async def main() -> int:
        async with imitrace.trajectory():
            stream = await later(HELLO)
            async with stream:
                return len([found async for found in stream])

    assert asyncio.run(main()) == 4
    assert sent(seen)[0][semconv.STEP_MESSAGE] == "Hello"


def test_generators_of_chunks_are_steps_too(seen: Captured) -> None:
    @imitrace.step
    def words(messages: list[Any]) -> Iterator[str]:
        yield from ("Hel", "lo")

    @imitrace.step
    async def chunks(messages: list[Any]) -> AsyncIterator[Any]:
        for found in CHUNKS:
            yield found

    async def main() -> int:
        return len([found async for found in chunks(HELLO)])

    with imitrace.trajectory():
        assert list(words(HELLO)) == ["Hel", "lo"]
        assert asyncio.run(main()) == 4
    assert [step[semconv.STEP_MESSAGE] for step in sent(seen)] == ["Hello", "Hello"]


def test_a_streamed_call_is_put_together(seen: Captured) -> None:
    pieces = [
        chunk(tool_calls=[{"index": 0, "id": "c1", "function": {"name": "look", "arguments": ""}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"q": '}}]),
        chunk(tool_calls=[{"index": 0, "function": {"arguments": '"x"}'}}]),
        chunk(end="tool_calls"),
    ]
    list(imitrace.step(lambda messages: Stream(pieces))(HELLO))
    (step,) = sent(seen)
    names = (semconv.TOOL_NAME, semconv.TOOL_CALL_ID, semconv.TOOL_CALL_ARGUMENTS)
    assert [step[name] for name in names] == ["look", "c1", '{"q":"x"}']


def test_a_stream_helpers_snapshot_is_the_answer_when_it_was_read_in_another_way(seen: Captured) -> None:
    message = {"role": "assistant", "content": [{"type": "text", "text": "Hello"}]}
    with imitrace.step(lambda messages: MessageStreamManager(message))(HELLO) as stream:
        assert stream.response == "headers"
    assert sent(seen)[0][semconv.STEP_MESSAGE] == "Hello"


@pytest.mark.parametrize("read", [0, 2, 4])
def test_a_stream_helper_that_reads_the_rest_by_itself_is_heard_to_the_end(seen: Captured, read: int) -> None:
    @imitrace.step
    def helped(messages: list[Any]) -> Any:
        return Helper(CHUNKS)

    with helped(HELLO) as stream:
        for _ in range(read):
            next(stream)
        assert stream.get_final_answer() == "nothing of 0 left"
    assert stream.get_final_answer() == "nothing of 0 left"
    (step,) = sent(seen)
    assert (step[semconv.STEP_MESSAGE], step.get(semconv.ERROR_TYPE)) == ("Hello", None)


def test_so_is_an_async_one(seen: Captured) -> None:
    @imitrace.step
    def helped(messages: list[Any]) -> Any:
        return LaterHelper(CHUNKS)

    async def main() -> None:
        async with helped(HELLO) as stream:
            await anext(stream)
            assert await stream.get_final_answer() == "nothing of 0 left"

    asyncio.run(main())
    assert [step[semconv.STEP_MESSAGE] for step in sent(seen)] == ["Hello"]


def test_a_stream_helpers_snapshot_that_is_not_whole_is_marked(seen: Captured) -> None:
    text = SimpleNamespace(type="text", text="Hel")
    message = SimpleNamespace(type="message", role="assistant", content=[text], stop_reason=None)
    with imitrace.step(lambda messages: MessageStreamManager(message))(HELLO):
        pass
    (step,) = sent(seen)
    assert (step[semconv.STEP_MESSAGE], step[semconv.ERROR_TYPE]) == ("Hel", LEFT_EARLY)


def test_a_stream_that_nobody_reads_is_no_decision(seen: Captured) -> None:
    imitrace.step(model)(HELLO)
    gc.collect()
    assert (sent(seen), seen.stats.faults) == ([], {"step_without_action": 1})


def test_a_stream_is_handed_on_as_it_is_while_tracing_is_off() -> None:
    assert type(imitrace.step(model)(HELLO)) is Stream
