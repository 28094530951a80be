"""Keep what each refresh did: one file a run, ``runs/CLONE/ID.json`` in the workspace, written anew at every stage."""

import json
import os
import secrets
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any, Final

from imitrace.exceptions import ConfigError

FORMAT: Final = 1
FOLDER: Final = "runs"
STATES: Final = ("running", "finished", "failed")
STAGES: Final = ("look", "curate", "train", "gate", "promote")
TURNS: Final = ("promoted", "renewed", "unchanged", "failed_gate", "inconclusive", "held")
"""Outcomes of runs that went the whole way, so that time and rows are counted from them on."""
_LOOKS: Final = 100
"""Most records that are kept of runs that had nothing to do."""


@dataclass(frozen=True)
class Attempt:
    """A process that worked on a run."""

    pid: int
    host: str
    started_at: str
    """ISO 8601, UTC."""


@dataclass(frozen=True)
class Seen:
    """What a run found of its agent's traces, to be compared with what a later one finds."""

    rows: int = 0
    """Decisions by those who are learnt from."""
    newest: int = 0
    """When the last of them began, in nanoseconds since 1970 UTC."""
    newer: int = 0
    """Those that began after the newest of the turn before, however many were deleted since."""
    tools: str = ""
    """A hash of the tools' contracts in force."""
    ledger: str = ""
    """A hash of what is decided about tools."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One refresh; a run that was killed and taken up again is still one."""

    id: str
    clone: str
    state: str = "running"
    """One of ``STATES``."""
    stage: str = "look"
    """One of ``STAGES``: where it is, or was when it ended."""
    started_at: str
    """ISO 8601, UTC, as all times here."""
    ended_at: str | None = None
    attempts: tuple[Attempt, ...] = ()
    """One, and one more for each time that it was taken up."""
    due: tuple[str, ...] = ()
    """Why it was due."""
    outcome: str | None = None
    """One of ``TURNS``, or not_due, undecided, stopped (by its budget), error."""
    why: str = ""
    exit_code: int | None = None
    stages: tuple[Mapping[str, Any], ...] = ()
    """``stage``, ``started_at`` and ``seconds`` of each that ended."""
    seen: Seen | None = None
    drift: Mapping[str, Any] | None = None
    """What a look for drift said: ``verdict``, ``why``, ``look`` (of which champion, which); None: nobody looked."""
    dataset: Mapping[str, Any] | None = None
    """``name``, ``version`` and ``hash``."""
    version: int | None = None
    """Of the clone, that was trained or gated."""
    gate: Mapping[str, Any] | None = None
    """``verdict``, ``cohorts`` and, where there was a champion, how it was ``beside`` that."""
    champion: Mapping[str, int | None] = field(default_factory=dict)
    """``before`` and ``after``."""
    imitrace: str = field(default_factory=lambda: installed_version("imitrace"))

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        return {"format": FORMAT, **asdict(self)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Run":
        """Return the run that ``to_json`` gave; keys that a newer imitrace added are left out."""
        values = {one.name: record[one.name] for one in fields(cls) if one.name in record}
        values["attempts"] = tuple(Attempt(**one) for one in values.get("attempts", ()))
        values["seen"] = Seen(**values["seen"]) if values.get("seen") else None
        values |= {name: tuple(values.get(name, ())) for name in ("due", "stages")}
        run = cls(**values)
        if run.state not in STATES:
            raise ValueError(f"state is {run.state!r}, allowed: {', '.join(STATES)}")
        return run

    def render(self) -> str:
        """Return this in a line."""
        seconds = f"{sum(one['seconds'] for one in self.stages):.0f} s"
        told = "running" if self.state == "running" else self.outcome or self.state
        again = f", taken up {len(self.attempts) - 1} times" if len(self.attempts) > 1 else ""
        version = f"  v{self.version}" if self.version is not None else ""
        return f"{self.id}  {told} at {self.stage}{again}  {seconds}{version}  {self.why}".rstrip()


class Runs:
    """Read and write the runs of one clone."""

    def __init__(self, home: Path, clone: str) -> None:
        self._clone = clone
        self.folder = home / FOLDER / clone

    def all(self) -> list[Run]:
        """Return every run, oldest first.

        Raises:
            ConfigError: a record is damaged.
        """
        return [self._read(path) for path in sorted(self.folder.glob("[0-9]*.json"))]

    def write(self, run: Run) -> None:
        """Keep a run in place of what was kept of it: readers and crashes find the old text or the new one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{run.id}.json"
        aside = path.with_name(f".{path.name}.new")
        with aside.open("w", encoding="utf-8") as file:
            file.write(json.dumps(run.to_json(), indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def begin(self, unfinished: Run | None, now: datetime) -> Run:
        """Return a new run, or the one that was killed with one attempt more; it is not written yet."""
        attempt = Attempt(os.getpid(), socket.gethostname(), moment(now))
        if unfinished is not None:
            return replace(unfinished, attempts=(*unfinished.attempts, attempt), stage="look")
        name = f"{now.astimezone(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(3)}"
        return Run(id=name, clone=self._clone, started_at=moment(now), attempts=(attempt,))

    def prune(self) -> None:
        """Delete the oldest records of runs that had nothing to do; all others stay."""
        looks = [run for run in self.all() if run.outcome == "not_due"]
        for run in looks[:-_LOOKS]:
            (self.folder / f"{run.id}.json").unlink(missing_ok=True)

    def _read(self, path: Path) -> Run:
        try:
            return Run.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ConfigError(f"run record {path} can't be read ({error}); delete it") from error


def names(home: Path) -> list[str]:
    """Return the clones that have runs."""
    folder = home / FOLDER
    return sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []


def moment(at: datetime) -> str:
    """Return a time in ISO 8601, UTC."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
