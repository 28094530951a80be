"""Give pytest the fixture ``imitrace_capture``, for users' own tests: what the agent under test emits, in memory."""

from collections.abc import Iterator

import pytest

from imitrace.testing import Captured, capture


@pytest.fixture
def imitrace_capture() -> Iterator[Captured]:
    """Record what the test emits, with counted ids and a counted clock, and send nothing anywhere."""
    with capture() as captured:
        yield captured
