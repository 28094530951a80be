"""Read a running collector's tables, as soon as it has derived all that it had taken before."""

import http.client
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.client import HTTPResponse

import polars as pl
import pyarrow
from pyarrow import ArrowException

from imitrace.config import setting
from imitrace.exceptions import DatasetError
from imitrace_trainer.frames import first_line
from imitrace_trainer.progress import tell

PENDING_HEADER = "imitrace-pending-chunks"
AS_OF_HEADER = "imitrace-as-of"
"""As the collector names them."""

_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_READ_SECONDS = 120.0
_SLICE_SECONDS = 10.0
_PAUSE_SECONDS = 1.0
_WAIT_SECONDS = 900.0


class CollectorTables:
    """Fetch tables as Arrow streams, all with what was acknowledged before the first of them was asked for.

    While the collector is still deriving that, it is asked again and again, and says how much is left.
    """

    def __init__(self, url: str, patience: float = _WAIT_SECONDS, *, say: Callable[[str], None] = tell) -> None:
        """Take the collector's address, how many seconds to wait in all, and who is told how the waiting goes."""
        self._url = url
        self._until = time.monotonic() + patience
        self._say = say
        self._as_of: str | None = None

    def batches(self, table: str) -> Iterator[pl.DataFrame]:
        """Yield a table's rows as they come, a few thousand at a time; the first time none, with the columns.

        Raises:
            DatasetError: there is no answer, or none that is a whole table, or it took too long.
        """
        address = f"{self._url.rstrip('/')}/v1/tables/{table}"
        try:
            with self._waited_for(address) as answer:
                yield from _arrow_batches(answer, address)
        except urllib.error.HTTPError as error:
            with error:
                raise DatasetError(_refusal(address, error)) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise DatasetError(
                f"no collector answers at {self._url} ({reason}); start it with 'imitrace collect', "
                "or name a snapshot folder or a store file"
            ) from error

    def _waited_for(self, address: str) -> HTTPResponse:
        while True:
            asked = time.monotonic()
            left = min(self._until - asked, _SLICE_SECONDS)
            as_of = "" if self._as_of is None else f"&as_of={self._as_of}"
            try:
                return self._opened(f"{address}?fresh={max(2, round(left))}{as_of}")
            except urllib.error.HTTPError as error:
                self._as_of = error.headers.get(AS_OF_HEADER, self._as_of)
                if error.code != 503 or AS_OF_HEADER not in error.headers or time.monotonic() >= self._until:
                    raise
                with error:
                    self._say(f"waiting for {self._url}: {_message(error).partition(';')[0]}")
                threading.Event().wait(max(0.0, asked + _PAUSE_SECONDS - time.monotonic()))

    def _opened(self, address: str) -> HTTPResponse:
        """Get an address past any proxy; the token goes to this host only."""
        request = urllib.request.Request(address)  # noqa: S310 - open_source lets only http and https in
        token = setting("IMITRACE_TOKEN")
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        answer: HTTPResponse = opener.open(request, timeout=_READ_SECONDS)
        self._as_of = answer.headers.get(AS_OF_HEADER, self._as_of)
        return answer


class _Tail:
    """A file that remembers how many bytes were read from it, and the last of them."""

    closed = False

    def __init__(self, file: HTTPResponse) -> None:
        self._file = file
        self.count, self.last = 0, b""

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(None if size < 0 else size)
        self.count += len(found)
        self.last = (self.last + found)[-len(_END_OF_STREAM) :]
        return found


def _arrow_batches(answer: HTTPResponse, address: str) -> Iterator[pl.DataFrame]:
    """Yield the tables of an Arrow stream; one that breaks off looks to Arrow as if it were at its end."""
    told = _Tail(answer)
    try:
        stream = pyarrow.ipc.open_stream(told)
        yield pl.DataFrame(stream.schema.empty_table())
        for batch in stream:
            yield pl.DataFrame(pyarrow.Table.from_batches([batch]))
    except (ArrowException, pl.exceptions.PolarsError) as error:
        while told.read(2**20):
            pass
        if told.last == _END_OF_STREAM:
            raise DatasetError(f"{address} sent no Arrow stream: {first_line(error)}") from error
    if told.last != _END_OF_STREAM:
        raise DatasetError(f"{address} sent {told.count} bytes that are no whole Arrow stream, try again")


def _refusal(address: str, error: urllib.error.HTTPError) -> str:
    told = f"{address} answers {error.code} {error.reason}, expected an Arrow stream"
    if error.code in (401, 403):
        return f"{told}; set IMITRACE_TOKEN to the collector's token"
    if PENDING_HEADER in error.headers:
        return f"{told}: {error.headers[PENDING_HEADER]} chunks are still to be derived; try again later"
    return told


def _message(error: urllib.error.HTTPError) -> str:
    try:
        return str(json.loads(error.read())["message"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return f"{error.headers.get(PENDING_HEADER)} chunks are still to be derived"
