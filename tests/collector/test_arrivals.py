import asyncio
from contextlib import AsyncExitStack

import pytest

from imitrace.exceptions import WireError
from imitrace_collector import arrivals
from imitrace_collector.arrivals import Arrivals
from imitrace_collector.budget import QueueFullError

LONG = 20.0


@pytest.fixture(autouse=True)
def _two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "_PLACES", 2)
    monkeypatch.setattr(arrivals, "_LONG", 0.01)
    monkeypatch.setattr(arrivals, "_SHORT", 0.0)


async def arrive(places: Arrivals, here: asyncio.Event, last_byte: asyncio.Event) -> None:
    async with places.place():
        here.set()
        await last_byte.wait()


def test_a_message_may_take_long_while_nobody_waits_for_its_place() -> None:
    async def two() -> int:
        places, last_byte = Arrivals(LONG), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(arrive(places, asyncio.Event(), last_byte))
            await asyncio.wait([asyncio.create_task(last_byte.wait())], timeout=0.05)
            last_byte.set()
        return places.waiting

    assert asyncio.run(two()) == 0


def test_as_many_make_room_as_wait_and_the_oldest_first() -> None:
    async def run() -> list[object]:
        places, never, now = Arrivals(LONG), asyncio.Event(), asyncio.Event()
        now.set()
        slow = []
        for _ in range(2):
            here = asyncio.Event()
            slow.append(asyncio.create_task(arrive(places, here, never)))
            await here.wait()
        await arrive(places, asyncio.Event(), now)
        found: list[object] = [task.done() for task in slow]
        never.set()
        return [*found, *await asyncio.gather(*slow, return_exceptions=True)]

    first, second, error, nothing = asyncio.run(run())
    assert (first, second, nothing) == (True, False, None)
    assert isinstance(error, QueueFullError)
    assert "arrives slowly and others wait" in str(error)


def test_whoever_gave_up_waiting_hurries_nobody() -> None:
    async def run() -> None:
        places, last_byte = Arrivals(LONG), asyncio.Event()
        async with AsyncExitStack() as held, asyncio.TaskGroup() as group:
            await held.enter_async_context(places.place())
            other = asyncio.Event()
            group.create_task(arrive(places, other, last_byte))
            await other.wait()
            waits = asyncio.create_task(arrive(places, asyncio.Event(), last_byte))
            await asyncio.wait([waits], timeout=0)
            waits.cancel()
            await asyncio.wait([waits], timeout=0.05)
            assert (places.waiting, places._places.locked()) == (0, True)
            last_byte.set()

    asyncio.run(run())


def test_the_time_for_all_of_it_is_bounded() -> None:
    with pytest.raises(WireError, match="did not arrive in time"):
        asyncio.run(arrive(Arrivals(0.01), asyncio.Event(), asyncio.Event()))


def test_only_so_many_may_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrivals, "_MOST", 0)
    with pytest.raises(QueueFullError, match="0 requests wait to be read"):
        asyncio.run(arrive(Arrivals(LONG), asyncio.Event(), asyncio.Event()))
