"""Hold a clone in a process of its own, and answer what the proxy asks about it.

A decision takes milliseconds of Python; in the proxy's own process every request that passes through would wait for it.
"""

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from functools import lru_cache
from typing import Any

from imitrace.clones import CloneHandle
from imitrace.verdict import Standing, Verdict
from imitrace_trainer.serving.questions import read_question, standing_line, verdict_line

LATE = "the clone was asked too much at once"
_WATCH_SECONDS = 0.5
_KINDER = 5
"""How much less of a busy machine the clone gets than those whose requests pass through."""


class CloneServer:
    """Answers questions, one after the other, and says when the clone's standing changes."""

    def __init__(self, handle: CloneHandle, connection: socket.socket) -> None:
        self._handle = handle
        self._connection = connection
        self._lock = threading.Lock()
        self._done = threading.Event()

    def run(self) -> None:
        """Answer until the proxy is gone."""
        threading.Thread(target=self._watch, name="imitrace-standing", daemon=True).start()
        with suppress(ConnectionError), self._connection.makefile("rb") as lines:
            for line in lines:
                posed = read_question(line)
                verdict = Verdict(None, False, LATE)
                if time.monotonic() < posed.until:
                    asked = posed.question
                    verdict = self._handle.ask(asked.messages, _tools(asked.tools), asked.tags, asked.trajectory)
                self._send(verdict_line(posed.number, verdict))
        self._done.set()

    def _watch(self) -> None:
        told: Standing | None = None
        with suppress(OSError):
            while not self._done.is_set():
                standing = self._handle.standing()
                if standing != told:
                    self._send(standing_line(standing))
                    told = standing
                self._done.wait(_WATCH_SECONDS)

    def _send(self, line: bytes) -> None:
        with self._lock:
            self._connection.sendall(line)


@lru_cache(maxsize=64)
def _tools(text: str) -> list[dict[str, Any]]:
    """Return tools as the same objects each time."""
    found: list[dict[str, Any]] = json.loads(text)
    return found


def main() -> None:
    """Serve the clone that the command line names, on a socket that was handed over."""
    parser = argparse.ArgumentParser()
    parser.add_argument("reference")
    parser.add_argument("--home", required=True)
    parser.add_argument("--socket", type=int, required=True)
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal's is the proxy's to answer
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.nice(_KINDER)
    with socket.socket(fileno=options.socket) as connection:
        CloneServer(CloneHandle(options.reference, options.home), connection).run()


if __name__ == "__main__":
    main()
