"""Run a real collector beside what is measured, in a process of its own."""

import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from overhead.config import clean_environment

_STOP_SECONDS = 30


@contextmanager
def collector() -> Iterator[str]:
    """Yield the address of a collector on a new store, which is deleted at the end."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "imitrace", "collect", "--http-port", "0", "--grpc-port", "0", "--home", home]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=clean_environment()) as process:
            try:
                assert process.stdout is not None
                ready = process.stdout.readline()
                assert "http=" in ready, f"the collector did not start, it printed {ready!r}"
                yield ready.split("http=")[1].split()[0]
            finally:
                process.terminate()
                process.wait(_STOP_SECONDS)


@contextmanager
def nobody() -> Iterator[str]:
    """Yield an address where nothing listens."""
    with socket.socket() as taken:  # bound and not listening: refused at once, and nobody else gets it
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"
