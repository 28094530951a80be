import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from imitrace.exceptions import StoreError
from imitrace_collector.batcher import Batcher, Commit
from imitrace_collector.budget import QueueFullError

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
            raise ValueError("a lone surrogate")
        if "full" in batches:
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
    with pytest.raises(ValueError, match="a lone surrogate"):
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


def test_a_group_is_bounded_in_bytes_but_one_large_batch_passes() -> None:
    write = SlowWriter()
    batcher = Batcher[str](write, 100, group_bytes=10)
    batcher.submit("first", 1)
    assert write.began.wait(SECONDS)
    for name, size in (("a", 6), ("b", 4), ("c", 1), ("huge", 50), ("d", 1)):
        batcher.submit(name, size)
    write.go.set()
    batcher.stop()
    assert write.groups == [["first"], ["a", "b"], ["c"], ["huge"], ["d"]]


def test_a_store_that_fails_is_tried_once_for_all_that_wait_together() -> None:
    write = SlowWriter()
    commits: list[Commit] = []
    batcher = Batcher[str](write, 100, commits.append)
    batcher.submit("first", 1)
    assert write.began.wait(SECONDS)
    refused = [batcher.submit(name, 2) for name in ("full", "good")]
    write.go.set()
    for future in refused:
        with pytest.raises(StoreError, match="disk full"):
            future.result(SECONDS)
    batcher.submit("later", 3).result(SECONDS)
    batcher.stop()
    assert write.groups == [["first"], ["later"]]
    assert [(commit.requests, commit.size, commit.error is None) for commit in commits] == [
        (1, 1, True),
        (2, 4, False),
        (1, 3, True),
    ]


def test_a_full_disk_is_told_in_words_and_outlived(tmp_path: Path) -> None:
    places = [Path("/dev/full"), tmp_path / "store"]

    def write(batches: Sequence[bytes]) -> None:
        with places[0].open("ab", buffering=0) as file:
            for batch in batches:
                file.write(batch)

    batcher = Batcher[bytes](write, 100)
    with pytest.raises(StoreError, match=r"the store can't be written: .*No space left"):
        batcher.submit(b"a", 1).result(SECONDS)
    failed = batcher.last_commit
    assert failed is not None
    assert isinstance(failed.error, StoreError)
    del places[0]
    batcher.submit(b"b", 1).result(SECONDS)
    batcher.stop()
    assert (tmp_path / "store").read_bytes() == b"b"
    mended = batcher.last_commit
    assert mended is not None
    assert (batcher.bytes, batcher.depth, mended.error) == (0, 0, None)
