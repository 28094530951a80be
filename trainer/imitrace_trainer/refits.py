"""Fit a clone again, on fewer tasks and without groups of features, to see what each is worth. Takes many fits."""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imitrace.messages import message_text
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.families import FAMILIES
from imitrace_trainer.figures import Ablated, LearningPoint, Refits
from imitrace_trainer.fit import BCConfig, prepare
from imitrace_trainer.policy import same_action
from imitrace_trainer.progress import Progress, silent
from imitrace_trainer.task_draws import TaskDraws, difference

SHARES = (0.125, 0.25, 0.5, 1.0)
"""Of the training tasks, each part within the next."""


@dataclass(frozen=True)
class Refitter:
    """Fit one family to some decisions and see what it does on the same held-out ones."""

    family: str
    config: BCConfig
    train: Sequence[Demonstration]
    held_out: Sequence[Demonstration]
    progress: Progress = silent

    def run(self) -> Refits:
        """Return the learning curve and what each group of features is worth.

        Raises:
            CloneError: the decisions can't be trained on.
        """
        began = time.monotonic()
        parts = growing_parts(self.train, self.config.seed)
        groups = left_out(self.config, self.train) if self.family != "frequency" else []
        total = len(parts) + len(groups) + 1
        draws = TaskDraws([one.task for one in self.held_out], self.config.seed)
        learning, whole = [], [False] * len(self.held_out)
        for number, part in enumerate(parts):
            before = whole
            whole, exact = self._fitted(part, self.config, (number, total))
            tasks, gain = len({one.task for one in part}), difference(whole, before, draws)
            learning.append(LearningPoint(tasks, len(part), draws.share(whole), draws.share(exact), gain))
        ablated = []
        for number, (name, config) in enumerate([*groups, ("", replace(self.config, seed=self.config.seed + 1))]):
            hits, _ = self._fitted(self.train, config, (len(parts) + number, total))
            ablated.append(Ablated(name, draws.share(hits), difference(whole, hits, draws)))
        return Refits(learning, ablated[:-1], ablated[-1], round(time.monotonic() - began, 1))

    def _fitted(
        self, train: Sequence[Demonstration], config: BCConfig, place: tuple[int, int]
    ) -> tuple[list[bool], list[bool]]:
        """Return which of the held-out decisions a clone of these gets right: the tool, and all of it."""
        number, total = place

        def told(stage: str, share: float) -> None:
            self.progress(f"{number + 1}/{total} {stage}", share)

        clone = FAMILIES[self.family].fit(prepare(train, config, told), config, told)
        actions = [clone.score(one.state)[0].action for one in self.held_out]
        pairs = list(zip(actions, self.held_out, strict=True))
        agree = [(action.name or MESSAGE) == one.label for action, one in pairs]
        return agree, [same_action(action, one.action) for action, one in pairs]


def growing_parts(train: Sequence[Demonstration], seed: int) -> list[list[Demonstration]]:
    """Return the decisions of growing parts of the tasks, those left out from which nothing can be learned."""
    tasks = sorted({one.task for one in train})
    random.Random(seed).shuffle(tasks)
    parts = []
    for count in dict.fromkeys(max(1, round(len(tasks) * share)) for share in SHARES):
        chosen = set(tasks[:count])
        part = [one for one in train if one.task in chosen]
        if count == len(tasks) or len({one.label for one in part}) > 1:
            parts.append(part)
    return parts


def left_out(config: BCConfig, train: Sequence[Demonstration]) -> list[tuple[str, BCConfig]]:
    """Return each group of features that is used, and the configuration that does without it.

    Where only one is used there is none to do without, and ``system`` is used where prompts differ.
    """
    kept = [group for group in config.groups if group != "system" or _prompts_vary(train)]
    if len(kept) < 2:
        return []
    without = [name for name in config.leave_out.split(",") if name]
    return [(name, replace(config, leave_out=",".join([*without, name]))) for name in kept]


def _prompts_vary(train: Sequence[Demonstration]) -> bool:
    prompts = (
        tuple(message_text(message) for message in one.state.messages if message["role"] == "system") for one in train
    )
    return len({prompt for prompt in prompts if prompt}) > 1
