"""What passes through passes through as it is: bytes, status, headers, pace, and the ways in which it ends early."""

import gzip
import json
import socket
import struct
import threading
from collections.abc import Callable
from http.client import IncompleteRead
from typing import Any

import pytest

from imitrace_trainer.serving.server import ProxyServer

ASK = {"model": "m", "messages": [{"role": "user", "content": "Hello."}]}
PATHS = ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"]
WAIT = 20.0


def test_a_request_arrives_with_every_byte_and_header(origin: Any, proxy: ProxyServer, client: Any) -> None:
    body = b'{ "model":"m","messages":[{"role":"user","content":"\\u00e9"}] , "unknown":1.0 }'
    headers = {"Authorization": "Bearer sk-mine", "X-Custom": "a  b", "Content_Type": "application/json"}
    client(proxy).ask("POST", "/v1/chat/completions?trace=%2Fa%20b&x", body, **headers)
    (received,) = origin.received
    assert (received.method, received.path) == ("POST", "/v1/chat/completions?trace=%2Fa%20b&x")
    assert received.body == body
    assert received.header("authorization") == "Bearer sk-mine"
    assert received.header("x-custom") == "a  b"
    assert received.header("content-type") == "application/json"
    assert received.header("host") == origin.url.removeprefix("http://").removesuffix("/v1")


def test_headers_of_one_hop_and_our_own_stay_here(origin: Any, proxy: ProxyServer, client: Any) -> None:
    ours = {"X_Imitrace_Task": "t", "Imitrace_Trajectory": "x", "Connection": "keep-alive, X-Hop", "X_Hop": "1"}
    client(proxy).chat(ASK, TE="trailers", **ours)
    names = {name.lower() for name, _ in origin.received[0].headers}
    assert not names & {"x-imitrace-task", "imitrace-trajectory", "x-hop", "te"}
    assert not names & {"user-agent", "accept"}  # nothing is added for a caller that says nothing


@pytest.mark.parametrize("path", PATHS)
def test_an_answer_comes_back_with_its_status_headers_and_body(
    origin: Any, proxy: ProxyServer, client: Any, path: str
) -> None:
    def refuse(handler: Any, _: Any) -> None:
        handler.reply(429, b'{"error":{"message":"slow down"}}', Retry_After="7", X_Request_Id="req_1")

    origin.answer = refuse
    answered = client(proxy).ask("POST", path, ASK)
    assert (answered.status, answered.body) == (429, b'{"error":{"message":"slow down"}}')
    assert (answered.headers["retry-after"], answered.headers["x-request-id"]) == ("7", "req_1")
    assert answered.headers["x-imitrace-actor"] == "expert"


@pytest.mark.parametrize("status", [201, 204, 301, 400, 500, 503, 529])
def test_any_status_passes(origin: Any, proxy: ProxyServer, client: Any, status: int) -> None:
    body = b"" if status == 204 else b"told"
    origin.answer = lambda handler, _: handler.reply(status, body, Location="/elsewhere")
    answered = client(proxy).chat(ASK)
    assert (answered.status, answered.body) == (status, body)


def test_a_body_that_is_no_json_is_the_models_to_judge(origin: Any, proxy: ProxyServer, client: Any) -> None:
    origin.answer = lambda handler, _: handler.reply(400, b"bad json")
    answered = client(proxy).chat(b'{"model": ')
    assert (answered.status, origin.received[0].body) == (400, b'{"model": ')


@pytest.mark.parametrize("method", ["GET", "DELETE", "PUT", "HEAD"])
def test_other_routes_and_methods_pass(origin: Any, proxy: ProxyServer, client: Any, method: str) -> None:
    origin.answer = lambda handler, received: handler.reply(200, b"" if method == "HEAD" else b"listed")
    assert client(proxy).ask(method, "/v1/models/m%2F1").status == 200
    assert (origin.received[0].method, origin.received[0].path) == (method, "/v1/models/m%2F1")


@pytest.mark.parametrize("path", PATHS)
def test_bodies_of_ten_megabytes_pass_both_ways(origin: Any, proxy: ProxyServer, client: Any, path: str) -> None:
    large = json.dumps({**ASK, "padding": "x" * 10_000_000}).encode()
    origin.answer = lambda handler, received: handler.reply(200, received.body)
    answered = client(proxy).ask("POST", path, large)
    assert answered.body == large
    assert origin.received[0].header("content-length") == str(len(large))


