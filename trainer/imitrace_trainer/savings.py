"""Say what a clone saves: what the expert would have cost in its place, less all that it costs to have it.

Every figure is a sum of charges, which are written beside it: they add up to it to the last digit.
"""

import json
import math
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import polars as pl

from imitrace.exceptions import ConfigError
from imitrace_trainer.charges import KINDS, Charge, charged, decisions, review_charges, spent_charges
from imitrace_trainer.frames import gather
from imitrace_trainer.prices import UNITS, Prices, exact, shown
from imitrace_trainer.queue_verdicts import read_reviews
from imitrace_trainer.registry import Registry
from imitrace_trainer.seal import read_record
from imitrace_trainer.spending import read_spending
from imitrace_trainer.survey import Frames

OVERHEAD: Final = ("clone", "shadow", "human", "judge", "refresh")
"""What there would be none of without the clone."""
METHOD: Final = (
    "avoided: for each decision of the clone the mean cost of the expert's decisions of the same cohort and about as "
    "many messages (by powers of two), at the prices of that day; with fewer than 5 of these, of about as many "
    "messages, else of all. The interval is a bootstrap over the expert's tasks. A decision of the clone counts as one "
    "of the expert."
)
_JUDGE: Final = "judge:"
_LARGE: Final = 1_000 * UNITS


@dataclass(frozen=True, kw_only=True)
class Scope:
    """Of what savings are told."""

    agent: str
    clone: str | None = None
    """None: all of the agent's clones."""
    since: int = 0
    """Nanoseconds since 1970 UTC."""


@dataclass(frozen=True, kw_only=True)
class Total:
    """What the charges of a kind come to."""

    count: int
    amount: int
    """Of those that have one."""
    unpriced: int
    estimated: int


