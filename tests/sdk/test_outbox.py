import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from imitrace.delivery.outbox import Outbox, OutboxConfig, Receipt, Stats, payload_bytes


class Gate:
    """A delivery that waits until it is opened, and refuses what it is told to refuse."""

    def __init__(self, open_at_once: bool = True, refused: str = "") -> None:
        self.batches: list[list[str]] = []
        self.entered = threading.Event()
        self.opened = threading.Event()
        self._refused = refused
        if open_at_once:
            self.opened.set()

    def send(self, batch: Sequence[str]) -> Receipt | bool:
        self.entered.set()
        self.opened.wait(10)
        if self._refused == "raise":
            raise ValueError("a bug in an exporter")
        self.batches.append(list(batch))
        return self._refused not in batch

    def close(self) -> None:
        self.opened.set()

    def reset(self) -> None:
        self.batches = []


def filled(gate: Gate, records: Sequence[str], **bounds: int) -> Outbox[str]:
    outbox = Outbox(gate, len, OutboxConfig(delay=60, **bounds))
    for record in records:
        outbox.put(record)
    return outbox


def test_flush_delivers_in_order_without_waiting_for_the_delay() -> None:
    gate = Gate()
    outbox = filled(gate, ["a", "b", "c"])
    assert outbox.flush(10)
    assert [record for batch in gate.batches for record in batch] == ["a", "b", "c"]
    assert outbox.close(1)


@pytest.mark.parametrize("bounds", [{"batch_records": 2}, {"batch_bytes": 2}])
def test_batches_are_bounded_by_count_and_by_size(bounds: dict[str, int]) -> None:
    gate = Gate()
    outbox = filled(gate, ["a", "b", "c", "d", "e"], **bounds)
    assert outbox.close(10)
    assert max(map(len, gate.batches)) <= 2
    assert sum(map(len, gate.batches)) == 5


def test_a_record_larger_than_a_batch_goes_alone() -> None:
    gate = Gate()
    assert filled(gate, ["long record"], batch_bytes=2).close(10)
    assert gate.batches == [["long record"]]


@pytest.mark.parametrize("bounds", [{"max_records": 3}, {"max_bytes": 3}])
def test_a_full_queue_drops_and_counts_and_never_blocks(bounds: dict[str, int]) -> None:
    gate = Gate(open_at_once=False)
    outbox = filled(gate, ["a", "b", "c", "d", "e"], **bounds)
    assert outbox.stats() == Stats(records=5, dropped=2, pending=3)
    gate.opened.set()
    assert not outbox.flush(10)
    assert outbox.stats() == Stats(records=5, dropped=2, exported=3)
    assert outbox.flush(10)
    outbox.close(1)


def test_a_flush_gives_up_in_time() -> None:
    gate = Gate(open_at_once=False)
    outbox = filled(gate, ["a"])
    assert not outbox.flush(0.01)
    assert outbox.stats().pending == 1
    outbox.close(0)


@pytest.mark.parametrize("refused", ["a", "raise"])
def test_a_refused_batch_is_counted_as_failed(refused: str) -> None:
    outbox = filled(Gate(refused=refused), ["a"])
    assert not outbox.flush(10)
    assert outbox.stats() == Stats(records=1, failed=1)
    outbox.close(1)


def test_a_closed_outbox_counts_what_comes_late_and_what_was_left() -> None:
    gate = Gate(open_at_once=False)
    outbox = filled(gate, ["a", "b"], batch_records=1)
    gate.entered.wait(10)
    assert not outbox.close(0)
    outbox.put("late")
    stats = outbox.stats()
    assert (stats.records, stats.exported, stats.dropped, stats.lost) == (3, 1, 2, 2)


def test_records_that_nobody_flushes_leave_after_the_delay() -> None:
    gate = Gate()
    outbox = Outbox(gate, len, OutboxConfig(delay=0.01))
    outbox.put("a")
    assert gate.entered.wait(10)
    outbox.close(10)


def test_what_is_on_its_way_counts_against_the_bounds() -> None:
    gate = Gate(open_at_once=False)
    outbox = filled(gate, ["aaa"], batch_bytes=3, max_bytes=5)
    assert gate.entered.wait(10)
    outbox.put("bbb")
    outbox.put("cc")
    assert outbox.stats() == Stats(records=3, dropped=1, pending=2)
    gate.opened.set()
    outbox.close(10)
    assert gate.batches == [["aaa"], ["cc"]]


def test_records_dropped_meanwhile_do_not_end_a_flush() -> None:
    gate = Gate(open_at_once=False)
    outbox = filled(gate, ["a", "b"], max_records=2)
    with ThreadPoolExecutor(1) as thread:
        flushed = thread.submit(outbox.flush, 10)
        assert gate.entered.wait(10)
        for _ in range(5):
            outbox.put("dropped")
        assert not flushed.done()
        gate.opened.set()
        assert not flushed.result()
    assert outbox.stats() == Stats(records=7, exported=2, dropped=5)
    outbox.close(1)


def test_a_batch_may_be_accepted_in_part() -> None:
    class Half(Gate):
        def send(self, batch: Sequence[str]) -> Receipt:
            return Receipt(exported=1, failed=len(batch) - 1)

    outbox = filled(Half(), ["a", "b", "c"])
    assert not outbox.flush(10)
    assert outbox.stats() == Stats(records=3, exported=1, failed=2)
    outbox.close(1)


@pytest.mark.parametrize(
    ("attributes", "size"),
    [
        (None, 0),
        ({}, 0),
        ({"a": "abc", "b": 7}, 3),
        ({"a": "漢字é"}, 8),
        ({"a": ("ab", "c", 1)}, 3),
        ({"a": "\ud800"}, 1),
    ],
)
def test_the_size_of_a_record_is_that_of_its_text_on_the_wire(attributes: dict[str, object], size: int) -> None:
    assert payload_bytes(attributes) == size


def test_many_threads_lose_nothing() -> None:
    gate = Gate()
    outbox = Outbox(gate, len, OutboxConfig(batch_records=7))
    with ThreadPoolExecutor(8) as threads:
        for _ in range(800):
            threads.submit(outbox.put, "a")
    assert outbox.close(10)
    assert outbox.stats() == Stats(records=800, exported=800)
