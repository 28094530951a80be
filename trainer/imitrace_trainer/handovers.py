"""Remember where the clone handed over in running trajectories, so that clone and expert don't take turns in doubt."""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from imitrace_trainer.route_config import RouteConfig

_REMEMBERED: Final = 10_000
"""Running trajectories."""


@dataclass
class _Course:
    """How one trajectory went so far."""

    seen: int = -1
    """Messages of the newest decision."""
    clone_acted: bool = False
    count: int = 0
    kept: int = 0
    """Decisions that the expert keeps yet."""


class Handovers:
    """The handovers of running trajectories; the longest silent are forgotten first. Safe among threads.

    A handover is a decision that goes to the expert because the clone is in doubt, after one that the clone took. The
    expert keeps the next ``hold`` decisions too, and from the ``handovers``-th on the rest of the trajectory: a clone
    that is in doubt again and again has left what it knows. The same state asked about again changes nothing.
    """

    def __init__(self, config: RouteConfig) -> None:
        self._config = config
        self._courses: OrderedDict[str, _Course] = OrderedDict()
        self._lock = threading.Lock()

    def kept(self, trajectory: str, seen: int) -> str | None:
        """Return why the expert keeps a decision whatever the clone says, None where it does not.

        Args:
            trajectory: its id.
            seen: how many messages come before the decision.
        """
        with self._lock:
            course = self._courses.get(trajectory)
            if course is None:
                return None
            if self._config.handovers and course.count >= self._config.handovers and seen > course.seen:
                return f"the clone handed over {course.count} times, so the expert keeps the rest"
            if course.kept and seen > course.seen:
                return "the expert keeps this one after a handover"
            return None

    def note(self, trajectory: str, seen: int, *, clone: bool, doubt: bool) -> bool:
        """Keep who takes a decision, and return whether it is a handover for doubt.

        Args:
            trajectory: its id.
            seen: how many messages come before the decision.
            clone: whether the clone takes it.
            doubt: whether the expert takes it because the clone is in doubt.
        """
        with self._lock:
            course = self._courses.setdefault(trajectory, _Course())
            self._courses.move_to_end(trajectory)
            while len(self._courses) > _REMEMBERED:
                self._courses.popitem(last=False)
            again = seen <= course.seen
            handover = doubt and course.clone_acted
            if again:
                return handover
            if handover:
                course.count += 1
                course.kept = self._config.hold
            elif course.kept and not clone:
                course.kept -= 1
            course.clone_acted = clone or (course.clone_acted and not doubt)
            course.seen = seen
            return handover
