import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_collector.rates import RateLimitedError, Rates


class Clock:
    """Stand still until told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_requests_beyond_the_rate_are_told_when_to_come_again() -> None:
    clock = Clock()
    rates = Rates(2, 0, clock)
    rates.admit("a")
    rates.admit("a")
    with pytest.raises(RateLimitedError, match="a may send 2 requests a second"):
        rates.admit("a")
    rates.admit("b")
    clock.now += 0.1
    rates.admit("a")


def test_a_large_request_passes_once_and_its_debt_is_waited_for() -> None:
    clock = Clock()
    rates = Rates(0, 1000, clock)
    rates.admit("a")
    rates.charge("a", 5000)
    with pytest.raises(RateLimitedError, match="1000 bytes a second") as refused:
        rates.admit("a")
    assert refused.value.seconds == pytest.approx(4)
    clock.now += refused.value.seconds
    rates.admit("a")


def test_without_limits_nothing_is_refused() -> None:
    rates = Rates(0, 0, Clock())
    for _ in range(1000):
        rates.admit("a")
        rates.charge("a", 10**9)


@given(
    rate=st.floats(0.1, 1000),
    asks=st.lists(st.tuples(st.floats(0, 3), st.integers(1, 5000)), max_size=40),
)
def test_who_waits_as_told_is_let_in_and_nobody_gets_more_than_the_rate(
    rate: float, asks: list[tuple[float, int]]
) -> None:
    clock = Clock()
    rates = Rates(0, rate, clock)
    passed = last = 0
    for seconds, size in asks:
        clock.now += seconds
        try:
            rates.admit("a")
        except RateLimitedError as refused:
            clock.now += refused.seconds + 1e-6
            rates.admit("a")
        rates.charge("a", size)
        passed, last = passed + size, size
    assert passed - last <= rate * (clock.now + 1) * (1 + 1e-6) + 1e-3
