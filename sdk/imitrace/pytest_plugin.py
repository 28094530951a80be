"""Give pytest the fixture ``imitrace_capture``, for users' own tests: what the agent under test emits, in memory."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:  # every run of pytest loads this plugin, also one that has nothing to trace
    from imitrace.testing import Captured


@pytest.fixture
def imitrace_capture() -> "Iterator[Captured]":
    """Record what the test emits, with counted ids and a counted clock, and send nothing anywhere."""
    from imitrace.testing import capture

    with capture() as captured:
        yield captured
