"""Keep the bodies of chunks in compressed blocks, many in one: trajectories have most of their text in common.

The chunks of one write lie one after the other; a block has the number of the first that was written into it.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from itertools import accumulate, groupby
from operator import itemgetter

import duckdb
import pyarrow as pa
import zstandard

AT_ONCE = 32
"""Blocks that are in memory at once, uncompressed."""

_BLOCK = 512 * 1024
"""Bytes of a block before compression, unless one chunk has more. Who reads a chunk reads its block; half as large they
would take 5 % more on disk."""
_PIECE = 2000
"""Bytes of a piece of a block. A checkpoint writes up to 2,048 of them anew, into new space: with 16 KiB each a file
was larger by half. Eight fill a block of the file."""
_LEVEL = 1

_NUMBER, _TEXT = pa.int64(), pa.string()
_CHUNKS = pa.schema(
    [
        ("chunk", _NUMBER),
        ("kind", _TEXT),
        ("trajectory_id", _TEXT),
        ("trace_id", _TEXT),
        ("origin", _TEXT),
        ("noted", pa.bool_()),
        *((name, _NUMBER) for name in ("items", "received_at", "size", "bytes", "block", "start", "length")),
    ]
)
_BODIES = pa.schema([("block", _NUMBER), ("piece", _NUMBER), ("body", pa.binary())])
_MOVED = pa.schema([("chunk", _NUMBER), ("start", _NUMBER)])
_OF_THESE = "block IN (SELECT unnest($blocks::BIGINT[]))"

Row = Mapping[str, object]
_Piece = tuple[int, int, bytes]


def insert_rows(connection: duckdb.DuckDBPyConnection, table: str, incoming: pa.Table, conflict: str = "") -> None:
    """Insert rows into a table of ours, whose columns have the same names.

    DuckDB finds ``incoming`` as a variable of this function: to register it first, for one statement, takes as long as
    the statement.
    """
    connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM incoming {conflict}")  # noqa: S608 - our own names


class Blocks:
    """Write and read blocks over one connection, for one thread."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection
        self._compressor = zstandard.ZstdCompressor(level=_LEVEL)
        self._plain = BytesIO()
        """Holds a block before compression: memory that is used again costs no page faults."""
        self._decompressor = zstandard.ZstdDecompressor()

    def write_chunks(self, chunks: Iterable[tuple[Row, bytes]]) -> None:
        """Write chunks' bodies, and their rows, which say where these lie.

        Args:
            chunks: a row and a body of each; rows are columns of ``chunks``, but for what is found out here: ``bytes``,
                ``block``, ``start`` and ``length``.
        """
        placed: list[Row] = []
        pieces: list[_Piece] = []
        for block in _portions(chunks):
            number = block[0][0]["chunk"]
            assert isinstance(number, int)  # noqa: S101 - the column's type
            plain = sum(len(body) for _, body in block)
            packed = self._pack(number, [body for _, body in block], pieces)
            for (row, body), start in zip(block, _starts(body for _, body in block), strict=False):
                share = packed * len(body) // plain
                placed.append({**row, "bytes": share, "block": number, "start": start, "length": len(body)})
        insert_rows(self._connection, "chunks", pa.Table.from_pylist(placed, schema=_CHUNKS))
        insert_rows(self._connection, "bodies", _columns(pieces, _BODIES))

    def read(self, numbers: Collection[int]) -> dict[int, bytes]:
        """Return blocks, decompressed, by number."""
        sql = f"SELECT block, body FROM bodies WHERE {_OF_THESE} ORDER BY block, piece"  # noqa: S608 - a literal
        pieces: dict[int, list[bytes]] = defaultdict(list)
        for block, piece in self._connection.execute(sql, {"blocks": list(numbers)}).fetchall():
            pieces[block].append(piece)
        return {block: self._decompressor.decompress(b"".join(found)) for block, found in pieces.items()}

    def pack_anew(self, numbers: Sequence[int]) -> None:
        """Leave out of blocks what belongs to chunks whose rows are gone."""
        for start in range(0, len(numbers), AT_ONCE):
            self._pack_anew(numbers[start : start + AT_ONCE])

    def _pack_anew(self, numbers: Sequence[int]) -> None:
        sql = f"SELECT block, chunk, start, length FROM chunks WHERE {_OF_THESE} ORDER BY block, start"  # noqa: S608
        left = self._connection.execute(sql, {"blocks": list(numbers)}).fetchall()
        plain = self.read({block for block, *_ in left})
        self._connection.execute(f"DELETE FROM bodies WHERE {_OF_THESE}", {"blocks": list(numbers)})  # noqa: S608
        pieces: list[_Piece] = []
        moved: list[tuple[int, int]] = []
        for block, of_it in groupby(left, key=itemgetter(0)):
            chunks = list(of_it)
            bodies = [plain[block][start : start + length] for _, _, start, length in chunks]
            self._pack(block, bodies, pieces)
            moved += zip((chunk for _, chunk, *_ in chunks), _starts(bodies), strict=False)
        if left:
            insert_rows(self._connection, "bodies", _columns(pieces, _BODIES))
            self._connection.register("moved", _columns(moved, _MOVED))
            self._connection.execute(
                "UPDATE chunks SET start = moved.start FROM moved WHERE chunks.chunk = moved.chunk"
            )
            self._connection.unregister("moved")

    def _pack(self, number: int, bodies: Sequence[bytes], pieces: list[_Piece]) -> int:
        """Add a block's pieces to others, and return how many bytes it has."""
        size = sum(map(len, bodies))
        if size > _BLOCK:
            packed = self._compressor.compress(b"".join(bodies))
        else:
            self._plain.seek(0)
            self._plain.writelines(bodies)
            with self._plain.getbuffer() as plain, plain[:size] as whole:
                packed = self._compressor.compress(whole)
        pieces += ((number, piece, packed[at : at + _PIECE]) for piece, at in enumerate(range(0, len(packed), _PIECE)))
        return len(packed)


def _portions(chunks: Iterable[tuple[Row, bytes]]) -> Iterator[list[tuple[Row, bytes]]]:
    """Yield chunks in portions of a block each."""
    portion: list[tuple[Row, bytes]] = []
    size = 0
    for row, body in chunks:
        if portion and size + len(body) > _BLOCK:
            yield portion
            portion, size = [], 0
        portion.append((row, body))
        size += len(body)
    if portion:
        yield portion


def _starts(bodies: Iterable[bytes]) -> Iterable[int]:
    return accumulate(map(len, bodies), initial=0)


def _columns(rows: Sequence[tuple[object, ...]], schema: pa.Schema) -> pa.Table:
    return pa.table(list(map(pa.array, zip(*rows, strict=True))), schema=schema)
