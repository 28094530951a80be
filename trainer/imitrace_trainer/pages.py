"""Put a report's parts into one HTML page that needs nothing else: no script, no network, light and dark."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --line: #8886; --faint: #8883; --bar: #2f6f9f; --out: #b5493b; --quiet: #5f5f5f; }
@media (prefers-color-scheme: dark) { :root { --bar: #6fb1e0; --out: #e8806f; --quiet: #a6a6a6; } }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p.note, td.note, figcaption { color: var(--quiet); } p.note { margin: .2rem 0 .8rem; }
table { border-collapse: collapse; width: 100%; } th { text-align: left; font-weight: 600; }
tbody th { font-weight: 400; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; } td.bar { width: 36%; }
td.name, th.name { overflow-wrap: anywhere; } figure { display: inline-block; margin: 0 1.5rem 1rem 0; }
svg { display: block; } svg rect.kept { fill: var(--bar); } svg rect.out { fill: var(--out); }
svg rect.back { fill: var(--faint); } svg text { font: 11px system-ui, sans-serif; fill: var(--quiet); }
code { overflow-wrap: anywhere; }
"""


def page(title: str, sections: Iterable[str], style: str = "") -> str:
    """Return a whole page; ``title`` is escaped here, sections are markup already."""
    rules = "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    shown = "<meta name=viewport content='width=device-width, initial-scale=1'>"
    head = f'<meta charset="utf-8">{rules}{shown}<title>{escape(title)}</title><style>{STYLE}{style}</style>'
    return f"<!doctype html>\n<html lang=en><head>{head}</head><body>\n" + "\n".join(sections) + "\n</body></html>\n"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a cell is ``class:text``, a header ``text`` or ``n:text``; only a bar is markup.

    The class ``row`` makes a cell its row's header.
    """
    cells = "".join(_header(name) for name in head)
    body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
    return f"<table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table>"


def _header(name: str) -> str:
    kind, text = (" class=n", name[2:]) if name.startswith("n:") else ("", name)
    return f"<th scope=col{kind}>{text}</th>"


def _cell(cell: str) -> str:
    kind, _, text = cell.partition(":")
    if kind == "row":
        return f"<th scope=row class=name>{escape(text)}</th>"
    return f"<td class={kind}>{text if kind == 'bar' else escape(text)}</td>"
