"""Take renewed certificates into use without a restart: what the files hold is what the next connection gets."""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path

from imitrace.exceptions import ConfigError
from imitrace_collector.logs import event
from imitrace_collector.tls import Credentials, server_credentials

_AGAIN_SECONDS = 10.0
"""After which files that could not be used are read again: they may be valid by now."""

Stamps = tuple[tuple[int, int, int] | None, ...]


class Renewal:
    """Hold a server's credentials, and read their files again when these change; used from any thread.

    Files that can't be used, as while only one of two is renewed, leave those in use that could.
    """

    def __init__(
        self,
        files: tuple[Path, Path, Path | None],
        tell: Callable[[bool], None] = lambda good: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the files: certificate, key and, if clients must show one of theirs, authorities.

        Args:
            files: in PEM.
            tell: is told of each renewal, and of each one that failed.
            clock: seconds.

        Raises:
            ConfigError: they can't be used.
        """
        self._files = files
        self._clock = clock
        self.tell = tell
        self._lock = threading.Lock()
        self._stamps = self._look()
        self._again = float("inf")
        self._why = ""
        self._current = server_credentials(*files)
        self.context = _Newest(ssl.PROTOCOL_TLS_SERVER)
        """For servers that take one context once and for all."""
        self.context.newest = lambda: self.current().context

    @property
    def asks_clients(self) -> bool:
        """Return whether clients must show a certificate."""
        return self._files[2] is not None

    def current(self) -> Credentials:
        """Return the credentials for a connection that begins now."""
        with self._lock:
            stamps = self._look()
            if stamps != self._stamps or self._clock() >= self._again:
                self._renew(stamps)
            return self._current

    def _renew(self, stamps: Stamps) -> None:
        self._stamps = stamps  # taken before the files are read: what changes meanwhile is seen the next time
        try:
            self._current = server_credentials(*self._files)
        except (ConfigError, OSError) as error:
            self._again = self._clock() + _AGAIN_SECONDS
            if str(error) != self._why:
                self._why = str(error)
                event(logging.ERROR, "renewed certificate can't be used, the old one stays", error=self._why)
            self.tell(False)
            return
        self._again, self._why = float("inf"), ""
        event(logging.INFO, "certificate renewed", certificate=self._files[0])
        self.tell(True)

    def _look(self) -> Stamps:
        return tuple(_stamp(path) for path in self._files)


class _Newest(ssl.SSLContext):
    """A context that lets the newest one make each connection."""

    newest: Callable[[], ssl.SSLContext]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        """Begin a connection, as event loops do."""
        return self.newest().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _stamp(path: Path | None) -> tuple[int, int, int] | None:
    try:
        found = None if path is None else path.stat()
    except OSError:
        return None
    return None if found is None else (found.st_mtime_ns, found.st_size, found.st_ino)
