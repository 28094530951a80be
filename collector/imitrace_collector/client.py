"""Talk to a running collector by HTTP, and find the one that runs on a workspace."""

import http.client
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from imitrace.exceptions import ConfigError, ImitraceError, StoreError, WireError
from imitrace_collector.config import AS_OF_HEADER, FRESH_SECONDS, PENDING_HEADER, RUNNING_FILE
from imitrace_collector.otlp import JSON, PROTOBUF
from imitrace_collector.tls import ClientTls

_ATTEMPTS = 30
_ALIVE_SECONDS = 3.0
_SLICE_SECONDS = 10.0
_PAUSE_SECONDS = 1.0


class CollectorClient:
    """Ask one collector; past any proxy, and with its token."""

    def __init__(
        self, endpoint: str, token: str | None = None, timeout: float = 120.0, tls: ClientTls | None = None
    ) -> None:
        """Take the collector's address.

        Args:
            endpoint: ``http://HOST:PORT`` or ``https://HOST:PORT``.
            token: bearer token, if the collector asks for one.
            timeout: seconds to wait for an answer.
            tls: what to trust and to show where the endpoint is https; None takes the system's authorities.

        Raises:
            ConfigError: the endpoint is no such address, or a TLS file can't be used.
        """
        self.endpoint = endpoint.rstrip("/")
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"endpoint is {endpoint!r}, expected http://HOST:PORT")
        self._tls = (tls or ClientTls()).context() if parts.scheme == "https" else None
        self._place = parts.netloc
        self._prefix = parts.path
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._timeout = timeout
        self.pending = 0
        """How many chunks the last answers lacked what follows from, the most; see ``freshness``."""
        self.tell: Callable[[str], None] = lambda text: None
        """Is told every few seconds why a read that must be fresh is not answered yet."""

    def get(self, path: str, **query: object) -> Any:  # JSON
        """Return what a path of the read API answers; with ``fresh`` as seconds it waits up to so long for all."""
        return json.loads(self._ask("GET", path, query))

    @contextmanager
    def stream(self, path: str, **query: object) -> Iterator[http.client.HTTPResponse]:
        """Open what a path of the read API answers, to be read piece by piece; ``fresh`` is as for ``get``."""
        connection = self._connection()
        patience = _Patience(query)
        try:
            while True:
                connection.request("GET", self._prefix + _asked(path, patience.query()), headers=self._headers)
                answer = connection.getresponse()
                if answer.status == 200:
                    break
                self._bear(patience, answer, answer.read())
            self._hear(answer)
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise StoreError(f"the answer of {self.endpoint} broke off: {error}; ask again") from error
        finally:
            connection.close()

    def post(self, path: str, body: object = None, **query: object) -> Any:  # JSON
        """Return what a path answers to a JSON body."""
        return json.loads(self._ask("POST", path, query, json.dumps(body).encode(), JSON))

    def export(self, path: str, body: bytes) -> bytes:
        """Send a protobuf export request; comes again while the collector's queue is full."""
        return self._ask("POST", path, {}, body, PROTOBUF)

    def _ask(
        self, method: str, path: str, query: Mapping[str, object], body: bytes | None = None, media_type: str = JSON
    ) -> bytes:
        patience = _Patience(query)
        while True:
            for _ in range(_ATTEMPTS):
                answer, content = self._once(method, _asked(path, patience.query()), body, media_type)
                if answer.status not in (429, 503) or _behind(answer) or answer.getheader("Retry-After") is None:
                    break
                threading.Event().wait(float(answer.getheader("Retry-After") or 1))
            if answer.status == 200:
                self._hear(answer)
                return content
            self._bear(patience, answer, content)

    def _bear(self, patience: "_Patience", answer: http.client.HTTPResponse, content: bytes) -> None:
        """Return where a read that is not answered yet should ask on.

        Raises:
            ImitraceError: it should not.
        """
        if not patience.goes_on(answer):
            raise refusal(answer, content, f"collector {self.endpoint} answers {answer.status}")
        patience.pause()
        self.tell(_message(content, answer.getheader("Content-Type") or "").partition(";")[0])

    def _hear(self, answer: http.client.HTTPResponse) -> None:
        told = answer.getheader(PENDING_HEADER, "")
        self.pending = max(self.pending, int(told) if told.isdecimal() else 0)

    def _connection(self) -> http.client.HTTPConnection:
        if self._tls is None:
            return http.client.HTTPConnection(self._place, timeout=self._timeout)
        return http.client.HTTPSConnection(self._place, timeout=self._timeout, context=self._tls)

    def _once(
        self, method: str, path: str, body: bytes | None, media_type: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = self._connection()
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # a refusal may come before all was read
                connection.request(method, self._prefix + path, body, self._headers | {"Content-Type": media_type})
            answer = connection.getresponse()
            return answer, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise StoreError(
                f"no collector answers at {self.endpoint}: {error}; start one by `imitrace collect`"
            ) from error
        finally:
            connection.close()


class _Patience:
    """Ask for a fresh answer again and again, each time for a short while: whoever waits hears how it goes."""

    def __init__(self, query: Mapping[str, object]) -> None:
        seconds = int(str(query.get("fresh") or 0))
        self._query = dict(query)
        self._asked = 0.0
        self._until = None if seconds == 0 else time.monotonic() + (FRESH_SECONDS if seconds == 1 else seconds)

    def query(self) -> Mapping[str, object]:
        """Return what to ask now."""
        if self._until is None:
            return self._query
        self._asked = time.monotonic()
        left = self._until - self._asked
        return self._query | {"fresh": max(2, round(min(left, _SLICE_SECONDS)))}

    def goes_on(self, answer: http.client.HTTPResponse) -> bool:
        """Return whether to ask again, now for no more than what there was at first."""
        if self._until is None or not _behind(answer) or time.monotonic() >= self._until:
            return False
        self._query["as_of"] = answer.getheader(AS_OF_HEADER)
        return True

    def pause(self) -> None:
        """Wait a little where the answer came at once, as it does where many wait already."""
        threading.Event().wait(max(0.0, self._asked + _PAUSE_SECONDS - time.monotonic()))


def _behind(answer: http.client.HTTPResponse) -> bool:
    return answer.status == 503 and answer.getheader(AS_OF_HEADER) is not None


def _asked(path: str, query: Mapping[str, object]) -> str:
    given = {name: value for name, value in query.items() if value is not None}
    return quote(path) + (f"?{urlencode(given)}" if given else "")


def running_collector(home: Path, token: str | None, tls: ClientTls | None = None) -> CollectorClient | None:
    """Return a client for the collector that holds ``home``'s store, or None when none runs.

    By TLS it is known by the certificate that it names in the workspace, whatever name that bears, or by ``tls``.
    """
    try:
        found = json.loads((home / RUNNING_FILE).read_text(encoding="utf-8"))
        tls = replace(tls or ClientTls(), check_name=False)
        if tls.ca is None and "certificate" in found:
            tls = replace(tls, ca=Path(found["certificate"]))
        client = CollectorClient(found["http"], token, _ALIVE_SECONDS, tls)
        alive = client.get("/healthz")["store"] == found["store"]
    except (OSError, ValueError, KeyError, TypeError, ImitraceError):
        return None
    return CollectorClient(found["http"], token, tls=tls) if alive else None


def refusal(answer: http.client.HTTPResponse, content: bytes, prefix: str) -> ImitraceError:
    """Return the error for an answer that is not 200, in the collector's own words."""
    message = f"{prefix}: {_message(content, answer.getheader('Content-Type') or '')}"
    if answer.status in (401, 403):
        return ConfigError(f"{message}; set IMITRACE_TOKEN to a token of the collector that may do this")
    return WireError(message) if answer.status in (400, 413, 415) else StoreError(message)


def _message(content: bytes, media_type: str) -> str:
    try:
        if media_type.startswith(PROTOBUF):
            return str(status_pb2.Status.FromString(content).message)
        return str(json.loads(content)["message"])
    except (DecodeError, ValueError, KeyError, TypeError):
        return content[:200].decode(errors="replace")
