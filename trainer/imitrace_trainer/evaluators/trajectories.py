"""Bring what evaluators are given into one form, and tell what happened in a trajectory."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from imitrace.canonical import canonical_json, content_hash, text_hash
from imitrace.messages import Action, Message, decisions, from_openai, message_text, tool_definition
from imitrace_trainer.episodes import Decided, Episode, Taken, answers_of
from imitrace_trainer.evaluators.result import Task

_ERROR = "error"


def as_task(given: Task | str | None) -> Task:
    """Return the task that an evaluator was given; a text is a request."""
    return given if isinstance(given, Task) else Task(request=given or "")


def as_episode(given: Episode | Sequence[Mapping[str, Any]]) -> Episode:
    """Return the episode that an evaluator was given; chat messages become one."""
    return given if isinstance(given, Episode) else episode_of(given)


def episode_of(
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Mapping[str, Any]] = (),
    outcome: str | None = None,
) -> Episode:
    """Return chat messages as an episode in which each message of the assistant is a decision.

    Args:
        messages: in OpenAI's or our own form.
        tools: definitions of the tools that were offered; none: they are not known.
        outcome: ``success``, ``failure``, ``abandoned`` or None.

    Raises:
        WireError: a message or a tool is of no known shape.
    """
    known = [from_openai(message) for message in messages]
    offered = [tool_definition(tool) for tool in tools]
    results = _results(known)
    decided: list[Decided] = []
    index = 0
    for made in decisions(known):
        taken = tuple(
            Taken(index=index + place, action=action, observation=results.get(action.call_id))
            for place, action in enumerate(made.actions)
        )
        index += len(taken)
        decided.append(Decided(state=known[: made.position], tools=offered, taken=taken, trained=True, at=0))
    return Episode(
        trajectory_id=content_hash(known),
        agent="",
        task=None,
        outcome=outcome,
        reward=None,
        complete=True,
        decisions=decided,
    )


def request_of(episode: Episode) -> str:
    """Return the first user message of a trajectory."""
    first = episode.decisions[0].state if episode.decisions else ()
    return next((message_text(message) for message in first if message["role"] == "user"), "")


def state_key(decided: Decided) -> str:
    """Return the name of what a decision saw, by which equal states are known."""
    ids = decided.state_ids or [content_hash(message) for message in decided.state]
    return text_hash(",".join(ids))


def failed(taken: Taken) -> bool:
    """Return whether an action ended in an error, by its step or by what came back."""
    return taken.error is not None or reports_error(taken.observation)


def reports_error(observation: str | None) -> bool:
    """Return whether a tool's answer says that it failed: an object with ``error``, or a text that begins so."""
    if not observation:
        return False
    if observation.lstrip()[:1] == "{":
        try:
            value = json.loads(observation)
        except (ValueError, RecursionError):
            return False
        return isinstance(value, dict) and bool(value.get(_ERROR) or value.get("is_error") or value.get("isError"))
    return observation.lstrip()[:20].lower().startswith((_ERROR, "exception", "traceback"))


def calls_of(decided: Decided) -> list[Taken]:
    """Return a decision's tool calls."""
    return [taken for taken in decided.taken if taken.action.kind == "tool_call"]


def call_key(action: Action) -> str:
    """Return a name under which equal calls meet."""
    return f"{action.name} {canonical_json(action.arguments)}"


def turns(episode: Episode) -> Iterator[tuple[Decided, list[Message], Message]]:
    """Yield each decision with the messages that are new to the trajectory before it, and its own message."""
    seen: set[str] = set()
    before: Sequence[str] = ()
    for decided, answer in zip(episode.decisions, answers_of(episode), strict=True):
        ids = decided.state_ids or [content_hash(message) for message in decided.state]
        known = len(before)
        start = known if known and len(ids) >= known and ids[known - 1] == before[-1] else 0  # mostly it goes on
        new = [place for place in range(start, len(ids)) if ids[place] not in seen]
        yield decided, [decided.state[place] for place in new], answer
        seen.update(ids[start:])
        seen.add(content_hash(answer))
        before = ids


def conversation(episode: Episode) -> Iterator[tuple[int, Message]]:
    """Yield each message once, with the index of the step before which it came, or which it is."""
    for decided, new, answer in turns(episode):
        index = decided.taken[0].index
        yield from ((index, message) for message in (*new, answer))
    if episode.decisions:
        last = episode.decisions[-1]
        yield from ((last.taken[0].index, message) for message in last.results)


def _results(messages: Sequence[Message]) -> dict[str | None, str]:
    found: dict[str | None, str] = {}
    for message in messages:
        for part in message["parts"]:
            if part.get("type") == "tool_call_response":
                response = part.get("response")
                text = response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
                found.setdefault(part.get("id"), text)
    return found
