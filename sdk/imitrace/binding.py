"""Wrap a function, plain or async, so that each call runs inside a scope: what the decorators share."""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from imitrace.exceptions import ConfigError

P = ParamSpec("P")
R = TypeVar("R")


class Scope(Protocol):
    """One run of a wrapped function."""

    def __enter__(self) -> object:
        """Open the scope."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it; never swallow an exception."""

    def settle(self, result: object) -> None:
        """Take what the function returned; never raise."""


def wrap(function: Callable[P, R], scope: Callable[[dict[str, Any]], Scope]) -> Callable[P, R]:
    """Return ``function`` with each call inside the scope made from its arguments.

    Args:
        function: a function or a coroutine function.
        scope: makes the scope of one call from its arguments by name; it must not raise.

    Raises:
        ConfigError: ``function`` is a generator function, whose run has no end that a decorator could see.
    """
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ConfigError(
            f"{function.__qualname__} is a generator function, allowed: functions and coroutine functions; "
            "use the `with` form inside it"
        )
    signature = inspect.signature(function)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def run_async(*args: P.args, **kwargs: P.kwargs) -> object:
            opened = scope(_arguments(signature, args, kwargs))
            with opened:
                result = await function(*args, **kwargs)
                opened.settle(result)
            return result

        return cast("Callable[P, R]", run_async)

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        opened = scope(_arguments(signature, args, kwargs))
        with opened:
            result = function(*args, **kwargs)
            opened.settle(result)
        return result

    return run


def _arguments(signature: inspect.Signature, args: Sequence[object], kwargs: Mapping[str, object]) -> dict[str, Any]:
    """Return a call's arguments by name, without ``self``; empty when the call does not fit the signature."""
    try:
        bound = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:  # the function itself raises it in a moment, with the right words
        return {}
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            bound.update(bound.pop(name, {}))
    first = next(iter(signature.parameters), None)
    if first in ("self", "cls"):
        bound.pop(first, None)
    return bound
