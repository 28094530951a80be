"""Make episodes from short descriptions."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators.trajectories import episode_of

Json = dict[str, Any]  # a JSON object


def tool(name: str, *required: str, **properties: Any) -> Json:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"name": name, "description": "", "parameters": parameters}


TOOLS = [
    tool("find", "id", id={"type": "string"}),
    tool("look", "id", id={"type": "string"}),
    tool(
        "pay",
        "id",
        "amount",
        id={"type": "string"},
        amount={"type": "number"},
        fast={"type": "boolean", "default": False},
    ),
]


@pytest.fixture(scope="session")
def episode() -> Callable[..., Episode]:
    """Return a function from turns to an episode.

    A turn is a text of the agent, a text of the user (``user: ...``), or a list of calls ``(name, arguments, result)``;
    a result of None never came.
    """

    def make(*turns: Any, outcome: str | None = None, tools: list[Json] | None = None) -> Episode:
        return episode_of(messages(*turns), TOOLS if tools is None else tools, outcome)

    return make


def messages(*turns: Any) -> list[Json]:
    told: list[Json] = [{"role": "user", "content": "Please pay order A1 back."}]
    for turn in turns:
        if isinstance(turn, str):
            role, _, text = turn.partition(": ") if turn.startswith("user: ") else ("assistant", "", turn)
            told.append({"role": role, "content": text})
            continue
        thought = turn[0] if isinstance(turn[0], str) else None
        calls = [call for call in turn if not isinstance(call, str)]
        ids = [f"c{len(told)}-{place}" for place in range(len(calls))]
        told.append(
            {
                "role": "assistant",
                "content": thought,
                "tool_calls": [
                    {"id": call_id, "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
                    for call_id, (name, arguments, _) in zip(ids, calls, strict=True)
                ],
            }
        )
        told += [
            {"role": "tool", "tool_call_id": call_id, "content": result}
            for call_id, (_, _, result) in zip(ids, calls, strict=True)
            if result is not None
        ]
    return told
