import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from imitrace.binding import Scope, wrap
from imitrace.exceptions import ConfigError


class Record:
    def __init__(self, arguments: dict[str, Any]) -> None:
        self.events: list[Any] = [arguments]

    def __enter__(self) -> object:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.events.append(kind)

    def settle(self, result: object) -> None:
        self.events.append(result)


records: list[Record] = []


def recorded(arguments: dict[str, Any]) -> Scope:
    records.append(Record(arguments))
    return records[-1]


def add(a: int, b: int = 1, **more: int) -> int:
    """Add."""
    return a + b


class Desk:
    def answer(self, text: str) -> str:
        return text


def test_arguments_and_result_of_a_call_are_seen() -> None:
    assert wrap(add, recorded)(1, b=2, c=3) == 3
    assert records[-1].events == [{"a": 1, "b": 2, "c": 3}, 3, None]


def test_a_coroutine_function_stays_one() -> None:
    async def add_later(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    assert asyncio.run(wrap(add_later, recorded)(1)) == 2
    assert records[-1].events == [{"a": 1}, 2, None]


def test_self_is_no_argument() -> None:
    assert wrap(Desk.answer, recorded)(Desk(), "hi") == "hi"
    assert records[-1].events[0] == {"text": "hi"}


def test_a_wrong_call_raises_the_functions_own_error() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        wrap(add, recorded)()  # type: ignore[call-arg]  # the mistake under test
    assert records[-1].events == [{}, TypeError]


def test_name_and_documentation_stay() -> None:
    assert (wrap(add, recorded).__name__, wrap(add, recorded).__doc__) == ("add", "Add.")


def stream() -> Iterator[int]:
    yield 1


async def stream_later() -> AsyncIterator[int]:
    yield 1


@pytest.mark.parametrize("function", [stream, stream_later])
def test_a_generator_is_refused_with_the_way_out(function: Any) -> None:
    with pytest.raises(ConfigError, match=r"is a generator function, .* use the `with` form"):
        wrap(function, recorded)
