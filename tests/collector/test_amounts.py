from datetime import timedelta

import pytest

from imitrace.exceptions import ConfigError
from imitrace_collector.amounts import age, size


@pytest.mark.parametrize(
    ("text", "expected"),
    [("90m", timedelta(minutes=90)), ("12h", timedelta(hours=12)), ("30d", timedelta(30)), (" 2 w ", timedelta(14))],
)
def test_an_age_is_read(text: str, expected: timedelta) -> None:
    assert age(text) == expected


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30 days", "1y", "9999999d"])
def test_what_is_no_age_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"can't be read, expected a number with m, h, d or w, like 30d"):
        age(text)


@pytest.mark.parametrize(
    ("text", "expected"), [("7", 7), ("7B", 7), ("10gb", 10**10), ("5 MB", 5 * 10**6), ("1TB", 10**12)]
)
def test_a_size_is_read(text: str, expected: int) -> None:
    assert size(text) == expected


@pytest.mark.parametrize("text", ["", "GB", "-1", "1.5GB", "10 gigabytes"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"can't be read, expected a number with B, KB, MB, GB or TB, like 10GB"):
        size(text)
