"""A clone in front of a model: it answers where it is trusted, the model everywhere else, and both are recorded."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imitrace import semconv
from imitrace.testing import Captured
from imitrace_trainer.serving.server import ProxyServer

ON = [{"role": "user", "content": "Please switch lamp L-7 on."}]
HELLO = [{"role": "user", "content": "Hello, who are you?"}]
CALL = {"lamp": "L-7", "to": "on"}


def ask(messages: list[Any], offered: list[Any], **more: Any) -> dict[str, Any]:
    return {"model": "gpt", "messages": messages, "tools": offered, **more}


def steps(server: ProxyServer, seen: Captured) -> list[dict[str, Any]]:
    server.settle()
    return [dict(span.attributes or {}) for span in seen.steps]


def test_a_trusted_clone_answers_and_the_model_is_not_asked(
    origin: Any, acting: ProxyServer, client: Any, offered: Any, seen: Captured
) -> None:
    answered = client(acting).chat(ask(ON, offered))
    assert (answered.status, answered.headers["x-imitrace-actor"], answered.headers["x-imitrace-reason"]) == (
        200,
        "clone",
        "trusted",
    )
    assert (answered.headers["x-imitrace-clone"], answered.json["model"]) == ("lamps:v1", "lamps:v1")
    (choice,) = answered.json["choices"]
    (call,) = choice["message"]["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("switch", CALL)
    assert answered.json["usage"]["total_tokens"] == 0
    assert origin.received == []
    (step,) = steps(acting, seen)
    names = (semconv.POLICY_ROLE, semconv.POLICY_NAME, semconv.POLICY_VERSION, semconv.STEP_ROUTE_REASON)
    assert [step[name] for name in names] == ["clone", "lamps", "v1", "trusted"]
    assert step[semconv.STEP_CONFIDENCE] == pytest.approx(float(answered.headers["x-imitrace-confidence"]), abs=1e-4)
    assert step[semconv.TOOL_CALL_ID] == call["id"]


def test_where_the_clone_is_not_trusted_the_model_answers_and_both_are_recorded(
    origin: Any, acting: ProxyServer, client: Any, offered: Any, seen: Captured
) -> None:
    body = json.dumps(ask(HELLO, offered), indent=3).encode()
    answered = client(acting).chat(body)
    assert answered.json["choices"][0]["message"]["content"] == "ok"
    assert answered.headers["x-imitrace-actor"] == "expert"
    assert answered.headers["x-imitrace-reason"] == "the clone can't write text"
    assert origin.received[0].body == body
    (step,) = steps(acting, seen)
    assert (step[semconv.POLICY_ROLE], step[semconv.POLICY_NAME]) == ("expert", "expert-1")
    assert step[semconv.STEP_ROUTE_REASON] == "the clone can't write text"
    assert json.loads(step[semconv.STEP_SHADOW])["clone"] == "lamps"


def test_in_the_shadow_the_model_answers_and_what_the_clone_would_do_is_recorded(
    origin: Any, watching: ProxyServer, client: Any, offered: Any, seen: Captured
) -> None:
    answered = client(watching).chat(ask(ON, offered))
    assert answered.json["choices"][0]["message"]["content"] == "ok"
    (step,) = steps(watching, seen)
    shadow = json.loads(step[semconv.STEP_SHADOW])
    assert (shadow["action"]["arguments"], shadow["trusted"]) == (CALL, True)
    assert step[semconv.POLICY_ROLE] == "expert"


def test_in_the_shadow_no_answer_waits_for_the_clone(
    origin: Any, watching: ProxyServer, client: Any, offered: Any, seen: Captured
) -> None:
    busy = [client(watching) for _ in range(6)]
    for caller in busy:
        caller.connection.request("POST", "/v1/chat/completions", json.dumps(ask(ON, offered)))
    assert [caller.connection.getresponse().status for caller in busy] == [200] * 6
    assert len(steps(watching, seen)) == 6


@pytest.mark.parametrize("cohort", ["rare", "all"])
def test_a_cohort_without_a_passing_gate_is_not_asked_about(
    origin: Any, acting: ProxyServer, client: Any, offered: Any, cohort: str
) -> None:
    answered = client(acting).chat(ask(ON, offered), X_Imitrace_Tags=f"cohort={cohort}")
    actor = {"rare": "expert", "all": "clone"}[cohort]
    assert answered.headers["x-imitrace-actor"] == actor
    if actor == "expert":
        assert answered.headers["x-imitrace-reason"] == "cohort 'rare' has no passing gate"


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"n": 2}, "the request says n,"),
        ({"logprobs": True}, "the request says logprobs"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "x"}}, "the request says modalities"),
        ({"store": True}, "the request says store"),
        ({"guided_json": {}}, "the request says guided_json"),
        ({"functions": []}, "the request says functions"),
        ({"tool_choice": "none"}, "the request wants no tool call"),
        ({"tool_choice": {"type": "function", "function": {"name": "wait"}}}, "does not allow to call switch"),
        ({"max_tokens": 5}, "the answer may be longer"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "the conversation holds image_url",
        ),
    ],
)
def test_what_a_clone_cannot_give_is_left_to_the_model(
    origin: Any, acting: ProxyServer, client: Any, offered: Any, more: dict[str, Any], reason: str
) -> None:
    answered = client(acting).chat({**ask(ON, offered), **more})
    assert answered.headers["x-imitrace-actor"] == "expert"
    assert reason in answered.headers["x-imitrace-reason"]
    assert len(origin.received) == 1


@pytest.mark.parametrize(
    "more",
    [
        {
            "n": 1,
            "logprobs": False,
            "temperature": 0,
            "parallel_tool_calls": False,
            "response_format": {"type": "text"},
        },
        {"tool_choice": "required", "store": None},
        {
            "tool_choice": {"type": "function", "function": {"name": "switch"}},
            "response_format": {"type": "json_object"},
        },
        {
            "tool_choice": {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "switch"}}]},
            }
        },
        {"max_completion_tokens": 1000, "stop": ["END"], "seed": 1, "user": "u"},
    ],
)
def test_what_asks_for_nothing_that_only_a_model_has_is_answered(
    origin: Any, acting: ProxyServer, client: Any, offered: Any, more: dict[str, Any]
) -> None:
    assert client(acting).chat(ask(ON, offered, **more)).headers["x-imitrace-actor"] == "clone"


def test_a_conversation_is_one_trajectory(
    origin: Any, acting: ProxyServer, client: Any, offered: Any, seen: Captured
) -> None:
    first = client(acting).chat(ask(ON, offered)).json["choices"][0]["message"]
    result = {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "done"}
    client(acting).chat(ask([*ON, first, result], offered))
    client(acting).chat(ask(ON, offered))  # another customer who begins alike
    told = [(step[semconv.TRAJECTORY_ID], step[semconv.STEP_INDEX]) for step in steps(acting, seen)]
    assert [index for _, index in told] == [0, 1, 0]
    assert told[0][0] == told[1][0] != told[2][0]


def test_a_request_names_its_trajectory_task_and_tags(
    origin: Any, proxy: ProxyServer, client: Any, seen: Captured
) -> None:
    client(proxy).chat(
        ask(HELLO, []),
        X_Imitrace_Trajectory="ticket-7",
        X_Imitrace_Task="greet",
        X_Imitrace_Tags="cohort=common,intent=hello%2C%20you",
    )
    (step,) = steps(proxy, seen)
    assert (step[semconv.TRAJECTORY_ID], step[semconv.TRAJECTORY_TASK]) == ("ticket-7", "greet")
    assert json.loads(step[semconv.TRAJECTORY_TAGS]) == {"cohort": "common", "intent": "hello, you"}


def test_a_streamed_answer_of_the_models_is_recorded(
    origin: Any, proxy: ProxyServer, client: Any, seen: Captured
) -> None:
    def stream(handler: Any, _: Any) -> None:
        handler.start_chunks()
        for text, reason in (("Hel", None), ("lo", None), (None, "stop")):
            delta = {} if text is None else {"content": text}
            choice = {"index": 0, "delta": delta, "finish_reason": reason}
            handler.chunk(f"data: {json.dumps({'model': 'm-1', 'choices': [choice]})}\n\n".encode())
        handler.chunk(b"data: [DONE]\n\n")
        handler.end_chunks()

    origin.answer = stream
    client(proxy).chat(ask(HELLO, [], stream=True))
    (step,) = steps(proxy, seen)
    assert (step[semconv.STEP_MESSAGE], step[semconv.POLICY_NAME]) == ("Hello", "m-1")


def test_a_stream_that_was_cut_is_recorded_as_such(
    origin: Any, proxy: ProxyServer, client: Any, seen: Captured
) -> None:
    def cut(handler: Any, _: Any) -> None:
        handler.start_chunks()
        choice = {"index": 0, "delta": {"content": "Hel"}, "finish_reason": None}
        handler.chunk(f"data: {json.dumps({'choices': [choice]})}\n\n".encode())
        handler.close_connection = True

    origin.answer = cut
    response = client(proxy).open("POST", "/v1/chat/completions", ask(HELLO, [], stream=True))
    response.read1()
    (step,) = steps(proxy, seen)
    assert (step[semconv.STEP_MESSAGE], step[semconv.ERROR_TYPE]) == ("Hel", "stream_left_early")


def test_a_request_that_the_model_refuses_is_no_step_and_the_next_try_goes_on(
    origin: Any, proxy: ProxyServer, client: Any, seen: Captured
) -> None:
    answer = origin.answer
    origin.answer = lambda handler, _: handler.reply(500, b"{}")
    client(proxy).chat(ask(HELLO, []))
    proxy.settle()
    origin.answer = answer
    client(proxy).chat(ask(HELLO, []))
    assert len(steps(proxy, seen)) == 1
    assert b"\nimitrace_serve_conversations 1.0\n" in client(proxy).ask("GET", "/metrics").body


def test_while_there_is_no_clone_the_model_answers(
    origin: Any, serve: Callable[..., ProxyServer], tmp_path: Path, client: Any, offered: Any
) -> None:
    server = serve(clone="lamps", home=tmp_path)
    assert client(server).chat(ask(ON, offered)).headers["x-imitrace-reason"] == "the clone is still loading"


def test_act_says_what_the_clone_would_do(acting: ProxyServer, client: Any, lamp_tools: Any) -> None:
    asked = {"messages": ON, "tools": lamp_tools, "tags": {"cohort": "rare"}}
    verdict = client(acting).ask("POST", "/v1/act", asked).json
    assert (verdict["action"]["arguments"], verdict["trusted"]) == (CALL, False)
    assert verdict["reason"] == "cohort 'rare' has no passing gate"


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"messages": [], "tools": []}', b'{"messages": "x", "tags": 1}']
)
def test_act_refuses_what_is_no_question(acting: ProxyServer, client: Any, body: bytes) -> None:
    assert client(acting).ask("POST", "/v1/act", body).status == 400


def test_it_says_where_the_clone_may_act(acting: ProxyServer, client: Any) -> None:
    told = client(acting).ask("GET", "/readyz").json
    assert (told["ready"], told["clone"]["cohorts"], told["clone"]["version"]) == (True, ["all"], "v1")


def test_without_the_token_nothing_is_answered(origin: Any, serve: Callable[..., ProxyServer], client: Any) -> None:
    server = serve(token="secret", upstream_key="sk-upstream")
    for path in ("/v1/chat/completions", "/v1/models", "/v1/act"):
        assert client(server).ask("POST", path, {}, Authorization="Bearer other").status == 401
    assert client(server).ask("GET", "/metrics").status == 401
    assert client(server).ask("GET", "/healthz").status == 200
    assert client(server).chat(ask(HELLO, []), Authorization="Bearer secret").status == 200
    assert client(server).chat(ask(HELLO, []), X_Imitrace_Token="secret").status == 200
    assert [received.header("authorization") for received in origin.received] == ["Bearer sk-upstream"] * 2


def test_a_web_page_is_refused_where_there_is_no_token(origin: Any, proxy: ProxyServer, client: Any) -> None:
    for path in ("/v1/chat/completions", "/v1/act"):
        assert client(proxy).ask("POST", path, {}, Origin="https://elsewhere.example").status == 401
    assert origin.received == []


@pytest.mark.parametrize("path", ["/v1/../admin", "/v1/a/%2e%2e/%2e%2e/admin", "/%76%31/models"])
def test_no_path_leads_out(origin: Any, proxy: ProxyServer, client: Any, path: str) -> None:
    assert client(proxy).ask("GET", path).status == 400
    assert origin.received == []


def test_no_key_is_logged(
    origin: Any, proxy: ProxyServer, client: Any, caplog: pytest.LogCaptureFixture, seen: Captured
) -> None:
    caplog.set_level(0)
    origin.answer = lambda handler, _: setattr(handler, "close_connection", True)
    client(proxy).chat(ask(HELLO, []), Authorization="Bearer sk-very-secret", Api_Key="sk-very-secret")
    proxy.settle()
    assert "sk-very-secret" not in caplog.text
    assert "the model's API failed" in caplog.text


def test_a_proxy_that_stops_finishes_what_was_begun(
    origin: Any, serve: Callable[..., ProxyServer], client: Any
) -> None:
    begun, go = threading.Event(), threading.Event()

    def slow(handler: Any, _: Any) -> None:
        begun.set()
        go.wait(20)
        handler.reply(200, b"done")

    origin.answer = slow
    server = serve()
    caller = client(server)
    caller.connection.request("POST", "/v1/chat/completions", json.dumps(ask(HELLO, [])))
    assert begun.wait(20)
    stopping = threading.Thread(target=server.__exit__, args=(None, None, None))
    stopping.start()
    go.set()
    assert caller.connection.getresponse().read() == b"done"
    stopping.join()
