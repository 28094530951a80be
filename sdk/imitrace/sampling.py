"""Choose which trajectories are recorded: whole ones, by their id, so that every process chooses the same."""

from collections.abc import Mapping
from dataclasses import dataclass

from imitrace.canonical import text_hash
from imitrace.exceptions import ConfigError

_FULL = 16**8


@dataclass(frozen=True)
class Sampler:
    """Records a share of the trajectories."""

    rate: float = 1.0
    """Share of trajectories that are recorded, 0 to 1."""
    parent_based: bool = False
    """Whether a span of the application around the trajectory that is not sampled means no."""

    def __post_init__(self) -> None:
        if isinstance(self.rate, bool) or not isinstance(self.rate, int | float) or not 0 <= self.rate <= 1:
            raise ConfigError(f"sample is {self.rate!r}, allowed: a number from 0 (nothing) to 1 (every trajectory)")

    def records(self, trajectory_id: str) -> bool:
        """Tell whether a trajectory is recorded; its id alone decides."""
        return self.rate >= 1 or int(text_hash(trajectory_id)[:8], 16) < self.rate * _FULL


def sampler_of(environment: Mapping[str, str]) -> Sampler:
    """Return what ``OTEL_TRACES_SAMPLER`` and ``OTEL_TRACES_SAMPLER_ARG`` ask for; an unknown sampler records all.

    Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    named = environment.get("OTEL_TRACES_SAMPLER", "").strip().lower()
    kind = named.removeprefix("parentbased_")
    try:
        ratio = float(environment.get("OTEL_TRACES_SAMPLER_ARG") or 1.0)
    except ValueError:
        ratio = 1.0
    rate = {"always_off": 0.0, "traceidratio": ratio if 0 <= ratio <= 1 else 1.0}.get(kind, 1.0)
    return Sampler(rate, named.startswith("parentbased_"))
