from collections.abc import Iterator

import pytest

import imitrace
from imitrace.provider import install
from imitrace.testing import Captured, capture


@pytest.fixture
def untraced() -> Iterator[None]:
    """Leave nothing configured behind."""
    yield
    imitrace.shutdown(0.1)
    install(None)


@pytest.fixture
def seen() -> Iterator[Captured]:
    with capture() as captured:
        yield captured