@dataclass(frozen=True, kw_only=True)
class Savings:
    """What a clone saved, and what it cost."""

    scope: Scope
    prices: Prices
    rows: Sequence[Charge]
    interval: tuple[int, int] | None
    """Of what was avoided, 95 %."""
    lacks: Sequence[str]
    """What is not in the figures, and what would mend it."""

    def total(self, kind: str) -> Total:
        """Return what the charges of a kind come to."""
        own = [row for row in self.rows if row.kind == kind]
        known = [row.amount for row in own if row.amount is not None]
        estimated = sum(row.estimated and row.amount is not None for row in own)
        return Total(count=len(own), amount=sum(known), unpriced=len(own) - len(known), estimated=estimated)

    @property
    def gross(self) -> int | None:
        """What the expert would have cost in the clone's place; None where there is nothing to tell it by."""
        avoided = self.total("avoided")
        return avoided.amount if avoided.unpriced < avoided.count or not avoided.count else None

    @property
    def overhead(self) -> int:
        """What the clone costs."""
        return sum(self.total(kind).amount for kind in OVERHEAD)

    @property
    def net(self) -> int | None:
        """What is left of the gross saving."""
        return None if self.gross is None else self.gross - self.overhead

    @property
    def net_without_audit(self) -> int | None:
        """What would be left if the clone had acted wherever it was trusted."""
        return None if self.net is None else self.net + self.total("audit").amount

    @property
    def alone(self) -> int | None:
        """What the expert alone would have cost."""
        return None if self.gross is None else self.gross + self.total("expert").amount + self.total("audit").amount

    @property
    def break_even(self) -> int | None:
        """From how many decisions of the clone on it pays for reviews, judges and training; None: never, or unknown."""
        avoided, clone = self.total("avoided"), self.total("clone")
        taken = avoided.count - avoided.unpriced
        gain = avoided.amount - clone.amount - self.total("shadow").amount
        fixed = sum(self.total(kind).amount for kind in ("human", "judge", "refresh"))
        return math.ceil(fixed * taken / gain) if taken and gain > 0 else None

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values; amounts are texts with all their digits."""
        figures = ("gross", "overhead", "net", "net_without_audit", "alone")
        told = {name: _exact(getattr(self, name)) for name in figures}
        totals = {kind: self.total(kind) for kind in KINDS}
        return {
            "agent": self.scope.agent,
            "clone": self.scope.clone,
            "since": self.scope.since,
            "currency": self.prices.currency,
            "prices": self.prices.version,
            "totals": {kind: {**vars(total), "amount": exact(total.amount)} for kind, total in totals.items()},
            **told,
            "gross_interval": self.interval and [exact(edge) for edge in self.interval],
            "break_even_decisions": self.break_even,
            "complete": not self.lacks,
            "lacks": list(self.lacks),
            "prices_used": sorted({row.price for row in self.rows if row.amount is not None and not row.estimated}),
            "method": METHOD,
        }

    def render(self) -> str:
        """Return this as a table."""
        whose = f"clone {self.scope.clone} of agent {self.scope.agent}" if self.scope.clone else self.scope.agent
        paid = sum(abs(row.amount or 0) for row in self.rows)
        digits = 2 if paid >= _LARGE else 4  # so that what is little does not look like nothing
        lines = [f"{whose}, in {self.prices.currency}, prices {self.prices.version}"]
        for kind, meaning in KINDS.items():
            total = self.total(kind)
            notes = [f"{total.estimated} estimated"] * bool(total.estimated and kind != "avoided")
            notes += [f"{total.unpriced} unpriced"] * bool(total.unpriced)
            amount = "unknown" if total.count and total.unpriced == total.count else shown(total.amount, digits)
            lines.append(f"  {kind:<8} {amount:>12}  {total.count:>7} {meaning}" + _in_brackets(notes))
        reach = "" if self.interval is None else f" [{', '.join(shown(edge, digits) for edge in self.interval)}]"
        lines.append(f"gross saving        {shown(self.gross, digits)}{reach}")
        share = (
            ""
            if not self.alone or self.net is None
            else f", {self.net / self.alone:.1%} of {shown(self.alone, digits)}"
        )
        lines.append(f"net saving          {shown(self.net, digits)}{share}")
        lines.append(f"net without audit   {shown(self.net_without_audit, digits)}")
        lines.append(f"break-even          {self._even()}")
        return "\n".join([*lines, *(f"not in these figures: {lack}" for lack in self.lacks)])

    def _even(self) -> str:
        had = self.total("clone").count
        if self.break_even is None:
            return f"can't be told of {had} decisions of the clone"
        return f"from {self.break_even} decisions of the clone on; it took {had}"


def scope_of(home: Path, frames: Frames, name: str, since: int = 0) -> Scope:
    """Return what a name means: a registered clone, else an agent.

    Raises:
        ConfigError: it is neither.
    """
    registry = Registry(home)
    if name in registry.names():
        agent = read_record(registry.resolve(f"{name}:{registry.versions(name)[-1]}").path).get("agent")
        return Scope(agent=str(agent or name), clone=name, since=since)
    agents = gather({"agents": frames["trajectories"].select("agent").unique().sort("agent")})["agents"]["agent"]
    if name in agents:
        return Scope(agent=name, since=since)
    known = ", ".join([*registry.names(), *agents]) or "none"
    raise ConfigError(f"{name!r} is no clone and no agent of the source, there are: {known}")


def savings(home: Path, frames: Frames, scope: Scope, prices: Prices) -> Savings:
    """Return what a clone saved, and what it cost.

    Args:
        home: the workspace folder, with what was spent and judged.
        frames: the tables of ``schema.TABLES`` by name.
        scope: of what.
        prices: what things cost.

    Raises:
        DatasetError: a table or a file can't be read.
    """
    rows, likes = charged(decisions(frames, scope.agent), scope.clone, prices, scope.since)
    spending, broken = read_spending(home)
    own = [
        one
        for one in spending
        if one.at >= scope.since
        and one.agent == scope.agent
        and (one.kind == "judge" or scope.clone in (None, one.clone))
    ]
    reviews = read_reviews(home, scope.agent)
    timed = [(_moment(made.at), made) for made in reviews.judgements]
    rows += spent_charges(own, prices)
    rows += review_charges(((at, made) for at, made in timed if at >= scope.since), prices)
    lacks = _lacks(rows)
    unjudged = _judge_scores(frames, scope) if not any(row.kind == "judge" for row in rows) else 0
    lacks += [f"{unjudged} scores by models, of whose cost there is no record"] if unjudged else []
    lost = broken + reviews.broken
    lacks += [f"{lost} lines of the workspace's records that can't be read"] if lost else []
    return Savings(scope=scope, prices=prices, rows=rows, interval=likes.interval(), lacks=lacks)


def write_rows(path: Path, found: Savings) -> None:
    """Write every charge as a line of JSON, whole or not at all.

    Raises:
        ConfigError: the file can't be written.
    """
    aside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with aside.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row.to_json(), ensure_ascii=False) + "\n" for row in found.rows)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} can't be written: {error.strerror}; name another file for --rows") from error
    finally:
        aside.unlink(missing_ok=True)


_MENDS: Final = {
    "no prices.": "say it in [prices] of imitrace.toml",
    "no price of ": "add it to [[prices.models]] of imitrace.toml",
}


def _lacks(rows: Sequence[Charge]) -> list[str]:
    """Return what has no amount, by why."""
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        if row.amount is None:
            counts[row.kind, row.price] = counts.get((row.kind, row.price), 0) + 1
    return [
        f"{count} of {kind}: {why}" + "".join(f"; {mend}" for head, mend in _MENDS.items() if why.startswith(head))
        for (kind, why), count in sorted(counts.items())
    ]


def _judge_scores(frames: Frames, scope: Scope) -> int:
    own = frames["trajectories"].filter(pl.col("agent") == scope.agent).select("trajectory_id")
    by_model = pl.col("evaluator").str.starts_with(_JUDGE) & (pl.col("scored_at") >= scope.since)
    found = frames["scores"].filter(by_model).join(own, on="trajectory_id", how="semi").select(pl.len())
    return int(gather({"count": found})["count"].item())


def _moment(at: str) -> int:
    try:
        return int(datetime.fromisoformat(at).timestamp()) * UNITS
    except ValueError:
        return 0


def _exact(amount: int | None) -> str | None:
    return None if amount is None else exact(amount)


def _in_brackets(notes: Sequence[str]) -> str:
    return f" ({', '.join(notes)})" if notes else ""
