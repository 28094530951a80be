"""Wrap a function of any kind so that each call runs inside a scope: what the decorators share.

Plain functions, coroutine functions, generator functions and async generator functions stay what they are. The scope
of a generator ends when the generator does, also when it is left early; it is current only while the generator runs,
not while its caller works on what it yielded.
"""

import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping, Sequence
from types import AsyncGeneratorType, CoroutineType, GeneratorType, TracebackType
from typing import Any, NamedTuple, ParamSpec, Protocol, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")


class Instead(NamedTuple):
    """What a call returns without calling the function."""

    value: Any


class Scope(Protocol):
    """One run of a wrapped function; nothing here but ``__exit__`` sees an exception, and nothing raises one."""

    def __enter__(self) -> object:
        """Open the scope and make it current."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; never swallow an exception."""

    def suspend(self) -> None:
        """Make it no longer current: a generator waits for its caller."""

    def resume(self) -> None:
        """Make it current again."""

    def instead(self) -> Instead | None:
        """Return what the call returns without calling the function, None to call it; generators always run."""

    def settle(self, result: object) -> None:
        """Take what the function returned."""

    def take(self, item: object) -> None:
        """Take what the generator yielded."""

    def stream(self, result: object) -> object | None:
        """Return ``result`` wrapped so that it closes the scope at its end, or None when it is no stream."""


Arguments = dict[str, Any]


def wrap(
    function: Callable[P, R], scope: Callable[[Arguments], Scope], enabled: Callable[[], object]
) -> Callable[P, R]:
    """Return ``function`` with each call inside the scope made from its arguments.

    Args:
        function: a function, coroutine function, generator function or async generator function.
        scope: makes the scope of one call from its arguments by name; it must not raise.
        enabled: asked at each call; where it says no, the function is called as it is.
    """
    if isinstance(function, staticmethod | classmethod):
        return cast("Callable[P, R]", type(function)(wrap(function.__func__, scope, enabled)))
    bind = argument_reader(function)

    def opened(args: Sequence[object], kwargs: Mapping[str, object]) -> Scope:
        return scope(bind(args, kwargs))

    if inspect.isasyncgenfunction(function):
        wrapped: Any = _async_driver(_starter(function, opened, enabled))
    elif inspect.isgeneratorfunction(function):
        wrapped = _driver(_starter(function, opened, enabled))
    elif inspect.iscoroutinefunction(function):
        wrapped = _wrap_coroutine(function, opened, enabled)
    else:
        wrapped = _wrap_plain(function, opened, enabled)
    return cast("Callable[P, R]", functools.update_wrapper(wrapped, function))


Opener = Callable[[Sequence[object], Mapping[str, object]], Scope]


