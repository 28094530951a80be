"""Say what an environment and an expert of the user's own look like, and load them by name."""

import importlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from imitrace.exceptions import CloneError, ConfigError
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
    """A resettable world: rollouts never touch a real one.

    Of its own it may have more, which is used where it is there: ``snapshot()`` and ``restore(snapshot)``, to go on
    anew from a moment (else what was done is done again, and must come out alike); ``state_key()``, a text that is
    equal in equal states; ``actions()``, the actions that are possible now; ``dry_run``, false where steps have effects
    that a reset does not undo.
    """

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
        """Carry an action out; return the messages that follow it, whether it is over, and what is known of it.

        That is ``success``, ``lost`` (success is out of reach) and ``unsafe`` (what policy forbids was done), each true
        or false; what is absent is false.
        """
        ...


class Expert(Protocol):
    """What the clone is measured against, and corrected by.

    It may have ``observe(action, messages)``, which is told what the clone did and what followed, where it keeps a
    state of its own; and ``tokens``, how many it has used so far.
    """

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:
        """Return the expert's action, or None when it has none."""
        ...


def check_environment(environment: Environment) -> None:
    """Refuse what nothing may be tried in.

    Raises:
        CloneError: it can't be reset, or says itself that its steps have effects.
    """
    lacking = [name for name in ("tools", "tasks", "reset", "step") if not hasattr(environment, name)]
    kind = type(environment).__name__
    if lacking:
        raise CloneError(f"environment {kind} lacks {', '.join(lacking)}, needed: tools, tasks, reset and step")
    if getattr(environment, "dry_run", True) is False:
        raise CloneError(f"environment {kind} says dry_run = False: its steps have effects, so nothing is tried in it")


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
