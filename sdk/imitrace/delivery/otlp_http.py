"""Carry OTLP requests over HTTP/1.1, each within a time limit that holds from the first byte to the last.

The standard library's client leaves the socket to us; the limit of ``requests`` starts anew with every byte received.
"""

import base64
import io
import socket
import ssl
import threading
import time
import urllib.request
import zlib
from contextlib import suppress
from gzip import compress as gzip
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection, RemoteDisconnected
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit

from imitrace.delivery.transports import MAX_ANSWER, Answer, Connection, Signal, accepted, retry_after, shown

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_LATER = frozenset((429, 502, 503, 504))
_MENDABLE = frozenset((301, 302, 307, 308, 401, 403, 404, 407, 500))
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
_GZIP_LEVEL = 5
_PIECE = 2**16


class HttpTransport:
    """Posts requests of one signal over a connection that is kept; redirects are not followed."""

    def __init__(self, connection: Connection, signal: Signal) -> None:
        self._connection = connection
        self._signal = signal
        self._address = urlsplit(connection.address.rstrip("/") + f"/v1/{signal}")
        self._proxy = _proxy_for(self._address)
        self._tls: ssl.SSLContext | None = None
        self._http: HTTPConnection | None = None
        self._lock = threading.Lock()
        self._socket: _TimedSocket | None = None
        self._busy = self._closed = False

    def post(self, body: bytes, timeout: float) -> Answer:
        """Carry a request within ``timeout`` seconds in all; never raise."""
        with self._lock:
            if self._closed:
                return Answer("later", "closed")
            self._busy = True
        until = time.monotonic() + timeout
        try:
            return self._post(_compressed(body, self._connection.compression), until)
        except (OSError, HTTPException) as error:
            self._drop()
            return Answer("later", shown(f"{type(error).__name__}: {error}"))
        except ValueError as error:  # a header or an address that can't be written down
            self._drop()
            return Answer("refused", shown(f"{type(error).__name__}: {error}"))
        finally:
            self._leave()

    def close(self) -> None:
        """Break off a try in progress; later ones end at once."""
        with self._lock:
            self._closed = True
            if self._socket is not None:
                self._socket.break_off()
            busy = self._busy
        if not busy:
            self._drop()

    def _leave(self) -> None:
        with self._lock:
            self._busy = False
            closed = self._closed
        if closed:
            self._drop()

    def _post(self, body: bytes, until: float) -> Answer:
        kept = self._http is not None and self._http.sock is not None
        try:
            response = self._exchange(body, until)
        except (RemoteDisconnected, ConnectionError):
            if not kept:
                raise
            self._drop()  # the collector closed the connection while it was idle
            response = self._exchange(body, until)
        text = response.read(MAX_ANSWER)
        if not response.isclosed():  # there is more than we want to read
            self._drop()
        return self._judge(response, text)

    def _exchange(self, body: bytes, until: float) -> HTTPResponse:
        http = self._open(until)
        with suppress(BrokenPipeError, ConnectionResetError):  # it may answer before it has read all, and say why
            http.request("POST", self._target(), body, self._headers())
        return http.getresponse()

    def _judge(self, response: HTTPResponse, text: bytes) -> Answer:
        kind = (response.headers.get_content_type() or "").lower()
        if 200 <= response.status < 300:
            if kind == "text/html":
                return Answer("later", f"{response.status} with a web page: no OTLP collector listens there")
            return accepted(self._signal, text)
        reason = f"{response.status} {shown(response.reason)} {_reason(kind, text)}".strip()
        if response.status in _LATER:
            return Answer("later", reason, delay=retry_after(response.headers.get("retry-after")))
        return Answer("refused", reason, mendable=response.status in _MENDABLE)

    def _open(self, until: float) -> HTTPConnection:
        if self._http is None or self._http.sock is None:
            http = self._make(max(0.001, until - time.monotonic()))
            http.connect()
            with self._lock:
                timed = _TimedSocket(http.sock)
                http.sock = timed  # it does what http.client asks of a socket
                self._http, self._socket = http, timed
                if self._closed:
                    timed.break_off()
        if self._socket is not None:
            self._socket.until = until
        return self._http

    def _make(self, timeout: float) -> HTTPConnection:
        server, via = self._address, self._proxy or self._address
        if server.scheme == "http":
            return HTTPConnection(via.hostname or "", via.port, timeout)
        self._tls = self._tls or _tls(self._connection)
        if self._proxy is None:
            return HTTPSConnection(server.hostname or "", server.port, timeout=timeout, context=self._tls)
        https = HTTPSConnection(via.hostname or "", via.port or 80, timeout=timeout, context=self._tls)
        https.set_tunnel(server.hostname or "", server.port or 443, _login("proxy-authorization", via))
        return https

    def _target(self) -> str:
        """Return the path, or for a proxy that is no tunnel the whole address."""
        if self._proxy is not None and self._address.scheme == "http":
            return self._address._replace(netloc=self._address.netloc.rpartition("@")[2]).geturl()
        return self._address.path

    def _headers(self) -> dict[str, str]:
        headers = {"content-type": "application/x-protobuf", "user-agent": "imitrace"}
        if self._connection.compression != "none":
            headers["content-encoding"] = self._connection.compression
        if self._proxy is not None and self._address.scheme == "http":
            headers |= _login("proxy-authorization", self._proxy)
        return headers | _login("authorization", self._address) | dict(self._connection.headers)

    def _drop(self) -> None:
        with self._lock:
            http, self._http, self._socket = self._http, None, None
        if http is not None:
            http.close()


