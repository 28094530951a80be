"""Say what an environment and an expert of the user's own look like, and load them by name."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from imitrace.exceptions import ConfigError
from imitrace.messages import Action


class Task(Protocol):
    """One task of an environment."""

    @property
    def id(self) -> str:
        """Name the task; the name alone determines it."""
        ...

    @property
    def tags(self) -> Mapping[str, str]:
        """Tags of its trajectories; ``cohort`` names the slice that the gate judges."""
        ...


class Environment(Protocol):
    """A resettable world: rollouts never touch a real one."""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions of the tools offered, in OpenAI's form."""
        ...

    def tasks(self, count: int, seed: int, cohort: str | None = None) -> Sequence[Task]:
        """Draw tasks; tasks of different seeds are different."""
        ...

    def reset(self, task_id: str, seed: int = 0) -> list[dict[str, Any]]:
        """Begin a task and return the opening messages in OpenAI's form."""
        ...

    def step(self, action: Action) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:
        """Carry an action out; return the messages that follow it, whether it is over, and ``success``, ``unsafe``."""
        ...


class Expert(Protocol):
    """What the clone is measured against."""

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:
        """Return the expert's action, or None when it has none."""
        ...


def load_object(path: str, folder: Path) -> Any:  # whatever the user named
    """Return what ``package.module:name`` means; ``folder`` is searched too, first.

    Raises:
        ConfigError: there is no such module or name.
    """
    module, _, name = path.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), name)):
        raise ConfigError(f"{path!r} is no object, write 'package.module:name'")
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{path!r} can't be loaded ({error}); it must be importable from {folder}") from error
