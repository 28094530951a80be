"""Keep in which cohorts a version went back to the expert though its gate had passed: since when, why and by whom."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from imitrace.exceptions import CloneError
from imitrace_trainer.drafts import locked
from imitrace_trainer.state_files import StateFile

FORMAT: Final = 1
DRIFT: Final = "drift"
LIVE: Final = "live disagreement"


@dataclass(frozen=True, kw_only=True)
class StepBack:
    """A cohort that went back to the expert."""

    since: str
    """ISO 8601."""
    by: str
    """``drift`` or ``live disagreement``."""
    why: str
    marks: tuple[str, ...] = ()
    """What was found, by name: who resumes the cohort has seen these, and only others take it back again."""

    def told(self, cohort: str) -> str:
        """Return the reason that steps carry."""
        return f"cohort {cohort!r} stepped back: {self.by} of {self.since}: {self.why}"


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """A cohort that somebody gave back to the clone."""

    at: str
    """ISO 8601."""
    note: str
    marks: tuple[str, ...] = ()


@dataclass(frozen=True)
class VersionSteps:
    """What is remembered of one version."""

    cohorts: Mapping[str, StepBack] = field(default_factory=dict)
    resumed: Mapping[str, Resumed] = field(default_factory=dict)

    def reasons(self) -> dict[str, str]:
        """Return by cohort the reason that its steps carry."""
        return {cohort: step.told(cohort) for cohort, step in self.cohorts.items()}

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return {
            name: {cohort: {**asdict(one), "marks": [*one.marks]} for cohort, one in getattr(self, name).items()}
            for name in ("cohorts", "resumed")
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "VersionSteps":
        """Return what ``to_json`` gave."""
        steps = {cohort: StepBack(**_tupled(told)) for cohort, told in record["cohorts"].items()}
        return cls(steps, {cohort: Resumed(**_tupled(told)) for cohort, told in record["resumed"].items()})


class StepBacks:
    """``clones/NAME/stepped_back.json`` in a workspace: read and written whole, by one at a time."""

    def __init__(self, home: Path, name: str) -> None:
        self._clones = home / "clones"
        self.path = self._clones / name / "stepped_back.json"
        self._file = StateFile(self.path, FORMAT, "delete it, and every cohort acts again that passed its gate")

    def of(self, version: int) -> VersionSteps:
        """Return what is remembered of a version.

        Raises:
            CloneError: the file was damaged by hand, or a newer imitrace wrote it.
        """
        return self._read().get(version, VersionSteps())

    def step_back(self, version: int, cohorts: Mapping[str, StepBack]) -> dict[str, StepBack]:
        """Give cohorts of a version to the expert, and return those that were not there yet.

        One that somebody resumed goes back only by a mark that was not known then.

        Raises:
            CloneError: the file was damaged by hand.
        """
        with self._held() as versions:
            known = versions.get(version, VersionSteps())
            new = {
                cohort: step
                for cohort, step in cohorts.items()
                if cohort not in known.cohorts
                and (cohort not in known.resumed or set(step.marks) - set(known.resumed[cohort].marks))
            }
            if new:
                resumed = {cohort: one for cohort, one in known.resumed.items() if cohort not in new}
                versions[version] = VersionSteps({**known.cohorts, **new}, resumed)
                self._write(versions)
        return new

    def resume(self, version: int, cohort: str, note: str, at: str) -> None:
        """Give a cohort back to a version's clone.

        Raises:
            CloneError: it did not step back, or the file was damaged by hand.
        """
        with self._held() as versions:
            known = versions.get(version, VersionSteps())
            if cohort not in known.cohorts:
                there = ", ".join(sorted(known.cohorts)) or "none"
                raise CloneError(f"cohort {cohort!r} of v{version} did not step back, allowed: {there}")
            left = {name: step for name, step in known.cohorts.items() if name != cohort}
            resumed = {**known.resumed, cohort: Resumed(at=at, note=note, marks=known.cohorts[cohort].marks)}
            versions[version] = VersionSteps(left, resumed)
            self._write(versions)

    def forgive(self, version: int, gated_at: str) -> None:
        """Forget what stepped back before a version's gate passed; whoever promotes it holds the registry's lock."""
        versions = self._read()
        known = versions.get(version)
        if known is not None:
            left = {cohort: step for cohort, step in known.cohorts.items() if later(step.since, gated_at)}
            versions[version] = VersionSteps(left)
            self._write(versions)

    def _read(self) -> dict[int, VersionSteps]:
        return self._file.read(_versions) or {}

    @contextmanager
    def _held(self) -> Iterator[dict[int, VersionSteps]]:
        with locked(self._clones):
            yield self._read()

    def _write(self, versions: Mapping[int, VersionSteps]) -> None:
        self._file.write({"versions": {str(number): one.to_json() for number, one in versions.items()}})


def _versions(record: dict[str, Any]) -> dict[int, VersionSteps]:
    return {int(number): VersionSteps.from_json(told) for number, told in record["versions"].items()}


def later(one: str, other: str) -> bool:
    """Tell whether a time of ISO 8601 comes after another."""
    return datetime.fromisoformat(one) > datetime.fromisoformat(other)


def _tupled(told: Mapping[str, Any]) -> dict[str, Any]:
    return {**told, "marks": tuple(told["marks"])}
