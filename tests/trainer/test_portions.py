import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace_trainer import portions
from imitrace_trainer.portions import settled, write_table

TEXTS = st.none() | st.text(alphabet="aé\U0001f600 ", max_size=4)
ROWS = st.lists(
    st.tuples(
        TEXTS, st.none() | st.lists(TEXTS, max_size=3), st.none() | st.floats(allow_infinity=False), st.booleans()
    ),
    max_size=12,
)
SCHEMA = {"text": pl.String(), "texts": pl.List(pl.String), "number": pl.Float64(), "flag": pl.Boolean()}


def frame_of(rows: list[tuple[object, ...]]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMA, orient="row")


@given(rows=ROWS, at_once=st.integers(1, 5))
@settings(max_examples=40, deadline=None)
def test_a_table_is_read_as_it_was_written_and_its_name_does_not_depend_on_the_portions(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, ...]], at_once: int
) -> None:
    path, frame = tmp_path_factory.mktemp("t") / "t.parquet", frame_of(rows)
    whole = write_table(frame.lazy(), path, ["texts"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(portions, "ROWS_AT_ONCE", at_once)
        assert write_table(frame.lazy(), path, ["texts"]) == whole
    assert pl.read_parquet(path).equals(frame)
    assert whole[0] == len(rows)


@given(one=ROWS, other=ROWS)
@settings(max_examples=60, deadline=None)
def test_other_rows_have_another_name(
    tmp_path_factory: pytest.TempPathFactory, one: list[tuple[object, ...]], other: list[tuple[object, ...]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.parquet"
    names = [write_table(frame_of(rows).lazy(), path)[1] for rows in (one, other)]
    assert (names[0] == names[1]) == frame_of(one).equals(frame_of(other))


def test_a_table_keeps_its_name_from_release_to_release(tmp_path: Path) -> None:
    rows: list[tuple[object, ...]] = [
        ("a", ["x", None, "é"], math.nan, True),
        (None, None, None, None),
        ("", [], -0.5, False),
        ("b", [""], 2, None),
    ]
    assert write_table(frame_of(rows).lazy(), tmp_path / "t.parquet") == (4, "712ea20079cdad78ed3d085c8ccf730f")


def test_where_a_portion_ends_follows_from_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(portions, "BYTES_AT_ONCE", 10)
    texts = pl.DataFrame({"text": ["a" * 4, "b" * 4, "c" * 4, "d" * 30, "e"]})
    split = pl.concat([texts[:1], texts[1:4], texts[4:]], rechunk=False)
    for frame in (texts, split):
        assert [len(part) for part in portions.portions(frame.lazy(), ["text"])] == [2, 1, 1, 1]
    first, again = tmp_path / "1.parquet", tmp_path / "2.parquet"
    assert write_table(texts.lazy(), first, ["text"]) == write_table(split.lazy(), again, ["text"])
    assert first.read_bytes() == again.read_bytes()


@pytest.mark.parametrize("rows", [[("a", 1), ("a", 2), ("b", 0)], [("b", 0), ("a", 2), ("a", 1)]])
def test_a_frame_is_settled_by_its_keys(rows: list[tuple[str, int]]) -> None:
    frame = pl.DataFrame(rows, schema=["name", "number"], orient="row").lazy()
    assert settled(frame, ["name", "number"]).collect().rows() == [("a", 1), ("a", 2), ("b", 0)]
