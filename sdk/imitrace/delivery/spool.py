"""Keep encoded requests on disk until the collector has answered for them.

A spool is a folder of segments. A segment is a file that one process appends requests to and that one process at a
time reads, the one that holds its lock: its maker, or once that has died whoever comes first. It begins with a mark and
the position up to which everything is delivered; then come requests, each with length, checksum, signal and count.
What a crash left half written ends a segment.
"""

import itertools
import os
import struct
import sys
import threading
import time
import zlib
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, get_args
from urllib.parse import quote

from imitrace.delivery.transports import Signal
from imitrace.exceptions import ConfigError
from imitrace.faults import Faults

_MARK = b"imitrace spool 1"
_POSITION = struct.Struct("<QI")
_FRAME = struct.Struct("<IIBI")
_START = len(_MARK) + _POSITION.size
_SIGNALS: tuple[Signal, ...] = get_args(Signal)
_SUFFIX = ".spool"
_ABANDONED_SECONDS = 60.0
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class SpoolConfig:
    """Where requests wait, and how many bytes of them."""

    folder: Path
    """Folder that the processes of one agent share: ``spool_folder(home, agent)``."""
    max_bytes: int = 256 * 2**20
    """Bytes on disk, of all processes; beyond, the newest records are dropped and counted."""
    segment_bytes: int = 8 * 2**20
    """Bytes after which a new file is begun; a file is deleted when all of it is delivered."""
    refused_bytes: int = 32 * 2**20
    """Bytes of refused requests that are set aside in ``refused/``; beyond, the newest are not kept."""

    def __post_init__(self) -> None:
        if sys.platform == "win32":
            raise ConfigError("lossless is on, allowed: where files can be locked, on Linux and macOS; leave it out")


class Stored(NamedTuple):
    """A request as it lies in a segment."""

    signal: Signal
    records: int
    body: bytes
    end: int
    """Position after it."""


def spool_folder(home: Path, agent: str) -> Path:
    """Return the folder for an agent's spool within the workspace, whatever characters its name has."""
    return home / "spool" / quote(agent, safe="").replace(".", "%2E")


