"""Open a file of rows: JSON Lines, one JSON document or Parquet, the first two also as gzip; told by their content."""

import gzip
import io
import json
import zlib
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, cast

from imitrace.exceptions import ConfigError
from imitrace_collector.imports.conversations import Broken, Row

_GZIP, _PARQUET = b"\x1f\x8b", b"PAR1"
_BATCH = 512
_LISTS = ("data", "traces", "spans", "inferences", "observations")
"""Under which of these an answer of another system's API has its rows."""
_OWN = {"id", "messages", "steps", "info"}
"""Keys of a row itself, which may have such a list too."""

OTLP_SUFFIXES = (".otlp.pb", ".otlp.json", ".otlp.pb.gz", ".otlp.json.gz")
"""Files of OTLP export requests: they hold spans and log records, not rows."""


def rows(path: Path) -> Iterator[Row | Broken]:
    """Yield what a file holds, in its order; a row that is no JSON, or a file that breaks off, is reported, not raised.

    Raises:
        ConfigError: the file can't be opened.
    """
    try:
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            if magic == _PARQUET:
                yield from _table(path)
            elif magic.startswith(_GZIP):
                with gzip.GzipFile(fileobj=file) as unpacked:
                    yield from _json(cast("IO[bytes]", io.BufferedReader(unpacked)))
            else:
                yield from _json(file)
    except OSError as error:
        raise ConfigError(f"file {path} can't be read: {error.strerror or error}") from error


def _json(file: IO[bytes]) -> Iterator[Row | Broken]:
    """Yield each line's value, or the items of the one document that the file is."""
    lines = _lines(file)
    first = list(islice(lines, 2))
    if not _is_document([line for _, line in first if line is not None]):
        for number, line in chain(first, lines):
            yield _row(f"line {number}", number - 1, line)
        return
    whole = list(chain(first, lines))
    if whole[-1][1] is None:
        yield _row("document", 0, None)
        return
    row = _row("document", 0, b"\n".join(line for _, line in whole if line is not None))
    yield from [row] if isinstance(row, Broken) else _items(row)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes | None]]:
    """Yield the lines that are not blank, numbered from 1; None where the file can't be read further."""
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if line.strip():
                yield number, line
    except (EOFError, zlib.error, gzip.BadGzipFile):
        yield number + 1, None


def _row(place: str, position: int, line: bytes | None) -> Row | Broken:
    if line is None:
        return Broken(place, "the file can't be read further: its gzip is cut or damaged")
    try:
        return Row(place, position, json.loads(line))
    except (ValueError, RecursionError) as error:
        return Broken(place, f"it is not JSON: {error}")


def _is_document(first: list[bytes]) -> bool:
    """Return whether the first two lines begin one document: a list, or an object over several lines."""
    if not first:
        return False
    head = first[0].lstrip(b"\xef\xbb\xbf").strip()
    whole = isinstance(_row("", 0, first[0]), Row)
    if head.startswith(b"["):
        return len(first) == 1 or not whole
    if whole:
        return len(first) == 1
    return head.startswith(b"{") and len(first) == 2 and not first[1].lstrip().startswith(b"{")


def _items(row: Row) -> Iterator[Row]:
    found = row.value
    if isinstance(found, dict) and not _OWN & found.keys():
        found = next((found[key] for key in _LISTS if isinstance(found.get(key), list)), found)
    if isinstance(found, list):
        yield from (Row(f"item {number + 1}", number, item) for number, item in enumerate(found))
    else:
        yield Row("line 1", 0, found)


def _table(path: Path) -> Iterator[Row | Broken]:
    """Yield a Parquet file's rows, times as nanoseconds."""
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        for batch in parquet.ParquetFile(path).iter_batches(_BATCH):
            columns = {name: _plain_times(column) for name, column in zip(batch.schema.names, batch, strict=True)}
            for value in pa.table(columns).to_pylist():
                number += 1
                yield Row(f"row {number}", number - 1, value)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        yield Broken(f"row {number + 1}", f"the file can't be read further: {error}")


def _plain_times(column: Any) -> Any:  # an Arrow array
    import pyarrow as pa

    return column.cast(pa.timestamp("ns")).cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