def _wrap_plain(function: Callable[..., Any], opened: Opener, enabled: Callable[[], object]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        if not enabled():
            return function(*args, **kwargs)
        scope = opened(args, kwargs)
        scope.__enter__()
        if (other := scope.instead()) is not None:
            scope.__exit__(None, None, None)
            return other.value
        try:
            result = function(*args, **kwargs)
        except BaseException as error:
            scope.__exit__(type(error), error, error.__traceback__)
            raise
        return finish(scope, result)

    return run


def _wrap_coroutine(function: Callable[..., Any], opened: Opener, enabled: Callable[[], object]) -> Callable[..., Any]:
    async def run(*args: Any, **kwargs: Any) -> Any:
        if not enabled():
            return await function(*args, **kwargs)
        scope = opened(args, kwargs)
        scope.__enter__()
        if (other := scope.instead()) is not None:
            scope.__exit__(None, None, None)
            return other.value
        try:
            result = await function(*args, **kwargs)
        except BaseException as error:
            scope.__exit__(type(error), error, error.__traceback__)
            raise
        return finish(scope, result)

    return run


def _starter(
    function: Callable[..., Any], opened: Opener, enabled: Callable[[], object]
) -> Callable[[Sequence[object], Mapping[str, object]], tuple[Scope, Any]]:
    """Return what opens the scope of a generator of either kind, and makes the generator."""

    def start(args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[Scope, Any]:
        scope = opened(args, kwargs) if enabled() else _IDLE
        scope.__enter__()
        scope.instead()
        return scope, function(*args, **kwargs)

    return start


def finish(scope: Scope, result: Any) -> Any:  # whatever a function returned
    """Close the scope of a call that returned, or leave that to the generator, coroutine or stream it returned."""
    kind = type(result)  # not isinstance(): some objects lie about their class, or raise when they are asked
    if kind is GeneratorType:
        scope.suspend()
        return _driver(lambda args, kwargs: (_resumed(scope), result))()
    if kind is AsyncGeneratorType:
        scope.suspend()
        return _async_driver(lambda args, kwargs: (_resumed(scope), result))()
    if kind is CoroutineType:
        scope.suspend()
        return _awaited(scope, result)
    if hasattr(kind, "add_done_callback") and hasattr(kind, "exception"):
        scope.suspend()
        result.add_done_callback(functools.partial(_finish_future, scope))
        return result
    stream = scope.stream(result)
    if stream is not None:
        scope.suspend()
        return stream
    scope.settle(result)
    scope.__exit__(None, None, None)
    return result


def _resumed(scope: Scope) -> Scope:
    scope.resume()
    return scope


def _finish_future(scope: Scope, future: Any) -> None:
    import asyncio  # who has a future has it; it would be the half of what importing all of ours takes

    error = asyncio.CancelledError() if future.cancelled() else future.exception()
    if error is None:
        scope.settle(future.result())
    scope.__exit__(None if error is None else type(error), error, None)


async def _awaited(scope: Scope, pending: Awaitable[Any]) -> Any:
    scope.resume()
    try:
        result = await pending
    except BaseException as error:
        scope.__exit__(type(error), error, error.__traceback__)
        raise
    return finish(scope, result)


Start = Callable[[Sequence[object], Mapping[str, object]], tuple[Scope, Generator[Any, Any, Any]]]
StartAsync = Callable[[Sequence[object], Mapping[str, object]], tuple[Scope, AsyncGenerator[Any, Any]]]


def _driver(start: Start) -> Callable[..., Generator[Any, Any, Any]]:
    """Return a generator function that yields what another one yields, inside a scope that it closes at the end.

    What is sent or thrown in reaches the inner generator; what that returns is returned.
    """

    def run(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        scope, generator = start(args, kwargs)
        advance: Callable[[Any], Any] = generator.send
        value: Any = None
        try:
            while True:
                try:
                    item = advance(value)
                except StopIteration as stop:
                    _close(scope, stop.value)
                    return stop.value
                scope.take(item)
                scope.suspend()
                try:
                    value = yield item
                    advance = generator.send
                except GeneratorExit:
                    scope.resume()
                    generator.close()
                    raise
                except BaseException as error:
                    advance, value = generator.throw, error
                scope.resume()
        except BaseException as error:
            _leave(scope, error)
            raise

    return run


def _async_driver(start: StartAsync) -> Callable[..., AsyncGenerator[Any, Any]]:
    """Return an async generator function that yields what another one yields, inside a scope closed at the end."""

    async def run(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        scope, generator = start(args, kwargs)
        advance: Callable[[Any], Any] = generator.asend
        value: Any = None
        try:
            while True:
                try:
                    item = await advance(value)
                except StopAsyncIteration:
                    _close(scope, None)
                    return
                scope.take(item)
                scope.suspend()
                try:
                    value = yield item
                    advance = generator.asend
                except GeneratorExit:
                    scope.resume()
                    await generator.aclose()
                    raise
                except BaseException as error:
                    advance, value = generator.athrow, error
                scope.resume()
        except BaseException as error:
            _leave(scope, error)
            raise

    return run


def _close(scope: Scope, result: object) -> None:
    scope.settle(result)
    scope.__exit__(None, None, None)


def _leave(scope: Scope, error: BaseException) -> None:
    """Close the scope of a generator that failed, or that its caller left early, which is no failure."""
    left = isinstance(error, GeneratorExit)
    scope.__exit__(None if left else type(error), None if left else error, None)


class _Idle:
    """The scope of a call that is not recorded."""

    def __enter__(self) -> object:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def suspend(self) -> None:
        """Do nothing."""

    resume = instead = suspend

    def settle(self, result: object) -> None:
        """Do nothing."""

    take = settle

    def stream(self, result: object) -> None:
        """Take no stream for one."""


_IDLE = _Idle()


def argument_reader(function: Callable[..., Any]) -> Callable[[Sequence[object], Mapping[str, object]], Arguments]:
    """Return what turns a call's arguments into a dictionary by name, without ``self``.

    It is empty for a call that does not fit the signature: the function itself raises that error, in the right words.
    Arguments that a signature has no name for are named by their position.
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # some builtins have none
        return lambda args, kwargs: {**{str(at): value for at, value in enumerate(args)}, **kwargs}
    parameters = list(signature.parameters.values())
    first = parameters[0].name if parameters else None
    drop = first if first in ("self", "cls") else None
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in plain]
    if any(parameter.kind is inspect.Parameter.VAR_POSITIONAL for parameter in parameters):
        return functools.partial(_bind, signature, drop)

    def read(args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
        if len(args) > len(names):
            return {}
        arguments = dict(zip(names, args, strict=False))
        arguments.update(kwargs)
        if drop is not None:
            arguments.pop(drop, None)
        return arguments

    return read


def _bind(
    signature: inspect.Signature, drop: str | None, args: Sequence[object], kwargs: Mapping[str, object]
) -> Arguments:
    try:
        bound = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:
        return {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            bound.update(bound.pop(name, {}))
        elif parameter.kind is inspect.Parameter.VAR_POSITIONAL and next(iter(signature.parameters)) == name:
            bound = {**{str(at): value for at, value in enumerate(bound.pop(name, ()))}, **bound}
    if drop is not None:
        bound.pop(drop, None)
    return bound
