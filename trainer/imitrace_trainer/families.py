"""The families of clones, the rungs of the ladder: a new one is a file of its own and a line here."""

from collections.abc import Callable
from dataclasses import dataclass

from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.family import Clone, Parts
from imitrace_trainer.fit import BCConfig, Lesson, fit_embedded
from imitrace_trainer.frequency import FrequencyPolicy, fit_frequency
from imitrace_trainer.linear import LinearPolicy, fit_linear
from imitrace_trainer.progress import Progress

BEST = "best"
"""In the place of a family: fit all, and ship the one that does best on the calibration tasks."""


@dataclass(frozen=True)
class Family:
    """How a family's clones are made, and read back."""

    fit: Callable[[Lesson, BCConfig, Progress], Clone]
    read: Callable[[Parts], Clone]
    """From what ``parts`` returned."""


FAMILIES = {
    "frequency": Family(fit_frequency, FrequencyPolicy.of_parts),
    "linear": Family(fit_linear, LinearPolicy.of_parts),
    "embedded": Family(fit_embedded, EmbeddedPolicy.of_parts),
}
"""By name, the simplest first: of equals the simplest ships."""
