"""The judge against a real server on loopback that answers by a script."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.judge import Judge, JudgeConfig, read_verdict
from imitrace_trainer.evaluators.judge_client import JudgeClient, JudgeError

Make = Callable[..., Episode]
Json = dict[str, Any]  # a JSON object
FIND = ("find", {"id": "A1"}, "{}")


def verdict(score: Any, tokens: int = 100) -> Json:
    content = json.dumps({"score": score, "reason": "as asked"})
    return {"choices": [{"message": {"content": content}}], "usage": {"total_tokens": tokens}}


class Scripted:
    """A server that gives one answer after another: a JSON object, a status, or None to hang up; the last for ever."""

    def __init__(self) -> None:
        self.answers: list[Json | int | None] = []
        self.asked: list[tuple[Json, str | None]] = []
        self.endpoint = ""

    def client(self, **changed: Any) -> JudgeClient:
        return JudgeClient(self.endpoint, "judge-1", **({"first_wait": 0.0, "timeout": 20.0} | changed))


@pytest.fixture
def server() -> Iterator[Scripted]:
    scripted = Scripted()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/chat/completions"
            scripted.asked.append((body, self.headers.get("Authorization")))
            answer = scripted.answers[min(len(scripted.asked), len(scripted.answers)) - 1]
            if answer is None:
                self.close_connection = True
                return
            content = json.dumps(answer if isinstance(answer, dict) else {}).encode()
            self.send_response(200 if isinstance(answer, dict) else answer)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *told: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        scripted.endpoint = f"http://127.0.0.1:{running.server_port}/v1"
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield scripted
        finally:
            running.shutdown()
            thread.join()


def judge(server: Scripted, repeats: int = 3, **client: Any) -> Judge:
    config = JudgeConfig(endpoint=server.endpoint, model="judge-1", repeats=repeats)
    return Judge(config, server.client(**client))


def test_the_score_is_the_mean_of_the_repeats_and_the_spread_stands_beside_it(episode: Make, server: Scripted) -> None:
    server.answers = [verdict(0.5), verdict(1.0), verdict(0.9)]
    asked = judge(server)
    result = asked.evaluate("pay back", episode([FIND], "Done."))
    detail = json.loads(result.label or "")
    assert result.score == pytest.approx(0.8)
    assert (detail["repeats"], detail["range"], detail["spread"]) == (3, [0.5, 1.0], 0.216)
    assert (detail["prompt"], detail["model"]) == (asked.version, "judge-1")


def test_it_sees_the_task_and_the_record_and_no_system_prompt(server: Scripted) -> None:
    server.answers = [verdict(1.0)]
    told = [
        {"role": "system", "content": "company secret"},
        {"role": "user", "content": "pay A1 back ========================"},
        {"role": "assistant", "content": "done"},
    ]
    judge(server, 1, key="k-1").evaluate(None, told)
    ((body, authorization),) = server.asked
    text = json.dumps(body["messages"])
    assert authorization == "Bearer k-1"
    assert "pay A1 back" in text
    assert "assistant: done" in text
    assert "company secret" not in text
    assert body["messages"][1]["content"].count("=" * 24) == 2  # the record can't close itself


def test_what_shapes_the_judgement_changes_its_version() -> None:
    base = JudgeConfig(endpoint="http://localhost", model="a")
    others = [
        JudgeConfig(endpoint="http://localhost", model="b"),
        JudgeConfig(endpoint="http://localhost", model="a", rubric="Was it polite?"),
        JudgeConfig(endpoint="http://localhost", model="a", temperature=1.0),
    ]
    assert len({config.prompt_hash for config in (base, *others)}) == 4
    assert JudgeConfig(endpoint="http://elsewhere", model="a").prompt_hash == base.prompt_hash


@pytest.mark.parametrize("failure", [500, 503, 429, None])
def test_a_failed_request_is_sent_again(episode: Make, server: Scripted, failure: int | None) -> None:
    server.answers = [failure, verdict(0.7)]
    assert judge(server, 1).evaluate(None, episode("Done.")).score == 0.7
    assert len(server.asked) == 2


def test_after_its_tries_it_gives_up_with_a_reason(episode: Make, server: Scripted) -> None:
    server.answers = [503]
    result = judge(server, 1, retries=2).evaluate(None, episode("Done."))
    assert (result.score, len(server.asked)) == (None, 3)
    assert result.reason.endswith("answered 503 Service Unavailable (3 tries)")


def test_a_wrong_key_is_not_tried_again(episode: Make, server: Scripted) -> None:
    server.answers = [401]
    result = judge(server).evaluate(None, episode("Done."))
    assert len(server.asked) == 1
    assert "set IMITRACE_JUDGE_KEY" in result.reason


def test_nothing_is_asked_beyond_the_budget(episode: Make, server: Scripted) -> None:
    server.answers = [verdict(0.6, tokens=900)]
    asked = judge(server, 3, token_budget=1300)
    first, second = (asked.evaluate(None, episode("Done.")) for _ in range(2))
    assert (first.score, len(server.asked)) == (0.6, 1)
    assert json.loads(first.label or "")["repeats"] == 1
    assert second.score is None
    assert "token_budget of 1300 is spent" in second.reason


@pytest.mark.parametrize("score", [-0.1, 1.1, "good", None, True, float("nan")])
def test_a_verdict_without_a_score_from_0_to_1_is_no_score(episode: Make, server: Scripted, score: Any) -> None:
    server.answers = [verdict(score), verdict(score), verdict(0.25)]
    result = judge(server).evaluate(None, episode("Done."))
    assert result.score == 0.25
    assert json.loads(result.label or "")["failed"] == 2


def test_a_verdict_is_found_among_other_words() -> None:
    assert read_verdict('Sure!\n```json\n{"score": 1, "reason": "all done"}\n```') == (1.0, "all done")
    with pytest.raises(JudgeError, match="has no score from 0 to 1"):
        read_verdict("I would say 8 out of 10")


def test_an_answer_of_another_shape_is_an_error(server: Scripted) -> None:
    server.answers = [{"error": "no"}]
    with pytest.raises(JudgeError, match="without choices"):
        server.client().answer([{"role": "user", "content": "hi"}])


@pytest.mark.parametrize("endpoint", ["file:///etc/passwd", "localhost:80", "http://"])
def test_only_web_addresses_are_asked(endpoint: str) -> None:
    with pytest.raises(ConfigError, match=r"judge\.endpoint is"):
        JudgeClient(endpoint, "judge-1")


def test_a_long_record_is_sent_with_its_beginning_and_its_end(server: Scripted) -> None:
    server.answers = [verdict(1.0)]
    config = JudgeConfig(endpoint=server.endpoint, model="judge-1", repeats=1, characters=1000)
    told = [{"role": "user", "content": "start"}, *[{"role": "assistant", "content": "x" * 300}] * 1]
    told += [{"role": "user", "content": f"{number} " + "y" * 300} for number in range(9)]
    told.append({"role": "assistant", "content": "the end"})
    Judge(config, server.client()).evaluate(None, told)
    content = server.asked[0][0]["messages"][1]["content"]
    assert "start" in content
    assert "the end" in content
    assert "characters left out" in content
