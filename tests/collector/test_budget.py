import threading

import pytest

from imitrace_collector.budget import Budget, QueueFullError


def test_what_is_reserved_is_free_again_afterwards() -> None:
    budget = Budget(10)
    with budget.reserve(4) as held:
        held.grow(3)
        assert (budget.held, held.size) == (7, 7)
        held.shrink(100)
        assert budget.held == 0
    assert budget.held == 0


def test_beyond_the_limit_nothing_is_taken() -> None:
    budget = Budget(10)
    with budget.reserve(6) as held:
        with pytest.raises(QueueFullError, match="6 of 10 bytes are in flight"):
            budget.reserve(5)
        with pytest.raises(QueueFullError):
            held.grow(5)
        assert budget.held == 6


def test_threads_never_hold_more_than_the_limit() -> None:
    budget = Budget(100)
    seen: list[int] = []

    def work() -> None:
        for _ in range(2000):
            try:
                with budget.reserve(30) as held:
                    held.grow(10)
                    seen.append(budget.held)
            except QueueFullError:
                continue

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(seen) <= 100
    assert budget.held == 0
