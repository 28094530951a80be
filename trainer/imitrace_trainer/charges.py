"""Charge every decision of an agent for what it cost, or for what the expert would have cost in the clone's place.

What nobody can price is a charge without an amount and with the reason, never one of nothing.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Any, Final

import numpy as np
import polars as pl

from imitrace_trainer.frames import gather
from imitrace_trainer.prices import ModelPrice, Prices, exact, rounded
from imitrace_trainer.queue_verdicts import Judgement
from imitrace_trainer.route import DRAWN
from imitrace_trainer.spending import Spending
from imitrace_trainer.survey import Frames
from imitrace_trainer.task_draws import EDGE, TaskDraws

KINDS: Final[Mapping[str, str]] = {
    "expert": "decisions that the expert took",
    "audit": "decisions that the expert took though the clone was trusted: the price of proof",
    "clone": "decisions that the clone took",
    "shadow": "decisions about which the clone was asked, and did not take",
    "human": "people: reviews, and decisions in the expert's place",
    "judge": "models that scored",
    "refresh": "training and gating",
    "avoided": "what the expert would have cost in the clone's place",
}
FEWEST: Final = 5
"""The expert's decisions from which a mean is taken; with fewer the next coarser kind is asked."""

_COHORT: Final = "cohort"
_MINUTE: Final = 60
_HOUR: Final = 3600


@dataclass(frozen=True, kw_only=True)
class Charge:
    """One line of the ledger."""

    kind: str
    """One of ``KINDS``."""
    at: int
    """When, in nanoseconds since 1970 UTC."""
    amount: int | None
    """In billionths of the currency; None: nobody can say."""
    price: str
    """Which price it was charged by, or why by none."""
    who: str = ""
    """The model, the clone or the person."""
    trajectory: str = ""
    decision: str = ""
    step: int | None = None
    """The first of the decision."""
    input_tokens: int | None = None
    output_tokens: int | None = None
    seconds: float | None = None
    estimated: bool = False
    """Whether tokens are those of like decisions."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values, the amount with all its digits."""
        told = vars(self).items()
        record = {key: value for key, value in told if not (value is None or value is False or value == "")}
        return record | {
            "kind": self.kind,
            "at": self.at,
            "amount": None if self.amount is None else exact(self.amount),
        }


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision of the log; parallel calls of one answer are one."""

    trajectory: str
    decision: str
    step: int
    role: str
    name: str
    """The policy's: a model or a clone."""
    asked: str | None
    """The clone that was asked in the shadow."""
    audit: bool
    input_tokens: int | None
    output_tokens: int | None
    at: int
    task: str
    cohort: str
    length: int
    """Messages of the state, as the exponent of two."""

    @property
    def kinds(self) -> tuple[tuple[Any, ...], ...]:
        """What it is like, the finest first: same cohort and length, same length, any."""
        return (self.cohort, self.length), (self.length,), ()

    @property
    def used(self) -> tuple[int, int] | None:
        """Tokens in and out; None where the log does not say."""
        if self.input_tokens is None or self.output_tokens is None:
            return None
        return self.input_tokens, self.output_tokens


def decisions(frames: Frames, agent: str) -> list[Decided]:
    """Return an agent's decisions, each once, by trajectory.

    Args:
        frames: the tables of ``schema.TABLES`` by name.
        agent: whose.
    """
    first = ("step_index", "policy_role", "policy_name", "shadow", "route_reason", "started_at", "length")
    length = pl.col("state").list.len().alias("length")
    told = ("trajectory_id", "decision", "input_tokens", "output_tokens", *first[:-1], length)
    steps = frames["steps"].filter(pl.col("agent") == agent).select(told).sort("trajectory_id", "step_index")
    rows = steps.group_by("trajectory_id", "decision", maintain_order=True).agg(
        *(pl.col(name).first() for name in first),
        pl.col("input_tokens", "output_tokens").max(),  # some say it of each of the parallel calls
    )
    named = frames["trajectories"].select("trajectory_id", "task", "tags")
    found = gather({"rows": rows.join(named, on="trajectory_id", how="left", maintain_order="left")})["rows"]
    return [_decided(row) for row in found.iter_rows(named=True)]


