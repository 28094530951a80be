"""Draw what figures say as inline SVG: curves with bands, and shares with their intervals. No script."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final

from imitrace_trainer.task_draws import Share

STYLE: Final = """
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem 2rem; }
.plots figure { margin: 0; display: block; } .plots svg { width: 100%; height: auto; max-width: 34rem; }
.grid { stroke: var(--faint); } .axis { stroke: var(--line); } .ideal { stroke: var(--quiet); stroke-dasharray: 5 4; }
.line { fill: none; stroke-width: 2; } .a { stroke: var(--bar); } .b { stroke: var(--out); }
.dot.a, .band.a { fill: var(--bar); } .dot.b, .band.b { fill: var(--out); } .band { opacity: .22; stroke: none; }
.whisker { stroke-width: 1.5; } .mark { stroke: var(--out); stroke-dasharray: 2 3; stroke-width: 2; }
"""

_WIDTH, _HEIGHT = 420, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 20, 12, 40


@dataclass(frozen=True)
class Axis:
    """A side of a plot."""

    title: str
    low: float = 0.0
    high: float = 1.0
    percent: bool = True

    def ticks(self) -> list[tuple[float, str]]:
        """Return six places along it, as a share of its length, with what stands there."""
        shares = [part / 5 for part in range(6)]
        values = [self.low + (self.high - self.low) * share for share in shares]
        if not self.percent:
            return [(share, f"{value:.0f}") for share, value in zip(shares, values, strict=True)]
        form = ".0%" if self.high - self.low >= 0.05 else ".1%"
        return [(share, format(value, form)) for share, value in zip(shares, values, strict=True)]

    def place(self, value: float) -> float:
        """Return where a value lies along it, 0 to 1."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


@dataclass(frozen=True)
class Series:
    """Points with their intervals."""

    name: str
    points: Sequence[tuple[float, Share]]
    colour: str = "a"
    """``a`` or ``b``."""
    joined: bool = True
    """A line with a band; else dots with whiskers."""


@dataclass(frozen=True)
class Plot:
    """What is drawn."""

    title: str
    """Told to those who don't see it."""
    across: Axis
    up: Axis
    series: Sequence[Series]
    diagonal: bool = False
    """Draw where both axes are equal."""
    marks: Sequence[float] = ()
    """Values of ``across`` with an upright line."""

    def figure(self, caption: str) -> str:
        """Return the plot as a ``figure`` element."""
        drawn = "".join([self._frame(), *map(self._one, self.series), *map(self._mark, self.marks)])
        box = f'viewBox="0 0 {_WIDTH} {_HEIGHT}" role=img aria-label="{escape(self.title)}"'
        return f"<figure><svg {box}>{drawn}</svg><figcaption>{escape(caption)}</figcaption></figure>"

    def _x(self, value: float) -> float:
        return _LEFT + self.across.place(value) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - self.up.place(value) * (_HEIGHT - _TOP - _BOTTOM)

    def _frame(self) -> str:
        bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
        parts = []
        for share, text in self.up.ticks():
            y = bottom - share * (bottom - _TOP)
            parts.append(f"<line class=grid x1={_LEFT} y1={y:.1f} x2={right} y2={y:.1f} />")
            parts.append(f"<text x={_LEFT - 6} y={y + 4:.1f} text-anchor=end>{text}</text>")
        for share, text in self.across.ticks():
            x = _LEFT + share * (right - _LEFT)
            parts.append(f"<text x={x:.1f} y={bottom + 15} text-anchor=middle>{text}</text>")
        middle = (_TOP + bottom) / 2
        parts.append(f"<line class=axis x1={_LEFT} y1={bottom} x2={right} y2={bottom} />")
        parts.append(
            f"<text x={(_LEFT + right) / 2} y={_HEIGHT - 6} text-anchor=middle>{escape(self.across.title)}</text>"
        )
        turn = f'transform="rotate(-90 12 {middle})"'
        parts.append(f"<text x=12 y={middle} text-anchor=middle {turn}>{escape(self.up.title)}</text>")
        if self.diagonal:
            low, high = max(self.across.low, self.up.low), min(self.across.high, self.up.high)
            ends = f"x1={self._x(low):.1f} y1={self._y(low):.1f} x2={self._x(high):.1f} y2={self._y(high):.1f}"
            parts.append(f"<line class=ideal {ends} />")
        return "".join(parts)

    def _one(self, series: Series) -> str:
        kind = series.colour
        at = [(self._x(x), self._y(share.value), self._y(share.low), self._y(share.high)) for x, share in series.points]
        dots = "".join(f'<circle class="dot {kind}" cx={x:.1f} cy={y:.1f} r=3 />' for x, y, _, _ in at)
        if not series.joined:
            lines = (
                f'<line class="whisker {kind}" x1={x:.1f} y1={low:.1f} x2={x:.1f} y2={high:.1f} />'
                for x, _, low, high in at
            )
            return "".join(lines) + dots
        upper = [f"{x:.1f},{high:.1f}" for x, _, _, high in at]
        lower = [f"{x:.1f},{low:.1f}" for x, _, low, _ in at]
        band = f'<polygon class="band {kind}" points="{" ".join([*upper, *reversed(lower)])}" />'
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in at)
        return f'{band}<polyline class="line {kind}" points="{line}" />{dots}'

    def _mark(self, value: float) -> str:
        x = self._x(value)
        return f"<line class=mark x1={x:.1f} y1={_TOP} x2={x:.1f} y2={_HEIGHT - _BOTTOM} />"


def whisker(share: Share, low: float = 0.0, high: float = 1.0) -> str:
    """Return a share with its interval as a bar for a table's cell; where ``low`` is below 0, with a line at 0."""
    width, height = 240, 16

    def x(value: float) -> float:
        return (min(high, max(low, value)) - low) / (high - low) * width

    zero = f"<line class=axis x1={x(0):.1f} y1=0 x2={x(0):.1f} y2={height} />" if low < 0 else ""
    ends = f"x1={x(share.low):.1f} y1=8 x2={x(share.high):.1f} y2=8"
    box = f'width="100%" height={height} viewBox="0 0 {width} {height}" preserveAspectRatio=none aria-hidden=true'
    return (
        f"<svg {box}><rect class=back width={width} y=5 height=6 />{zero}"
        f'<line class="whisker a" {ends} /><rect class=kept x={x(share.value) - 1.5:.1f} y=2 width=3 height=12 /></svg>'
    )
