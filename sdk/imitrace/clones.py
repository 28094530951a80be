"""Ask a registered clone what it would do and whether it may: loaded aside, never raising, and the expert in doubt.

The clone is the trainer's: it is imported by name when the first question comes, in a thread of its own.
"""

import importlib
import os
import re
import sys
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from imitrace.config import workspace_home
from imitrace.exceptions import ConfigError, ImitraceError
from imitrace.faults import LOGGER, Faults
from imitrace.limited_calls import LimitedCalls
from imitrace.provider import active
from imitrace.verdict import LOADING, Standing, Verdict

_TRAINER = "imitrace_trainer.champion"
_EXTRA_MODULES = {"imitrace_trainer", "torch", "numpy", "polars", "safetensors", "pyarrow", "duckdb", "cryptography"}
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}(@(champion|candidate|previous)|:v?[0-9]{1,9})?")
_CHECK_SECONDS = 1.0
_RETRY_SECONDS = 30.0
_FORK_SECONDS = 30.0


class Clone(Protocol):
    """A loaded clone, as the trainer gives it."""

    @property
    def problem(self) -> str | None:
        """Why this is not the version that the reference means now, None when it is."""

    @property
    def standing(self) -> Standing:
        """Where it may act."""

    def decide(
        self,
        messages: Sequence[str],
        tools: Sequence[Mapping[str, Any]],
        tags: Mapping[str, str],
        trajectory: str | None,
    ) -> Verdict:
        """Return what it would do in a state of a trajectory."""


class _Held(NamedTuple):
    """What a handle answers with, swapped as a whole: a clone, or the reason why there is none."""

    clone: Clone | None
    reason: str
    stamp: Hashable = None
    """What the registry said when this was made."""
    retry_at: float = float("-inf")
    """When to try again although the registry says the same."""


