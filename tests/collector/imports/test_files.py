import gzip
import json
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from imitrace.exceptions import ConfigError
from imitrace_collector.imports.conversations import Broken, Row, time_of
from imitrace_collector.imports.files import rows


def read(path: Path) -> list[tuple[str, object]]:
    return [(row.place, row.value if isinstance(row, Row) else row.reason) for row in rows(path)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"a": 1}\n\n{"a": 2}\n', [("line 1", {"a": 1}), ("line 3", {"a": 2})]),
        ('{"a": 1}', [("line 1", {"a": 1})]),
        ('[{"a": 1}, {"a": 2}]', [("item 1", {"a": 1}), ("item 2", {"a": 2})]),
        ('[\n{"a": 1},\n{"a": 2}\n]', [("item 1", {"a": 1}), ("item 2", {"a": 2})]),
        ('{\n "a": 1\n}', [("line 1", {"a": 1})]),
        ('\ufeff{\n "data": [{"a": 1}],\n "meta": {}\n}', [("item 1", {"a": 1})]),
        ('{"id": 1, "data": [{"a": 1}]}', [("line 1", {"id": 1, "data": [{"a": 1}]})]),
        ("", []),
        ("\n \n", []),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_lines_and_documents_are_told_apart(
    tmp_path: Path, text: str, found: list[tuple[str, object]], packed: bool
) -> None:
    data = text.encode()
    (tmp_path / "a").write_bytes(gzip.compress(data) if packed else data)
    assert read(tmp_path / "a") == found


def test_a_broken_first_line_makes_no_document_of_lines(tmp_path: Path) -> None:
    (tmp_path / "a").write_text('{"a": \n{"a": 2}\n')
    (first, second) = read(tmp_path / "a")
    assert (first[0], second) == ("line 1", ("line 2", {"a": 2}))
    assert str(first[1]).startswith("it is not JSON")


@pytest.mark.parametrize("text", ['{\n "a": 1,\n', "[1,", "{"])
def test_a_document_that_is_no_json_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "a").write_text(text)
    ((_, reason),) = read(tmp_path / "a")
    assert str(reason).startswith("it is not JSON")


@pytest.mark.parametrize("head", ["", "[\n"])
def test_what_a_cut_file_lacks_is_named(tmp_path: Path, head: str) -> None:
    text = head + "".join(json.dumps({"a": number}) + ("\n" if not head else ",\n") for number in range(5000))
    packed = gzip.compress(text.encode())
    (tmp_path / "a").write_bytes(packed[: len(packed) // 2])
    *found, last = rows(tmp_path / "a")
    assert isinstance(last, Broken)
    assert "can't be read further" in last.reason
    assert bool(found) == (head == "")


def test_rows_of_a_table_have_times_as_nanoseconds(tmp_path: Path) -> None:
    at = datetime(2026, 5, 1, tzinfo=UTC)
    table = pa.table({"a": [1, 2], "at": pa.array([at, None], pa.timestamp("us", "UTC"))})
    parquet.write_table(table, tmp_path / "a.parquet")
    nanoseconds = int(at.timestamp()) * 10**9
    assert read(tmp_path / "a.parquet") == [("row 1", {"a": 1, "at": nanoseconds}), ("row 2", {"a": 2, "at": None})]


def test_a_damaged_table_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"PAR1" + b"x" * 100)
    ((place, reason),) = read(tmp_path / "a")
    assert place == "row 1"
    assert str(reason).startswith("the file can't be read further")


def test_a_file_that_is_not_there_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="can't be read: No such file"):
        list(rows(tmp_path / "none"))


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("2026-05-01T10:00:00Z", 1_777_629_600),
        ("2026-05-01 10:00:00.000000", 1_777_629_600),
        ("2026-05-01T12:00:00+02:00", 1_777_629_600),
        (1_777_629_600, 1_777_629_600),
        (1_777_629_600.0, 1_777_629_600),
        (1_777_629_600_000, 1_777_629_600),
        (1_777_629_600_000_000, 1_777_629_600),
        (1_777_629_600_000_000_000, 1_777_629_600),
    ],
)
def test_times_are_read_in_every_unit(value: object, seconds: int) -> None:
    assert time_of(value) == seconds * 10**9


@pytest.mark.parametrize("value", [None, "", "soon", True, -1, 0, float("nan"), "1066-10-14", 10**20, [], {}])
def test_what_is_no_time_is_none(value: object) -> None:
    assert time_of(value) is None
