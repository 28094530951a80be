"""Lay trajectories out as episodes to be written elsewhere: decisions in order, each with all that it saw."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby, pairwise
from typing import Any, overload

import polars as pl

from imitrace.messages import Action, Message, action_message, message_actions
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.frames import gather
from imitrace_trainer.sources import Source

_KNOWN = 20_000
"""Messages that are kept as objects."""

Tools = Sequence[Mapping[str, Any]]
"""Tool definitions."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """One action of a decision, and what it brought."""

    index: int
    action: Action
    observation: str | None
    role: str = "expert"
    """One of ``semconv.POLICY_ROLES``."""
    error: str | None = None
    """Type of the error that it ended in."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """One answer: what was seen, what was done; several actions for parallel calls."""

    state: Sequence[Message]
    tools: Tools
    taken: tuple[Taken, ...]
    trained: bool
    """False: context only, not to be learnt."""
    at: int
    """Nanoseconds since 1970."""
    state_ids: Sequence[str] = ()
    """``content_hash`` of each message of the state, where it is known."""

    @property
    def message(self) -> Message:
        """Return the assistant's message that its actions amount to."""
        parts = [part for taken in self.taken for part in action_message(taken.action)["parts"]]
        return {"role": "assistant", "parts": parts}

    @property
    def results(self) -> list[Message]:
        """Return what came back, as messages."""
        return [
            {
                "role": "tool",
                "parts": [{"type": "tool_call_response", "id": taken.action.call_id, "response": taken.observation}],
            }
            for taken in self.taken
            if taken.action.kind == "tool_call" and taken.observation is not None
        ]


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One trajectory."""

    trajectory_id: str
    agent: str
    task: str | None
    outcome: str | None
    reward: float | None
    complete: bool
    decisions: Sequence[Decided]
    ended: bool = True

    @property
    def steps(self) -> int:
        """Return how many actions it has."""
        return sum(len(decided.taken) for decided in self.decisions)


@dataclass(frozen=True)
class Line:
    """A conversation as one list of messages, and which of the assistant's are decisions to be learnt."""

    messages: Sequence[Message]
    learnt: frozenset[int]
    tools: Tools
    after: Sequence[Message]
    """What the last decision brought."""


class Seen(Sequence[Message]):
    """The messages of a state, each read when it is looked at: most who judge steps don't."""

    __slots__ = ("_ids", "_read")

    def __init__(self, ids: Sequence[str], read: Callable[[str], Message]) -> None:
        self._ids, self._read = ids, read

    def __len__(self) -> int:
        return len(self._ids)

    @overload
    def __getitem__(self, place: int) -> Message: ...
    @overload
    def __getitem__(self, place: slice) -> list[Message]: ...
    def __getitem__(self, place: int | slice) -> Message | list[Message]:
        if isinstance(place, slice):
            return list(map(self._read, self._ids[place]))
        return self._read(self._ids[place])


@dataclass(frozen=True)
class Tables:
    """The tables that episodes are made of, read whole."""

    frames: Mapping[str, pl.DataFrame]
    """``trajectories``, ``steps``, ``messages``, ``tools`` and ``scores``."""
    score: str

    def episodes(self, agent: str | None = None) -> Iterator[Episode]:
        """Yield the episodes, of one agent when named, by their trajectory's start."""
        trajectories = self.frames["trajectories"].sort("started_at", "trajectory_id")
        for row in trajectories.iter_rows(named=True):
            if agent is None or row["agent"] == agent:
                yield self._episode(row)

    def _episode(self, row: Mapping[str, Any]) -> Episode:
        steps = self._steps.get((row["trajectory_id"],))
        rows = [] if steps is None else steps.iter_rows(named=True)
        grouped = groupby(rows, key=lambda step: step["decision"])
        return Episode(
            trajectory_id=row["trajectory_id"],
            agent=row["agent"],
            task=row["task"],
            outcome=row["outcome"],
            reward=self._rewards.get(row["trajectory_id"]),
            complete=row["complete"],
            ended=row["ended_at"] is not None,
            decisions=[self._decided(list(of_one)) for _, of_one in grouped],
        )

    def _decided(self, steps: Sequence[Mapping[str, Any]]) -> Decided:
        first = steps[0]
        return Decided(
            state=Seen(first["state"], self._message),
            tools=self._tools.get(first["tools_hash"], []),
            taken=tuple(map(_taken, steps)),
            trained=all(step.get("loss_mask", step["complete"] and step["error_type"] is None) for step in steps),
            at=first["started_at"],
            state_ids=first["state"],
        )

    @cached_property
    def _steps(self) -> dict[tuple[object, ...], pl.DataFrame]:
        steps = self.frames["steps"].sort("trajectory_id", "step_index")
        return steps.partition_by("trajectory_id", as_dict=True)

    def _message(self, message_id: str) -> Message:
        """Return a message; the same object for a while, so that what holds it again is cheap to compare."""
        known = self._known
        found = known.get(message_id)
        if found is None:
            if len(known) >= _KNOWN:
                known.clear()
            found = known[message_id] = json.loads(self._contents[message_id])
        return found

    @cached_property
    def _known(self) -> dict[str, Message]:
        return {}

    @cached_property
    def _contents(self) -> dict[str, str]:
        return dict(self.frames["messages"].select("message_id", "content").iter_rows())

    @cached_property
    def _tools(self) -> dict[str | None, list[dict[str, Any]]]:
        tools: dict[str | None, list[dict[str, Any]]] = {}
        rows = self.frames["tools"].sort("tools_hash", "position").select("tools_hash", "definition").iter_rows()
        for tools_hash, definition in rows:
            tools.setdefault(tools_hash, []).append(json.loads(definition))
        return tools

    @cached_property
    def _rewards(self) -> dict[str, float]:
        if "scores" not in self.frames:
            rows = self.frames["trajectories"].select("trajectory_id", "scores").iter_rows()
            found = {name: json.loads(scores).get(self.score) for name, scores in rows}
            return {name: value for name, value in found.items() if isinstance(value, int | float)}
        scores = self.frames["scores"].sort("scored_at")
        rated = (pl.col("name") == self.score) & pl.col("step_index").is_null() & pl.col("value").is_not_null()
        return dict(scores.filter(rated).select("trajectory_id", "value").iter_rows())


