"""Ask an expert within a budget, and count what it costs: calls, steps in the environment, tokens."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace.faults import LOGGER
from imitrace.messages import Action
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.environment import Expert

Chat = Sequence[Mapping[str, Any]]
"""Messages in OpenAI's form."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What corrections may cost at most; None: no limit. What is rejected afterwards was paid for all the same."""

    calls: int | None = None
    """Decisions asked of the expert."""
    steps: int | None = None
    """Actions carried out in the environment, whoever decided."""
    tokens: int | None = None
    """Of an expert that counts them in ``tokens``."""

    @classmethod
    def of(cls, config: CorrectConfig) -> "Budget":
        """Return what a clone's configuration allows."""
        return cls(calls=config.budget, steps=config.steps or None, tokens=config.tokens or None)


@dataclass
class Spent:
    """What corrections did cost."""

    calls: int = 0
    steps: int = 0
    tokens: int = 0
    silent: int = 0
    """Calls in which the expert had no action."""
    failed: int = 0
    """Calls in which it raised an exception; each is in the log."""
    rejected: int = 0
    """Calls whose answers are not learnt from."""
    errors: dict[str, int] = field(default_factory=dict)
    """Exceptions by kind."""

    def over(self, budget: Budget) -> str | None:
        """Return what is used up, None while nothing is."""
        for name in ("calls", "steps", "tokens"):
            limit = getattr(budget, name)
            if limit is not None and getattr(self, name) >= limit:
                return f"{limit} {name} are spent"
        return None


class AskedExpert:
    """An expert that is paid by the call. Its having no answer, and its exceptions, are normal: both are counted."""

    def __init__(self, expert: Expert, budget: Budget, spent: Spent) -> None:
        self._expert = expert
        self.budget = budget
        self.spent = spent

    @property
    def over(self) -> str | None:
        """What is used up; None while the expert may be asked."""
        return self.spent.over(self.budget)

    def act(self, messages: Chat) -> Action | None:
        """Return what the expert would do, None where it says nothing."""
        before = self._tokens()
        self.spent.calls += 1
        try:
            action = self._expert.act(messages)
        except Exception as error:  # an expert of the user's own may raise whatever it likes
            self.spent.failed += 1
            kind = type(error).__name__
            self.spent.errors[kind] = self.spent.errors.get(kind, 0) + 1
            LOGGER.warning("imitrace: the expert failed: %s: %s", kind, str(error)[:200])
            action = None
        else:
            self.spent.silent += action is None
        self.spent.tokens += self._tokens() - before
        return action

    def observe(self, action: Action, messages: Chat) -> None:
        """Show an expert that keeps a state of its own what the clone did, and what came of it."""
        observe = getattr(self._expert, "observe", None)
        if observe is not None:
            observe(action, messages)

    def _tokens(self) -> int:
        return int(getattr(self._expert, "tokens", 0))
