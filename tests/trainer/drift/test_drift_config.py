import re

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.drift.config import DriftConfig


def test_a_table_without_keys_gives_the_defaults() -> None:
    assert DriftConfig.from_table({}) == DriftConfig()
    assert DriftConfig.from_table({"window_days": 1, "delta": 0}) == DriftConfig(window_days=1, delta=0)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("days", 7, "window_days, trajectories"),
        ("window_days", 0, "days, over 0"),
        ("trajectories", 9, "a whole number from 10"),
        ("trajectories", 30.5, "a whole number from 10"),
        ("alpha", 1, "a number over 0 and under 1"),
        ("alpha", True, "a number over 0 and under 1"),
        ("auroc", 0.4, "a number from 0.5 to under 1"),
        ("delta", 1.0, "a number from 0 to under 1"),
        ("draws", 100, "a whole number from 200"),
    ],
)
def test_what_is_not_allowed_is_refused_with_what_is(key: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigError, match=rf"drift {key} is .*allowed: .*{re.escape(allowed)}"):
        DriftConfig.from_table({key: value})