def of_dataset(dataset: Dataset, split: str | None, score: str) -> Tables:
    """Return the tables of a dataset version, or of one split of it; its trajectories bring their scores.

    Raises:
        DatasetError: there is no such split, or a file is broken.
    """
    return Tables(dataset.tables(split), score)


def of_source(source: Source, score: str) -> Tables:
    """Return a source's tables as they are.

    Raises:
        DatasetError: the source can't be read.
    """
    return Tables(gather(source.frames()), score)


def lines_of(episode: Episode) -> Iterator[Line]:
    """Yield an episode as conversations in which each decision stands once as one to be learnt.

    It is one conversation where each state goes on from the last decision; where an agent saw something else, for
    instance after it had cut its history, another begins, with what it then saw as context.
    """
    messages: list[Message] = []
    learnt: set[int] = set()
    last: Decided | None = None
    for decided in episode.decisions:
        if last is not None and not (_goes_on(messages, decided) and decided.tools == last.tools):
            yield _line(messages, learnt, last)
            messages, learnt = [], set()
        messages[:] = decided.state
        if decided.trained:
            learnt.add(len(messages))
        messages.append(decided.message)
        last = decided
    if last is not None:
        yield _line(messages, learnt, last)


def answers_of(episode: Episode) -> list[Message]:
    """Return each decision's message: as the next state has it, with what stood beside calls, else as its actions."""
    found = [decided.message for decided in episode.decisions]
    for place, (decided, after) in enumerate(pairwise(episode.decisions)):
        if _goes_on([*decided.state, found[place]], after):
            found[place] = after.state[len(decided.state)]
    return found


def _goes_on(messages: Sequence[Message], decided: Decided) -> bool:
    """Return whether a state begins with a conversation that ends in a decision."""
    length = len(messages)
    if len(decided.state) < length or any(
        seen is not known and seen != known for seen, known in zip(decided.state, messages[:-1], strict=False)
    ):
        return False
    answer = decided.state[length - 1]
    return answer["role"] == "assistant" and _same(message_actions(answer), message_actions(messages[-1]))


def _same(seen: Sequence[Action], taken: Sequence[Action]) -> bool:
    """Return whether what stands in a state is what was done; an id may be missing in one of them."""
    if len(seen) != len(taken):
        return False
    return all(
        replace(one, call_id=None) == replace(other, call_id=None)
        and (one.call_id == other.call_id or one.call_id is None or other.call_id is None)
        for one, other in zip(seen, taken, strict=True)
    )


def _line(messages: Sequence[Message], learnt: Iterable[int], last: Decided) -> Line:
    return Line(list(messages), frozenset(learnt), last.tools, last.results)


def _taken(step: Mapping[str, Any]) -> Taken:
    arguments = step["action_arguments"]
    return Taken(
        index=step["step_index"],
        action=Action(
            kind=step["action_kind"],
            name=step["action_name"],
            arguments=json.loads(arguments) if arguments else {},
            message=step["action_message"],
            call_id=step["call_id"],
        ),
        observation=step["observation"],
        role=step["policy_role"],
        error=step["error_type"],
    )
