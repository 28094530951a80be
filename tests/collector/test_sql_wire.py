import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_collector.sql_wire import Scan, Term, terms_of

left, right = pc.field("a"), pc.field("b")


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (left == "x", [Term("a", "==", "x")]),
        ((left >= "x") & (right < -5) & (right > 1), [Term("a", ">=", "x"), Term("b", "<", -5), Term("b", ">", 1)]),
        ((left == "x") | (right > 1), []),
        ((left == "x") & ((right > 1) | (right < 0)), []),
        (~(left == "x"), []),
        (left.is_null() & (right > 1), []),
        ((left == 'x"y') & (right > 1), []),
        (left == "(b > 1) and (b", [Term("a", "==", "(b > 1) and (b")]),
        (left == "x\\", []),
        (right > 1.5, []),
    ],
)
def test_only_comparisons_joined_by_and_are_terms(expression: ds.Expression, expected: list[Term]) -> None:
    assert terms_of(str(expression)) == expected


@given(st.text(), st.integers(-(2**62), 2**62))
def test_the_terms_let_through_what_the_expression_lets_through(text: str, number: int) -> None:
    expression = (left == text) & (right <= number)
    terms = terms_of(str(expression))
    assert terms in ([], [Term("a", "==", text), Term("b", "<=", number)])
    rows = pa.table({"a": [text, "other" + text], "b": [number, number]})
    assert rows.filter(expression).num_rows == 1


def test_a_scan_travels_as_one_line() -> None:
    scan = Scan("steps", ["a"], [Term("a", "==", "x\ny")])
    assert b"\n" not in scan.to_json()
    assert Scan.from_json(scan.to_json()) == scan
