"""Every page of docs/sdk runs as it stands, against a real collector and a scripted model, and records what it says."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

ROOT = Path(__file__).parents[2]
PAGES = ROOT / "docs" / "sdk"
NAMES = sorted(page.stem for page in PAGES.glob("*.md"))
MODEL_SERVER = ROOT / "tests" / "sdk" / "programs" / "model_server.py"
PAGE_SECONDS = 60.0
NOWHERE = "http://127.0.0.1:9"

NOTHING_LOST = """
assert imitrace.flush(), imitrace.stats()
assert (imitrace.stats().lost, imitrace.stats().faults) == (0, {}), imitrace.stats()
"""

FIRST = (
    "the clone's action can't be returned: no answer of the function was seen yet, so its shape is unknown; "
    "or give reply="
)
FIXTURE = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "test_desk.py"]
ALSO_RUN: dict[str, list[list[str]]] = {"own_loop": [["batch.py"], FIXTURE]}

Json = dict[str, Any]


class Ran(NamedTuple):
    """A page that ran."""

    printed: str
    tasks: Mapping[str, Json]
    """What the collector says of its trajectories."""


Run = Callable[..., Ran]


@pytest.fixture(scope="module")
def model() -> Iterator[str]:
    """Return the address of the scripted model."""
    with subprocess.Popen([sys.executable, MODEL_SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()
        server.terminate()


@pytest.fixture(scope="module")
def page(model: str, lamp_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Return what runs a page once for each setting: the page's name, and variables of the environment."""

    @cache
    def run(name: str, **environment: str) -> Ran:
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(lamp_home, folder / ".imitrace")
        write_page(name, folder)
        with CollectorServer(CollectorConfig(home=folder / "store", http_port=0, grpc_port=0)) as server:
            told = {**addresses(model, server.http), **environment}
            printed = [
                output([sys.executable, "-W", "error", *arguments], folder, told)
                for arguments in [["page.py"], *ALSO_RUN.get(name, [])]
            ]
            return Ran("".join(printed), trajectories(CollectorClient(server.http)))

    yield run


def addresses(model: str, collector: str) -> dict[str, str]:
    """Return the environment of a page: nothing beyond loopback answers there."""
    keys = {"OPENAI_API_KEY": "key", "ANTHROPIC_API_KEY": "key"}
    proxies = {"HTTP_PROXY": NOWHERE, "HTTPS_PROXY": NOWHERE, "ALL_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1,localhost"}
    return {
        "PATH": os.defpath,
        "IMITRACE_ENDPOINT": collector,
        "OPENAI_BASE_URL": f"{model}/v1",
        "ANTHROPIC_BASE_URL": model,
        **keys,
        **proxies,
    }


def blocks(name: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (PAGES / f"{name}.md").read_text(encoding="utf-8"), re.DOTALL)


def write_page(name: str, folder: Path) -> None:
    """Write a page's blocks as one program, but for those that begin with the name of a file of their own."""
    program = []
    for block in blocks(name, "python"):
        named = re.match(r"# file: (\w+\.py)\n", block)
        if named:
            (folder / named[1]).write_text(block, encoding="utf-8")
        else:
            program.append(block)
    text = "\n".join([*program, NOTHING_LOST])
    (folder / "page.py").write_text(text, encoding="utf-8")


def output(command: Sequence[str], folder: Path, environment: Mapping[str, str]) -> str:
    ran = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PAGE_SECONDS, check=False
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def trajectories(collector: CollectorClient) -> dict[str, Json]:
    listed = collector.get("/v1/trajectories", limit=1000)["trajectories"]
    return {row["task"]: collector.get(f"/v1/trajectories/{row['trajectory_id']}") for row in listed}


def story(found: Json) -> list[Json]:
    """Return what a trajectory's steps say, whoever the model was and whatever ids it gave to its calls."""
    said = ("action_kind", "action_name", "action_arguments", "action_message", "observation")
    counted = ("step_index", "policy_role", "input_tokens", "output_tokens", "error_type")
    decisions = list(dict.fromkeys(step["decision"] for step in found["steps"]))
    return [
        {name: step[name] for name in (*said, *counted)}
        | {"decision": decisions.index(step["decision"]), "tools": found["tools"].get(step["tools_hash"])}
        | {"state": [without_ids(found["messages"][message]) for message in step["state"]]}
        for step in found["steps"]
    ]


def without_ids(message: Json) -> Json:
    """Return a message without what only some clients know: calls' ids, and the name of the tool in its result."""
    parts = [dict(part) for part in message["parts"]]
    for part in parts:
        part.pop("id", None)
        if "response" in part:
            part.pop("name", None)
    return {"role": message["role"], "parts": parts}


