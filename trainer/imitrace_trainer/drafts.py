"""Write a folder or a file aside, so that it appears whole or not at all; a killed writer's goes with the next one."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

DRAFT: Final = ".new-"
"""How the names of unfinished folders begin."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let no other writer in until it is done; makes the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # closing the file gives it back, and so does the process's death
        yield


@contextmanager
def draft(folder: Path) -> Iterator[Path]:
    """Yield a folder inside ``folder`` to write into, which is gone afterwards unless it was renamed."""
    aside = folder / f"{DRAFT}{secrets.token_hex(8)}"
    with locked(folder):
        _sweep(folder)
        aside.mkdir()
        descriptor = os.open(aside, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # the sign of life that _sweep looks for
    try:
        yield aside
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        os.close(descriptor)


def replace_text(path: Path, text: str) -> None:
    """Write a file aside and rename it, so that readers and crashes find the old text or the new one."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(text, encoding="utf-8")
    sync(aside)
    aside.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file, or which names a folder holds, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: Path) -> None:
    """Remove the unfinished folders whose writers died."""
    for stale in folder.glob(f"{DRAFT}*"):
        try:
            descriptor = os.open(stale, os.O_RDONLY)
        except FileNotFoundError:  # its writer gave up just now
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(stale, ignore_errors=True)
        except BlockingIOError:  # its writer lives
            continue
        finally:
            os.close(descriptor)