def test_binary_and_packed_bodies_are_left_as_they_are(origin: Any, proxy: ProxyServer, client: Any) -> None:
    packed = gzip.compress(bytes(range(256)) * 50)
    origin.answer = lambda handler, _: handler.reply(200, packed, Content_Encoding="gzip", Content_Type="audio/mpeg")
    answered = client(proxy).ask("POST", "/v1/audio/speech", packed, Content_Encoding="gzip")
    assert (answered.body, answered.headers["content-encoding"]) == (packed, "gzip")
    assert (origin.received[0].body, origin.received[0].header("content-encoding")) == (packed, "gzip")


def test_only_encodings_that_can_be_recorded_are_asked_for_where_it_is_recorded(
    origin: Any, proxy: ProxyServer, client: Any
) -> None:
    for path in PATHS[:1] + PATHS[2:]:
        client(proxy).ask("POST", path, ASK, Accept_Encoding="br, gzip, zstd;q=0.5")
    decision, other = (received.header("accept-encoding") for received in origin.received)
    assert (decision, other) == ("gzip", "br, gzip, zstd;q=0.5")


def test_a_stream_is_handed_on_while_it_comes(origin: Any, proxy: ProxyServer, client: Any) -> None:
    first_arrived = threading.Event()

    def stream(handler: Any, _: Any) -> None:
        handler.start_chunks()
        handler.chunk(b"data: 1\n\n")
        assert first_arrived.wait(WAIT)  # the rest is sent only when the first has arrived
        handler.chunk(b"data: 2\n\n")
        handler.end_chunks()

    origin.answer = stream
    response = client(proxy).open("POST", "/v1/chat/completions", {**ASK, "stream": True})
    assert response.read1() == b"data: 1\n\n"
    first_arrived.set()
    assert response.read() == b"data: 2\n\n"


@pytest.mark.parametrize("sized", [True, False])
def test_an_answer_that_is_cut_is_cut_for_the_caller_too(
    origin: Any, proxy: ProxyServer, client: Any, sized: bool
) -> None:
    def cut(handler: Any, _: Any) -> None:
        if sized:
            handler.reply(200, b"data: 1\n\n", Content_Length="1000")
        else:
            handler.start_chunks()
            handler.chunk(b"data: 1\n\n")
        handler.close_connection = True

    origin.answer = cut
    with pytest.raises(IncompleteRead) as found:
        client(proxy).chat({**ASK, "stream": True})
    assert found.value.partial == b"data: 1\n\n"


def test_a_connection_that_is_reset_before_any_answer_is_a_502(origin: Any, proxy: ProxyServer, client: Any) -> None:
    def reset(handler: Any, _: Any) -> None:
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        handler.close_connection = True

    origin.answer = reset
    answered = client(proxy).chat(ASK)
    assert answered.status == 502
    assert answered.json["error"]["type"] == "imitrace_error"


def test_an_api_that_is_not_there_is_a_502_in_the_form_of_its_errors(
    serve: Callable[..., ProxyServer], client: Any
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        answered = client(serve(upstream=f"http://127.0.0.1:{unused.getsockname()[1]}/v1")).chat(ASK)
    assert (answered.status, answered.json["error"]["code"]) == (502, "connect")


def test_an_api_that_says_nothing_is_a_504(origin: Any, serve: Callable[..., ProxyServer], client: Any) -> None:
    ended = threading.Event()
    origin.answer = lambda handler, _: ended.wait(WAIT)
    answered = client(serve(silence_seconds=0.05)).chat(ASK)
    ended.set()
    assert (answered.status, answered.json["error"]["code"]) == (504, "silent")


@pytest.mark.parametrize("path", PATHS)
def test_a_caller_that_hangs_up_ends_the_request_to_the_model(
    origin: Any, proxy: ProxyServer, client: Any, path: str
) -> None:
    begun, ended = threading.Event(), threading.Event()

    def wait(handler: Any, _: Any) -> None:
        begun.set()
        if handler.connection.recv(1) == b"":
            ended.set()
        handler.close_connection = True

    origin.answer = wait
    caller = client(proxy)
    caller.connection.request("POST", path, json.dumps(ASK))
    assert begun.wait(WAIT)
    caller.connection.close()
    assert ended.wait(WAIT)


def test_a_certificate_that_nobody_trusts_is_refused(serve: Callable[..., ProxyServer], client: Any) -> None:
    import ssl

    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept() -> None:
            connection, _ = listener.accept()
            with connection, pytest.raises(ssl.SSLError):
                context.wrap_socket(connection, server_side=True)

        thread = threading.Thread(target=accept)
        thread.start()
        answered = client(serve(upstream=f"https://127.0.0.1:{listener.getsockname()[1]}/v1")).chat(ASK)
        thread.join()
    assert (answered.status, answered.json["error"]["code"]) == (502, "certificate")


def test_what_is_not_under_v1_is_not_found(proxy: ProxyServer, client: Any) -> None:
    assert client(proxy).ask("GET", "/chat/completions").status == 404
