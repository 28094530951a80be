"""Pass on a stream that a model's client returned, and close the step when the stream ends."""

import contextlib
import functools
import inspect
from types import TracebackType
from typing import Any

from imitrace.binding import Scope
from imitrace.shapes.pieces import field, listed

_WHOLE = frozenset({str, dict, list, tuple, type(None)})
_SNAPSHOTS = ("current_message_snapshot", "current_completion_snapshot")
"""Where clients' stream helpers keep what came so far, for those that read it by other ways than iteration."""
_MANAGER = "StreamManager"
"""How clients name what gives a stream when it is entered; other context managers are answers, such as responses."""
_READ_ON = ("until_done", "get_final_")
"""How the methods of clients' stream helpers begin that read to the end: they do it through us."""


def traced_stream(result: Any, scope: Scope) -> Any:  # whatever a function returned
    """Return a stream, or a manager of one, that closes ``scope`` at its end; None when ``result`` is neither."""
    kind = type(result)
    if kind in _WHOLE:
        return None
    if hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
        return TracedStream(result, scope)
    if kind.__name__.endswith(_MANAGER):
        return TracedStreamManager(result, scope)
    return None


class _Traced:
    """What stands in for another object: it answers as that one would, and ends the scope once."""

    def __init__(self, inner: Any, scope: Scope) -> None:
        self._inner = inner
        self._scope = scope
        self._ended = False
        self._taken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property  # type: ignore[misc]  # so that isinstance() sees the client's own class
    def __class__(self) -> Any:
        return type(self._inner)

    def _end(self, error: BaseException | None = None, *, whole: bool = False) -> None:
        if self._ended:
            return
        self._ended = True
        if not whole and error is None:
            self._take_snapshot()
        if whole:
            self._scope.settle(None)
        self._scope.__exit__(None if error is None else type(error), error, None)

    def _take_snapshot(self) -> None:
        """Take what came by other ways than iteration; if it is not the whole answer, as a chunk of it."""
        for name in _SNAPSHOTS:
            snapshot = None
            with contextlib.suppress(Exception):  # some raise before the first event
                snapshot = getattr(self._inner, name, None)
            if snapshot is None:
                continue
            if not _is_cut(snapshot):
                self._scope.settle(snapshot)
            elif not self._taken:
                self._scope.take(snapshot)
            return

    def __del__(self) -> None:
        if not self.__dict__.get("_ended", True):
            self._end()


def _is_cut(snapshot: Any) -> bool:
    """Tell whether a message or a completion has no reason to have stopped yet."""
    choices = listed(snapshot, "choices")
    if choices:
        return any(field(choice, "finish_reason") is None for choice in choices)
    return hasattr(snapshot, "stop_reason") and snapshot.stop_reason is None


class TracedStream(_Traced):
    """An iterator or async iterator of chunks."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._reading_on(found) if name.startswith(_READ_ON) and callable(found) else found

    def _reading_on(self, method: Any) -> Any:
        @functools.wraps(method)
        def read(*args: Any, **kwargs: Any) -> Any:
            if not self._ended:
                for _ in self:
                    pass
            return method(*args, **kwargs)

        @functools.wraps(method)
        async def read_later(*args: Any, **kwargs: Any) -> Any:
            if not self._ended:
                async for _ in self:
                    pass
            return await method(*args, **kwargs)

        return read_later if inspect.iscoroutinefunction(method) else read

    def __iter__(self) -> "TracedStream":
        return self

    def __aiter__(self) -> "TracedStream":
        return self

    def __next__(self) -> Any:
        self._scope.resume()
        try:
            item = next(self._inner)
        except BaseException as error:
            self._stop(error, StopIteration)
            raise
        return self._pass_on(item)

    async def __anext__(self) -> Any:
        self._scope.resume()
        try:
            item = await anext(self._inner)
        except BaseException as error:
            self._stop(error, StopAsyncIteration)
            raise
        return self._pass_on(item)

    def __enter__(self) -> "TracedStream":
        self._inner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        try:
            return self._inner.__exit__(kind, error, trace)
        finally:
            self._end(error)

    async def __aenter__(self) -> "TracedStream":
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        try:
            return await self._inner.__aexit__(kind, error, trace)
        finally:
            self._end(error)

    def close(self) -> Any:
        """Close the stream; some clients' async streams return something to await here."""
        self._end()
        return self._inner.close()

    def _pass_on(self, item: Any) -> Any:
        self._taken = True
        self._scope.take(item)
        self._scope.suspend()
        return item

    def _stop(self, error: BaseException, at_end: type[BaseException]) -> None:
        if isinstance(error, at_end):
            self._end(whole=True)
        else:
            self._end(error)
        self._scope.suspend()


class TracedStreamManager(_Traced):
    """A context manager that gives a stream, as clients' stream helpers do."""

    def __enter__(self) -> Any:
        return self._wrapped(self._inner.__enter__())

    async def __aenter__(self) -> Any:
        return self._wrapped(await self._inner.__aenter__())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        try:
            return self._inner.__exit__(kind, error, trace)
        finally:
            self._finish(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Any:
        try:
            return await self._inner.__aexit__(kind, error, trace)
        finally:
            self._finish(error)

    def _wrapped(self, stream: Any) -> TracedStream:
        self._stream = TracedStream(stream, self._scope)
        return self._stream

    def _finish(self, error: BaseException | None) -> None:
        stream = self.__dict__.get("_stream")
        self._ended = True
        if stream is None:
            self._scope.__exit__(None if error is None else type(error), error, None)
        else:
            stream._end(error)