class Segment:
    """One file of a spool, locked by this process."""

    def __init__(self, path: Path, file: int, size: int, own: bool) -> None:
        self.path = path
        self.own = own
        self.sealed = not own
        """Whether nothing more will be appended."""
        self.size = size
        self.appended: Counter[Signal] = Counter()
        """Records appended by this process; only the thread that appends changes it."""
        self.settled: Counter[Signal] = Counter()
        """Records read and acknowledged; only the thread that reads changes it."""
        self._file = file
        self._position = _START if own else _read_position(file, size)

    @classmethod
    def make(cls, folder: Path) -> "Segment":
        """Make a new segment for this process.

        Raises:
            OSError: the folder can't be written.
        """
        path = folder / f"{_name()}{_SUFFIX}"
        unlocked = path.with_suffix(".part")  # takes its name when it is locked, or another would adopt it before that
        file = os.open(unlocked, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            _lock(file)
            _write(file, _MARK + _packed(_START), 0)
            os.fsync(file)
            unlocked.rename(path)
            _sync_folder(folder)
        except OSError:
            os.close(file)
            unlocked.unlink(missing_ok=True)
            raise
        return cls(path, file, _START, own=True)

    @classmethod
    def adopt(cls, path: Path) -> "Segment | None":
        """Return a segment whose process has died; None when it is in use, gone or none of ours."""
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            _lock(file)
            status = os.fstat(file)
            marked = os.pread(file, len(_MARK), 0)
        except OSError:
            os.close(file)
            return None
        if status.st_nlink and marked == _MARK:
            return cls(path, file, status.st_size, own=False)
        os.close(file)
        return None

    def append(self, signal: Signal, records: int, body: bytes) -> None:
        """Write a request and wait until it is on the disk.

        Raises:
            OSError: it can't be written; the segment takes no more.
        """
        kind = _SIGNALS.index(signal)
        frame = _FRAME.pack(len(body), _checksum(kind, records, body), kind, records) + body
        try:
            _write(self._file, frame, self.size)
            os.fsync(self._file)
        except OSError:
            self.sealed = True
            with suppress(OSError):
                os.ftruncate(self._file, self.size)
            raise
        self.appended[signal] += records
        self.size += len(frame)

    def read(self) -> tuple[Stored | None, bool]:
        """Return the oldest request that is not delivered, and whether something broken was passed over."""
        broken = False
        while self._position + _FRAME.size <= self.size:
            length, checksum, kind, records = _FRAME.unpack(os.pread(self._file, _FRAME.size, self._position))
            end = self._position + _FRAME.size + length
            if end > self.size:
                break
            body = os.pread(self._file, length, self._position + _FRAME.size)
            if kind < len(_SIGNALS) and _checksum(kind, records, body) == checksum:
                return Stored(_SIGNALS[kind], records, body, end), broken
            self._position, broken = end, True
        if self.sealed and self._position < self.size:
            self._position, broken = self.size, True
        return None, broken

    def acknowledge(self, request: Stored) -> None:
        """Remember that a request is delivered; a position that is lost only means that it is sent again."""
        self._position = request.end
        self.settled[request.signal] += request.records
        with suppress(OSError):
            _write(self._file, _packed(self._position), len(_MARK))

    def is_done(self) -> bool:
        """Return whether all of it is delivered."""
        return self._position >= self.size

    def close(self) -> None:
        """Let go of the file, and delete it when all of it is delivered."""
        if self.is_done():
            with suppress(OSError):
                self.path.unlink()
        self.forget()

    def forget(self) -> None:
        """Close the file and nothing else: a forked child's copy of its parent's segment."""
        os.close(self._file)


class Spool:
    """The folder: any thread may append, one thread reads, and many processes share it."""

    def __init__(self, config: SpoolConfig, faults: Faults) -> None:
        self._config = config
        self._faults = faults
        self._lock = threading.Lock()
        self._own: deque[Segment] = deque()
        self._adopted: Segment | None = None
        self._closed = False
        self.vanished: Counter[Signal] = Counter()
        """Records of this process that the disk did not give back."""

    def append(self, signal: Signal, records: int, body: bytes) -> bool:
        """Keep a request; return False when the spool is full or closed.

        Raises:
            OSError: the disk is full or the folder can't be written.
        """
        with self._lock:
            if self._closed or self._bytes_on_disk() + _FRAME.size + len(body) > self._config.max_bytes:
                return False
            self._open_segment().append(signal, records, body)
            return True

    def is_empty(self) -> bool:
        """Return whether there is nothing to deliver, neither of ours nor of another process."""
        return not self._own and self._adopted is None and not any(self._segments())

    def oldest(self) -> tuple[Segment, Stored] | None:
        """Return the next request to deliver: first what processes that have died left, then our own."""
        while segment := self._adopted or self._adopt():
            self._adopted = segment
            if request := self._read(segment):
                return segment, request
            segment.close()
            self._adopted = None
        while self._own:
            segment = self._own[0]
            if request := self._read(segment):
                return segment, request
            if not segment.sealed:
                return None
            if segment.is_done():  # looked at again: it may have grown before it was sealed
                self._own.popleft()
                self.vanished += segment.appended - segment.settled
                segment.close()
        return None

    def set_aside(self, request: Stored) -> None:
        """Keep a request that the collector refuses, as a file of OTLP that can be looked at or posted again."""
        folder = self._config.folder / "refused"
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            if sum(_size(path) for path in folder.iterdir()) + len(request.body) > self._config.refused_bytes:
                self._faults.count("refused_not_kept", f"{folder} has {self._config.refused_bytes} bytes; empty it")
                return
            path = folder / f"{_name()}.{request.signal}.otlp.pb"
            file = os.open(path.with_suffix(".part"), os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as stream:
                stream.write(request.body)
                stream.flush()
                os.fsync(file)
            path.with_suffix(".part").rename(path)
        except OSError as error:
            self._faults.count("refused_not_kept", f"{folder}: {error}")

    def close(self) -> None:
        """Let go of all segments; those with something left wait for the next process."""
        with self._lock:
            self._closed = True
            for segment in self._held():
                segment.close()
            self._own.clear()
            self._adopted = None

    def forget(self) -> None:
        """Leave all segments to the parent process."""
        for segment in self._held():
            segment.forget()

    def _held(self) -> list[Segment]:
        return [*self._own, *([self._adopted] if self._adopted else [])]

    def _open_segment(self) -> Segment:
        last = self._own[-1] if self._own else None
        if last is not None and not last.sealed:
            if last.size < self._config.segment_bytes:
                return last
            last.sealed = True
        folder = self._config.folder
        if not folder.is_dir():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync_folder(folder.parent)
        _sweep(folder)
        self._own.append(Segment.make(folder))
        return self._own[-1]

    def _read(self, segment: Segment) -> Stored | None:
        request, broken = segment.read()
        if broken:
            self._faults.count("spool_torn", f"{segment.path} has a request that was not written to its end; skipped")
        return request

    def _adopt(self) -> Segment | None:
        ours = {segment.path for segment in tuple(self._own)}
        strangers = (path for path in self._segments() if path not in ours)
        return next((segment for path in strangers if (segment := Segment.adopt(path))), None)

    def _segments(self) -> Iterator[Path]:
        """Yield all segments' paths, oldest first."""
        try:
            yield from sorted(path for path in self._config.folder.iterdir() if path.suffix == _SUFFIX)
        except OSError:
            return

    def _bytes_on_disk(self) -> int:
        return sum(map(_size, self._segments()))


def _name() -> str:
    """Return a name that no other has, and that sorts by age."""
    return f"{time.time_ns():020d}-{os.getpid()}-{next(_numbers)}"


def _checksum(kind: int, records: int, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(struct.pack("<BI", kind, records)))


def _packed(position: int) -> bytes:
    return _POSITION.pack(position, zlib.crc32(position.to_bytes(8, "little")))


def _read_position(file: int, size: int) -> int:
    """Return the position up to which everything is delivered; the start when it can't be trusted."""
    packed = os.pread(file, _POSITION.size, len(_MARK))
    position = int.from_bytes(packed[:8], "little")
    return position if packed == _packed(position) and _START <= position <= size else _START


def _lock(file: int) -> None:
    """Lock a file for this process, or raise: a lock ends with its process, whatever ends that."""
    import fcntl  # Unix has it, and Windows is told at the door

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _write(file: int, data: bytes, position: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, position)
        view, position = view[written:], position + written


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # another process has delivered and deleted it
        return 0


def _sweep(folder: Path) -> None:
    """Delete what processes that were killed while they made a segment have left; it never held a request."""
    for path in folder.glob("*.part"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()


def _sync_folder(folder: Path) -> None:
    file = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
