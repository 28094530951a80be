import logging
import threading
from datetime import timedelta

import pytest

from imitrace.exceptions import StoreError
from imitrace_collector.periodic import Periodic

LONG = 20.0
SOON, NEVER = timedelta(milliseconds=5), timedelta(days=1)


def test_it_is_done_again_and_again() -> None:
    thrice = threading.Event()
    calls: list[int] = []

    def act() -> None:
        calls.append(1)
        if len(calls) == 3:
            thrice.set()

    periodic = Periodic("test", SOON, act)
    assert thrice.wait(LONG)
    periodic.stop()
    assert periodic.done == len(calls) >= 3
    assert periodic.failed == 0


def test_the_first_time_may_be_another(caplog: pytest.LogCaptureFixture) -> None:
    called = threading.Event()
    periodic = Periodic("test", NEVER, called.set, first=timedelta(seconds=-5))
    assert called.wait(LONG)
    periodic.stop()
    assert periodic.done == 1


def test_what_goes_wrong_is_counted_told_and_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    well = threading.Event()

    def act() -> None:
        if not well.is_set() and not caplog.records:
            raise StoreError("disk is full")
        well.set()

    with caplog.at_level(logging.ERROR):
        periodic = Periodic("test", SOON, act)
        assert well.wait(LONG)
        periodic.stop()
    assert periodic.failed == 1
    assert "test failed, trying again in 0:00:00.005000: disk is full" in caplog.text


def test_stopping_does_not_wait_for_the_next_time() -> None:
    Periodic("test", NEVER, lambda: None).stop()
