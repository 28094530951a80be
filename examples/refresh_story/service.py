"""Serve a day's tickets by the clone where it is trusted and by the expert elsewhere, traced, and count what came."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import imitrace
from imitrace.clones import CloneHandle
from imitrace.messages import Action
from refresh_story.shop import Before, ShopExpert, Ticket
from support_desk.episode import Message, play

_FLUSH_SECONDS: Final = 60.0
_LATER: Final = 2.0
"""Seconds, after which a clone looks at its records again."""


@dataclass
class Clock:
    """The clock by which a clone looks at its records; put forward between days."""

    now: float = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        return self.now


@dataclass
class Day:
    """What came of a day's tickets."""

    tickets: dict[str, int] = field(default_factory=dict)
    """By cohort, as all of these."""
    solved: dict[str, int] = field(default_factory=dict)
    by_expert: dict[str, int] = field(default_factory=dict)
    """Solved by the expert alone, on the same tickets."""
    decisions: dict[str, int] = field(default_factory=dict)
    by_clone: dict[str, int] = field(default_factory=dict)
    """Decisions that the clone took."""
    dead: int = 0
    """Calls of tools that were not offered."""


class Service:
    """An agent with a clone beside its expert."""

    def __init__(self, clone: str, home: str) -> None:
        self._clock = Clock()
        self._handle = CloneHandle(clone, home, self._clock)

    def work(self, desk: Before, tickets: Sequence[Ticket]) -> Day:
        """Work tickets, and again by the expert alone, untraced."""
        self._clock.now += _LATER
        self._handle.warm()
        day = Day()
        for ticket in tickets:
            cohort = ticket.cohort
            solved = self._solve(desk, ticket, day)
            expert = ShopExpert(desk)
            alone = play(desk, expert.act, desk.reset(ticket.id)).info["success"]
            _add(day.tickets, cohort, 1)
            _add(day.solved, cohort, solved)
            _add(day.by_expert, cohort, alone)
        imitrace.flush(_FLUSH_SECONDS)
        return day

    def _solve(self, desk: Before, ticket: Ticket, day: Day) -> bool:
        expert, offered = ShopExpert(desk), {tool["function"]["name"] for tool in desk.tools}
        asked: list[Action | None] = []

        @imitrace.step(clone=self._handle, reply=lambda action: action)
        def decide(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Action | None:
            asked.append(expert.act(messages))
            return asked[-1]

        def act(messages: Sequence[Message]) -> Action | None:
            before = len(asked)
            action = decide(messages, desk.tools)
            _add(day.decisions, ticket.cohort, 1)
            _add(day.by_clone, ticket.cohort, len(asked) == before)
            return action

        def perform(action: Action) -> Sequence[Message]:
            if action.kind == "message":
                return desk.step(action)[0]
            day.dead += action.name not in offered
            with imitrace.tool(action.name, call_id=action.call_id, arguments=action.arguments) as run:
                following, _, _ = desk.step(action)
                run.result(following[0]["content"])
            return following

        with imitrace.trajectory(task=ticket.id, tags=ticket.tags):
            success = play(desk, act, desk.reset(ticket.id), perform).info["success"]
            imitrace.outcome("success" if success else "failure")
            imitrace.score("TaskCompletion", float(success), evaluator="refresh_story")
        return success


def _add(counts: dict[str, int], name: str, more: int) -> None:
    counts[name] = counts.get(name, 0) + more
