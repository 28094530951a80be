"""Hold what the collector and the process that runs a query say to each other."""

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple, Self

import pyarrow as pa

from imitrace.exceptions import WireError

Parameters = Sequence[Any] | Mapping[str, Any]
"""Values for ``?`` and ``$1``, or by name for ``$name``; each any JSON value."""

_TERM = re.compile(r'\((\w+) (==|>=|<=|>|<) ("[^"\\]*"|-?\d+)\)')
_ALL_OF = re.compile(r"(?:[()]|T| and )+")


class SqlError(WireError):
    """Report a query that is wrong, or that cost more than it may."""


class Term(NamedTuple):
    """A condition on one column."""

    column: str
    operator: str
    value: str | int


@dataclass(frozen=True)
class Scan:
    """Which rows of a table a query reads: at least those where every term holds."""

    table: str
    columns: Sequence[str]
    terms: Sequence[Term]

    def to_json(self) -> bytes:
        """Return it as one line."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, line: bytes) -> Self:
        """Return what ``to_json`` wrote."""
        found = json.loads(line)
        return cls(found["table"], found["columns"], [Term(*term) for term in found["terms"]])


@dataclass(frozen=True, kw_only=True)
class Request:
    """A query, and what it may cost."""

    sql: str
    parameters: Parameters
    rows: int
    seconds: float
    size: int
    memory: int
    as_json: bool
    tables: Mapping[str, str]
    """Each table's Arrow schema, serialised, in base64."""

    def schemas(self) -> dict[str, pa.Schema]:
        """Return the tables' schemas."""
        return {
            name: pa.ipc.read_schema(pa.py_buffer(base64.b64decode(packed))) for name, packed in self.tables.items()
        }

    def to_json(self) -> bytes:
        """Return it as one line."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, line: bytes | bytearray) -> Self:
        """Return what ``to_json`` wrote."""
        return cls(**json.loads(line))


def packed(schema: pa.Schema) -> str:
    """Return a schema as ``Request.tables`` has it."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def terms_of(expression: str) -> list[Term]:
    """Return the terms of an Arrow expression's text that is nothing but comparisons with AND; none when it is more."""
    terms = [
        Term(column, operator, value[1:-1] if value[0] == '"' else int(value))
        for column, operator, value in _TERM.findall(expression)
    ]
    return terms if _ALL_OF.fullmatch(_TERM.sub("T", expression)) else []
