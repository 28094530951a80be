import asyncio
import gc
import inspect
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.binding import Arguments, Instead, argument_reader, wrap


class Record:
    """A scope that writes down what happened to it."""

    def __init__(self, arguments: Arguments) -> None:
        self.events: list[Any] = [arguments]

    def __enter__(self) -> object:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.events.append(("exit", kind))

    def suspend(self) -> None:
        self.events.append("suspend")

    def resume(self) -> None:
        self.events.append("resume")

    def instead(self) -> Instead | None:
        return None

    def settle(self, result: object) -> None:
        self.events.append(("settle", result))

    def take(self, item: object) -> None:
        self.events.append(("take", item))

    def stream(self, result: object) -> object | None:
        return None


records: list[Record] = []


def recorded(arguments: Arguments) -> Record:
    records.append(Record(arguments))
    return records[-1]


def wrapped(function: Any) -> Any:
    return wrap(function, recorded, lambda: True)


def add(a: int, b: int = 1, **more: int) -> int:
    """Add."""
    return a + b


class Desk:
    def answer(self, text: str) -> str:
        return text


def count(until: int) -> Generator[int, str, str]:
    """Count, answering what is sent in; stop at a ValueError."""
    heard = []
    for number in range(until):
        try:
            heard.append((yield number))
        except ValueError:
            return "stopped"
    return f"heard {heard}"


async def count_later(until: int) -> AsyncIterator[int]:
    for number in range(until):
        await asyncio.sleep(0)
        yield number


def test_arguments_and_result_of_a_call_are_seen() -> None:
    assert wrapped(add)(1, b=2, c=3) == 3
    assert records[-1].events == [{"a": 1, "b": 2, "c": 3}, ("settle", 3), ("exit", None)]


def test_a_coroutine_function_stays_one() -> None:
    async def add_later(a: int) -> int:
        await asyncio.sleep(0)
        return a + 1

    assert inspect.iscoroutinefunction(wrapped(add_later))
    assert asyncio.run(wrapped(add_later)(1)) == 2
    assert records[-1].events == [{"a": 1}, ("settle", 2), ("exit", None)]


def test_self_is_no_argument() -> None:
    assert wrapped(Desk.answer)(Desk(), "hi") == "hi"
    assert records[-1].events[0] == {"text": "hi"}


def test_a_wrong_call_raises_the_functions_own_error() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        wrapped(add)()
    assert records[-1].events == [{}, ("exit", TypeError)]


@pytest.mark.parametrize("function", [add, count, count_later])
def test_name_documentation_and_kind_stay(function: Callable[..., Any]) -> None:
    outside = wrapped(function)
    assert (outside.__name__, outside.__doc__) == (function.__name__, function.__doc__)
    assert inspect.isgeneratorfunction(outside) == inspect.isgeneratorfunction(function)
    assert inspect.isasyncgenfunction(outside) == inspect.isasyncgenfunction(function)


@pytest.mark.parametrize("function", [add, Desk().answer])
def test_a_function_is_called_as_it_is_where_nothing_is_recorded(function: Callable[..., Any]) -> None:
    before = len(records)
    assert wrap(function, recorded, lambda: False)(3) in (3, 4)
    assert len(records) == before


def test_a_generator_that_is_not_recorded_yields_all_the_same() -> None:
    assert list(wrap(count, recorded, lambda: False)(3)) == [0, 1, 2]


def test_the_scope_of_a_generator_is_current_only_while_it_runs() -> None:
    assert list(wrapped(count)(2)) == [0, 1]
    taken = [("take", 0), "suspend", "resume", ("take", 1), "suspend", "resume"]
    assert records[-1].events == [{"until": 2}, *taken, ("settle", "heard [None, None]"), ("exit", None)]


def test_what_is_sent_and_thrown_into_a_generator_reaches_it() -> None:
    generator = wrapped(count)(3)
    assert (next(generator), generator.send("a")) == (0, 1)
    with pytest.raises(StopIteration) as stop:
        generator.throw(ValueError())
    assert stop.value.value == "stopped"
    assert records[-1].events[-2:] == [("settle", "stopped"), ("exit", None)]


def test_an_exception_of_a_generator_is_recorded_and_raised_on() -> None:
    generator = wrapped(count)(3)
    next(generator)
    with pytest.raises(KeyError):
        generator.throw(KeyError("x"))
    assert records[-1].events[-1] == ("exit", KeyError)


def test_a_generator_left_early_ends_without_an_error_and_without_a_result() -> None:
    for _ in wrapped(count)(9):
        break
    gc.collect()
    assert records[-1].events == [{"until": 9}, ("take", 0), "suspend", "resume", ("exit", None)]


@given(st.integers(0, 5), st.integers(0, 6))
def test_an_async_generator_ends_its_scope_once_however_far_it_is_read(length: int, read: int) -> None:
    async def main() -> list[int]:
        found = []
        async with aclosing(wrapped(count_later)(length)) as numbers:
            for _ in range(read):
                found.append(await anext(numbers, -1))
        return [number for number in found if number >= 0]

    before = len(records)
    assert asyncio.run(main()) == list(range(min(length, read)))
    exits = [event for record in records[before:] for event in record.events if event == ("exit", None)]
    assert len(exits) == (1 if read else 0)


def test_an_async_generator_left_early_without_closing_ends_with_the_loop() -> None:
    async def main() -> None:
        async for _ in wrapped(count_later)(9):
            break

    asyncio.run(main())
    gc.collect()
    ways = (None, asyncio.CancelledError)  # the loop closes it, or cancels that when it ends itself
    assert records[-1].events[-1] in [("exit", way) for way in ways]


def test_a_function_that_returns_a_generator_ends_when_that_does() -> None:
    def make(until: int) -> Iterator[int]:
        return count(until)

    generator = wrapped(make)(2)
    assert records[-1].events == [{"until": 2}, "suspend"]
    assert list(generator) == [0, 1]
    assert records[-1].events[-1] == ("exit", None)


def test_a_function_that_returns_a_coroutine_or_an_async_generator_ends_when_that_does() -> None:
    async def three() -> int:
        return 3

    async def main() -> list[Any]:
        return [await wrapped(lambda: three())(), [n async for n in wrapped(lambda: count_later(2))()]]

    before = len(records)
    assert asyncio.run(main()) == [3, [0, 1]]
    assert [record.events[-1] for record in records[before:]] == [("exit", None)] * 2


def test_a_scope_may_answer_in_the_functions_place() -> None:
    class Shortcut(Record):
        def instead(self) -> Instead | None:
            return Instead(7)

    def never() -> int:
        raise AssertionError

    assert wrap(never, Shortcut, lambda: True)() == 7


@given(st.lists(st.integers(), max_size=3), st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers()))
def test_arguments_are_named_as_the_signature_names_them(args: list[int], kwargs: dict[str, int]) -> None:
    def function(a: int, b: int = 1, **more: int) -> None:
        return None

    try:
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        return
    expected = {**bound.arguments, **bound.arguments.get("more", {})}
    expected.pop("more", None)
    assert argument_reader(function)(args, kwargs) == expected


def test_functions_of_many_arguments_are_read_by_their_signature() -> None:
    def function(first: int, *rest: int, key: int = 0) -> None:
        return None

    assert argument_reader(function)((1, 2, 3), {"key": 4}) == {"first": 1, "rest": (2, 3), "key": 4}
    assert argument_reader(function)((), {"wrong": 1}) == {}
