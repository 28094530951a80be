"""Make files and their names survive a power loss."""

import errno
import hashlib
import os
import shutil
from pathlib import Path

from imitrace.exceptions import StoreError

_MARGIN = 64 * 1024 * 1024


def sync(path: Path) -> None:
    """Return once a file's content, or a folder's names, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def put_in_place(aside: Path, path: Path) -> None:
    """Give a whole file, or folder, its name; what had that name before is gone, and no moment is without one."""
    sync(aside)
    aside.replace(path)
    sync(path.parent)


def keep_aside(path: Path, kept: Path) -> None:
    """Give a file a second name; where the file system knows no links, copy it.

    Raises:
        StoreError: there is something of that name.
    """
    if kept.exists():
        raise StoreError(f"{kept} is there already and would be overwritten; move it away, or delete it")
    try:
        os.link(path, kept)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EACCES):
            raise
        shutil.copy2(path, kept)
        sync(kept)
    sync(kept.parent)


def forget(path: Path) -> None:
    """Delete a store file that is not whole, with what belongs to it."""
    for name in (path.name, f"{path.name}.wal"):
        path.with_name(name).unlink(missing_ok=True)


def need_room(folder: Path, wanted: int) -> None:
    """Refuse to begin what the disk has no room for.

    Raises:
        StoreError: fewer than ``wanted`` bytes, and some more, are free.
    """
    free = shutil.disk_usage(folder).free
    if free < wanted + _MARGIN:
        raise StoreError(
            f"the disk of {folder} has {free} bytes free, this needs {wanted + _MARGIN}; delete something first"
        )


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
