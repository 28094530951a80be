import gzip
import os
import zlib
from collections.abc import Callable

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import WireError
from imitrace_collector.budget import Budget, QueueFullError
from imitrace_collector.compression import TooLargeError, decompress


def streamed(body: bytes) -> bytes:
    """Compress as a stream does that doesn't know its length."""
    return zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compress(body)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "zstd": zstandard.ZstdCompressor().compress,
    "identity": bytes,
}
MEBIBYTE = 1024 * 1024


@pytest.mark.parametrize("encoding", PACK)
@given(body=st.binary(max_size=2000))
def test_each_encoding_gives_the_body_back(encoding: str, body: bytes) -> None:
    assert decompress(PACK[encoding](body), encoding, 4000) == body


@pytest.mark.parametrize("encoding", PACK)
def test_a_body_may_be_as_large_as_the_limit_and_no_larger(encoding: str) -> None:
    body = PACK[encoding](b"x" * 3 * MEBIBYTE)
    assert len(decompress(body, encoding, 3 * MEBIBYTE)) == 3 * MEBIBYTE
    with pytest.raises(TooLargeError, match=str(3 * MEBIBYTE - 1)):
        decompress(body, encoding, 3 * MEBIBYTE - 1)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (gzip.compress(b"abc", mtime=0)[:-9], "ends early"),
        (gzip.compress(b"abc", mtime=0) + b"more", "goes on"),
        (b"abc", "not valid"),
        (b"", "ends early"),
    ],
)
def test_broken_gzip_is_refused(body: bytes, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        decompress(body, "gzip", 1000)


@pytest.mark.parametrize("pack", [PACK["zstd"], streamed])
def test_zstd_that_is_cut_short_or_goes_on_is_refused(pack: Callable[[bytes], bytes]) -> None:
    body = pack(os.urandom(500) + b"x" * 5000)
    assert len(decompress(body + body, "zstd", 20_000)) == 11_000
    for broken in (*(body[:end] for end in range(1, len(body), 7)), body[:-1], body + b"more"):
        with pytest.raises(WireError, match="zstd"):
            decompress(broken, "zstd", 20_000)


def test_a_zstd_window_beyond_eight_mebibytes_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(3, window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = packer.compress(os.urandom(100)) + packer.flush()
    with pytest.raises(WireError, match="too much memory"):
        decompress(body, "zstd", MEBIBYTE)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "zstd"])
def test_a_bomb_is_given_up_as_soon_as_there_is_no_room_for_its_next_piece(encoding: str) -> None:
    body = PACK[encoding](bytes(64 * MEBIBYTE))
    with Budget(5 * MEBIBYTE).reserve() as held:
        with pytest.raises(QueueFullError):
            decompress(body, encoding, 64 * MEBIBYTE, held.grow)
        assert held.size <= 5 * MEBIBYTE


@given(body=st.binary(max_size=200), encoding=st.sampled_from(["gzip", "deflate", "zstd"]))
def test_any_bytes_give_a_body_or_a_wire_error(body: bytes, encoding: str) -> None:
    try:
        assert len(decompress(body, encoding, 1000)) <= 1000
    except WireError as error:
        assert encoding in str(error) or "1000" in str(error)
