import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import imitrace
from imitrace.provider import install
from imitrace.testing import Captured, capture


@pytest.fixture
def untraced() -> Iterator[None]:
    """Leave nothing configured behind."""
    yield
    imitrace.shutdown(0.1)
    install(None)


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture() as captured:
        yield captured


def _tool(name: str, **properties: Any) -> dict[str, Any]:  # JSON schemas
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"name": name, "description": f"{name} a lamp", "parameters": parameters}


LAMP_TOOLS = [_tool("switch", lamp={"type": "string"}, to={"type": "string", "enum": ["on", "off"]}), _tool("wait")]


def _lamp_states(seed: int, count: int) -> Iterator[tuple[list[dict[str, Any]], tuple[str, dict[str, Any]] | None]]:
    """Yield what a user asks for and the call that answers it; None where the expert only talks."""
    draw = random.Random(seed)
    for number in range(count):
        lamp, to = f"L-{draw.randrange(10, 9999)}", draw.choice(["on", "off"])
        asked = f"Please switch lamp {lamp} {to}." if number % 3 else "Hello, who are you?"
        call = ("switch", {"lamp": lamp, "to": to}) if number % 3 else None
        yield [{"role": "user", "parts": [{"type": "text", "content": asked}]}], call


@pytest.fixture(scope="session")
def lamp_tools() -> list[dict[str, Any]]:
    """Return the definitions of the lamps' tools."""
    return LAMP_TOOLS


@pytest.fixture(scope="session")
def lamp_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace whose clone ``lamps`` v1 is champion: it switches lamps and leaves talking to the expert."""
    import torch

    from imitrace.messages import Action
    from imitrace_trainer.clone_files import CloneCard, write_clone
    from imitrace_trainer.demonstrations import Demonstration
    from imitrace_trainer.fit import BCConfig, fit
    from imitrace_trainer.gate import GateConfig, PairedCase, judge
    from imitrace_trainer.policy import State
    from imitrace_trainer.registry import Registry
    from imitrace_trainer.stages import now
    from imitrace_trainer.thresholds import Thresholds

    def shown(seed: int, count: int) -> list[Demonstration]:
        return [
            Demonstration(
                State(messages, LAMP_TOOLS),
                Action("tool_call", *call) if call else Action("message", message="I am a lamp."),
                f"{seed}-{number}",
            )
            for number, (messages, call) in enumerate(_lamp_states(seed, count))
        ]

    torch.set_num_threads(1)  # small tensors: two threads on a busy machine are ten times slower than one
    policy, _ = fit(shown(1, 60), shown(2, 60), BCConfig(device="cpu", batch=4, epochs=6))
    card = CloneCard("lamps", "lamps", 1, "d1", "2026-03-01T00:00:00Z", "0.1.0", {}, Thresholds(0.5, 0.5).to_json())
    home = tmp_path_factory.mktemp("lamps")
    Registry(home).register("lamps", lambda folder: write_clone(folder, policy, card))
    cases = [PairedCase(str(number), "all", True, True) for number in range(400)]
    report = judge(cases, GateConfig(), method="rollout", dataset_hash="d1", clone="lamps", version=1, created_at=now())
    Registry(home).record_gate("lamps", 1, report)
    Registry(home).promote("lamps", dataset_hash="d1")
    return home


@pytest.fixture
def lamps(lamp_home: Path, tmp_path: Path) -> Path:
    """Return a copy of that workspace, to change."""
    return Path(shutil.copytree(lamp_home, tmp_path / "home"))
