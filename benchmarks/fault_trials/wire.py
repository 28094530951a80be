"""Talk to a port in raw bytes, and say in a word what came back."""

import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

CLOSED, SILENT, OPEN, REFUSED = "closed", "no answer", "still open", "connection refused"
_CHUNK = 65536


class Target(NamedTuple):
    http: tuple[str, int]
    grpc: tuple[str, int]
    limit: float
    """Seconds to wait for an answer."""


def place(address: str) -> tuple[str, int]:
    host, _, port = address.removeprefix("http://").rpartition(":")
    return host, int(port)


def head(path: str, *fields: str, method: str = "POST") -> bytes:
    """Return the head of a request with these header lines."""
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: localhost", *fields, "", ""]).encode("latin-1")


def post(
    target: Target, path: str, body: bytes, media_type: str = "application/x-protobuf", *fields: str
) -> Counter[str]:
    """Send a well-formed request around any body, and count the answer."""
    length = f"Content-Length: {len(body)}"
    return Counter([exchange(target, [head(path, f"Content-Type: {media_type}", length, *fields), body])])


def exchange(target: Target, parts: Iterable[bytes], *, port: tuple[str, int] | None = None) -> str:
    """Send parts until there is an answer or the other side closes, and return the status or a word."""
    try:
        with socket.create_connection(port or target.http, timeout=target.limit) as connection:
            _send(connection, parts)
            return answer(connection)
    except ConnectionRefusedError:
        return REFUSED
    except TimeoutError:
        return SILENT
    except OSError:
        return CLOSED


def _send(connection: socket.socket, parts: Iterable[bytes]) -> None:
    """Send until something comes back; what breaks is for ``answer`` to find."""
    for part in parts:
        for start in range(0, len(part), _CHUNK):
            if select.select([connection], [], [], 0)[0]:
                return
            try:
                connection.sendall(part[start : start + _CHUNK])
            except (BrokenPipeError, ConnectionResetError):
                return


def answer(connection: socket.socket) -> str:
    """Return the status code of what comes next, or a word."""
    try:
        line = connection.recv(64)
    except TimeoutError:
        return SILENT
    except OSError:
        return CLOSED
    if not line:
        return CLOSED
    return line.split()[1].decode("latin-1") if line.startswith(b"HTTP/1") else "other bytes"


def drip(target: Target, beginning: bytes, count: int, seconds: float, each: float = 1.0) -> Counter[str]:
    """Open many connections and send a byte on each now and then; count what became of them."""
    connections = _open(target.http, count)
    words = Counter({REFUSED: count - len(connections)}) if len(connections) < count else Counter[str]()
    pause, until = threading.Event(), time.monotonic() + seconds
    for connection in connections:
        _try_to_send(connection, beginning)
    while connections and time.monotonic() < until:
        pause.wait(min(each, max(0.0, until - time.monotonic())))
        answered = set(select.select(connections, [], [], 0)[0]) if len(connections) < 1000 else set()
        for connection in answered:
            words[answer(connection)] += 1
            connection.close()
        connections = [found for found in connections if found not in answered]
        for connection in connections:
            _try_to_send(connection, b"a")
    for connection in connections:
        words[OPEN] += 1
        connection.close()
    return words


def _open(port: tuple[str, int], count: int) -> list[socket.socket]:
    connections = []
    for _ in range(count):
        try:
            connections.append(socket.create_connection(port, timeout=5))
        except OSError:
            break
    return connections


def _try_to_send(connection: socket.socket, data: bytes) -> None:
    try:
        connection.sendall(data)
    except OSError:  # found out when it is read
        return


def never_read(target: Target, request: bytes, count: int, seconds: float) -> Counter[str]:
    """Ask on many connections and read nothing of the answers."""
    connections: Sequence[socket.socket] = _open(target.http, count)
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        _try_to_send(connection, request)
    threading.Event().wait(seconds)
    for connection in connections:
        connection.close()
    return Counter({"never read": len(connections)})
