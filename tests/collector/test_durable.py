import errno
import os
from pathlib import Path

import pytest

from imitrace.exceptions import StoreError
from imitrace_collector.durable import forget, keep_aside, need_room, put_in_place, sha256


def test_a_file_is_put_in_the_place_of_another(tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "old").write_text("old")
    put_in_place(tmp_path / "new", tmp_path / "old")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old", "new")]


def test_what_is_kept_aside_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "b").write_text("b")
    with pytest.raises(StoreError, match=r"b is there already and would be overwritten; move it away"):
        keep_aside(tmp_path / "a", tmp_path / "b")


@pytest.mark.parametrize("links", [True, False])
def test_a_file_is_kept_aside_with_and_without_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("a")
    keep_aside(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").read_text() == "a"
    assert (tmp_path / "b").samefile(tmp_path / "a") is links


def test_a_full_disk_is_told_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"has \d+ bytes free, this needs \d+; delete something first"):
        need_room(tmp_path, 2**60)
    need_room(tmp_path, 0)


def test_a_file_is_forgotten_with_its_log(tmp_path: Path) -> None:
    for name in ("s", "s.wal", "other"):
        (tmp_path / name).write_text("")
    forget(tmp_path / "s")
    forget(tmp_path / "s")
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_a_hash_is_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")
