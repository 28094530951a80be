"""Send requests at a rate, whether or not those before were answered, and say how long each took from when it was due.

Run as ``python -m proxying.load``; stdin has one JSON object with the fields of ``Errand``, stdout gets one with those
of ``Took``.
"""

import asyncio
import dataclasses
import gc
import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from typing import cast

import uvloop

_SECONDS = 20.0


@dataclasses.dataclass(frozen=True)
class Errand:
    """What to send where."""

    port: int
    headers: dict[str, str]
    bodies: str
    """File with one body a line."""
    rate: float
    """Requests a second, at random times."""
    seconds: float
    seed: int


@dataclasses.dataclass
class Took:
    """What became of it."""

    milliseconds: list[float] = dataclasses.field(default_factory=list)
    """Of the answers with status 200."""
    actors: dict[str, int] = dataclasses.field(default_factory=dict)
    """Who acted, where the answer says so."""
    failed: int = 0


class Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._came = bytearray()
        self._answer: asyncio.Future[bytes] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name

    def data_received(self, data: bytes) -> None:
        self._came += data
        end = self._came.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._came[:end]).lower()
        if b"transfer-encoding: chunked" in head:
            whole = self._came.endswith(b"0\r\n\r\n")
        else:
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            whole = len(self._came) >= end + 4 + size
        if whole and self._answer is not None and not self._answer.done():
            self._came.clear()
            self._answer.set_result(head)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(exc or ConnectionError("the connection was closed"))

    async def ask(self, request: bytes) -> bytes:
        """Send a request and return the head of its answer."""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._answer

    def close(self) -> None:
        self._transport.close()


class Sender:
    """Sends what is due, over as many connections as it takes."""

    def __init__(self, errand: Errand) -> None:
        self._errand = errand
        self._free: list[Connection] = []
        self.took = Took()
        self._actors: Counter[str] = Counter()

    async def send(self) -> Took:
        """Send everything and return what became of it."""
        errand, draw = self._errand, random.Random(self._errand.seed)
        bodies = Path(errand.bodies).read_bytes().splitlines()
        asked = [self._request(body) for body in bodies]
        gc.collect()
        gc.freeze()
        tasks, due, begin, number = [], 0.0, time.monotonic() + 0.1, 0
        while (due := due + draw.expovariate(errand.rate)) < errand.seconds:
            await asyncio.sleep(max(0.0, begin + due - time.monotonic()))
            tasks.append(asyncio.ensure_future(self._one(asked[number % len(asked)], begin + due)))
            number += 1
        await asyncio.wait(tasks, timeout=_SECONDS)
        self.took.failed += sum(not task.done() for task in tasks)
        self.took.actors = dict(self._actors)
        return self.took

    async def _one(self, request: bytes, due: float) -> None:
        try:
            connection = self._free.pop() if self._free else await self._connect()
            head = await connection.ask(request)
        except OSError:
            self.took.failed += 1
            return
        milliseconds = (time.monotonic() - due) * 1e3
        if not head.startswith(b"http/1.1 200"):
            self.took.failed += 1
            connection.close()
            return
        self.took.milliseconds.append(milliseconds)
        actor = head.partition(b"x-imitrace-actor: ")[2].partition(b"\r\n")[0]
        if actor:
            self._actors[actor.decode()] += 1
        self._free.append(connection)

    async def _connect(self) -> Connection:
        _, made = await asyncio.get_running_loop().create_connection(Connection, "127.0.0.1", self._errand.port)
        return made

    def _request(self, body: bytes) -> bytes:
        headers = {"host": "127.0.0.1", "content-type": "application/json", "content-length": str(len(body))}
        lines = [f"{name}: {value}" for name, value in (headers | self._errand.headers).items()]
        return "\r\n".join(["POST /v1/chat/completions HTTP/1.1", *lines, "", ""]).encode() + body


async def main() -> None:
    errand = Errand(**json.loads(sys.stdin.read()))
    print(json.dumps(dataclasses.asdict(await Sender(errand).send())))


if __name__ == "__main__":
    uvloop.run(main())
