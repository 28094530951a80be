import subprocess
import sys
from pathlib import Path

USERS_TEST = """
import imitrace

@imitrace.agent
def agent():
    with imitrace.step("where is A-1?") as step:
        step.tool_call("get_order", {"id": "A-1"})

def test_my_agent_looks_the_order_up(imitrace_capture):
    agent()
    assert imitrace_capture.actions == [imitrace.Action("tool_call", "get_order", {"id": "A-1"})]

def test_nothing_is_left_of_the_test_before(imitrace_capture):
    assert imitrace_capture.actions == []
"""


def test_users_tests_have_the_fixture(tmp_path: Path) -> None:
    (tmp_path / "test_users.py").write_text(USERS_TEST, encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."]
    run = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120, check=False)
    assert "2 passed" in run.stdout, run.stdout