def policies(found: Json) -> list[str]:
    return [step["policy_role"] for step in found["steps"]]


@pytest.mark.parametrize("name", NAMES)
def test_a_page_runs_and_prints_what_it_says(page: Run, name: str) -> None:
    printed = page(name).printed
    for shown in blocks(name, "text"):
        assert shown in printed


@pytest.mark.parametrize("name", NAMES)
def test_all_that_a_page_does_is_stored_whole(page: Run, name: str) -> None:
    found = page(name).tasks
    assert None not in found
    rows = [trajectory["trajectory"] for trajectory in found.values()]
    steps = [step for trajectory in found.values() for step in trajectory["steps"]]
    assert [row["incomplete_reason"] for row in rows if not row["complete"]] == []
    assert {(step["complete"], step["error_type"]) for step in steps} == {(True, None)}
    assert all(trajectory["steps"] for trajectory in found.values())


@pytest.mark.parametrize(
    ("name", "models"),
    [
        ("openai", {"gpt-5.1"}),
        ("anthropic", {"claude-sonnet-5"}),
        ("mcp", {"claude-sonnet-5"}),
        ("langgraph", {"gpt-5.1", "lamps"}),
        ("own_loop", {"house-rules"}),
    ],
)
def test_every_step_names_the_model_that_took_it(page: Run, name: str, models: set[str]) -> None:
    steps = [step for trajectory in page(name).tasks.values() for step in trajectory["steps"]]
    assert {step["policy_name"] for step in steps} == models


def test_one_conversation_is_the_same_through_every_client(page: Run) -> None:
    expected = story(page("openai").tasks["chat"])
    call, reply = expected
    assert (call["action_name"], json.loads(call["action_arguments"])) == ("get_order", {"order_id": "A-1001"})
    assert (call["observation"], call["tools"]) == ("A-1001 is on its way", ["get_order"])
    assert (call["input_tokens"], call["output_tokens"]) == (21, 8)
    assert (reply["action_kind"], reply["action_message"]) == ("message", "I found: A-1001 is on its way")
    assert [message["role"] for message in reply["state"]] == ["system", "user", "assistant", "tool"]
    for name, task in [
        ("openai", "chat-watched"),
        ("openai", "async-1"),
        ("openai", "responses"),
        ("anthropic", "messages"),
        ("anthropic", "watched"),
        ("langgraph", "graph"),
    ]:
        assert story(page(name).tasks[task]) == expected, f"{name}: {task}"


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("openai", "chat-parallel"),
        ("anthropic", "messages-parallel"),
        ("langgraph", "graph-parallel"),
        ("mcp", "mcp-parallel"),
    ],
)
def test_parallel_calls_are_steps_of_one_decision_each_with_its_own_result(page: Run, name: str, task: str) -> None:
    first, second, reply = story(page(name).tasks[task])
    assert [first["observation"], second["observation"]] == ["A-1001 is on its way", "A-1002 is on its way"]
    assert [step["decision"] for step in (first, second, reply)] == [0, 0, 1]
    assert first["state"] == second["state"] == reply["state"][: len(first["state"])]
    assert [step["output_tokens"] for step in (first, second, reply)] == [8, None, 8]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("openai", "chat-streamed"),
        ("openai", "response-streamed"),
        ("anthropic", "streamed"),
        ("anthropic", "async"),
    ],
)
def test_a_streamed_answer_is_recorded_like_a_whole_one(page: Run, name: str, task: str) -> None:
    (step,) = story(page(name).tasks[task])
    assert (step["action_message"], step["input_tokens"], step["output_tokens"]) == ("How can I help?", 21, 8)


def test_two_tasks_at_once_keep_their_own_steps(page: Run) -> None:
    found = page("openai").tasks
    arguments = [step["action_arguments"] for task in ("async-1", "async-2") for step in story(found[task])]
    numbers = ["A-1001", None, "A-1002", "A-1003", None]
    assert arguments == [number and f'{{"order_id":"{number}"}}' for number in numbers]


def test_tools_over_mcp_are_offered_with_their_servers_schema_and_their_results_tied(page: Run) -> None:
    call, reply = story(page("mcp").tasks["mcp"])
    assert (call["tools"], call["action_name"]) == (["get_order"], "get_order")
    assert call["observation"] == "A-1001 is on its way"
    assert reply["action_message"] == "I found: A-1001 is on its way"


def test_a_graphs_thread_that_goes_on_is_one_trajectory(page: Run) -> None:
    steps = story(page("langgraph").tasks["graph-thread"])
    assert [step["step_index"] for step in steps] == [0, 1, 2]
    assert [step["action_kind"] for step in steps] == ["message", "tool_call", "message"]
    roles = ["user", "assistant", "user", "assistant", "tool"]
    assert [message["role"] for message in steps[-1]["state"]] == roles


