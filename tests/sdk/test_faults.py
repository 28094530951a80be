import pytest

from imitrace.faults import Faults


def test_a_fault_is_logged_once_and_counted_always(caplog: pytest.LogCaptureFixture) -> None:
    faults = Faults()
    for _ in range(3):
        faults.count("outcome", "it is 'won'")
    assert faults.counts() == {"outcome": 3}
    assert [record.getMessage() for record in caplog.records] == [
        "imitrace: outcome: it is 'won' (logged once, counted in imitrace.stats().faults)"
    ]


def test_a_guard_swallows_and_counts_an_exception() -> None:
    faults = Faults()
    with faults.guard("step"):
        raise ValueError("first line\nsecond line")
    assert faults.counts() == {"step": 1}


def test_a_guard_lets_an_interrupt_through() -> None:
    with pytest.raises(KeyboardInterrupt), Faults().guard("step"):
        raise KeyboardInterrupt


class UnreadableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def test_an_exception_without_text_is_still_counted() -> None:
    faults = Faults()
    with faults.guard("step"):
        raise UnreadableError
    assert faults.counts() == {"step": 1}
