"""Which tools a cohort is learnt with, and what their going does to the clone at once."""

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.messages import Action
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.policy import State
from imitrace_trainer.relied_tools import ReliedTools

NAMES = ("look", "cancel", "refund", "note")


def tool(name: str, *, required: Sequence[str] = ("order",), more: Sequence[str] = ()) -> dict[str, Any]:
    properties = {argument: {"type": "string"} for argument in ("order", *more)}
    parameters = {"type": "object", "properties": properties, "required": [*required]}
    return {"name": name, "description": f"To {name}.", "parameters": parameters}


def shown(name: str | None, offered: Sequence[str] = NAMES, cohort: str = "common") -> Demonstration:
    kind = "message" if name is None else "tool_call"
    return Demonstration(State([], [tool(one) for one in offered], {"cohort": cohort}), Action(kind, name, {}), "t")


ALL = [tool(name) for name in NAMES]
TAUGHT = ReliedTools.of(
    [shown("look"), shown("cancel", ("look", "cancel")), shown(None), shown("note"), shown("refund", cohort="rare")],
    ALL,
)


def lack(tools: Sequence[dict[str, Any]], cohort: str = "common") -> str | None:
    return TAUGHT.lack(State([], tools, {"cohort": cohort}))


def test_a_cohort_relies_on_what_it_called_and_was_offered_at_every_decision() -> None:
    assert TAUGHT.cohorts == {"common": ["cancel", "look"], "rare": ["refund"]}
    assert ReliedTools(**TAUGHT.to_json()) == TAUGHT


@pytest.mark.parametrize(
    ("gone", "cohort", "named"),
    [
        ("cancel", "common", "cancel"),
        ("note", "common", None),
        ("refund", "common", None),
        ("refund", "rare", "refund"),
        ("cancel", "rare", None),
        ("cancel", "unheard", None),
    ],
)
def test_a_tool_that_is_gone_tells_in_the_cohorts_that_rely_on_it(gone: str, cohort: str, named: str | None) -> None:
    told = lack([one for one in ALL if one["name"] != gone], cohort)
    expected = f"tool {named!r}, which cohort {cohort!r} was learnt with, is not offered"
    assert told == (None if named is None else expected)


def test_a_contract_that_breaks_old_calls_tells_and_a_harmless_one_does_not() -> None:
    rest = [one for one in ALL if one["name"] != "cancel"]
    assert lack([*rest, tool("cancel", more=("why",))]) is None
    assert lack([*rest, tool("cancel") | {"description": "Other words."}]) is None
    told = lack([*rest, tool("cancel", required=("order", "why"), more=("why",))])
    assert told == "tool 'cancel' has another contract than cohort 'common' was learnt with: why: added, required"


@given(
    decisions=st.lists(st.tuples(st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES)), st.sampled_from("ab"))),
)
def test_nothing_lacks_in_any_state_that_was_learnt_from(decisions: list[tuple[str, set[str], str]]) -> None:
    examples = [shown(name, [*offered], cohort) for name, offered, cohort in decisions]
    relied = ReliedTools.of(examples, ALL)
    assert [relied.lack(one.state) for one in examples] == [None] * len(examples)
