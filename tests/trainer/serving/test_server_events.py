import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import WireError
from imitrace_trainer.serving.server_events import decoded, event_text, events_in


def test_events_are_read_as_they_were_written() -> None:
    written = event_text(None, {"a": 1}) + event_text("named", {"b": "é\n"}) + event_text(None, "[DONE]")
    assert list(events_in(written)) == [{"a": 1}, {"b": "é\n"}]


def test_comments_other_line_ends_and_data_in_several_lines_are_read() -> None:
    body = b': ping\r\n\r\ndata: {"a":\r\ndata: 1}\r\n\r\nid: 7\ndata:{"b": 2}\n\ndata: {"cut'
    assert list(events_in(body)) == [{"a": 1}, {"b": 2}]


@given(st.binary())
def test_any_bytes_are_read(body: bytes) -> None:
    list(events_in(body))


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        ("", b"told"),
        ("identity", b"told"),
        ("gzip", gzip.compress(b"told", mtime=0)),
        ("Deflate", zlib.compress(b"told")),
    ],
)
def test_a_body_is_decoded(encoding: str, packed: bytes) -> None:
    assert decoded(packed, encoding, 100) == b"told"


def test_of_a_packed_body_that_was_cut_there_is_what_came() -> None:
    assert decoded(gzip.compress(b"told " * 1000)[:-8], "gzip", 10_000) == b"told " * 1000


@pytest.mark.parametrize(
    ("encoding", "packed"), [("br", b"told"), ("gzip", b"told"), ("gzip", gzip.compress(bytes(10_000), mtime=0))]
)
def test_what_can_not_be_decoded_or_is_too_large_is_refused(encoding: str, packed: bytes) -> None:
    with pytest.raises(WireError):
        decoded(packed, encoding, 1000)
