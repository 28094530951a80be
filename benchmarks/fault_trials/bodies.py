"""Make bodies that no sender of good will makes."""

import json
import random
import zlib
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from fault_trials.payloads import request_of

_MEGABYTE = 2**20
_GZIP_HEAD = bytes([31, 139, 8, 0, 0, 0, 0, 0, 0, 3])
_ZSTD_MAGIC = bytes([0x28, 0xB5, 0x2F, 0xFD])
_JSON_IDS = {"traceId": "68" * 16, "spanId": "70" * 8, "name": "a"}


def span_of(name: str, start: int = 0, end: int = 0) -> Span:
    ids = b"hostile-trace-id", b"spanspan"
    return Span(name=name, trace_id=ids[0], span_id=ids[1], start_time_unix_nano=start, end_time_unix_nano=end)


def serialized(span: Span) -> bytes:
    return bytes(request_of([span]).SerializeToString())


def deflate_bomb(megabytes: int, *, gzip: bool) -> bytes:
    """Return zeros, a thousand to one; the checksum is missing, for nobody should read that far."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    zeros = bytes(_MEGABYTE)
    first = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    return (_GZIP_HEAD if gzip else b"\x78\xda") + first + again * (megabytes - 1)


def zstd_bomb(megabytes: int) -> bytes:
    sink, zeros = pa.BufferOutputStream(), bytes(_MEGABYTE)
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        for _ in range(megabytes):
            stream.write(zeros)
    return bytes(sink.getvalue())


def zstd_that_claims(size: int) -> bytes:
    """Return a frame whose head says that so many bytes will come out of it: a trap for who allocates them."""
    return _ZSTD_MAGIC + b"\xe0" + size.to_bytes(8, "little") + b"\x01\x00\x00"


def zstd_with_window(exponent: int) -> bytes:
    """Return a frame that asks for a window of 2 ** (10 + exponent) bytes."""
    return _ZSTD_MAGIC + b"\x00" + bytes([exponent << 3]) + b"\x01\x00\x00"


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def within(field: int, body: bytes) -> bytes:
    """Return a length-delimited protobuf field."""
    return varint(field << 3 | 2) + varint(len(body)) + body


def in_span(extra: bytes) -> bytes:
    """Return a request of one good span with more bytes in it."""
    span = span_of("a").SerializeToString() + extra
    return within(1, within(2, within(2, span)))


def many_attributes(count: int) -> bytes:
    """Return a span with so many attributes, 13 bytes each."""
    keys = (b"%05x" % number for number in range(count))
    return in_span(b"".join(b"\x4a\x0b\x0a\x05" + key + b"\x12\x02\x18\x01" for key in keys))


def many_attributes_json(count: int) -> bytes:
    found = [{"key": f"{number:x}", "value": {"intValue": "1"}} for number in range(count)]
    return span_json({"attributes": found})


def many_spans(count: int) -> bytes:
    """Return so many spans without anything in them."""
    return within(1, within(2, b"\x12\x00" * count))


def nested(depth: int) -> bytes:
    """Return a span whose attribute is a list in a list, and so on."""
    value = b""
    for _ in range(depth):
        value = within(5, within(1, value))
    return in_span(within(9, within(1, b"deep") + within(2, value)))


def nested_json(depth: int) -> bytes:
    before, after = '{"arrayValue":{"values":[', "]}}"
    deep = before * depth + '{"intValue":"1"}' + after * depth
    shallow = span_json({"attributes": [{"key": "deep", "value": "HERE"}]}).decode()
    return shallow.replace('"HERE"', deep).encode()


def nested_groups(depth: int) -> bytes:
    """Return an unknown field that is a group in a group, and so on."""
    return b"\x7b" * depth


def span_json(more: dict[str, Any]) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [_JSON_IDS | more]}]}]}).encode()


def invalid_utf8() -> bytes:
    return serialized(span_of("HERE")).replace(b"HERE", b"\xff\xfe\xc0\x80")


def huge_string(size: int) -> bytes:
    return in_span(within(9, within(1, b"huge") + within(2, within(1, b"a" * size))))


def zero_bytes_in_text() -> bytes:
    return serialized(span_of("a\0b\0"))


def times_of(start: int, end: int) -> bytes:
    return serialized(span_of("a", start, end))


def noise(count: int, size: int) -> Iterator[bytes]:
    draw = random.Random(9)
    for _ in range(count):
        yield draw.randbytes(size)


def wrong_json() -> list[bytes]:
    """Return what is JSON, mostly, and no OTLP."""
    spans: list[Any] = [5, None, "a", [5], {"a": 1}, [None], [[]], True]
    groups: list[Any] = [
        5,
        None,
        [None],
        [5],
        [{"scopeSpans": 5}],
        [{"scopeSpans": [{"spans": 5}]}],
        [{"resource": []}],
    ]
    fields: list[dict[str, Any]] = [
        {"traceId": 5},
        {"traceId": "zz" * 16},
        {"traceId": "68"},
        {"spanId": []},
        {"name": 5},
        {"name": {"a": 1}},
        {"kind": "SPAN_KIND_NONSENSE"},
        {"kind": 10**30},
        {"startTimeUnixNano": -1},
        {"startTimeUnixNano": "soon"},
        {"startTimeUnixNano": 1.5},
        {"startTimeUnixNano": str(2**64)},
        {"startTimeUnixNano": {}},
        {"attributes": {}},
        {"attributes": [{"key": 5}]},
        {"attributes": [{"key": "a", "value": 5}]},
        {"attributes": [{"key": "a", "value": {"intValue": "x"}}]},
        {"attributes": [{"key": "a", "value": {"intValue": str(2**80)}}]},
        {"attributes": [{"key": "a", "value": {"doubleValue": "x"}}]},
        {"attributes": [{"key": "a", "value": {"boolValue": "x"}}]},
        {"attributes": [{"key": "a", "value": {"bytesValue": "*"}}]},
        {"attributes": [{"key": "a", "value": {"kvlistValue": [1]}}]},
        {"attributes": [{"key": "a", "value": {"stringValue": "\ud800"}}]},
        {"attributes": [{"key": "a", "value": {"stringValue": "a", "intValue": "1"}}]},
        {"events": [5]},
        {"links": "a"},
        {"status": 5},
        {"status": {"code": "x"}},
        {"droppedAttributesCount": -1},
    ]
    texts = [
        b"",
        b"{",
        b"nul",
        b'"a"',
        b"5",
        b"[]",
        b"null",
        b"\xff\xfe{}",
        b'{"resourceSpans":' + b"9" * 10_000 + b"}",
    ]
    texts += [b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"startTimeUnixNano":1e999}]}]}]}', b'{"a":NaN}', b"{}" * 9]
    texts += [json.dumps({"resourceSpans": given}).encode() for given in groups]
    texts += [json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": given}]}]}).encode() for given in spans]
    return texts + [span_json(given) for given in fields]