class CloneHandle:
    """A registered clone by its reference, to be asked from any thread.

    Nothing is loaded before the first ``ask`` or ``warm``; then a thread loads it, which imports torch, and until that
    is done the expert acts. ``warm`` at the start of a program keeps the first tasks from going to the expert for that
    reason alone. The registry is looked at once a second at most: a promotion, a rollback or a new gate record is
    followed by loading again, and meanwhile the expert acts. A fork waits for a load that is under way; the child goes
    on with what its parent had loaded, and when it asks first, torch is left with one thread there.

    An answer takes a few milliseconds of one core. Torch's own threads only make it slower, on a busy machine ten times
    and more, so a process that had not imported torch before is left with one; another may set ``OMP_NUM_THREADS=1``.
    """

    def __init__(
        self,
        reference: str,
        home: str | Path | None = None,
        clock: Callable[[], float] = time.monotonic,
        timeout: float = 5.0,
    ) -> None:
        """Name a clone.

        Args:
            reference: ``NAME`` or ``NAME@champion``, ``NAME@candidate``, ``NAME@previous``, ``NAME:3``.
            home: the workspace, else ``IMITRACE_HOME``, else ``./.imitrace``; looked up at the first question.
            clock: seconds that never run backwards.
            timeout: seconds after which a question is left to the expert; its answer comes to nothing then.

        Raises:
            ConfigError: the reference is of no such form, or the timeout is not over 0.
        """
        if not timeout > 0:
            raise ConfigError(f"clone timeout is {timeout!r}, allowed: seconds over 0")
        if not _REFERENCE.fullmatch(reference):
            raise ConfigError(
                f"clone is {reference!r}, allowed: NAME, NAME@champion, NAME@candidate, NAME@previous or NAME:3"
            )
        self.reference = reference
        self._home = home
        self._clock = clock
        self._timeout = timeout
        self._calls = LimitedCalls(f"imitrace-ask-{reference}", timeout)
        self._faults = Faults()
        self._held = _Held(None, LOADING)
        self._check_at = float("-inf")
        self._lock = threading.Lock()
        self._loader: threading.Thread | None = None
        self._champion: Any = None  # the trainer's module, once it is imported
        _handles.add(self)

    def ask(
        self,
        messages: Sequence[str],
        tools: Sequence[Mapping[str, Any]],
        tags: Mapping[str, str],
        trajectory: str | None = None,
    ) -> Verdict:
        """Return what the clone would do; never raises, never waits for a clone to be loaded, nor past the timeout.

        Args:
            messages: the conversation so far, each message as the canonical JSON of its parts form, not redacted.
            tools: definitions ``{name, description, parameters}`` of the tools offered.
            tags: the trajectory's; ``cohort`` names the slice that the gate judged.
            trajectory: its id, by which the handovers in it are remembered.
        """
        try:
            self._look()
            held = self._held
            clone = held.clone
            if clone is None:
                return Verdict(None, False, held.reason)
            if _torch_was_forked:
                self._tame_torch()
            return self._calls.call(lambda: clone.decide(messages, tools, tags, trajectory))
        except TimeoutError as late:
            self._count("clone.late", str(late))
            return Verdict(None, False, str(late))
        except Exception as error:  # whatever a clone does, the expert is there
            return Verdict(None, False, self._failed("clone.ask", error))

    def standing(self) -> Standing:
        """Return where the clone may act now; it looks at the registry as ``ask`` does, and asks nothing."""
        try:
            self._look()
            held = self._held
            return Standing(reason=held.reason) if held.clone is None else held.clone.standing
        except Exception as error:  # whatever a registry holds, the expert is there
            return Standing(reason=self._failed("clone.load", error))

    def warm(self, timeout: float | None = None) -> bool:
        """Load the clone now and wait for it; in ``asyncio`` call it by ``asyncio.to_thread``.

        Args:
            timeout: seconds to wait at most.

        Returns:
            Whether there is a clone to ask; it may still be one that no gate trusts.
        """
        try:
            self._look()
        except Exception as error:  # no thread to be had
            self._failed("clone.load", error)
        loader = self._loader
        if loader is not None:
            loader.join(timeout)
        return self._held.clone is not None

    def _look(self) -> None:
        """Start loading when the registry changed since the last look; what it said before counts no more."""
        if self._clock() < self._check_at:
            return
        with self._lock:
            now = self._clock()
            if now < self._check_at or (self._loader is not None and self._loader.is_alive()):
                return
            held = self._held
            stamp = None if self._champion is None else self._champion.stamp(self._workspace(), self.reference)
            if stamp != held.stamp or now >= held.retry_at:
                if stamp != held.stamp:
                    self._held = _Held(None, LOADING)
                self._start_loading(held.clone)
            self._check_at = now + _CHECK_SECONDS

    def _start_loading(self, before: Clone | None) -> None:
        # Torch imports it too, and its hooks around a fork fail when they are added while a fork waits for the loader.
        importlib.import_module("concurrent.futures.thread")
        name = f"imitrace-clone-{self.reference}"
        self._loader = threading.Thread(target=self._load, args=(before,), name=name, daemon=True)
        self._loader.start()

    def _load(self, before: Clone | None) -> None:
        stamp: Hashable = None
        retry_at = self._clock() + _RETRY_SECONDS
        try:
            alone = "torch" not in sys.modules
            self._champion = importlib.import_module(_TRAINER)
            if alone:
                self._champion.calm_torch()
            stamp = self._champion.stamp(self._workspace(), self.reference)
            clone: Clone = self._champion.open_clone(self._workspace(), self.reference, before)
            if clone.problem is not None:
                self._count("clone.load", clone.problem)
            self._held = _Held(clone, "", stamp, float("inf") if clone.problem is None else retry_at)
        except ModuleNotFoundError as error:
            if error.name not in _EXTRA_MODULES:
                self._held = _Held(None, self._failed("clone.load", error), stamp, retry_at)
                return
            reason = f"clone {self.reference} needs {error.name}: pip install 'imitrace[trainer]'"
            LOGGER.warning("imitrace: %s; the expert acts", reason)
            self._held = _Held(None, reason, stamp, float("inf"))
        except Exception as error:  # whatever a registry holds, the expert is there
            self._held = _Held(None, self._failed("clone.load", error), stamp, retry_at)

    def _workspace(self) -> Path:
        """Return the workspace, found once, so that a later ``chdir`` means nothing."""
        home = self._home
        if not isinstance(home, Path) or not home.is_absolute():
            self._home = home = workspace_home(home).absolute()
        return home

    def _failed(self, where: str, error: Exception) -> str:
        """Count an error and return it as a reason."""
        detail = str(error) if isinstance(error, ImitraceError) else f"{type(error).__name__}: {error}"
        detail = detail.partition("\n")[0][:200]
        self._count(where, detail)
        return f"the clone failed: {detail}"

    def _count(self, where: str, detail: str) -> None:
        pipeline = active()
        (self._faults if pipeline is None else pipeline.faults).count(where, detail)

    def _tame_torch(self) -> None:
        global _torch_was_forked
        self._champion.calm_torch()
        _torch_was_forked = False

    def _before_fork(self) -> None:
        """Let a load end: in the child it would have no thread to end it, and torch would stay half imported."""
        loader = self._loader
        if loader is not None and loader is not threading.current_thread():
            loader.join(_FORK_SECONDS)

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self._loader = None
        self._calls = LimitedCalls(f"imitrace-ask-{self.reference}", self._timeout)
        self._faults.reset()


_handles: "weakref.WeakSet[CloneHandle]" = weakref.WeakSet()
_torch_was_forked = False
"""Whether this process was forked from one that had torch, and torch was not told so yet."""


def _before_fork() -> None:
    for handle in list(_handles):
        handle._before_fork()


def _after_fork() -> None:
    global _torch_was_forked
    _torch_was_forked = "torch" in sys.modules
    for handle in list(_handles):
        handle._after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork)
