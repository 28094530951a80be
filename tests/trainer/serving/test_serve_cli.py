"""The proxy as a process of its own, before a model that is one too, and with a real collector behind it."""

import http.client
import json
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from imitrace.cli import main
from imitrace.config import child_environment
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer
from imitrace_trainer.step_backs import DRIFT, StepBack, StepBacks

WAIT = 60.0


@contextmanager
def serving(*words: str, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", int]]:
    """Run the command; yield its process, and its port when its clone is loaded."""
    command = [sys.executable, "-m", "imitrace", "serve", *words, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment(environment)) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("proxy ready http=http://127.0.0.1:"), line
            port = int(line.split()[2].rpartition(":")[2].removesuffix("/v1"))
            while "loading" in ask(port, "GET", "/readyz")["clone"]["reason"]:
                threading.Event().wait(0.05)
            yield process, port
        finally:
            process.kill()


def ask(port: int, method: str, path: str, body: Any = None) -> Any:  # JSON
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        connection.request(method, path, None if body is None else json.dumps(body))
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def test_the_loop_closes_through_the_proxy(origin: Any, lamp_home: Path, offered: list[Any], tmp_path: Path) -> None:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as collector:
        words = ("lamps", "--home", str(lamp_home), "--tag", "intent=lamp", "--upstream", origin.url)
        with serving(*words, IMITRACE_ENDPOINT=collector.http) as (process, port):
            said: list[Any] = [{"role": "user", "content": "Please switch lamp L-7 on."}]
            asked = {"model": "gpt", "tools": offered}
            call = ask(port, "POST", "/v1/chat/completions", {**asked, "messages": said})["choices"][0]["message"]
            said += [call, {"role": "tool", "tool_call_id": call["tool_calls"][0]["id"], "content": "done"}]
            ask(port, "POST", "/v1/chat/completions", {**asked, "messages": said})
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT) == 0
        client = CollectorClient(collector.http)
        (row,) = client.get("/v1/trajectories", fresh=1)["trajectories"]
        assert (row["agent"], row["step_count"], row["complete"], row["outcome"]) == ("lamps", 2, True, None)
        steps = client.get(f"/v1/trajectories/{row['trajectory_id']}")["steps"]
        assert [step["policy_role"] for step in steps] == ["clone", "expert"]
        assert [step["action_kind"] for step in steps] == ["tool_call", "message"]


def test_a_proxy_that_runs_leaves_a_cohort_that_stepped_back_to_the_model(
    origin: Any, lamp_home: Path, offered: list[Any], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    shutil.copytree(lamp_home, home)
    asked = {"model": "gpt", "tools": offered, "messages": [{"role": "user", "content": "Please switch lamp L-7 on."}]}
    words = ("lamps", "--home", str(home), "--tag", "cohort=all", "--upstream", origin.url)
    with serving(*words, IMITRACE_ENDPOINT="http://127.0.0.1:1") as (_, port):
        answer = ask(port, "POST", "/v1/chat/completions", asked)["choices"][0]["message"]
        assert answer["tool_calls"] and origin.received == []
        found = StepBack(since="2099-03-01T00:00:00+00:00", by=DRIFT, why="tools: V 0.4", marks=("tools",))
        StepBacks(home, "lamps").step_back(1, {"all": found})
        while "stepped back: drift of" not in ask(port, "GET", "/readyz")["clone"]["reason"]:
            threading.Event().wait(0.05)
        answer = ask(port, "POST", "/v1/chat/completions", asked)["choices"][0]["message"]
        assert (answer["content"], len(origin.received)) == ("ok", 1)


def test_a_secret_comes_from_a_file(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("")
    words = ["serve", "--upstream", "http://x/v1", "--token-file", str(token)]
    assert "is empty, expected a secret" in CliRunner().invoke(main, words).output


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--upstream", "nowhere"], "upstream is 'nowhere'"),
        (["--upstream", "http://x/v1", "--tag", "cohort"], "tag is 'cohort', expected NAME=VALUE"),
        (["--upstream", "http://x/v1", "--host", "0.0.0.0"], "set IMITRACE_SERVE_TOKEN or --token-file"),  # noqa: S104
        (["--upstream", "http://x/v1", "--token-file", "absent"], "absent can't be read"),
    ],
)
def test_what_can_not_work_is_said_in_a_line(words: list[str], said: str) -> None:
    ran = CliRunner().invoke(main, ["serve", *words])
    assert (ran.exit_code, said in ran.output) == (2, True)
