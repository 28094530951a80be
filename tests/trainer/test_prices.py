from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace_trainer.prices import (
    UNITS,
    ModelPrice,
    Prices,
    exact,
    packaged_prices,
    prices_from_config,
    rounded,
    shown,
)

DAY = 86_400 * UNITS
TOKENS = st.integers(min_value=0, max_value=2**40)
CENTS = st.decimals(min_value=0, max_value=1000, places=4)


def at(day: str) -> int:
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * DAY


def price(model: str, valid_from: str, input_price: str = "1") -> ModelPrice:
    return ModelPrice(
        model=model,
        valid_from=date.fromisoformat(valid_from),
        input=Decimal(input_price),
        output=Decimal(2),
        version="v",
    )


def test_the_price_of_the_day_counts() -> None:
    prices = Prices(models=[price("m", "2026-01-01"), price("m", "2026-03-01", "3")])
    assert prices.of("m", at("2025-12-31")) is None
    assert [prices.of("m", at(day)).name for day in ("2026-01-01", "2026-02-28", "2026-03-01")] == [  # type: ignore[union-attr]  # there is one
        "v/m@2026-01-01",
        "v/m@2026-01-01",
        "v/m@2026-03-01",
    ]


def test_a_name_counts_before_a_pattern() -> None:
    prices = Prices(models=[price("m-*", "2026-01-01", "9"), price("m-2", "2026-01-01")])
    assert [prices.of(name, at("2026-01-01")).input for name in ("m-1", "m-2")] == [9, 1]  # type: ignore[union-attr]
    assert prices.of("n", at("2026-01-01")) is None


@given(CENTS, CENTS, TOKENS, TOKENS)
def test_tokens_by_the_million_are_charged_exactly(first: Decimal, second: Decimal, said: int, given_back: int) -> None:
    made = ModelPrice(model="m", valid_from=date(2026, 1, 1), input=first, output=second)
    amount = made.amount(said, given_back)
    assert abs(Decimal(amount) - (first * said + second * given_back) * 1000) <= Decimal("0.5")
    if first == first.quantize(Decimal("0.001")) and second == second.quantize(Decimal("0.001")):
        assert Decimal(amount) == (first * said + second * given_back) * 1000


@given(st.integers(min_value=-(10**18), max_value=10**18))
def test_an_amount_is_written_with_all_its_digits(amount: int) -> None:
    assert rounded(Decimal(exact(amount))) == amount


def test_amounts_are_shown_to_the_cent() -> None:
    assert [shown(amount) for amount in (0, 4_999_999, 5_000_001, 1_234_567 * UNITS, None)] == [
        "0.00",
        "0.00",
        "0.01",
        "1,234,567.00",
        "unknown",
    ]
    assert shown(-5_000_001) == "-0.01"


def test_the_table_that_comes_along_has_a_version_and_prices_of_today() -> None:
    prices = packaged_prices()
    assert prices.version.startswith("imitrace-")
    found = prices.of("gpt-4o", at("2026-11-01"))
    assert found is not None
    assert found.amount(1_000_000, 100_000) == rounded(Decimal("3.50"))
    assert all(one.cached_input is None or one.cached_input < one.input < one.output for one in prices.models)


def test_ones_own_prices_count_before_those_that_come_along() -> None:
    own = {"version": "mine", "cpu_hour": 0.04, "models": [{"model": "gpt-4o", "input": 1, "output": "1.5"}]}
    prices = prices_from_config({"prices": own})
    found = prices.of("gpt-4o", at("2026-11-01"))
    assert found is not None
    assert (found.name, found.output) == ("mine/gpt-4o@1970-01-01", Decimal("1.5"))
    assert prices.of("gpt-5", at("2026-11-01")) is not None
    assert (prices.rate("cpu_hour"), prices.rate("gpu_hour")) == (Decimal("0.04"), None)
    assert prices.version.startswith("mine + imitrace-")
    assert prices_from_config({}).rate("decision_seconds") == Decimal("0.01")


def test_in_another_currency_only_ones_own_prices_count() -> None:
    prices = prices_from_config({"prices": {"currency": "EUR", "models": [{"model": "m", "input": 1, "output": 2}]}})
    assert (prices.currency, prices.version) == ("EUR", "own")
    assert prices.of("gpt-5", at("2026-11-01")) is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], r"prices is \[\], expected a table with version"),
        ({"model": []}, "prices has unknown key 'model', allowed: version, currency, source, models, human_minute"),
        ({"models": {}}, r"write \[\[prices.models\]\] for each model"),
        ({"models": [{"model": "m", "input": 1}]}, "expected model, input, output and maybe cached_input, valid_from"),
        ({"models": [{"model": "m", "input": 1, "output": -1}]}, "prices.models.output is -1, expected a price"),
        ({"models": [{"model": "m", "input": "x", "output": 1}]}, "prices.models.input is 'x', expected a price"),
        ({"models": [{"model": "", "input": 1, "output": 1}]}, "prices.models.model is '', expected text"),
        (
            {"models": [{"model": "m", "input": 1, "output": 1, "valid_from": "soon"}]},
            "prices.models.valid_from is 'soon', expected a day such as 2026-11-01",
        ),
        ({"cpu_hour": True}, "prices.cpu_hour is True, expected a price"),
        ({"cpu_hour": float("nan")}, "prices.cpu_hour is nan, expected a price"),
    ],
)
def test_what_is_no_price_is_refused(table: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prices_from_config({"prices": table})
