"""Read long tables a portion at a time, in a settled order, and write and name them the same way.

Where a portion ends follows from the rows alone, never from how they came, so that the same rows give the same file.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy
import polars as pl
import pyarrow.parquet as pq

from imitrace.canonical import content_hash
from imitrace_trainer.frames import gather

ROWS_AT_ONCE: Final = 65_536
BYTES_AT_ONCE: Final = 32 * 2**20
"""About as much memory as the long columns of a portion take."""
ID_BYTES: Final = 16
"""What one id of a list takes in memory: a view of a text that its rows share."""

_NAMED_BY_OTHERS: Final = frozenset({"content"})
"""Columns that need no hash: a message's id is the hash of its content."""


def settled(frame: pl.LazyFrame, keys: Sequence[str]) -> pl.LazyFrame:
    """Return a frame in the order of one or two keys: as it comes where it stands so, else sorted in memory."""
    first, *more = (pl.col(key) for key in keys)
    disordered = first < first.shift(1)
    for key in more:
        disordered |= (first == first.shift(1)) & (key < key.shift(1))
    found = gather({"order": frame.select(list(keys)).select(disordered.any())})
    return frame.sort(keys) if found["order"].item() else frame


def portions(frame: pl.LazyFrame, long: Sequence[str] = ()) -> Iterator[pl.DataFrame]:
    """Yield a frame's rows in their order, as many at a time as memory is small for.

    Args:
        frame: any plan; it is run once, streaming.
        long: its columns of texts or of lists, of which a portion holds some 32 MB unless one row alone has more.
    """
    waiting: list[pl.DataFrame] = []
    rows, weight = 0, 0
    for batch in frame.collect_batches(maintain_order=True):
        ends = numpy.cumsum(_weights(batch, long))
        start = 0
        while start < len(batch):
            before = int(ends[start - 1]) if start else 0
            stop = int(numpy.searchsorted(ends, BYTES_AT_ONCE - weight + before, side="right"))
            stop = min(max(stop, start if waiting else start + 1), start + ROWS_AT_ONCE - rows, len(batch))
            if stop > start:
                waiting.append(batch[start:stop])
                rows, weight = rows + stop - start, weight + int(ends[stop - 1]) - before
                start = stop
            if start < len(batch) or rows == ROWS_AT_ONCE:
                yield pl.concat(waiting)
                waiting, rows, weight = [], 0, 0
    if waiting:
        yield pl.concat(waiting)


def _weights(batch: pl.DataFrame, long: Sequence[str]) -> Any:  # an array of numbers
    texts = [pl.col(name).str.len_bytes() for name in long if batch.schema[name] == pl.String]
    lists = [pl.col(name).list.len() * ID_BYTES for name in long if batch.schema[name] != pl.String]
    if not (texts or lists):
        return numpy.zeros(len(batch), dtype=numpy.int64)
    heavy = [weight.fill_null(0).cast(pl.Int64) for weight in (*texts, *lists)]
    return batch.select(pl.sum_horizontal(heavy).alias("weight")).to_series().to_numpy()


class TableWriter:
    """Write portions of a table as one Parquet file, and name what they hold."""

    def __init__(self, path: Path, unrepeated: Sequence[str] = ()) -> None:
        self.rows = 0
        self._long = set(unrepeated)
        self._digests: dict[str, _ColumnDigest] = {}
        self._path = path
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, portion: pl.DataFrame) -> None:
        """Append rows; the first portion settles the columns, and may have none."""
        table = portion.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            short = [name for name in portion.columns if name not in self._long]  # others repeat little
            self._writer = pq.ParquetWriter(
                self._path, table.schema, compression="zstd", use_dictionary=short, write_statistics=short
            )
            named = {name: kind for name, kind in portion.schema.items() if name not in _NAMED_BY_OTHERS}
            self._digests = {name: _ColumnDigest(str(kind)) for name, kind in named.items()}
        if len(portion):
            self._writer.write_table(table, row_group_size=len(portion))
        for name, digest in self._digests.items():
            digest.add(portion[name])
        self.rows += len(portion)

    @property
    def content(self) -> str:
        """Name columns, types and rows in their order, whatever portions they came in."""
        return content_hash([[name, digest.hexdigest()] for name, digest in self._digests.items()])


class _ColumnDigest:
    """Hash a column's values: which are null and how long they are, apart from what they hold."""

    def __init__(self, kind: str) -> None:
        self._shape = hashlib.sha256(kind.encode())
        self._values = hashlib.sha256()
        self._inner: _ColumnDigest | None = None

    def add(self, values: pl.Series) -> None:
        """Add values to the end."""
        if values.dtype == pl.List:
            lengths = values.list.len().cast(pl.Int64).fill_null(-1)
            self._inner = self._inner or _ColumnDigest(str(values.dtype.inner))  # type: ignore[attr-defined]  # of List
            self._shape.update(lengths.to_numpy().tobytes())
            self._inner.add(values.filter(lengths > 0).explode())
        elif values.dtype == pl.String:
            self._shape.update(values.str.len_bytes().cast(pl.Int64).fill_null(-1).to_numpy().tobytes())
            self._values.update(_text_bytes(values.drop_nulls()))
        else:
            self._shape.update(values.is_null().to_numpy().tobytes())
            plain = values.cast(pl.Int8) if values.dtype == pl.Boolean else values
            plain = plain.fill_nan(float("nan")) if plain.dtype == pl.Float64 else plain  # of all NaNs, one
            self._values.update(plain.fill_null(0).to_numpy().tobytes())

    def hexdigest(self) -> str:
        """Return the hash so far."""
        inner = self._inner.hexdigest() if self._inner else ""
        return f"{self._shape.hexdigest()}{self._values.hexdigest()}{inner}"


def _text_bytes(values: pl.Series) -> Any:  # anything with a buffer
    array = values.to_arrow(compat_level=pl.CompatLevel.oldest())
    if not len(array):
        return b""
    offsets = numpy.frombuffer(array.buffers()[1], dtype=numpy.int64, count=len(array) + 1, offset=array.offset * 8)
    data = array.buffers()[2]
    return memoryview(data)[int(offsets[0]) : int(offsets[-1])] if data is not None else b""


def write_table(
    frame: pl.LazyFrame, path: Path, long: Sequence[str] = (), watch: Callable[[pl.DataFrame], None] | None = None
) -> tuple[int, str]:
    """Write a frame as a Parquet file, a portion at a time.

    Args:
        frame: any plan; it is run once, streaming.
        path: the file.
        long: its columns of long texts or of lists.
        watch: is shown each portion.

    Returns:
        How many rows it has, and the name of its content.

    Raises:
        OSError: the file can't be written.
    """
    with TableWriter(path, long) as writer:
        writer.write(gather({"none": frame.head(0)})["none"])
        for portion in portions(frame, long):
            writer.write(portion)
            if watch is not None:
                watch(portion)
        return writer.rows, writer.content
