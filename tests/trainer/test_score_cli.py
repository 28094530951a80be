"""``imitrace score`` on a real store, and with a real collector."""

import json
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer
from imitrace_trainer.spending import read_spending

Json = dict[str, Any]  # a JSON object
REWARDS = [1.0, 0.9, 0.8, 0.799, 0.0, None]


def imitrace(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def read(*words: object) -> Any:  # the JSON that a command printed
    done = imitrace(*words, "--json")
    assert done.exit_code == 0, done.output
    return json.loads(done.output)


def write_chats(path: Path) -> Path:
    """Write six trajectories of one agent: the last without a reward, the last but one calls nothing."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"id": "A1"}'}}
    lines: list[Json] = []
    for number, reward in enumerate(REWARDS):
        told: list[Json] = [{"role": "user", "content": f"question {number}"}]
        if number != 4:
            told += [
                {"role": "assistant", "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "c1", "content": "x"},
            ]
        told.append({"role": "assistant", "content": "done"})
        line: Json = {"id": f"t{number}", "agent": "desk", "task_id": f"task {number}", "messages": told}
        lines.append(line | ({} if reward is None else {"reward": reward}))
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that nobody may change."""
    folder = tmp_path_factory.mktemp("stored")
    assert imitrace("import", write_chats(folder / "chats.jsonl"), "--home", folder / "home").exit_code == 0
    return folder / "home"


@pytest.fixture
def home(stored: Path, tmp_path: Path) -> Path:
    (tmp_path / "imitrace.toml").write_text(
        '[cohort.desk]\nagent = "desk"\nwhere = ["TaskCompletion >= 0.8", "ToolSelectionAccuracy >= 0.9"]\n'
        "split = { calibration = 0.2, gate = 0.2 }\n"
    )
    return Path(shutil.copytree(stored, tmp_path / "home"))


def scores(home: Path, where: str = "true") -> list[list[Any]]:
    sql = f"SELECT trajectory_id, name, value, evaluator FROM scores WHERE {where} ORDER BY ALL"  # noqa: S608
    found: list[list[Any]] = read("sql", sql, "--home", home)["rows"]
    return found


def test_scores_go_into_the_store_once(home: Path) -> None:
    first = read("score", "--agent", "desk", "--evaluators", "StepCount,ToolSelectionAccuracy", "--home", home)
    assert first["trajectories"] == 6
    assert (first["scores"]["StepCount"]["new"], first["scores"]["ToolSelectionAccuracy"]["new"]) == (6, 5)
    again = read("score", "--agent", "desk", "--evaluators", "StepCount,ToolSelectionAccuracy", "--home", home)
    assert (again["scores"]["StepCount"]["stored"], again["sent"]) == (6, 0)
    assert len(scores(home, "name = 'StepCount'")) == 6
    assert {row[3] for row in scores(home, "name = 'StepCount'")} == {"imitrace"}


def test_what_others_gave_is_left_as_it_is(home: Path) -> None:
    told = read("score", "--agent", "desk", "--evaluators", "TaskCompletion", "--home", home)
    assert (told["scores"]["TaskCompletion"]["given"], told["scores"]["TaskCompletion"]["new"]) == (5, 1)
    values = {row[0]: row[2] for row in scores(home, "name = 'TaskCompletion'")}
    assert values == {"t0": 1.0, "t1": 0.9, "t2": 0.8, "t3": 0.799, "t4": 0.0, "t5": 0.9}


def test_the_articles_filter_keeps_the_boundary_and_good_traces_that_nobody_judged(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "imitrace.toml"
    assert imitrace("score", "desk", "--home", home, "--config", config).exit_code == 0
    made = read("curate", "desk", "--home", home, "--config", config)
    kept = made["splits"]
    assert sum(split["trajectories"] for split in kept.values()) == 4  # t0, t1, t2 and t5, which has no reward
    assert made["rejected"] == {"scores": 2}


def test_a_dry_run_stores_nothing(home: Path) -> None:
    before = scores(home)
    told = imitrace(
        "score", "--agent", "desk", "--evaluators", "all", "--futureagi-compat", "--dry-run", "--home", home
    )
    assert told.exit_code == 0, told.output
    assert told.output.rstrip().endswith("none stored (--dry-run)")
    assert scores(home) == before


def test_a_score_from_outside_counts_however_late(home: Path, tmp_path: Path) -> None:
    late = ("--trajectory", "t4", "--name", "TaskCompletion", "--value", "0.8", "--evaluator", "Ann", "--home", home)
    told = imitrace("score", *late, "--explanation", "looked at it")
    assert (told.exit_code, told.output) == (0, "TaskCompletion 0.8 for t4\n")
    assert ["t4", "TaskCompletion", 0.8, "Ann"] in scores(home)
    made = read("score", "--agent", "desk", "--evaluators", "TaskCompletion", "--home", home)
    assert made["scores"]["TaskCompletion"]["given"] == 5


def test_a_step_is_scored_from_outside_and_counts_in_the_aggregate(home: Path) -> None:
    late = ("--trajectory", "t0", "--name", "StepReward", "--step", 0, "--value", "0.5", "--home", home)
    assert imitrace("score", *late).exit_code == 0
    assert imitrace("score", "--agent", "desk", "--evaluators", "TrajectoryScore", "--home", home).exit_code == 0
    assert ["t0", "TrajectoryScore", 0.5, "imitrace"] in scores(home)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--trajectory", "t0", "--name", "x", "--value", "nan"], "--value is nan, allowed: a finite number"),
        (["--trajectory", "t0", "--name", "x", "--value", "inf"], "--value is inf, allowed: a finite number"),
        (["--trajectory", "t0", "--value", "1"], "a score needs --trajectory, --name, and --value or --label"),
        (["--trajectory", "t0", "--name", "x", "--value", "1", "--agent", "desk"], "name one of them"),
        (["--agent", "desk", "--value", "1"], "--value belongs to a score from outside"),
        ([], "name a cohort or --agent"),
        (["--agent", "desk", "--evaluators", "Kindness"], "evaluator 'Kindness' is unknown"),
        (["--agent", "desk", "--judge"], "add a table [score.judge]"),
        (["--agent", "nobody"], "has no trajectory of agent 'nobody'"),
        (["--agent", "desk", "--source", "other.duckdb"], "scores can't be stored in other.duckdb"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(stored: Path, tmp_path: Path, words: list[str], told: str) -> None:
    (tmp_path / "empty.toml").write_text("")
    done = imitrace("score", *words, "--home", stored, "--config", tmp_path / "empty.toml")
    assert done.exit_code == 2
    assert told in done.output
    assert done.output.count("\n") == 1


def test_scores_are_compared_with_labels(stored: Path) -> None:
    told = read(
        "score",
        "--agent",
        "desk",
        "--evaluators",
        "TerminalSigns",
        "--labels",
        "TaskCompletion",
        "--dry-run",
        "--home",
        stored,
    )
    found = told["agreement"]["TerminalSigns"]
    assert (found["n"], found["labelled_good"], found["scored_good"], found["both_good"]) == (5, 3, 5, 3)


def test_a_clones_calls_are_compared_with_an_experts_of_another_source(home: Path, tmp_path: Path) -> None:
    expert = tmp_path / "expert"
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"id": "A9"}'}}
    told = [{"role": "user", "content": "question 0"}, {"role": "assistant", "tool_calls": [call]}]
    line = {"id": "e0", "agent": "desk", "task_id": "task 0", "messages": told}
    (tmp_path / "expert.jsonl").write_text(json.dumps(line) + "\n")
    assert imitrace("import", tmp_path / "expert.jsonl", "--home", expert).exit_code == 0
    options = ("--evaluators", "ToolSelectionAccuracy", "--reference", expert / "traces.duckdb", "--home", home)
    assert imitrace("score", "--agent", "desk", *options).exit_code == 0
    labels = "name = 'ToolSelectionAccuracy' AND step_index IS NULL AND trajectory_id IN ('t0', 't1')"
    assert [row[2] for row in scores(home, labels)] == [0.0, 1.0]  # t1 has no expert: its calls are sound


def test_a_running_collector_takes_the_scores(tmp_path: Path) -> None:
    chats = write_chats(tmp_path / "chats.jsonl")
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as server:
        assert imitrace("import", chats, "--home", tmp_path).exit_code == 0
        told = read("score", "--agent", "desk", "--evaluators", "StepCount", "--home", tmp_path)
        assert told["sent"] == 6
        assert len(scores(tmp_path, "name = 'StepCount'")) == 6
        again = read(
            "score", "--agent", "desk", "--evaluators", "StepCount", "--source", server.http, "--home", tmp_path
        )
        assert again["sent"] == 0


def test_what_a_judge_took_is_written_down_for_the_savings(home: Path, tmp_path: Path) -> None:
    content = json.dumps({"score": 1.0, "reason": "so"})
    usage = {"total_tokens": 120, "completion_tokens": 20}
    answer = json.dumps({"choices": [{"message": {"content": content}}], "usage": usage}).encode()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *told: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            endpoint = f"http://127.0.0.1:{server.server_port}/v1"
            config = tmp_path / "judge.toml"
            config.write_text(f'[score.judge]\nendpoint = "{endpoint}"\nmodel = "judge-1"\nrepeats = 1\n')
            done = read("score", "--agent", "desk", "--judge", "--dry-run", "--home", home, "--config", config)
        finally:
            server.shutdown()
            thread.join()
    ((spent,), broken) = read_spending(home)
    count = done["judge"]["requests"]
    assert (spent.kind, spent.agent, spent.model, spent.requests, broken) == ("judge", "desk", "judge-1", count, 0)
    assert (spent.input_tokens, spent.output_tokens) == (100 * count, 20 * count)
