from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace_trainer.route_rules import rule_from

TAGS = {"tier": "vip", "lang": "de-AT", "cohort": "common"}


@pytest.mark.parametrize(
    ("when", "holds"),
    [
        ({"tag": "tier", "eq": "vip"}, True),
        ({"tag": "tier", "eq": "VIP"}, False),
        ({"tag": "tier", "in": ["trial", "vip"]}, True),
        ({"tag": "tier", "in": []}, False),
        ({"tag": "lang", "regex": "^de"}, True),
        ({"tag": "lang", "regex": "^en"}, False),
        ({"tag": "absent", "regex": ""}, False),
        ({"tag": "absent", "eq": ""}, False),
        ({"not": {"tag": "absent", "eq": ""}}, True),
        ({"and": [{"tag": "tier", "eq": "vip"}, {"tag": "lang", "regex": "AT$"}]}, True),
        ({"and": [{"tag": "tier", "eq": "vip"}, {"tag": "lang", "eq": "de"}]}, False),
        ({"or": [{"tag": "tier", "eq": "trial"}, {"not": {"tag": "lang", "eq": "de"}}]}, True),
    ],
)
def test_a_condition_holds_as_it_reads(when: dict[str, Any], holds: bool) -> None:
    assert rule_from({"when": when, "to": "expert"}, "rules[0]").holds(TAGS) == holds


def test_a_trajectory_without_a_cohort_is_of_cohort_all() -> None:
    rule = rule_from({"when": {"tag": "cohort", "eq": "all"}, "to": "expert"}, "rules[0]")
    assert rule.holds({})
    assert not rule.holds(TAGS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "rules[0] is [], allowed: { when = { tag = ..., eq = ... }, to = ... }"),
        ({"when": {}}, "rules[0] is {'when': {}}, allowed: { when = { tag = ..., eq = ... }, to = ... }"),
        ({"when": {"tag": "a", "eq": "b"}, "to": "me"}, "rules[0].to is 'me', allowed: clone, expert"),
        (
            {"when": {"tag": "a", "like": "b"}, "to": "expert"},
            "rules[0].when is {'tag': 'a', 'like': 'b'}, allowed: "
            "tag with one of eq, in, regex, or one of and, or, not",
        ),
        ({"when": {"and": []}, "to": "expert"}, "rules[0].when.and is [], allowed: a list of conditions, one or more"),
        ({"when": {"tag": "a", "in": "b"}, "to": "expert"}, "rules[0].when.in is 'b', allowed: a list of texts"),
        ({"when": {"tag": "a", "eq": 1}, "to": "expert"}, "rules[0].when.eq is 1, allowed: a text"),
        (
            {"when": {"or": [{"tag": "a", "regex": "("}]}, "to": "expert"},
            "rules[0].when.or[0].regex is '(', which can't be read: missing ), unterminated subpattern at position 0",
        ),
    ],
)
def test_a_wrong_rule_is_refused_with_what_is_allowed(table: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        rule_from(table, "rules[0]")
    assert str(caught.value) == message


def test_a_rule_nested_without_end_is_refused() -> None:
    when: dict[str, Any] = {"tag": "a", "eq": "b"}
    for _ in range(30):
        when = {"not": when}
    with pytest.raises(ConfigError, match="nested deeper than 20"):
        rule_from({"when": when, "to": "expert"}, "rules[0]")


TESTS = st.builds(
    lambda tag, test: {"tag": tag, **test},
    st.sampled_from(["tier", "lang", "absent"]),
    st.sampled_from([{"eq": "vip"}, {"in": ["vip", "de-AT"]}, {"regex": "."}]),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.one_of(
        st.builds(lambda one: {"not": one}, inner),
        st.builds(lambda join, parts: {join: parts}, st.sampled_from(["and", "or"]), st.lists(inner, min_size=1)),
    ),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(left=CONDITIONS, right=CONDITIONS)
def test_not_both_is_one_of_them_not(left: dict[str, Any], right: dict[str, Any]) -> None:
    whole = rule_from({"when": {"not": {"and": [left, right]}}, "to": "expert"}, "r")
    apart = rule_from({"when": {"or": [{"not": left}, {"not": right}]}, "to": "expert"}, "r")
    assert whole.holds(TAGS) == apart.holds(TAGS)
