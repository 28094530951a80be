"""What holds for every test."""

import faulthandler
import os
import sys

import pytest

# Tests start hundreds of processes beside each other. Where the caller forbids to keep what was compiled, each would
# compile every source again; with threads for every core, each would mostly wait for its own.
sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # noqa: TID251 - what the tests' processes get
os.environ.setdefault("OMP_NUM_THREADS", "1")  # noqa: TID251 - what the tests' processes get


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give threads that a failed test left behind a minute: whoever waits for the verdict gets it.

    Workers that run tests side by side wait for each other, and are ended by the process that started them.
    """
    if not hasattr(config, "workerinput"):
        faulthandler.dump_traceback_later(60, exit=True, file=2)
