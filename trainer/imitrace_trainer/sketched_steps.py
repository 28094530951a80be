"""Sketch the states of steps, so that small models can guess the actions taken in them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from imitrace_trainer.encoding import MESSAGE, state_features, view_state
from imitrace_trainer.frames import gather
from imitrace_trainer.out_of_fold import Sketch, sketch
from imitrace_trainer.portions import portions
from imitrace_trainer.reading import Reader

_TAIL: Final = 24
"""Messages of a state that are looked at, the newest: so that time grows with the steps."""
_READINGS: Final = 2_000
"""Messages whose reading is kept for the next step: few, for memory."""


@dataclass(frozen=True, slots=True)
class SketchedStep:
    """A step, its state as a model sees it, and what was done."""

    trajectory_id: str
    step_index: int
    task: str
    action: str
    """The tool's name, or that it was a message."""
    sketch: Sketch


def sketched(steps: pl.LazyFrame, messages: pl.LazyFrame) -> Iterator[SketchedStep]:
    """Yield steps sketched, a portion at a time.

    Args:
        steps: ``trajectory_id``, ``step_index``, ``task_key``, ``action_name``, ``state``.
        messages: ``message_id`` and ``content``.
    """
    columns = ["trajectory_id", "step_index", "task_key", "action_name", pl.col("state").list.tail(_TAIL)]
    reader = Reader(_READINGS)
    for portion in portions(steps.select(columns), ["state"]):
        contents = _contents(messages, portion)
        for trajectory, index, task, action, state in portion.iter_rows():
            view = view_state([contents[name] for name in state], (), reader)
            yield SketchedStep(trajectory, index, task, action or MESSAGE, sketch(state_features(view)))


def _contents(messages: pl.LazyFrame, portion: pl.DataFrame) -> dict[str, Any]:  # JSON
    names = portion.select(pl.col("state").explode().alias("message_id")).unique().lazy()
    found = gather({"messages": messages.join(names, on="message_id", how="semi")})["messages"]
    return {name: json.loads(content) for name, content in found.select("message_id", "content").iter_rows()}
