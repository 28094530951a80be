"""Take a request from its caller, piece by piece or whole, and notice when the caller hangs up."""

import asyncio
from collections.abc import AsyncIterator

from starlette.types import Receive, Scope

from imitrace.exceptions import ImitraceError
from imitrace_trainer.serving.headers import Headers


class HungUpError(ImitraceError):
    """Report a caller that was gone before its request had come."""


class Caller:
    """One request, from the side of who sent it."""

    def __init__(self, scope: Scope, receive: Receive) -> None:
        self.method: str = scope["method"]
        self.headers: Headers = scope["headers"]
        self.gone = False
        self._receive = receive
        self._read = bytearray()
        self._all_came = asyncio.Event()
        path: bytes = scope["raw_path"]
        query: bytes = scope["query_string"]
        self._path, self._query = path.decode("latin-1"), query.decode("latin-1")

    def path_under(self, root: str) -> str:
        """Return the path behind ``root``, with its query, escaped as it came."""
        path = self._path.removeprefix(root)
        return f"{path}?{self._query}" if self._query else path

    def is_under(self, root: str) -> bool:
        """Tell whether the path, as it came, begins with ``root``."""
        return self._path.startswith(root)

    @property
    def has_body(self) -> bool:
        """Whether the request announces a body."""
        return any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)

    async def body(self, most: int) -> bytes | None:
        """Return the body, or None where it is larger than ``most``: then ``pieces`` has it.

        Raises:
            HungUpError: the caller is gone.
        """
        while not self._all_came.is_set():
            await self._take()
            if len(self._read) > most:
                return None
        return bytes(self._read)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body, also what was read of it before."""
        while True:
            if self._read:
                piece = bytes(self._read)
                self._read.clear()
                yield piece
            if self._all_came.is_set():
                return
            await self._take()

    def skip_body(self) -> None:
        """Say that nobody will ask for the body, since there is none."""
        self._all_came.set()

    async def hung_up(self) -> None:
        """Wait until the caller is gone."""
        await self._all_came.wait()
        while not self.gone:
            self.gone = (await self._receive())["type"] == "http.disconnect"

    async def _take(self) -> None:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self._all_came.set()
            raise HungUpError("the caller is gone")
        self._read += message.get("body", b"")
        if not message.get("more_body"):
            self._all_came.set()
