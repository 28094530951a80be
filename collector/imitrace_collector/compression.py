"""Decompress what senders compressed, in bounded memory."""

import zlib
from collections.abc import Callable, Iterator

import zstandard

from imitrace.exceptions import WireError

ENCODINGS = ("gzip", "deflate", "zstd")
"""Content encodings besides ``identity``."""

_WINDOW_BITS = {"gzip": 31, "deflate": 15}
_ZSTD_WINDOW = 8 * 1024 * 1024  # what RFC 8878 asks every decoder to have; a larger one is for files
_PIECE = 1024 * 1024
_END = b"\0imitrace end of request\0"
_END_FRAME = zstandard.ZstdCompressor(write_checksum=True).compress(_END)


class TooLargeError(WireError):
    """Report a request above the collector's size limit."""


def decompress(body: bytes, encoding: str, limit: int, claim: Callable[[int], object] | None = None) -> bytes:
    """Return a body decompressed, never holding more than ``limit`` bytes of it.

    Args:
        body: as it came.
        encoding: ``identity``, or one of ``ENCODINGS``.
        limit: most bytes allowed, before and after.
        claim: called with the size of each piece that is held besides the body; what it raises ends the work.

    Raises:
        TooLargeError: the body is larger than that.
        WireError: it is cut short or not in that encoding.
    """
    if len(body) > limit:
        raise TooLargeError(f"request has {len(body)} bytes, allowed: {limit}; send smaller batches")
    if encoding == "identity":
        return body
    plain = bytearray()
    try:
        for piece in _unzstd(body) if encoding == "zstd" else _inflate(body, encoding):
            if len(plain) + len(piece) > limit + len(_END):
                raise TooLargeError(f"request has more than {limit} bytes decompressed; send smaller batches")
            if claim is not None:
                claim(len(piece))
            plain += piece
    except (zlib.error, zstandard.ZstdError) as error:
        raise WireError(f"request is not valid {encoding}: {error}") from error
    if encoding == "zstd":
        if not plain.endswith(_END):
            raise WireError("request's zstd data ends early")
        del plain[-len(_END) :]
    if len(plain) > limit:
        raise TooLargeError(f"request has more than {limit} bytes decompressed; send smaller batches")
    return bytes(plain)


def _inflate(body: bytes, encoding: str) -> Iterator[bytes]:
    stream = zlib.decompressobj(_WINDOW_BITS[encoding])
    yield stream.decompress(body, _PIECE)
    while not stream.eof:
        piece = stream.decompress(stream.unconsumed_tail, _PIECE)
        if not piece and not stream.eof:
            raise WireError(f"request's {encoding} data ends early")
        yield piece
    if stream.unused_data:
        raise WireError(f"request's {encoding} data goes on after its end")


def _unzstd(body: bytes) -> Iterator[bytes]:
    """Yield what a frame, or several, hold; then ``_END``, which a frame that is cut short swallows or spoils.

    The library's reader doesn't tell a cut frame from a whole one, so a frame that is known stands behind it.
    """
    window = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
    with window.stream_reader(body + _END_FRAME, read_across_frames=True) as reader:
        while piece := reader.read(_PIECE):
            yield piece
