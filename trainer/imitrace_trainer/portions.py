"""Read long tables a portion at a time, in a settled order, and write and name them the same way.

Where a portion ends follows from the rows alone, never from how they came, so that the same rows give the same file.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy
import polars as pl
import pyarrow as pa
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

    def __init__(self, path: Path, empty: pl.DataFrame, unrepeated: Sequence[str] = ()) -> None:
        """Open the file for the columns of a frame, of which some repeat little."""
        short = [name for name in empty.columns if name not in unrepeated]
        schema = empty.to_arrow(compat_level=pl.CompatLevel.oldest()).schema
        self.rows = 0
        self._digests = {n: _ColumnDigest(kind) for n, kind in empty.schema.items() if n not in _NAMED_BY_OTHERS}
        self._writer = pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=short, write_statistics=short)

    def __enter__(self) -> "TableWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._writer.close()

    def write(self, portion: Any) -> None:  # an Arrow table
        """Append rows."""
        self._writer.write_table(portion, row_group_size=len(portion))
        for name, digest in self._digests.items():
            for chunk in portion.column(name).chunks:
                digest.add(chunk)
        self.rows += len(portion)

    @property
    def content(self) -> str:
        """Name columns, types and rows in their order, whatever portions they came in."""
        return content_hash([[name, digest.hexdigest()] for name, digest in self._digests.items()])


class _ColumnDigest:
    """Hash a column's values: which are null and how long they are, apart from what they hold."""

    def __init__(self, kind: pl.DataType) -> None:
        self._shape = hashlib.sha256(str(kind).encode())
        self._values = hashlib.sha256()
        self._inner = _ColumnDigest(kind.inner) if isinstance(kind, pl.List) else None  # type: ignore[arg-type]

    def add(self, values: Any) -> None:  # an Arrow array
        """Add values to the end."""
        if self._inner is not None:
            self._shape.update(_lengths(values))
            self._inner.add(values.flatten())
        elif pa.types.is_large_string(values.type):
            self._shape.update(_lengths(values))
            self._values.update(_text_bytes(values.drop_null() if values.null_count else values))
        else:
            self._shape.update(values.is_null().to_numpy(zero_copy_only=False))
            plain = values.cast(pa.int8()) if pa.types.is_boolean(values.type) else values
            numbers = plain.fill_null(0).to_numpy(zero_copy_only=False)
            if pa.types.is_floating(values.type):  # of all NaNs, one
                numbers = numpy.where(numpy.isnan(numbers), numpy.nan, numbers)
            self._values.update(numbers.tobytes())

    def hexdigest(self) -> str:
        """Return the hash so far, of lists also that of what they hold."""
        inner = self._inner.hexdigest() if self._inner else ""
        return f"{self._shape.hexdigest()}{self._values.hexdigest()}{inner}"


def _lengths(values: Any) -> Any:  # an Arrow array, and one of numbers
    """Return how many bytes or items each has, -1 where it is null."""
    lengths = numpy.diff(_offsets(values))
    if values.null_count:
        lengths[values.is_null().to_numpy(zero_copy_only=False)] = -1
    return lengths


def _offsets(values: Any) -> Any:  # an Arrow array, and one of numbers
    buffer = values.buffers()[1]
    if buffer is None or not len(values):
        return numpy.zeros(1, dtype=numpy.int64)
    return numpy.frombuffer(buffer, dtype=numpy.int64, count=len(values) + 1, offset=values.offset * 8)


def _text_bytes(values: Any) -> Any:  # an Arrow array without nulls; anything with a buffer
    data, offsets = values.buffers()[2], _offsets(values)
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
    empty = gather({"none": frame.head(0)})["none"]
    with TableWriter(path, empty, long) as writer, ThreadPoolExecutor(1) as beside:
        packed: Future[None] | None = None
        for portion in portions(frame, long):
            plain = portion.to_arrow(compat_level=pl.CompatLevel.oldest())
            if packed is not None:
                packed.result()
            packed = beside.submit(writer.write, plain)  # while the next one is read
            if watch is not None:
                watch(portion)
        if packed is not None:
            packed.result()
        return writer.rows, writer.content
