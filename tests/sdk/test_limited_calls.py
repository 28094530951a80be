"""Calls that are answered aside: in time, or not waited for."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from imitrace.limited_calls import WAITING, LimitedCalls

LONG = 30.0
SHORT = 0.05


@contextmanager
def held(calls: LimitedCalls) -> Iterator[list[Exception]]:
    """Keep the thread busy with a call that takes too long for its asker; let it go at the end."""
    go, begun = threading.Event(), threading.Event()
    raised: list[Exception] = []

    def run() -> None:
        begun.set()
        go.wait(LONG)

    def ask() -> None:
        try:
            calls.call(run)
        except TimeoutError as late:
            raised.append(late)

    asker = threading.Thread(target=ask)
    asker.start()
    assert begun.wait(LONG)
    try:
        yield raised
    finally:
        go.set()
        asker.join(LONG)


def test_an_answer_and_an_error_are_the_askers() -> None:
    calls = LimitedCalls("test", LONG)
    assert calls.call(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        calls.call(lambda: 1 // 0)
    assert calls.call(threading.current_thread).name == "test"


def test_who_asks_goes_on_when_an_answer_is_late_and_asks_again_once_it_came() -> None:
    calls = LimitedCalls("test", SHORT)
    with held(calls) as raised:
        while not raised:
            threading.Event().wait(0.01)
        assert str(raised[0]) == "the clone took longer than 0.05 s"
        with pytest.raises(TimeoutError, match="still busy with an earlier question"):
            calls.call(lambda: 1)
    answers = LimitedCalls("test", LONG)
    assert answers.call(lambda: 2) == 2


def test_more_than_a_few_waiting_are_sent_away_at_once() -> None:
    calls = LimitedCalls("test", LONG)
    results: list[object] = []
    with held(calls):
        askers = [threading.Thread(target=lambda: results.append(calls.call(lambda: 1))) for _ in range(WAITING)]
        for asker in askers:
            asker.start()
        while calls._waiting <= WAITING:
            threading.Event().wait(0.001)
        with pytest.raises(TimeoutError, match=f"the clone is overloaded: {WAITING + 1} questions wait"):
            calls.call(lambda: 1)
    for asker in askers:
        asker.join(LONG)
    assert results == [1] * WAITING
