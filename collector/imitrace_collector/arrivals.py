"""Bound how many messages arrive at once whose size nobody knows before they are here."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from imitrace_collector.budget import QueueFullError
from imitrace_collector.refusals import SlowSenderError

_PLACES = 8
"""Messages of the largest size that memory is meant for."""
_MOST = 512
_LONG, _SHORT = 2.0, 0.5
"""Seconds after which a message makes room for others: where few wait, and where many do."""
_FEW = 60


class Arrivals:
    """Give places to messages, in order; used from one event loop.

    Who takes long keeps its place as long as nobody waits for it. Otherwise a few senders that trickle, or never go on,
    would keep all others out.
    """

    def __init__(self, seconds: float) -> None:
        """Begin with no message.

        Args:
            seconds: most that a message may take, with the time that it waits for a place.
        """
        self._seconds = seconds
        self._places = asyncio.Semaphore(_PLACES)
        self._arriving: dict[asyncio.Timeout, float] = {}
        self._here = 0
        self.waiting = 0
        """How many wait for a place."""

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Hold a place while a message arrives.

        Raises:
            QueueFullError: too many wait already, or others do and this one takes long; it may come again.
            SlowSenderError: it took too long altogether.
        """
        if self._here >= _MOST:
            raise QueueFullError(f"{self._here} requests wait to be read; send again")
        self._here += 1
        try:
            async with asyncio.timeout(self._seconds):
                await self._turn()
                try:
                    async with self._limit():
                        yield
                finally:
                    self._places.release()
        except TimeoutError as error:
            raise SlowSenderError("the request did not arrive in time; send smaller batches") from error
        finally:
            self._here -= 1

    async def _turn(self) -> None:
        self.waiting += 1
        self._hurry()
        try:
            await self._places.acquire()
        finally:
            self.waiting -= 1
            self._hurry()

    @asynccontextmanager
    async def _limit(self) -> AsyncIterator[None]:
        limit = asyncio.timeout(None)
        try:
            async with limit:
                self._arriving[limit] = time.monotonic()
                self._hurry()
                try:
                    yield
                finally:
                    del self._arriving[limit]
        except TimeoutError as error:
            if not limit.expired():
                raise
            raise QueueFullError(
                "the request arrives slowly and others wait; send it again, or smaller ones"
            ) from error

    def _hurry(self) -> None:
        """Set a limit to as many messages as wait, the oldest first, and none to others."""
        wanted = self.waiting if self._places.locked() else 0
        patience = max(_SHORT, min(_LONG, _LONG * _FEW / max(1, self.waiting)))
        loop, now = asyncio.get_running_loop(), time.monotonic()
        for number, (limit, began) in enumerate(self._arriving.items()):
            if not limit.expired():
                left = max(0.0, began + patience - now)
                limit.reschedule(loop.time() + left if number < wanted else None)
