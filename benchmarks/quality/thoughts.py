"""Take an expert's thoughts out of what a clone sees, to tell what they are worth to it."""

from collections.abc import Sequence
from dataclasses import replace

from imitrace.messages import Message
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.families import BEST
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.ladder import climb
from overhead.timing import Json
from quality.measures import lead, share
from quality.recorded import Division

THOUGHT = "think"
"""The tool that the expert writes its thoughts to; its answer is empty."""


def stripped(messages: Sequence[Message]) -> list[Message]:
    """Return messages without thoughts: calls of ``THOUGHT``, their answers, and what is said beside other calls."""
    kept: list[Message] = []
    thoughts: dict[str, bool] = {}  # whether the newest call with an id is one: a model may give an id twice
    for message in messages:
        parts = message["parts"]
        calls = [part for part in parts if part.get("type") == "tool_call"]
        if calls:
            thoughts |= {str(part.get("id")): part.get("name") == THOUGHT for part in calls}
            parts = [part for part in calls if part.get("name") != THOUGHT]
        elif message["role"] == "tool":
            parts = [part for part in parts if not thoughts.get(str(part.get("id")))]
        if parts:
            kept.append(message if len(parts) == len(message["parts"]) else {**message, "parts": parts})
    return kept


def without_thoughts(shown: Sequence[Demonstration]) -> list[Demonstration]:
    """Return the decisions that are no thoughts, in states that hold none and offer no tool for them."""
    return [
        replace(
            one,
            state=replace(
                one.state,
                messages=stripped(one.state.messages),
                tools=[tool for tool in one.state.tools if tool["name"] != THOUGHT],
            ),
        )
        for one in shown
        if one.label != THOUGHT
    ]


def decided_without(parts: Division, epochs: int) -> Json:
    """Fit every family to a fold without thoughts.

    Returns:
        ``guesses`` by family on the held-out decisions that are no thoughts, and ``changed``: whether the state of each
        held one.
    """
    train, calibration, held_out = (without_thoughts(part) for part in (parts.train, parts.calibration, parts.held_out))
    climbed = climb((train, calibration), BEST, BCConfig(epochs=epochs, device="cpu"))
    before = [one for one in parts.held_out if one.label != THOUGHT]
    return {
        "guesses": {
            name: [clone.score(one.state)[0].action.name or MESSAGE for one in held_out]
            for name, clone in climbed.clones.items()
        },
        "changed": [
            list(one.state.messages) != list(other.state.messages) for one, other in zip(before, held_out, strict=True)
        ],
    }


def worth(folds: Sequence[Json]) -> Json:
    """Return by family what is right with thoughts and without, on the same held-out decisions, none a thought.

    Args:
        folds: each with ``families`` and, of the fits without thoughts, ``thoughts``.
    """
    changed = [one for fold in folds for one in fold["thoughts"]["changed"]]
    found: Json = {}
    for family in folds[0]["families"]:
        rows = [row for fold in folds for row in fold["families"][family]["held_out"] if row["label"] != THOUGHT]
        guesses = [guess for fold in folds for guess in fold["thoughts"]["guesses"][family]]
        ours = [row["guess"] == row["label"] for row in rows]
        theirs = [row["label"] == guess for row, guess in zip(rows, guesses, strict=True)]
        touched = [number for number, one in enumerate(changed) if one]
        found[family] = {
            "with_thoughts": share(rows, ours),
            "without_thoughts": share(rows, theirs),
            "lead": lead(rows, ours, theirs),
            "lead_where_changed": lead(*([some[number] for number in touched] for some in (rows, ours, theirs))),
        }
    tasks = {row["task"] for row in rows}
    return {"families": found, "decisions": len(rows), "changed": len(touched), "tasks": len(tasks)}
