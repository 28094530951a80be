"""Keep what was spent beside traced steps: training, gates and judges, each a line of ``spending.jsonl``.

A line that can't be written stops nothing: whoever trains a clone must not lose it to a ledger.
"""

import fcntl
import functools
import inspect
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeVar

from imitrace.canonical import canonical_json
from imitrace_trainer.progress import tell

FILE: Final = "spending.jsonl"
KINDS: Final = ("train", "gate", "judge")

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, kw_only=True)
class Spending:
    """What one piece of work took."""

    kind: str
    """One of ``KINDS``."""
    at: int
    """When it ended, in nanoseconds since 1970 UTC."""
    agent: str
    clone: str | None = None
    seconds: float = 0.0
    """By the clock."""
    cpu_seconds: float = 0.0
    """Of all its threads."""
    device: str = "cpu"
    model: str | None = None
    """Of a judge."""
    input_tokens: int = 0
    output_tokens: int = 0
    requests: int = 0
    failed: bool = False
    """Whether it ended by an error; it took what it took all the same."""


def record_spending(home: Path, made: Spending) -> None:
    """Add a line; where that can't be, say so on standard error and go on."""
    record = {key: value for key, value in vars(made).items() if value not in (None, 0, 0.0, False)}
    try:
        home.mkdir(parents=True, exist_ok=True)
        with (home / FILE).open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            end = file.seek(0, os.SEEK_END)
            whole = not end or os.pread(file.fileno(), 1, end - 1) == b"\n"
            file.write(("" if whole else "\n").encode() + canonical_json(record).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        tell(f"what {made.kind} took can't be written to {home / FILE} ({error.strerror}); savings will lack it")


def read_spending(home: Path) -> tuple[list[Spending], int]:
    """Return what was spent, oldest first, and how many lines can't be read."""
    try:
        lines = (home / FILE).read_bytes().split(b"\n")
    except FileNotFoundError:
        return [], 0
    found, broken = [], 0
    for line in filter(None, lines):
        try:
            found.append(_read(json.loads(line)))
        except (ValueError, TypeError, AttributeError):
            broken += 1
    return found, broken


def spends(kind: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that records what a stage takes.

    Args:
        kind: one of ``KINDS``; the stage has arguments ``home``, a workspace, and ``clone``, a ``CloneConfig``.
    """

    def decorate(stage: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(stage)
        def timed(*args: P.args, **kwargs: P.kwargs) -> R:
            given = inspect.signature(stage).bind(*args, **kwargs).arguments
            home, clone = given["home"], given["clone"]
            began, cpu, failed = time.perf_counter(), time.process_time(), True
            try:
                result = stage(*args, **kwargs)
                failed = False
                return result
            finally:
                made = Spending(
                    kind=kind,
                    at=int(datetime.now(UTC).timestamp() * 10**9),
                    agent=clone.cohort.agent,
                    clone=clone.name,
                    seconds=round(time.perf_counter() - began, 3),
                    cpu_seconds=round(time.process_time() - cpu, 3),
                    device=_device(clone.train.device),
                    failed=failed,
                )
                record_spending(home, made)

        return timed

    return decorate


def _device(asked: str) -> str:
    """Return where a fit runs, as the stage itself finds it."""
    if asked != "auto":
        return asked
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _read(record: Mapping[str, Any]) -> Spending:
    made = Spending(**record)
    if made.kind not in KINDS or not isinstance(made.at, int):
        raise ValueError(f"{record!r} is no spending")
    return made
