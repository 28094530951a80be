"""Give space back to the disk: write what is left into a new file and put it in the old one's place."""

import threading
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from imitrace.exceptions import StoreError
from imitrace_collector.copying import copy_everything, copy_rest, used_bytes
from imitrace_collector.derive import derive_all
from imitrace_collector.durable import forget, need_room
from imitrace_collector.store import Store

_SMALL_REST = 64
"""Chunks that may be left to copy while nobody writes."""
_LEAST_FREE = 8 * 1024 * 1024
_PASSES = 20
_TRIES = 120
_PATIENCE = 0.5
_PAUSE = 1.0


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """How many bytes the store's file had before, and has now."""

    before: int
    after: int


def compact(store: Store) -> Compacted:
    """Write a store anew without what was deleted, and go on with the new file.

    It may be read and written to meanwhile. Only for the last, short part are all kept waiting, at a moment when nobody
    reads. A crash at any point leaves one whole store.

    Raises:
        StoreError: the disk has no room for a second file, or readers never left.
    """
    with store.maintenance:
        before = store.path.stat().st_size
        need_room(store.path.parent, used_bytes(store)[0])
        aside = store.path.with_name(f"{store.path.name}.compacting")
        try:
            last = copy_everything(store, aside, named_only=True)
            _replace(store, aside, _nearly_all(store, aside, last))
        finally:
            forget(aside)
        return Compacted(before=before, after=store.path.stat().st_size)


def worth_compacting(store: Store, share: float) -> bool:
    """Return whether at least this share of the store's file, and a few megabytes, are free inside it."""
    used, free = used_bytes(store)
    return free > max(share * (used + free), _LEAST_FREE)


def _nearly_all(store: Store, aside: Path, last: int) -> int:
    """Copy what comes in meanwhile until little is left, and return the last chunk that was copied."""
    for _ in range(_PASSES):
        _derive(aside)
        before = last
        with store.entered(), closing(store.connected()) as connection:
            last = copy_rest(connection, aside, last)
        if last - before <= _SMALL_REST:
            break
    _derive(aside)
    return last


def _replace(store: Store, aside: Path, last: int) -> None:
    for _ in range(_TRIES):
        store.checkpoint()  # now, for nobody waits yet
        with store.deriving, store.gate.alone(_PATIENCE) as alone:
            if alone:
                with closing(store.connected()) as connection:
                    copy_rest(connection, aside, last)
                _derive(aside)  # at least as far as the old file: what a reader has seen stays
                store.replace_file(aside)
                return
        threading.Event().wait(_PAUSE)
        last = _nearly_all(store, aside, last)
    raise StoreError(f"store {store.path} was read all the time, so its file could not be replaced; compact it later")


def _derive(aside: Path) -> None:
    with Store.open(aside) as store:
        with store.session() as session:
            derive_all(session)
        store.checkpoint()
