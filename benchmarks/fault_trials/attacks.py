"""Attack a collector in many ways; each attack returns how often it was answered with what."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import NamedTuple

import grpc

from fault_trials import bodies
from fault_trials.payloads import JSON, PROTOBUF
from fault_trials.wire import Target, drip, exchange, head, never_read, post

_TRACES, _PROTO = "/v1/traces", f"Content-Type: {PROTOBUF}"
_EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
_MEGABYTE = 2**20


class Size(NamedTuple):
    connections: int
    drip_seconds: float
    bomb_megabytes: int
    attributes: int
    depth: int
    grpc_megabytes: int


Attack = Callable[[Target], Counter[str]]


def attacks(size: Size) -> dict[str, Attack]:
    """Return every attack by name."""
    return _slow(size) | _large(size) | _packed(size) | _deep(size) | _wrong(size) | _not_http(size) | _grpc(size)


def _slow(size: Size) -> dict[str, Attack]:
    unfinished = head(_TRACES, _PROTO).removesuffix(b"\r\n") + b"X-Slow: "
    waiting = head(_TRACES, _PROTO, "Content-Length: 1000000")
    steps = head("/v1/tables/steps", method="GET")
    count, seconds = size.connections, size.drip_seconds
    return {
        "slow_heads": lambda target: drip(target, unfinished, count, seconds),
        "slow_bodies": lambda target: drip(target, waiting, count, seconds),
        "idle_connections": lambda target: drip(target, b"", count, seconds, seconds),
        "answers_never_read": lambda target: never_read(target, steps, 20, seconds / 2),
    }


def _large(size: Size) -> dict[str, Attack]:
    gigabyte = 1024 * _MEGABYTE

    def chunked() -> Iterator[bytes]:
        yield head(_TRACES, _PROTO, "Transfer-Encoding: chunked")
        for _ in range(1024):
            yield b"100000\r\n" + bytes(_MEGABYTE) + b"\r\n"
        yield b"0\r\n\r\n"

    def announced() -> Iterator[bytes]:
        yield head(_TRACES, _PROTO, f"Content-Length: {gigabyte}")
        for _ in range(1024):
            yield bytes(_MEGABYTE)

    def endless(beginning: bytes) -> Attack:
        def run(target: Target) -> Counter[str]:
            parts = (bytes([97]) * _MEGABYTE for _ in range(size.bomb_megabytes))
            return Counter([exchange(target, chain([beginning], parts))])

        return run

    unfinished = head(_TRACES, _PROTO).removesuffix(b"\r\n")
    return {
        "a_gigabyte_announced": lambda target: Counter([exchange(target, announced())]),
        "a_gigabyte_in_chunks": lambda target: Counter([exchange(target, chunked())]),
        "an_endless_header": endless(unfinished + b"X-Long: "),
        "an_endless_path": endless(b"POST /v1/"),
        "an_endless_chunk_size": endless(unfinished + b"Transfer-Encoding: chunked\r\n\r\n1;"),
        "a_huge_string": lambda target: post(target, _TRACES, bodies.huge_string(15 * _MEGABYTE)),
    }


def _packed(size: Size) -> dict[str, Attack]:
    def sent(encoding: str, make: Callable[[], bytes]) -> Attack:
        return lambda target: post(target, _TRACES, make(), PROTOBUF, f"Content-Encoding: {encoding}")

    many = size.bomb_megabytes
    return {
        "gzip_bomb": sent("gzip", lambda: bodies.deflate_bomb(many, gzip=True)),
        "deflate_bomb": sent("deflate", lambda: bodies.deflate_bomb(many, gzip=False)),
        "zstd_bomb": sent("zstd", lambda: bodies.zstd_bomb(many)),
        "zstd_claiming_an_exabyte": sent("zstd", lambda: bodies.zstd_that_claims(2**60)),
        "zstd_window_of_2_gigabytes": sent("zstd", lambda: bodies.zstd_with_window(21)),
        "zstd_window_of_2_terabytes": sent("zstd", lambda: bodies.zstd_with_window(31)),
        "gzip_cut_short": sent("gzip", lambda: bodies.deflate_bomb(2, gzip=True)[:100]),
        "not_gzip_at_all": sent("gzip", lambda: b"hello"),
        "unknown_encoding": sent("br", lambda: b"hello"),
        "two_encodings": sent("gzip, gzip", lambda: b"hello"),
    }


def _deep(size: Size) -> dict[str, Attack]:
    count, depth = size.attributes, size.depth
    return {
        "a_million_attributes": lambda target: post(target, _TRACES, bodies.many_attributes(count)),
        "many_attributes_json": lambda target: post(target, _TRACES, bodies.many_attributes_json(count // 3), JSON),
        "a_million_empty_spans": lambda target: post(target, _TRACES, bodies.many_spans(count)),
        "nested_protobuf": lambda target: post(target, _TRACES, bodies.nested(depth)),
        "nested_json": lambda target: post(target, _TRACES, bodies.nested_json(depth), JSON),
        "nested_brackets": lambda target: post(target, _TRACES, b"[" * (100 * depth), JSON),
        "nested_groups": lambda target: post(target, _TRACES, bodies.nested_groups(100 * depth)),
        "nested_60_json": lambda target: post(target, _TRACES, bodies.nested_json(60), JSON),
    }


def _wrong(size: Size) -> dict[str, Attack]:
    times = [bodies.times_of(0, 0), bodies.times_of(2**64 - 1, 1), bodies.times_of(2**63, 2**63)]
    return {
        "invalid_utf8": lambda target: post(target, _TRACES, bodies.invalid_utf8()),
        "zero_bytes_in_text": lambda target: post(target, _TRACES, bodies.zero_bytes_in_text()),
        "impossible_times": lambda target: _each(times, lambda body: post(target, _TRACES, body)),
        "noise": lambda target: _each(bodies.noise(50, 500), lambda body: post(target, _TRACES, body)),
        "wrong_json": lambda target: _each(bodies.wrong_json(), lambda body: post(target, _TRACES, body, JSON)),
        "wrong_json_logs": lambda target: _each(bodies.wrong_json(), lambda body: post(target, "/v1/logs", body, JSON)),
        "wrong_content_type": lambda target: post(target, _TRACES, b"hello", "text/plain"),
        "wrong_path": lambda target: post(target, "/v1/../../etc/passwd", b""),
        "wrong_lookup": lambda target: post(target, "/v1/trajectories/lookup", b"[" * 100_000, JSON),
        "sql_in_a_query": lambda target: Counter(
            [exchange(target, [head("/v1/tables/steps?agent=';DROP%20TABLE%20spans;--", method="GET")])]
        ),
        "lines_in_a_path": lambda target: post(target, "/v1/%0d%0aadmitted%20root%1b[31m", b""),
    }


def _not_http(size: Size) -> dict[str, Attack]:
    def raw(*requests: bytes) -> Attack:
        return lambda target: _each(requests, lambda request: Counter([exchange(target, [request])]))

    both = head(_TRACES, _PROTO, "Content-Length: 5", "Transfer-Encoding: chunked")
    return {
        "length_below_zero": raw(head(_TRACES, _PROTO, "Content-Length: -5")),
        "length_no_number": raw(head(_TRACES, _PROTO, "Content-Length: many")),
        "length_of_4000_digits": raw(head(_TRACES, _PROTO, f"Content-Length: {'9' * 4000}")),
        "two_lengths": raw(head(_TRACES, _PROTO, "Content-Length: 5", "Content-Length: 6")),
        "length_and_chunks": raw(both + b"0\r\n\r\nPOST /v1/traces HTTP/1.1\r\n\r\n"),
        "wrong_chunk_size": raw(head(_TRACES, _PROTO, "Transfer-Encoding: chunked") + b"zz\r\nhello\r\n"),
        "not_http": raw(
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0" * 1000, b"hello\r\n\r\n", b"GET\r\n\r\n"
        ),
        "a_thousand_in_a_row": raw(head("/healthz", method="GET") * 1000),
    }


def _grpc(size: Size) -> dict[str, Attack]:
    zeros = bytes(size.grpc_megabytes * _MEGABYTE)
    count = size.attributes
    return {
        "grpc_too_large": lambda target: _call(target, zeros),
        "grpc_gzip_bomb": lambda target: _call(target, zeros, packed=True),
        "grpc_noise": lambda target: _each(bodies.noise(20, 500), lambda body: _call(target, body)),
        "grpc_a_million_attributes": lambda target: _call(target, bodies.many_attributes(count)),
        "grpc_nested": lambda target: _call(target, bodies.nested(size.depth)),
        "grpc_invalid_utf8": lambda target: _call(target, bodies.invalid_utf8()),
        "grpc_unknown_method": lambda target: _call(target, b"", path="/a.b.C/D"),
        "grpc_not_http2": lambda target: Counter([exchange(target, [b"GET / HTTP/1.1\r\n\r\n"], port=target.grpc)]),
    }


def _each(given: Iterable[bytes], attack: Callable[[bytes], Counter[str]]) -> Counter[str]:
    found: Counter[str] = Counter()
    for body in given:
        found.update(attack(body))
    return found


def _call(target: Target, body: bytes, *, path: str = _EXPORT, packed: bool = False) -> Counter[str]:
    compression = grpc.Compression.Gzip if packed else grpc.Compression.NoCompression
    with grpc.insecure_channel(f"{target.grpc[0]}:{target.grpc[1]}") as channel:
        try:
            channel.unary_unary(path)(body, timeout=target.limit, compression=compression)
        except grpc.RpcError as error:
            return Counter([error.code().name])
    return Counter(["OK"])
