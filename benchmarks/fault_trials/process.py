"""Run a real ``imitrace collect``: start it, kill it, watch its memory, and hear how it refuses."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from overhead.config import clean_environment
from overhead.timing import tell

READY_SECONDS = 60.0
_STOP_SECONDS = 30.0
_TICKS = os.sysconf("SC_CLK_TCK")


class NotReadyError(AssertionError):
    """The collector did not come up; the text is what it printed."""


class Refusal(NamedTuple):
    """How a start ended."""

    started: bool
    code: int | None
    lines: list[str]
    seconds: float

    @property
    def clear(self) -> bool:
        """Whether it was refused in one line of our own and with the exit code of a user's error."""
        return not self.started and self.code == 2 and len(self.lines) == 1 and self.lines[0].startswith("imitrace: ")


class Collector:
    """One home, one process at a time; the ports of the first start are kept."""

    def __init__(self, home: Path, *, prefix: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        self.home = home
        self.http = self.grpc = ""
        self._prefix = list(prefix)
        self._environment = clean_environment() | {"PYTHONFAULTHANDLER": "1"} | dict(environment or {})
        self._log = Path(tempfile.mkstemp(prefix="collector-", suffix=".log")[1])
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave nothing running, and no log."""
        if self.runs:
            self.kill()
        self._log.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        """The collector's own, where it runs under another program."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children") if self._prefix else None
        found = children.read_text().split() if children and children.exists() else []
        return int(found[0]) if found else pid

    def launch(self) -> None:
        """Start the process without waiting for it."""
        ports = [address.rpartition(":")[2] or "0" for address in (self.http, self.grpc)]
        command = [sys.executable, "-m", "imitrace", "collect", "--home", str(self.home)]
        with self._log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [*self._prefix, *command, "--http-port", ports[0], "--grpc-port", ports[1]],
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=self._environment,
            )

    def start(self) -> float:
        """Start, and return the seconds until it said that it is ready.

        Raises:
            NotReadyError: it ended, or was not ready in time.
        """
        began = time.monotonic()
        self.launch()
        assert self._process is not None
        assert self._process.stdout is not None
        late = threading.Timer(READY_SECONDS, self._process.kill)
        late.start()
        line = self._process.stdout.readline()
        if "http=" not in line:
            self._process.communicate()
            late.cancel()
            raise NotReadyError(self.log()[-2000:] or "nothing was printed")
        late.cancel()
        said = dict(part.split("=", 1) for part in line.split() if "=" in part)
        self.http, self.grpc = said["http"], said["grpc"]
        return time.monotonic() - began

    def kill(self) -> None:
        """End it as ``kill -9`` does."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self._process.kill()
        self._process.communicate()

    def stop(self) -> int | None:
        """Ask it to end and return its exit code, None where it had to be killed."""
        assert self._process is not None
        os.kill(self.pid, signal.SIGTERM)
        try:
            self._process.communicate(timeout=_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.kill(self.pid, signal.SIGABRT)  # with PYTHONFAULTHANDLER it prints where each thread is
            self._process.communicate()
            tell(self.log()[-4000:])
            return None
        return self._process.returncode

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._process is None else self._process.returncode

    def log(self) -> str:
        """Return what it wrote to standard error, over all its starts."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def memory(self) -> tuple[float, float]:
        """Return resident megabytes now, and at most since ``forget_peak``."""
        found = dict(
            line.split(":", 1) for line in Path(f"/proc/{self.pid}/status").read_text().splitlines() if ":" in line
        )
        now, peak = (int(found[name].split()[0]) / 1024 for name in ("VmRSS", "VmHWM"))
        return round(now, 1), round(peak, 1)

    def forget_peak(self) -> None:
        """Let the peak begin anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def cpu_seconds(self) -> float:
        """Return what the process has used, in user and system."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def try_to_start(home: Path, then: Callable[[Collector], object]) -> Refusal:
    """Start a collector that is expected to refuse; where it comes up, do something with it and stop it again."""
    began = time.monotonic()
    collector = Collector(home)
    try:
        seconds = collector.start()
    except NotReadyError:
        lines = collector.log().splitlines()
        return Refusal(False, collector.exit_code, lines, round(time.monotonic() - began, 2))
    else:
        then(collector)
        code = collector.stop() if collector.runs else collector.exit_code
        return Refusal(True, code, collector.log().splitlines(), round(seconds, 2))
    finally:
        collector.close()


@contextmanager
def new_home() -> Iterator[Path]:
    """Yield the place of a home that is not there yet."""
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    try:
        yield folder / "home"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
