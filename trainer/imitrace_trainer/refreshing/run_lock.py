"""Let one refresh of a clone run at a time: a lock that the kernel frees when its process dies, however it dies."""

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imitrace.exceptions import CloneError

_FILE = "lock"


@dataclass(frozen=True)
class Holder:
    """Who holds the lock, as far as it was written."""

    pid: int | None = None
    host: str = "unknown"
    started_at: str = "an unknown time"

    def __str__(self) -> str:
        """Name the process."""
        return f"process {self.pid or 'unknown'} on {self.host}, since {self.started_at}"


class LockedError(CloneError):
    """Report that another refresh of the clone runs."""


@contextmanager
def run_lock(folder: Path, clone: str) -> Iterator[None]:
    """Hold the lock of a clone's runs until it is done; makes the folder.

    Where several machines share the folder, their file system must carry locks from one to the other, as NFS 4 does.

    Raises:
        LockedError: another process holds it; it is named.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / _FILE).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LockedError(f"another refresh of {clone} runs: {holder(folder)}; wait for it, or end it") from error
        told = {"pid": os.getpid(), "host": socket.gethostname(), "started_at": datetime.now(UTC).isoformat()}
        file.truncate(0)
        file.write(json.dumps(told) + "\n")
        file.flush()
        yield


def held(folder: Path) -> bool:
    """Tell whether a refresh runs; changes nothing."""
    try:
        with (folder / _FILE).open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder(folder: Path) -> Holder:
    """Return who wrote the lock last."""
    try:
        return Holder(**json.loads((folder / _FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Holder()
