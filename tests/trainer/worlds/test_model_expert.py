"""A model as the expert, against a real server on loopback that speaks OpenAI's API and answers by a script."""

import json
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.environment import load_object
from imitrace_trainer.rollout import expert_actor, play
from imitrace_trainer.worlds.model_expert import ModelExpert, ModelExpertError

Json = dict[str, Any]  # a JSON object
HELLO = [{"role": "user", "content": "Hello?"}]


class Shelf:
    """An environment's tools, and no more."""

    tools = ({"type": "function", "function": {"name": "find", "parameters": {"type": "object", "properties": {}}}},)


class Scripted:
    """A server that gives one answer after another: JSON, or a status with what it says of when to come back."""

    def __init__(self) -> None:
        self.answers: list[Json | tuple[int, str | None]] = []
        self.asked: list[Json] = []
        self.keys: list[str | None] = []
        self.url = ""

    def expert(self, **changed: Any) -> ModelExpert:
        return ModelExpert(Shelf(), self.url, "m-1", **({"key_variable": None, "first_wait": 0.0} | changed))


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            assert self.path == "/v1/chat/completions"
            scripted.asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            scripted.keys.append(self.headers.get("Authorization"))
            answer = scripted.answers[min(len(scripted.asked), len(scripted.answers)) - 1]
            status, after = (200, None) if isinstance(answer, dict) else answer
            content = json.dumps(answer if isinstance(answer, dict) else {}).encode()
            self.send_response(status)
            if after is not None:
                self.send_header("Retry-After", after)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *told: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        scripted.url = f"http://127.0.0.1:{running.server_address[1]}/v1"
        yield scripted
        running.shutdown()
        thread.join()


def says(text: str | None, tokens: int = 50) -> Json:
    return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": {"total_tokens": tokens}}


def calls(*made: tuple[str, str]) -> Json:
    told = [
        {"id": f"x{number}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for number, (name, arguments) in enumerate(made)
    ]
    message = {"role": "assistant", "content": None, "tool_calls": told}
    return {"choices": [{"message": message}], "usage": {"total_tokens": 70, "completion_tokens": 20}}


def test_a_tool_call_is_the_action_and_everything_is_passed_on(
    server: Scripted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELF_KEY", "k-1")
    server.answers = [calls(("find", '{"title": "Emma"}'))]
    expert = server.expert(key_variable="SHELF_KEY", temperature=0.7, answer_tokens=90, extra={"seed": 4})
    assert expert.act(HELLO) == Action("tool_call", "find", {"title": "Emma"}, call_id="x0")
    (asked,) = server.asked
    assert asked["tools"][0]["function"]["name"] == "find"
    assert {key: asked[key] for key in ("model", "messages", "temperature", "max_tokens", "seed")} == {
        "model": "m-1",
        "messages": HELLO,
        "temperature": 0.7,
        "max_tokens": 90,
        "seed": 4,
    }
    assert server.keys == ["Bearer k-1"]
    assert (expert.tokens, expert.requests) == (70, 1)


def test_a_text_is_a_message_and_nothing_is_none(server: Scripted) -> None:
    server.answers = [says("It is lent."), says(""), says(None)]
    expert = server.expert(answer_tokens=0)
    assert [expert.act(HELLO) for _ in range(3)] == [Action("message", message="It is lent."), None, None]
    assert expert.tokens == 150
    assert "max_tokens" not in server.asked[0]


def test_of_parallel_calls_the_first_is_taken(server: Scripted) -> None:
    server.answers = [calls(("find", '{"title": "Emma"}'), ("find", '{"title": "Persuasion"}'))]
    action = server.expert().act(HELLO)
    assert action is not None
    assert action.arguments == {"title": "Emma"}


def test_who_is_told_to_come_back_later_does(server: Scripted) -> None:
    server.answers = [(429, "1"), (503, formatdate(usegmt=True)), (429, "soon"), calls(("find", "{}"))]
    started = time.monotonic()
    assert server.expert().act(HELLO) == Action("tool_call", "find", {}, call_id="x0")
    assert time.monotonic() - started >= 1.0
    assert len(server.asked) == 4


@pytest.mark.parametrize(
    "malformed",
    [
        {"error": "no"},
        {"choices": []},
        {"choices": [{"message": None}]},
        calls(("find", '{"title": "Em')),
        calls(("find", "[1]")),
    ],
)
def test_an_answer_that_can_not_be_read_is_asked_for_again(server: Scripted, malformed: Json) -> None:
    server.answers = [malformed, calls(("find", "{}"))]
    assert server.expert().act(HELLO) == Action("tool_call", "find", {}, call_id="x0")
    server.asked.clear()
    server.answers = [malformed]
    with pytest.raises(ModelExpertError, match=r"\(3 tries\)"):
        server.expert(retries=2).act(HELLO)
    assert len(server.asked) == 3


def test_a_wrong_key_is_told_at_once(server: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHELF_KEY", "wrong")
    server.answers = [(401, None)]
    with pytest.raises(ModelExpertError, match="answered 401 Unauthorized; set SHELF_KEY"):
        server.expert(key_variable="SHELF_KEY").act(HELLO)
    assert len(server.asked) == 1


def test_nothing_is_asked_beyond_the_budget(server: Scripted) -> None:
    server.answers = [says("One.", tokens=1000)]
    expert = server.expert(token_budget=1200, answer_tokens=200)
    assert expert.act(HELLO) is not None
    with pytest.raises(ModelExpertError, match="the expert's token_budget of 1200 is spent"):
        expert.act(HELLO)
    assert len(server.asked) == 1


def test_a_missing_key_and_a_wrong_address_are_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SHELF_KEY", raising=False)
    with pytest.raises(ConfigError, match="SHELF_KEY holds no key"):
        ModelExpert(Shelf(), "http://127.0.0.1:1/v1", "m-1", key_variable="SHELF_KEY")
    with pytest.raises(ConfigError, match="base_url is 'shelf'"):
        ModelExpert(Shelf(), "shelf", "m-1", key_variable=None)


def test_a_model_plays_an_episode(server: Scripted, counter: Path) -> None:
    world = load_object("counter_world:Counter", counter)()
    (task,) = world.tasks(1, 1, "safety")
    email = world.reset(task.id)[0]["content"].split()[2]
    found, closed = json.dumps({"email": email}), json.dumps({"resolution": "refused"})
    server.answers = [calls(("find_order", found)), calls(("close_ticket", closed))]
    expert = ModelExpert(world, server.url, "m-1", key_variable=None)
    episode = play(world, task, expert_actor(expert))
    assert (episode.success, episode.count("expert")) == (True, 2)
    result = server.asked[1]["messages"][-1]
    assert (result["role"], json.loads(result["content"])["status"]) == ("tool", "fraud")
    assert server.asked[1]["messages"][-2]["tool_calls"][0]["id"] == result["tool_call_id"]
