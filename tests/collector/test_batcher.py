import threading
from collections.abc import Sequence

import pytest

from imitrace.exceptions import StoreError
from imitrace_collector.batcher import Batcher, QueueFullError

SECONDS = 10


class SlowWriter:
    """Write when told to, and remember what was written together."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.began = threading.Event()
        self.groups: list[list[str]] = []

    def __call__(self, batches: Sequence[str]) -> None:
        self.began.set()
        assert self.go.wait(SECONDS)
        if "bad" in batches:
            raise StoreError("disk full")
        self.groups.append(list(batches))


def test_what_waits_is_written_in_one_group() -> None:
    write = SlowWriter()
    batcher = Batcher[str](write, 100)
    first = batcher.submit("a", 1)
    assert write.began.wait(SECONDS)
    others = [batcher.submit(name, 1) for name in "bcd"]
    write.go.set()
    for future in (first, *others):
        future.result(SECONDS)
    batcher.stop()
    assert write.groups == [["a"], ["b", "c", "d"]]


def test_nothing_is_acknowledged_before_it_is_written() -> None:
    write = SlowWriter()
    batcher = Batcher[str](write, 100)
    future = batcher.submit("a", 1)
    assert write.began.wait(SECONDS)
    assert not future.done()
    write.go.set()
    future.result(SECONDS)
    batcher.stop()


def test_a_full_queue_refuses_and_takes_again_once_it_is_written() -> None:
    write = SlowWriter()
    batcher = Batcher[str](write, 10)
    first = batcher.submit("a", 6)
    with pytest.raises(QueueFullError, match="6 of 10 bytes"):
        batcher.submit("b", 5)
    write.go.set()
    first.result(SECONDS)
    batcher.stop()


def test_bytes_are_free_again_after_a_group() -> None:
    written = threading.Semaphore(0)
    batcher = Batcher[str](lambda _: written.release(), 10)
    for _ in range(20):
        while True:
            try:
                batcher.submit("a", 10).result(SECONDS)
                break
            except QueueFullError:
                assert written.acquire(timeout=SECONDS)
    batcher.stop()


def test_a_bad_batch_does_not_fail_its_neighbours() -> None:
    write = SlowWriter()
    batcher = Batcher[str](write, 100)
    batcher.submit("first", 1)
    assert write.began.wait(SECONDS)
    good, bad = batcher.submit("good", 1), batcher.submit("bad", 1)
    write.go.set()
    good.result(SECONDS)
    with pytest.raises(StoreError, match="disk full"):
        bad.result(SECONDS)
    batcher.stop()
    assert write.groups == [["first"], ["good"]]


def test_stopping_writes_all_that_waits_and_takes_nothing_more() -> None:
    write = SlowWriter()
    batcher = Batcher[str](write, 100)
    futures = [batcher.submit(str(number), 1) for number in range(5)]
    write.go.set()
    batcher.stop()
    assert all(future.done() for future in futures)
    with pytest.raises(QueueFullError, match="stopping"):
        batcher.submit("late", 1)


def test_a_sender_that_went_away_before_its_turn_is_not_written() -> None:
    write = SlowWriter()
    batcher = Batcher[str](write, 100)
    batcher.submit("first", 1)
    assert write.began.wait(SECONDS)
    gone = batcher.submit("gone", 1)
    assert gone.cancel()
    write.go.set()
    batcher.stop()
    assert write.groups == [["first"]]
