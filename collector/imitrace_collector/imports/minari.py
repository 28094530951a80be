"""Read episodes as `imitrace export --format minari` writes them: rows of steps, after Minari's words for episodes.

Minari itself (https://minari.farama.org/content/dataset_standards) keeps arrays; here ``observation`` holds the
messages that are new and ``action`` the call or the message, both as JSON.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from imitrace.exceptions import WireError
from imitrace.messages import Action, action_message, from_openai
from imitrace.shapes.content_parts import result_part
from imitrace_collector.chat_jsonl import offered_tools
from imitrace_collector.imports.conversations import (
    REWARD_EVALUATOR,
    REWARD_SCORE,
    UNREADABLE,
    Broken,
    Conversation,
    Facts,
    Found,
    Given,
    Json,
    Row,
    Transcript,
    agent_name,
    number,
    text,
    unreadable,
)

_KEYS = {"episode_id", "step", "observation", "action", "terminated", "truncated"}


def is_step(row: Json) -> bool:
    """Return whether a row is a step of such an episode."""
    return row.keys() >= _KEYS


def read(rows: Iterable[Row], given: Given) -> Iterator[Found]:
    """Read steps into episodes; one with a step that can't be read is left out, for the steps after it build on it."""
    episodes: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if not isinstance(row.value, Mapping) or row.value.get("episode_id") is None:
            yield Broken(row.place, "it is no step with 'episode_id'")
        else:
            episodes[str(row.value["episode_id"])].append(row)
    for name, steps in episodes.items():
        try:
            yield _episode(name, steps, given)
        except WireError as error:
            yield Broken(steps[0].place, f"episode {name}: {error}")
        except UNREADABLE as error:
            yield Broken(steps[0].place, f"episode {name}: {unreadable(error)}")


def _episode(name: str, rows: Sequence[Row], given: Given) -> Conversation:
    steps: list[Json] = sorted((row.value for row in rows), key=lambda step: int(step["step"]))
    transcript = Transcript()
    results: list[tuple[str | None, Any]] = []
    decision: object = None
    for step in steps:
        action = _action(_json(step["action"], dict))
        if decision is None or step.get("decision") != decision:
            offset = step.get("offset")
            transcript.rewind(offset if isinstance(offset, int) and offset >= 0 else 0)
            for message in _json(step["observation"], list):
                transcript.say(from_openai(message))
            results = []
        tools = offered_tools(_json(step.get("tools") or "[]", list), given)
        transcript.answer(action_message(action), Facts(tools=tools), continues=step.get("decision") == decision)
        decision = step.get("decision")
        if step.get("result") is not None:
            results.append((action.call_id, step["result"]))
    for call_id, result in results:
        transcript.say({"role": "tool", "parts": [result_part(call_id, result)]})
    first, last = steps[0], steps[-1]
    reward = number("reward", last.get("reward"))
    return Conversation(
        place=rows[0].place,
        position=rows[0].position,
        trajectory_id=text(first.get("trajectory_id")) or name,
        agent=agent_name(given, first.get("agent")),
        decisions=transcript.decisions,
        after=transcript.after(),
        task=text(first.get("task")),
        scores={} if reward is None else {REWARD_SCORE: (reward, REWARD_EVALUATOR)},
        outcome=None if reward is None or not last["terminated"] else "success" if reward >= 1 else "failure",
    )


def _action(found: Json) -> Action:
    if found.get("kind") == "message":
        return Action("message", message=text(found.get("message")))
    if not isinstance(found.get("name"), str) or not isinstance(found.get("arguments"), Mapping):
        raise WireError("'action' is neither a message nor a call with 'name' and 'arguments'")
    return Action("tool_call", found["name"], dict(found["arguments"]), call_id=text(found.get("call_id")))


def _json(value: Any, kind: type) -> Any:
    found = json.loads(value) if isinstance(value, str) else value
    if not isinstance(found, kind):
        raise WireError(f"a step's JSON is a {type(found).__name__}, expected a {kind.__name__}")
    return found
