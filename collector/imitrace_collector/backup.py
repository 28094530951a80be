"""Copy a store while it is written to, and put such a copy back."""

import json
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imitrace.exceptions import StoreError
from imitrace.schema import SCHEMA_VERSION
from imitrace_collector.copying import copy_everything, counts, used_bytes
from imitrace_collector.durable import forget, keep_aside, need_room, put_in_place, sha256, sync
from imitrace_collector.store import Store
from imitrace_collector.store_files import STORE_VERSION, StoreHeldError

MANIFEST = "manifest.json"
BACKUP_FILE = "traces.duckdb"


def write_backup(store: Store, target: Path, now: datetime) -> dict[str, Any]:
    """Write one consistent view of a store into a new folder below ``target``; ingest goes on meanwhile.

    The folder is written under a name with a leading dot and renamed when it is whole and on the disk.

    Args:
        store: may be read and written to meanwhile.
        target: where backups are kept, best on another disk; made when absent.
        now: names the folder, in UTC.

    Returns:
        ``path``, the folder, and ``manifest``, what ``manifest.json`` in it says.

    Raises:
        StoreError: the disk has no room, or can't be written.
    """
    with store.maintenance:
        folder = target / f"{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}"
        aside = target / f".{folder.name}"
        try:
            aside.mkdir(parents=True)
            need_room(target, used_bytes(store)[0])
            manifest = _write(store, aside, now)
            put_in_place(aside, folder)
        except OSError as error:
            raise StoreError(f"backup {folder} can't be written: {error.strerror}; name another folder") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return {"path": str(folder.absolute()), "manifest": manifest}


def _write(store: Store, folder: Path, now: datetime) -> dict[str, Any]:
    copy = folder / BACKUP_FILE
    copy_everything(store, copy)
    with Store.open(copy, read_only=True) as copied:
        found = counts(copied)
    manifest = {
        "store_version": STORE_VERSION,
        "schema_version": SCHEMA_VERSION,
        "created_at": now.astimezone(UTC).isoformat(),
        "counts": found,
        "bytes": copy.stat().st_size,
        "sha256": sha256(copy),
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    sync(folder / MANIFEST)
    return manifest


def restore(backup: Path, path: Path, now: datetime, *, force: bool = False) -> dict[str, Any]:
    """Put a backup's store in place, after its hash and its counts are checked.

    Args:
        backup: a folder that ``write_backup`` made.
        path: where the store is to be; no collector may run on it.
        now: names what was there before.
        force: take the place of a store that is there; it is kept beside it.

    Returns:
        ``path``; ``kept``, where the former store is now, or None; ``counts``, the rows of each table.

    Raises:
        StoreError: the backup is not whole, a store is there, or a process holds it.
    """
    manifest = _read_manifest(backup)
    if path.exists() and not force:
        raise StoreError(f"there is a store at {path}; name another --home, or say --force to put it aside")
    path.parent.mkdir(parents=True, exist_ok=True)
    need_room(path.parent, manifest["bytes"])
    aside = path.with_name(f"{path.name}.restoring")
    try:
        forget(aside)
        shutil.copyfile(backup / BACKUP_FILE, aside)
        _check(aside, manifest, backup)
        kept = _put_aside(path, now) if path.exists() else None
        put_in_place(aside, path)
    finally:
        forget(aside)
    return {"path": str(path.absolute()), "kept": kept and str(kept.absolute()), "counts": manifest["counts"]}


def _read_manifest(backup: Path) -> Mapping[str, Any]:
    try:
        manifest = json.loads((backup / MANIFEST).read_text(encoding="utf-8"))
        if isinstance(manifest, dict) and isinstance(manifest["bytes"], int) and isinstance(manifest["counts"], dict):
            return manifest | {"sha256": str(manifest["sha256"])}
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise StoreError(f"{backup} is not a backup: {MANIFEST} can't be read: {error}") from error
    raise StoreError(f"{backup} is not a backup: {MANIFEST} has no bytes or counts; name a folder of `imitrace backup`")


def _check(copy: Path, manifest: Mapping[str, Any], backup: Path) -> None:
    found = sha256(copy)
    if found != manifest["sha256"]:
        raise StoreError(f"backup {backup} has SHA-256 {found}, its manifest {manifest['sha256']}; take another backup")
    with Store.open(copy, read_only=True) as store:
        rows = counts(store)
    if rows != manifest["counts"]:
        raise StoreError(
            f"backup {backup} has rows {rows}, its manifest says {manifest['counts']}; take another backup"
        )


def _put_aside(path: Path, now: datetime) -> Path:
    """Keep the former store under another name, whole or broken as it is."""
    kept = path.with_name(f"{path.name}.{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}")
    log = path.with_name(f"{path.name}.wal")
    try:
        with Store.open(path, create=False, older=True) as store:
            store.checkpoint()
    except StoreHeldError:
        raise
    except StoreError:  # a broken store is what one restores for
        pass
    if log.exists():  # it is of the former store, and would be replayed on the restored one
        keep_aside(log, kept.with_name(f"{kept.name}.wal"))
    keep_aside(path, kept)
    log.unlink(missing_ok=True)
    return kept
