"""Write seeded conversations of a desk that switches lamps, and make a clone of it that may act on some of them."""

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imitrace.messages import Action, from_openai, tool_definition
from imitrace_trainer.clone_files import CloneCard, write_clone
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.family import Clone
from imitrace_trainer.fit import BCConfig, fit
from imitrace_trainer.gate import GateConfig, PairedCase, judge
from imitrace_trainer.policy import State
from imitrace_trainer.registry import Registry
from imitrace_trainer.stages import now
from imitrace_trainer.thresholds import Thresholds

CLONE = "lamps"
_WORDS = [
    "hall",
    "attic",
    "porch",
    "cellar",
    "stairs",
    "kitchen",
    "garden",
    "study",
    "garage",
    "pantry",
    "landing",
    "balcony",
]
_SYSTEM = "You look after the lamps of a house. " + " ".join(
    f"The {word} has lamps of its own, which are switched by the tool for it and by nothing else." for word in _WORDS
)


def _tool(name: str, about: str, *names: str) -> dict[str, Any]:
    properties = {each: {"type": "string", "description": f"The {each} that is meant."} for each in names}
    schema = {"type": "object", "properties": properties, "required": list(names)}
    return {"type": "function", "function": {"name": name, "description": about, "parameters": schema}}


TOOLS = [
    _tool("switch", "Switch one lamp on or off.", "lamp", "to"),
    _tool("dim", "Dim one lamp to a level.", "lamp", "level"),
    _tool("find_lamp", "Find the number of a lamp by the room that it is in.", "room"),
    _tool("schedule", "Switch a lamp at a time of day.", "lamp", "to", "time"),
    _tool("order_bulb", "Order a new bulb for a lamp.", "lamp", "kind"),
    _tool("report", "Report a lamp that is broken.", "lamp", "what"),
]


def talk(draw: random.Random, asks: bool) -> tuple[list[dict[str, Any]], dict[str, str] | None]:
    """Return a conversation in OpenAI's form, and the arguments of the switch that follows, if one does."""
    messages: list[dict[str, Any]] = [{"role": "system", "content": _SYSTEM}]
    for number in range(2):
        room, lamp = draw.choice(_WORDS), f"L-{draw.randrange(10, 99999)}"
        call = {"name": "find_lamp", "arguments": json.dumps({"room": room})}
        messages += [
            {
                "role": "user",
                "content": f"Which lamp is in the {room}? I forgot, and it is {draw.randrange(24)} o'clock.",
            },
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": f"call_{number}", "type": "function", "function": call}],
            },
            {"role": "tool", "tool_call_id": f"call_{number}", "content": json.dumps({"room": room, "lamp": lamp})},
            {"role": "assistant", "content": f"In the {room} there is lamp {lamp}."},
        ]
    wanted = {"lamp": f"L-{draw.randrange(10, 99999)}", "to": draw.choice(["on", "off"])}
    said = f"Please switch lamp {wanted['lamp']} {wanted['to']}." if asks else "Thank you. Who are you, by the way?"
    return [*messages, {"role": "user", "content": said}], wanted if asks else None


def bodies(asks: bool, count: int, seed: int) -> Iterator[bytes]:
    """Yield requests, each of a conversation of its own."""
    draw = random.Random(seed)
    for _ in range(count):
        yield json.dumps({"model": "gpt", "messages": talk(draw, asks)[0], "tools": TOOLS}).encode()


def make_clones(homes: Mapping[str, Path]) -> None:
    """Register a clone of the desk in two workspaces: in ``passing`` it may act, in ``failing`` nowhere."""
    policy, _ = fit(_shown(1, 48), _shown(2, 48), BCConfig(device="cpu", batch=8, epochs=4))
    for name, home in homes.items():
        _register(home, policy, passes=name == "passing")


def _register(home: Path, policy: Clone, passes: bool) -> None:
    card = CloneCard(CLONE, "desk", 1, "d1", now(), "0.1.0", {}, Thresholds(0.5, 0.5).to_json())
    registry = Registry(home)
    registry.register(CLONE, lambda folder: write_clone(folder, policy, card))
    cases = [PairedCase(str(number), "all", True, True) for number in range(400)]
    about = {"method": "rollout", "dataset_hash": "d1", "clone": CLONE, "version": 1, "created_at": card.created_at}
    registry.record_gate(CLONE, 1, judge(cases if passes else cases[:2], GateConfig(), **about))  # type: ignore[arg-type]
    if passes:
        registry.promote(CLONE, dataset_hash="d1")


def _shown(seed: int, count: int) -> list[Demonstration]:
    draw, tools = random.Random(seed), [tool_definition(tool) for tool in TOOLS]
    shown = []
    for number in range(count):
        messages, wanted = talk(draw, asks=number % 3 > 0)
        action = Action("tool_call", "switch", wanted) if wanted else Action("message", message="I am a lamp.")
        shown.append(Demonstration(State([from_openai(each) for each in messages], tools), action, f"{seed}-{number}"))
    return shown
