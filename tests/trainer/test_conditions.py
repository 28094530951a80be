import math

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace_trainer.conditions import OPERATORS, Condition

TEXTS = st.text(st.characters(exclude_characters="\"'\\", exclude_categories=("C", "Z")), max_size=8)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("TaskCompletion >= 0.8", Condition("TaskCompletion", ">=", 0.8)),
        ("a>1", Condition("a", ">", 1)),
        ("tool use rate <= -1.5e-2", Condition("tool use rate", "<=", -0.015)),
        ("a.b/c-d < .5", Condition("a.b/c-d", "<", 0.5)),
        ("a == 1", Condition("a", "==", 1)),
        ("a != +1.", Condition("a", "!=", 1)),
        ('Outcome == "success"', Condition("Outcome", "==", "success")),
        ("Outcome!='gave up'", Condition("Outcome", "!=", "gave up")),
        ('Version == "1"', Condition("Version", "==", "1")),
        ('Review in ["ok","good"]', Condition("Review", "in", ("ok", "good"))),
        ("how it went in ['>= fair', \"it's good\"]", Condition("how it went", "in", (">= fair", "it's good"))),
        ('Review in [ "ok" , ]', Condition("Review", "in", ("ok",))),
    ],
)
def test_a_condition_is_read(text: str, wanted: Condition) -> None:
    assert Condition.parse(text) == wanted


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "a >=",
        ">= 1",
        "a = 1",
        "a >= x",
        "a >= nan",
        "a >= inf",
        "a >= 1e999",
        "a => 1",
        "a >= 1 2",
        "0.5 < a < 1",
        "Outcome == success",
        'Outcome == "success',
        "Review in []",
        "Review in [1, 2]",
        'Review in ["ok" "good"]',
        'Review in "ok"',
        '"ok" == Review',
    ],
)
def test_a_condition_of_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match=r"expected SCORE OPERATOR NUMBER such as 'TaskCompletion >= 0\.8'.*Outcome"):
        Condition.parse(text)


@pytest.mark.parametrize("operator", [">=", ">", "<=", "<"])
def test_an_order_of_labels_is_refused(operator: str) -> None:
    with pytest.raises(ConfigError, match=r"asks for an order of labels, .* compare them by == != in, or leave the"):
        Condition.parse(f'Review {operator} "good"')


@given(st.sampled_from(OPERATORS), st.floats(allow_nan=False, allow_infinity=False))
def test_what_a_condition_says_of_a_number_is_read_as_the_same(operator: str, value: float) -> None:
    condition = Condition("a score", operator, value)
    assert Condition.parse(str(condition)) == condition


@given(st.sampled_from([("==", ""), ("!=", ""), ("in", [])]), st.lists(TEXTS, min_size=1, max_size=4))
def test_what_a_condition_says_of_labels_is_read_as_the_same(form: tuple[str, object], labels: list[str]) -> None:
    operator, kind = form
    condition = Condition("a score", operator, labels[0] if kind == "" else tuple(labels))
    assert Condition.parse(str(condition)) == condition


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("s >= 1", [True, False, False, False, False]),
        ("s != 3", [True, True, False, False, False]),
        ('s == "ok"', [True, False, False, True, False]),
        ('s != "ok"', [False, True, False, False, False]),
        ('s in ["ok", "bad"]', [True, True, False, True, False]),
    ],
)
def test_what_is_absent_or_nan_is_never_as_wanted(text: str, met: list[bool]) -> None:
    scores = pl.DataFrame(
        {"value": [1.0, 0.0, math.nan, math.nan, None], "label": ["ok", "bad", None, "ok", None]},
        schema={"value": pl.Float64, "label": pl.String},
    )
    assert scores.select(Condition.parse(text).met()).to_series().to_list() == met


@given(st.floats(allow_nan=False), st.sampled_from(OPERATORS), st.floats(allow_nan=False))
def test_a_column_is_judged_as_each_of_its_values(value: float, operator: str, wanted: float) -> None:
    condition = Condition("s", operator, wanted)
    rows = pl.DataFrame({"value": [value], "label": [None]}, schema={"value": pl.Float64, "label": pl.String})
    assert rows.select(condition.met()).item() == condition.holds(value)