def _decided(row: Mapping[str, Any]) -> Decided:
    shadow = json.loads(row["shadow"]) if row["shadow"] else {}
    tags = json.loads(row["tags"]) if row["tags"] else {}
    return Decided(
        trajectory=row["trajectory_id"],
        decision=row["decision"],
        step=row["step_index"],
        role=row["policy_role"],
        name=row["policy_name"] or "",
        asked=shadow.get("clone") if shadow else None,
        audit=row["route_reason"] in DRAWN,
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        at=row["started_at"],
        task=row["task"] or row["trajectory_id"],
        cohort=str(tags.get(_COHORT, "")),
        length=int(row["length"] or 0).bit_length(),
    )


class Likes:
    """What the expert's decisions cost, by what they are like, at the prices of any time."""

    def __init__(self, experts: Iterable[Decided], prices: Prices) -> None:
        """Take the expert's decisions; those of which the log has no tokens tell nothing."""
        self._pool = [one for one in experts if one.used is not None]
        self._prices = prices
        self._models = sorted({one.name for one in self._pool})
        self._costs: dict[tuple[str | None, ...], list[int | None]] = {}
        self._members: dict[tuple[Any, ...], list[int]] = {}
        for place, one in enumerate(self._pool):
            for kind in one.kinds:
                self._members.setdefault(kind, []).append(place)
        self.taken: dict[tuple[Any, ...], tuple[int, tuple[int, ...], tuple[str | None, ...]]] = {}
        """By what means were taken of: how often, which decisions, which prices."""

    def mean(self, like: Decided) -> tuple[int, str] | None:
        """Return what the expert's decisions like this one cost on average, at the prices of its time, and which.

        None where there is none that has a price.
        """
        in_force = [self._prices.of(model, like.at) for model in self._models]
        period = tuple(None if price is None else price.name for price in in_force)
        costs = self._costs_at(period, in_force)
        for kind in like.kinds:
            places = tuple(place for place in self._members.get(kind, ()) if costs[place] is not None)
            if len(places) >= (FEWEST if kind else 1):
                total = sum(costs[place] or 0 for place in places)
                count, _, _ = self.taken.get((kind, period), (0, (), ()))
                self.taken[kind, period] = (count + 1, places, period)
                said = ", ".join(sorted({name for name in period if name is not None}))
                return round(Fraction(total, len(places))), f"mean of {len(places)} like decisions by {said}"
        return None

    def interval(self, other: Sequence[int] = ()) -> tuple[int, int] | None:
        """Return the 95 % interval of the sum of all means that were taken, by a bootstrap over the expert's tasks.

        Args:
            other: amounts that are known and added.

        Returns:
            Its ends; None where nothing was taken, or of one task alone.
        """
        if not self.taken or len({one.task for one in self._pool}) == 1:
            return None
        draws = TaskDraws([one.task for one in self._pool])
        total = np.full(len(draws.sums(np.zeros(len(self._pool)))), float(sum(other)))
        for count, places, period in self.taken.values():
            costs, chosen = np.zeros(len(self._pool)), np.zeros(len(self._pool))
            costs[list(places)] = [float(self._costs[period][place] or 0) for place in places]
            chosen[list(places)] = 1
            drawn = draws.sums(chosen)
            means = np.where(drawn > 0, draws.sums(costs) / np.maximum(drawn, 1), costs.sum() / len(places))
            total = total + count * means
        low, high = np.quantile(total, [1 - EDGE, EDGE])
        return round(float(low)), round(float(high))

    def _costs_at(self, period: tuple[str | None, ...], in_force: Sequence[ModelPrice | None]) -> list[int | None]:
        known = self._costs.get(period)
        if known is None:
            by_model = dict(zip(self._models, in_force, strict=True))
            known = self._costs[period] = [_cost(one, by_model[one.name]) for one in self._pool]
        return known


def _cost(one: Decided, price: ModelPrice | None) -> int | None:
    return None if price is None or one.used is None else price.amount(*one.used)


def charged(made: Sequence[Decided], clone: str | None, prices: Prices, since: int = 0) -> tuple[list[Charge], Likes]:
    """Return the charges of decisions, and what the means in them were taken of.

    Args:
        made: an agent's decisions.
        clone: whose; None: any clone's.
        prices: what tokens and time cost.
        since: nanoseconds since 1970 UTC; earlier decisions are not charged, but tell what like ones cost.
    """
    experts = [one for one in made if one.role == "expert"]
    likes, estimates = Likes(experts, prices), Likes(experts, prices)
    found: list[Charge] = []
    for one in made:
        if one.at < since:
            continue
        if one.role == "clone" and clone in (None, one.name):
            found += [_computed(one, "clone", prices), _avoided(one, likes)]
        elif one.role == "expert":
            found.append(_of_expert(one, prices, estimates))
        elif one.role == "human":
            found.append(_of_person(one, prices))
        if one.role != "clone" and one.asked is not None and clone in (None, one.asked):
            found.append(_computed(one, "shadow", prices))
    return found, likes


