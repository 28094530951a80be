"""Read what a score must be: its value compared with a number, or its label with texts in quotes."""

import functools
import json
import math
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from imitrace.exceptions import ConfigError

_COMPARE: Final[Mapping[str, Callable[[Any, Any], Any]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}
OPERATORS: Final = tuple(_COMPARE)
_OF_LABELS: Final = ("==", "!=", "in")

_TEXT: Final = r"\"[^\"]*\"|'[^']*'"
_NUMBER = re.compile(r"\s*([^<>=!]+?)\s*(>=|<=|==|!=|>|<)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_LABEL = re.compile(rf"\s*([^<>=!\"'\[\]]+?)\s*(>=|<=|==|!=|>|<)\s*({_TEXT})\s*")
_LABELS = re.compile(rf"\s*([^<>=!\"'\[\]]+?)\s+in\s*\[\s*((?:{_TEXT})(?:\s*,\s*(?:{_TEXT}))*)\s*,?\s*\]\s*")


@dataclass(frozen=True)
class Condition:
    """What a score must be, for instance ``TaskCompletion >= 0.8`` or ``Review in ["ok", "good"]``."""

    score: str
    operator: str
    """One of ``OPERATORS``, of labels also ``in``."""
    value: float | str | tuple[str, ...]
    """What the score's value is compared with; a text, or texts after ``in``: its label."""

    @classmethod
    def parse(cls, text: str) -> "Condition":
        """Read ``SCORE OPERATOR NUMBER``, ``SCORE == "LABEL"`` or ``SCORE in ["LABEL", ...]``.

        Raises:
            ConfigError: the text is of none of these forms, or asks for an order of labels.
        """
        if (number := _NUMBER.fullmatch(text)) and math.isfinite(float(number[3])):
            return cls(number[1], number[2], float(number[3]))
        if label := _LABEL.fullmatch(text):
            if label[2] not in _OF_LABELS:
                raise ConfigError(
                    f"condition {text!r} asks for an order of labels, which have none; "
                    f"compare them by {' '.join(_OF_LABELS)}, or leave the quotes out to compare the score's value"
                )
            return cls(label[1], label[2], label[3][1:-1])
        if labels := _LABELS.fullmatch(text):
            return cls(labels[1], "in", tuple(found[1:-1] for found in re.findall(_TEXT, labels[2])))
        raise ConfigError(
            f"condition {text!r} can't be read, expected SCORE OPERATOR NUMBER such as 'TaskCompletion >= 0.8', "
            f"with one of {' '.join(OPERATORS)}; or, of its label in quotes, "
            '\'Outcome == "success"\' or \'Review in ["ok", "good"]\''
        )

    @property
    def of_label(self) -> bool:
        """Whether it asks for the score's label and not for its value."""
        return not isinstance(self.value, float | int)

    @property
    def column(self) -> str:
        """The column of scores that it asks for."""
        return "label" if self.of_label else "value"

    def holds(self, value: Any) -> Any:  # a number or label gives a bool, a column's expression another
        """Return whether a value or label, or each of a column, is as wanted; NaN is never asked here."""
        if isinstance(self.value, tuple):
            return functools.reduce(operator.or_, (value == one for one in self.value))
        return _COMPARE[self.operator](value, self.value)

    def met(self) -> pl.Expr:
        """Return whether rows with ``value`` and ``label`` are as wanted: never where it is absent, or NaN."""
        met: pl.Expr = self.holds(pl.col(self.column))
        return (met if self.of_label else met & ~pl.col("value").is_nan()).fill_null(value=False)

    @property
    def wanted(self) -> str:
        """Say what is wanted without the score's name: ``>= 0.8``."""
        if isinstance(self.value, tuple):
            return f"in {json.dumps(self.value, ensure_ascii=False)}"
        told = json.dumps(self.value, ensure_ascii=False) if isinstance(self.value, str) else repr(self.value)
        return f"{self.operator} {told}"

    def __str__(self) -> str:
        return f"{self.score} {self.wanted}"
