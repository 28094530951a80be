"""Hold what things cost, each price with the day from which it holds; amounts are whole billionths of a currency.

Tokens times a price by the million is exact so. What is not, such as seconds of an hour, is rounded once, half to even,
where a charge is made: sums are sums of charges, so nothing is lost between a row and its total.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation, localcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

from imitrace.exceptions import ConfigError

UNITS: Final = 10**9
"""Parts of one unit of a currency that amounts are counted in."""
RATES: Final[Mapping[str, str]] = {
    "human_minute": "a minute of a reviewer's time",
    "human_decision": "a decision that a person took in the expert's place",
    "cpu_hour": "an hour of one core",
    "gpu_hour": "an hour of one GPU",
    "decision_seconds": "how long one core works on a clone's decision, in seconds",
}
"""What else has a price, and what it is of."""

_TABLE: Final = Path(__file__).with_name("prices.json")
_MODEL: Final = ("model", "valid_from", "input", "output", "cached_input")
_PLAIN: Final = {"decision_seconds": Decimal("0.01")}
"""The published median of a decision alone, rounded up; the others cost what only their owner knows."""


@dataclass(frozen=True, kw_only=True)
class ModelPrice:
    """What a model's tokens cost from a day on, by the million."""

    model: str
    """Its name, or a pattern such as ``claude-sonnet-4-*``."""
    valid_from: date
    input: Decimal
    output: Decimal
    cached_input: Decimal | None = None
    version: str = ""
    """Of the table that says so."""

    @property
    def name(self) -> str:
        """Name this price, so that a figure says which it came from."""
        return f"{self.version}/{self.model}@{self.valid_from.isoformat()}"

    def amount(self, input_tokens: int, output_tokens: int) -> int:
        """Return what tokens cost."""
        return rounded((self.input * input_tokens + self.output * output_tokens) / 1_000_000)


@dataclass(frozen=True, kw_only=True)
class Prices:
    """A table of prices; what stands first counts where two say something of one model."""

    currency: str = "USD"
    version: str = ""
    models: Sequence[ModelPrice] = ()
    rates: Mapping[str, Decimal] = field(default_factory=lambda: dict(_PLAIN))
    """By name of ``RATES``; absent: nobody said."""

    def of(self, model: str, at: int) -> ModelPrice | None:
        """Return a model's price at a time in nanoseconds since 1970 UTC; None where the table has none.

        A name is looked for first, then patterns; of several the one with the latest day counts.
        """
        day = datetime.fromtimestamp(at // UNITS, UTC).date()
        exact = [price for price in self.models if price.model == model]
        fitting = exact or [price for price in self.models if fnmatchcase(model, price.model)]
        valid = [price for price in fitting if price.valid_from <= day]
        return max(valid, key=lambda price: price.valid_from, default=None)

    def rate(self, name: str) -> Decimal | None:
        """Return one of ``RATES``; None where nobody said."""
        return self.rates.get(name)


def rounded(amount: Decimal) -> int:
    """Return an amount of the currency in whole billionths, half to even."""
    with localcontext() as context:
        context.prec = 60
        return int((amount * UNITS).to_integral_value(rounding=ROUND_HALF_EVEN))


def shown(amount: int | None, digits: int = 2) -> str:
    """Return an amount for people, rounded to the cent; ``unknown`` for None."""
    if amount is None:
        return "unknown"
    return f"{Decimal(amount).scaleb(-9).quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_EVEN):,f}"


def exact(amount: int) -> str:
    """Return an amount with all its nine digits."""
    return f"{Decimal(amount).scaleb(-9):.9f}"


def packaged_prices() -> Prices:
    """Return the table that comes with imitrace."""
    return _table(json.loads(_TABLE.read_text(encoding="utf-8")), _TABLE.name)


def prices_from_config(config: Mapping[str, Any]) -> Prices:
    """Return the prices of ``[prices]`` in ``imitrace.toml`` before those that come with imitrace.

    Where it has another currency, only its own count.

    Args:
        config: ``imitrace.toml`` as a dictionary.

    Raises:
        ConfigError: a key is unknown, or a value is no price, day or text.
    """
    ours = packaged_prices()
    table = config.get("prices")
    if table is None:
        return ours
    own = _table(table, "prices")
    same = own.currency == ours.currency
    named = {price.model for price in own.models}
    rest = [price for price in ours.models if price.model not in named] if same else []
    version = " + ".join([own.version, *([ours.version] if rest else [])])
    return Prices(currency=own.currency, version=version, models=[*own.models, *rest], rates=own.rates)


def _table(table: Any, where: str) -> Prices:  # any JSON or TOML value
    allowed = ("version", "currency", "source", "models", *RATES)
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where} is {table!r}, expected a table with {', '.join(allowed)}")
    unknown = next((key for key in table if key not in allowed), None)
    if unknown is not None:
        raise ConfigError(f"{where} has unknown key {unknown!r}, allowed: {', '.join(allowed)}")
    version = _text(table.get("version", "own"), f"{where}.version")
    rows = table.get("models", [])
    if not isinstance(rows, list):
        raise ConfigError(f"{where}.models is {rows!r}, write [[{where}.models]] for each model")
    models = [_model(row, f"{where}.models", version) for row in rows]
    rates = {key: _price(table[key], f"{where}.{key}") for key in RATES if key in table}
    currency = _text(table.get("currency", "USD"), f"{where}.currency")
    return Prices(currency=currency, version=version, models=models, rates={**_PLAIN, **rates})


def _model(row: Any, where: str, version: str) -> ModelPrice:  # any JSON or TOML value
    if not isinstance(row, Mapping) or not {"model", "input", "output"} <= set(row) <= set(_MODEL):
        raise ConfigError(f"{where} has {row!r}, expected model, input, output and maybe cached_input, valid_from")
    cached = row.get("cached_input")
    return ModelPrice(
        model=_text(row["model"], f"{where}.model"),
        valid_from=_day(row.get("valid_from", date(1970, 1, 1)), f"{where}.valid_from"),
        input=_price(row["input"], f"{where}.input"),
        output=_price(row["output"], f"{where}.output"),
        cached_input=None if cached is None else _price(cached, f"{where}.cached_input"),
        version=version,
    )


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(f"{where} is {value!r}, expected text")
    return value


def _price(value: object, where: str) -> Decimal:
    try:
        price = Decimal("nan") if isinstance(value, bool) else Decimal(str(value))
    except InvalidOperation:
        price = Decimal("nan")
    if not price.is_finite() or price < 0:
        raise ConfigError(f'{where} is {value!r}, expected a price of at least 0 such as "2.50"')
    return price


def _day(value: object, where: str) -> date:
    if isinstance(value, datetime):
        return value.date()
    if isinstance(value, date):
        return value
    try:
        return date.fromisoformat(str(value))
    except ValueError as error:
        raise ConfigError(f"{where} is {value!r}, expected a day such as 2026-11-01") from error
