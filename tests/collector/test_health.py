from collections.abc import Callable, Iterator, Sequence

import pytest

from imitrace.exceptions import StoreError
from imitrace_collector.batcher import Batcher
from imitrace_collector.budget import Budget
from imitrace_collector.config import CollectorConfig
from imitrace_collector.health import FAILED_SECONDS, Health
from imitrace_collector.rows import Batch

SECONDS = 10


@pytest.fixture
def disk() -> list[str]:
    """What is wrong with the disk; nothing, at first."""
    return []


@pytest.fixture
def batcher(config: CollectorConfig, disk: list[str]) -> Iterator[Batcher[Batch]]:
    def write(_: Sequence[Batch]) -> None:
        if disk:
            raise StoreError(disk[0])

    batcher = Batcher[Batch](write, config.queue_bytes)
    yield batcher
    batcher.stop()


def ended(batcher: Batcher[Batch]) -> Callable[[], float]:
    """Return a clock that stands at the end of the last commit."""
    assert batcher.last_commit is not None
    at = batcher.last_commit.ended_at
    return lambda: at


def test_a_failed_commit_counts_until_one_works_or_traffic_should_try_again(
    config: CollectorConfig, batcher: Batcher[Batch], disk: list[str]
) -> None:
    disk.append("no space")
    with pytest.raises(StoreError):
        batcher.submit(Batch(), 1).result(SECONDS)
    now = ended(batcher)
    assert Health(config, batcher, Budget(10), now).troubles() == ["the last commit failed"]
    assert Health(config, batcher, Budget(10), lambda: now() + FAILED_SECONDS).troubles() == []
    disk.clear()
    batcher.submit(Batch(), 1).result(SECONDS)
    assert Health(config, batcher, Budget(10), ended(batcher)).troubles() == []


def test_a_nearly_full_memory_is_not_ready(config: CollectorConfig, batcher: Batcher[Batch]) -> None:
    budget = Budget(config.queue_bytes)
    health = Health(config, batcher, budget)
    with budget.reserve(config.queue_bytes - 1):
        assert health.troubles() == ["the queue is nearly full"]
        assert health.figures()["queue_bytes"] == config.queue_bytes - 1
    assert health.troubles() == []


def test_what_waits_to_be_derived_is_told(config: CollectorConfig, batcher: Batcher[Batch]) -> None:
    health = Health(config, batcher, Budget(10))
    assert health.figures()["pending_derivation"] == 0
    health.pending = lambda: 7
    assert health.figures()["pending_derivation"] == 7