def _of_expert(one: Decided, prices: Prices, likes: Likes) -> Charge:
    kind, price = "audit" if one.audit else "expert", prices.of(one.name, one.at)
    used = one.used
    if used is not None and price is not None:
        return _charge(one, kind, price.amount(*used), price.name)
    if used is not None:
        return _charge(one, kind, None, f"no price of {one.name or 'an unnamed model'}")
    mean = likes.mean(one)
    if mean is None:
        return _charge(one, kind, None, "no tokens in the log, and no like decision with some")
    return _charge(one, kind, mean[0], mean[1], estimated=True)


def _avoided(one: Decided, likes: Likes) -> Charge:
    mean = likes.mean(one)
    if mean is None:
        return _charge(one, "avoided", None, "no decision of the expert with tokens and a price")
    return _charge(one, "avoided", mean[0], mean[1], estimated=True)


def _computed(one: Decided, kind: str, prices: Prices) -> Charge:
    seconds, rate = prices.rate("decision_seconds") or Decimal(0), prices.rate("cpu_hour")
    if rate is None:
        return _charge(one, kind, None, "no prices.cpu_hour", seconds=float(seconds))
    return _charge(one, kind, rounded(seconds * rate / _HOUR), f"{prices.version}/cpu_hour", seconds=float(seconds))


def _of_person(one: Decided, prices: Prices) -> Charge:
    rate = prices.rate("human_decision")
    if rate is None:
        return _charge(one, "human", None, "no prices.human_decision")
    return _charge(one, "human", rounded(rate), f"{prices.version}/human_decision")


def _charge(one: Decided, kind: str, amount: int | None, price: str, **more: Any) -> Charge:  # fields of a charge
    told = {} if kind in ("clone", "avoided", "shadow") else {"in": one.input_tokens, "out": one.output_tokens}
    who = (one.asked or "") if kind == "shadow" else one.name
    return Charge(
        kind=kind,
        at=one.at,
        amount=amount,
        price=price,
        who=who,
        trajectory=one.trajectory,
        decision=one.decision,
        step=one.step,
        input_tokens=told.get("in"),
        output_tokens=told.get("out"),
        **more,
    )


def spent_charges(spending: Iterable[Spending], prices: Prices) -> Iterator[Charge]:
    """Yield the charges of what was spent beside decisions."""
    for one in spending:
        if one.kind == "judge":
            yield _of_judge(one, prices)
            continue
        rate, seconds = ("gpu_hour", one.seconds) if one.device == "cuda" else ("cpu_hour", one.cpu_seconds)
        price = prices.rate(rate)
        amount = None if price is None else rounded(Decimal(str(seconds)) * price / _HOUR)
        told = f"no prices.{rate}" if price is None else f"{prices.version}/{rate}"
        who = f"{one.kind} {one.clone or ''}".rstrip()
        yield Charge(kind="refresh", at=one.at, amount=amount, price=told, who=who, seconds=seconds)


def _of_judge(one: Spending, prices: Prices) -> Charge:
    model = one.model or ""
    price = prices.of(model, one.at)
    return Charge(
        kind="judge",
        at=one.at,
        amount=None if price is None else price.amount(one.input_tokens, one.output_tokens),
        price=f"no price of {model}" if price is None else price.name,
        who=model,
        input_tokens=one.input_tokens,
        output_tokens=one.output_tokens,
    )


def review_charges(judgements: Iterable[tuple[int, Judgement]], prices: Prices) -> Iterator[Charge]:
    """Yield the charges of reviews; each comes with its time in nanoseconds since 1970 UTC."""
    rate = prices.rate("human_minute")
    for at, made in judgements:
        amount, told = None, f"{prices.version}/human_minute"
        if rate is None:
            told = "no prices.human_minute"
        elif made.seconds is None:
            told = "nobody measured how long it took"
        else:
            amount = rounded(Decimal(str(made.seconds)) * rate / _MINUTE)
        yield Charge(
            kind="human", at=at, amount=amount, price=told, who=made.reviewer, decision=made.item, seconds=made.seconds
        )