class _TimedSocket:
    """A connected socket as http.client uses it, on which all reads and writes together end at ``until``."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._users = 1
        self.until = 0.0

    def sendall(self, data: Any) -> None:  # bytes, as http.client joins them
        view = memoryview(data)
        while view:
            self._arm()
            view = view[self._socket.send(view[:_PIECE]) :]

    def recv_into(self, buffer: "WriteableBuffer") -> int:
        self._arm()
        return self._socket.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        self._users += 1  # http.client closes the socket before it reads an answer that ends with the connection
        return io.BufferedReader(_Reader(self))

    def break_off(self) -> None:
        with suppress(OSError):  # the plain socket's way; a TLS socket's takes the session from the thread that reads
            socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def close(self) -> None:
        self._users -= 1
        if self._users == 0:
            self._socket.close()

    def _arm(self) -> None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise time_over()
        self._socket.settimeout(left)


class _Reader(io.RawIOBase):
    def __init__(self, source: _TimedSocket) -> None:
        self._source = source

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        return self._source.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._source.close()


def time_over() -> TimeoutError:
    """Return the error that http.client expects of a socket."""
    return TimeoutError("the time for this request is over")


def _compressed(body: bytes, compression: str) -> bytes:
    if compression == "gzip":
        return gzip(body, _GZIP_LEVEL)
    return zlib.compress(body) if compression == "deflate" else body


def _reason(kind: str, text: bytes) -> str:
    """Return what the body of an error says: a status message, or plain text."""
    if kind != "application/x-protobuf":
        return shown(text.decode("utf-8", "replace"))
    from google.protobuf.message import DecodeError
    from google.rpc.status_pb2 import Status

    try:
        return shown(Status.FromString(text).message)
    except DecodeError:
        return ""


def _tls(connection: Connection) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=connection.certificate)
    if connection.certificate is None:
        with suppress(ModuleNotFoundError):  # some systems come without any authorities
            import certifi

            context.load_verify_locations(certifi.where())
    if connection.client_certificate is not None:
        context.load_cert_chain(connection.client_certificate, connection.client_key)
    return context


def _proxy_for(address: SplitResult) -> SplitResult | None:
    """Return the proxy that the system names for an address; never one for our own machine."""
    host = address.hostname or ""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if not proxy or host in _LOOPBACK or urllib.request.proxy_bypass(host):
        return None
    return urlsplit(proxy if "://" in proxy else f"http://{proxy}")


def _login(header: str, address: SplitResult) -> dict[str, str]:
    """Return the header that a name and a password within an address stand for."""
    if not address.username:
        return {}
    login = f"{unquote(address.username)}:{unquote(address.password or '')}"
    return {header: "Basic " + base64.b64encode(login.encode()).decode()}
