import json
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

import imitrace
from imitrace import semconv
from imitrace.config import child_environment
from imitrace.testing import capture
from support_desk import Desk, make_expert
from support_desk.agent import main, work

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_a_task_becomes_a_trajectory_with_a_step_for_each_decision(desk: Desk) -> None:
    task = desk.tasks(1, 1, "tool_heavy")[0]
    with capture() as captured:
        worked = work(desk, make_expert(desk), task)
    trajectory = captured.spans[-1]
    assert len(captured.steps) == worked.steps == worked.right
    assert trajectory.attributes is not None
    assert trajectory.attributes[semconv.TRAJECTORY_OUTCOME] == "success"
    assert json.loads(str(trajectory.attributes[semconv.TRAJECTORY_TAGS])) == task.tags


def test_every_tool_run_carries_what_the_tool_answered(desk: Desk) -> None:
    with capture() as captured:
        work(desk, make_expert(desk), desk.tasks(1, 1, "tool_heavy")[0])
    runs = [span.attributes or {} for span in captured.spans if span.name.startswith(semconv.SPAN_TOOL)]
    assert len(runs) == len(captured.steps)
    assert all(json.loads(str(run[semconv.TOOL_CALL_RESULT])) for run in runs)


def test_a_trajectory_is_scored_by_success_and_by_right_decisions(desk: Desk) -> None:
    with capture() as captured:
        worked = work(desk, make_expert(desk, error_rate=0.5, seed=1), desk.tasks(1, 2, "tool_heavy")[0])
    values = [dict(record.log_record.attributes or {}) for record in captured.scores]
    scores = {value[semconv.SCORE_NAME]: value[semconv.SCORE_VALUE] for value in values}
    assert scores == {
        "TaskCompletion": float(worked.success),
        "ToolSelectionAccuracy": pytest.approx(worked.right / worked.steps),
    }
    assert worked.right < worked.steps


def test_an_address_that_is_none_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--tasks", "1", "--endpoint", "nowhere"]) == 2
    assert capsys.readouterr().err.startswith("support_desk: ")


def test_the_agent_runs_as_a_process_of_its_own() -> None:
    command = [sys.executable, "-m", "support_desk.agent", "--tasks", "20", "--error-rate", "0.1", "--json"]
    environment = child_environment({"PYTHONPATH": str(EXAMPLES), "IMITRACE_DISABLED": "1"})
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    figures = json.loads(ran.stdout)
    assert figures["tasks"] == 20
    assert figures["steps"] > 40
    assert 0 < figures["success"] <= 1


class Answering(BaseHTTPRequestHandler):
    """A collector that answers every request with one status."""

    status = 200

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class calls it so
        """Stay quiet."""


@pytest.mark.parametrize(("status", "exit_status"), [(200, 0), (400, 1)])
def test_the_exit_status_says_whether_everything_was_delivered(
    status: int, exit_status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = type("Handler", (Answering,), {"status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        assert main(["--tasks", "5", "--endpoint", endpoint, "--json"]) == exit_status
        imitrace.shutdown()
        server.shutdown()
    figures = json.loads(capsys.readouterr().out)
    assert (figures["exported"], figures["failed"]) == (
        (figures["records"], 0) if status == 200 else (0, figures["records"])
    )
