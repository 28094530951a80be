"""Write the rows of a SQL query as a table for a terminal, or as CSV."""

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from imitrace_collector.normalize import storable

_WIDTH = 60


def render_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows under a line of headings; a long value is cut."""
    cells = [[_cell(value) for value in row] for row in [columns, *rows]]
    widths = [max(len(row[position]) for row in cells) for position in range(len(columns))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
    return "\n".join(line.rstrip() for line in lines)


def render_csv(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """Return rows as CSV with a header; null is empty, a list is JSON."""
    sink = io.StringIO()
    writer = csv.writer(sink, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(["" if value is None else storable(_text(value)) for value in row] for row in rows)
    return sink.getvalue().removesuffix("\n")


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _cell(value: object) -> str:
    text = "-" if value is None else storable(" ".join(_text(value).split()))
    text = "".join(character if character.isprintable() else " " for character in text)
    return text if len(text) <= _WIDTH else text[: _WIDTH - 3] + "..."
