"""What a clone hands over in service, from the agent through a collector into the dataset of the next clone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import imitrace
from imitrace.cli import main
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig

ON = [{"role": "user", "content": "Please switch lamp L-77 on."}]
HELLO = [{"role": "user", "content": "Hello, who are you?"}]
ODD = "Zebra quartz, jigsaw: wyvern onyx? Vexing " * 3
CONFIG = """
[cohort.lamps]
agent = "lamps"
split = { calibration = 0, gate = 0 }
"""


@pytest.fixture
def collector(lamps: Path, monkeypatch: pytest.MonkeyPatch, untraced: None) -> Iterator[CollectorServer]:
    """A collector of the lamps' workspace, in which the clone always acts where it is trusted."""
    monkeypatch.setenv("IMITRACE_HOME", str(lamps))
    Registry(lamps).record_route("lamps", RouteConfig(audit=0.000001))
    with CollectorServer(CollectorConfig(home=lamps, http_port=0, grpc_port=0)) as server:
        yield server


def serve(tools: list[Any], name: str) -> None:
    """Greet, so that the answers' shape is known; then the clone switches a lamp, and hears what it never saw."""
    handle = imitrace.CloneHandle("lamps@champion")
    assert handle.warm(60)

    @imitrace.step(tools=tools, clone=handle)
    def decide(messages: list[Any]) -> Any:
        return "switch", {"lamp": "L-1", "to": "off"}

    decide(HELLO)
    with imitrace.trajectory(name, id=name) as trajectory:
        seen = [*ON]
        for _ in range(3):
            tool, arguments = decide(seen)
            seen = [*seen, {"role": "assistant", "content": f"{tool} {arguments['lamp']}."}]
            seen.append({"role": "user", "content": ODD})
        trajectory.outcome("success")


def test_what_the_expert_did_after_a_clone_handed_over_is_learnt_and_the_clones_steps_are_context(
    collector: CollectorServer, lamps: Path, lamp_tools: list[Any], tmp_path: Path
) -> None:
    imitrace.configure(agent="lamps", endpoint=collector.http)
    for name in ("first", "second"):
        serve(lamp_tools, name)
    assert imitrace.flush(20)
    snapshot = CollectorClient(collector.http).post("/v1/snapshot")["path"]
    (tmp_path / "imitrace.toml").write_text(CONFIG, encoding="utf-8")
    words = ["curate", "lamps", "--source", snapshot, "--home", str(lamps), "--config", str(tmp_path / "imitrace.toml")]
    told = CliRunner().invoke(main, words)
    assert told.exit_code == 0, told.output
    dataset = open_dataset(lamps, "lamps")
    steps = dataset.tables()["steps"].filter(dataset.tables()["steps"]["trajectory_id"] == "first")
    marks = ["policy_role", "route_reason", "loss_mask", "mask_reason"]
    rows = steps.select(marks).rows()
    assert rows[0] == ("clone", "trusted", False, "by a clone, not confirmed")
    assert [(role, mask, why) for role, _, mask, why in rows[1:]] == [("expert", True, None)] * 2
    assert rows[1][1].startswith("handover: ")
    learnt = [one for one in dataset.examples("train") if one.loss_mask and len(one.state) > 1]
    assert [one.action.arguments for one in learnt] == [{"lamp": "L-1", "to": "off"}] * 4
    assert {part["content"] for one in learnt for part in one.state[1]["parts"]} == {"switch L-77."}
    assert "handovers: 4 steps learnt behind a clone's own, in 2 trajectories" in told.output
