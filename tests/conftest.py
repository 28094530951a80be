"""What holds for every test."""

import faulthandler

import pytest


def pytest_unconfigure(config: pytest.Config) -> None:
    """Give threads that a failed test left behind a minute: whoever waits for the verdict gets it.

    Workers that run tests side by side wait for each other, and are ended by the process that started them.
    """
    if not hasattr(config, "workerinput"):
        faulthandler.dump_traceback_later(60, exit=True, file=2)
