"""Ten thousand steps while the collector is away: what is kept on disk arrives once, what is not is counted."""

import socket
from pathlib import Path

import pytest

import imitrace
from imitrace.provider import install
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

TRAJECTORIES, STEPS = 500, 20


@pytest.fixture
def port() -> int:
    """Return a port that nothing listens on yet."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found: int = taken.getsockname()[1]
    return found


def work() -> None:
    for task in range(TRAJECTORIES):
        with imitrace.trajectory(id=f"t{task}"):
            messages = [{"role": "user", "content": f"task {task}"}]
            for number in range(STEPS):
                with imitrace.step(messages) as step:
                    step.message(f"answer {number}")
                messages.append({"role": "assistant", "content": f"answer {number}"})


def test_with_a_spool_everything_arrives_once(tmp_path: Path, port: int) -> None:
    imitrace.configure(agent="desk", endpoint=f"http://127.0.0.1:{port}", lossless=True, home=tmp_path / "agent")
    try:
        work()
        assert not imitrace.flush(0.2)
        with CollectorServer(CollectorConfig(home=tmp_path / "store", http_port=port, grpc_port=0)) as collector:
            assert imitrace.flush(120)
            found = CollectorClient(collector.http).get("/v1/trajectories", limit=TRAJECTORIES + 1, fresh=1)[
                "trajectories"
            ]
        stats = imitrace.stats()
        assert (stats.exported, stats.lost, stats.spooled, stats.pending) == (TRAJECTORIES * (STEPS + 1), 0, 0, 0)
        assert len(found) == TRAJECTORIES
        assert all(row["complete"] and row["step_count"] == STEPS for row in found)
    finally:
        imitrace.shutdown(0.1)
        install(None)


def test_without_a_spool_the_agent_is_unharmed_and_the_loss_is_exact(tmp_path: Path, port: int) -> None:
    imitrace.configure(agent="desk", endpoint=f"http://127.0.0.1:{port}")
    try:
        work()
        imitrace.flush(0.1)
        with CollectorServer(CollectorConfig(home=tmp_path / "store", http_port=port, grpc_port=0)) as collector:
            with imitrace.trajectory(id="after"):
                pass
            imitrace.flush(60)
            client = CollectorClient(collector.http)
            steps = sum(
                row["step_count"] for row in client.get("/v1/trajectories", limit=10_000, fresh=1)["trajectories"]
            )
            reported = client.get("/healthz")["lost_records"]
        stats = imitrace.stats()
        assert stats.records == stats.exported + stats.lost
        assert stats.lost > 0
        assert steps <= stats.exported
        assert reported == stats.lost
    finally:
        imitrace.shutdown(0.1)
        install(None)