def test_in_the_graph_the_clone_takes_what_it_is_sure_of_and_the_expert_sees_all_else(page: Run) -> None:
    sure, unsure = (page("langgraph").tasks[task] for task in ("lamp-1", "lamp-2"))
    assert policies(sure) == ["clone", "expert"]
    call, reply = sure["steps"]
    assert (call["action_arguments"], call["observation"]) == ('{"lamp":"L-7","to":"on"}', "L-7 is on")
    assert call["confidence"] > 0.8
    assert reply["action_message"] == "I found: L-7 is on"
    (only,) = story(unsure)
    assert (only["policy_role"], only["action_message"]) == ("expert", "How can I help?")
    assert [message["role"] for message in only["state"]] == ["user"]


def test_the_clone_acts_where_it_is_trusted_and_every_step_says_why_or_why_not(page: Run) -> None:
    found = page("clone").tasks
    why = {
        task: [(step["policy_role"], step["policy_name"], step["route_reason"]) for step in found[task]["steps"]]
        for task in ("first", "trusted", "not-trusted")
    }
    assert why == {
        "first": [("expert", "gpt-5.1", FIRST)],
        "trusted": [("clone", "lamps", "trusted")],
        "not-trusted": [("expert", "gpt-5.1", "the clone can't write text")],
    }
    (trusted,) = found["trusted"]["steps"]
    assert (trusted["action_arguments"], trusted["policy_version"]) == ('{"lamp":"L-7","to":"on"}', "v1")
    assert policies(found["plan"]) == ["clone", "expert"]


def test_a_shadow_says_beside_the_experts_step_what_the_clone_would_have_done(page: Run) -> None:
    (step,) = page("clone").tasks["shadow"]["steps"]
    assert (step["policy_role"], step["policy_name"]) == ("expert", "gpt-5.1")
    shadow = json.loads(step["shadow"])
    assert shadow["action"] == {"kind": "tool_call", "name": "switch", "arguments": {"lamp": "L-7", "to": "on"}}
    assert shadow["trusted"]


def test_threads_processes_and_services_add_to_the_trajectory_they_were_started_in(page: Run) -> None:
    found = page("own_loop").tasks
    assert [step["observation"] for step in story(found["pool"])] == ["A-1001 is on its way", "A-1002 is on its way"]
    assert [step["action_message"] for step in story(found["service"])] == ["Let me ask the stock.", "yes"]
    said = sorted(step["action_message"] for step in story(found["processes"]))
    assert said == ["A-1001 is on its way", "A-1002 is on its way"]
    assert [step["action_message"] for step in story(found["generator"])] == ["Hello, how can I help?"]


def test_both_forms_record_the_same_kind_of_steps_and_scores_reach_their_trajectory(page: Run) -> None:
    found = page("own_loop").tasks
    (by_hand,) = story(found["with"])
    assert (by_hand["action_arguments"], by_hand["observation"]) == ('{"order_id":"A-1001"}', '{"status":"shipped"}')
    first, second = story(found["decorated"])
    assert first["observation"] == "A-1001 is on its way"
    assert second["action_message"] == "I found: A-1001 is on its way"
    assert {task: row["trajectory"]["outcome"] for task, row in found.items() if task in ("with", "decorated")} == {
        "with": "success",
        "decorated": "success",
    }
    scores = {score["name"]: score["value"] for score in found["with"]["scores"]}
    assert scores == {"TaskCompletion": 1.0, "CustomerSatisfaction": 0.9}


@pytest.mark.parametrize("setting", [{"IMITRACE_DISABLED": "1"}, {"IMITRACE_SAMPLE": "0"}])
def test_the_agent_does_the_same_when_nothing_is_recorded(page: Run, setting: dict[str, str]) -> None:
    ran = page("own_loop", **setting)
    assert ran.tasks == {}
    assert ran.printed.partition("Stats(")[0] == page("own_loop").printed.partition("Stats(")[0]


def test_lossless_delivery_brings_the_same(page: Run) -> None:
    ran = page("own_loop", IMITRACE_LOSSLESS="1")
    assert {task: story(found) for task, found in ran.tasks.items() if task != "processes"} == {
        task: story(found) for task, found in page("own_loop").tasks.items() if task != "processes"
    }


def test_the_index_leads_to_every_page() -> None:
    index = (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8")
    assert re.findall(r"\(sdk/(\w+)\.md\)", index) and sorted(re.findall(r"\(sdk/(\w+)\.md\)", index)) == NAMES
