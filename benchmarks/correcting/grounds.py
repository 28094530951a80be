"""Say where clones are corrected and tried: a world as its expert knows it, noisy and changed; and experts that err."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from imitrace.messages import Action
from imitrace_trainer.environment import Environment, Expert, Task

Chat = Sequence[Mapping[str, Any]]
"""Messages in OpenAI's form."""

MISREAD: Final = 0.3
"""Share of the tasks that a fallible expert misreads."""
NOISE: Final = 0.15
"""Share of the steps in which something else is done than was decided."""
SETTINGS: Final = ("in_distribution", "noise", "changed")


@dataclass(frozen=True)
class Ground:
    """A world to be corrected in, and what becomes of it in each setting."""

    name: str
    make: Callable[[str], Environment]
    """By setting."""
    expert: Callable[[Environment, bool], Expert]
    """Of an environment, fallible or not."""
    wrong: Callable[[Environment, Action, Chat, Random], Action]
    """Something else that could be done."""
    horizon: int
    """Steps that nine in ten of the expert's episodes have at most."""
    tasks: Callable[[Environment, str, int, int], Sequence[Task]]
    """Of an environment and setting: at most so many of a seed."""
