import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_trainer.drift.tool_sets import Offered, absent_by_chance, tool_shifts

OLD = {
    "name": "find",
    "description": "Find.",
    "parameters": {"type": "object", "properties": {"id": {"type": "string"}}},
}
NEW: dict[str, Any] = {**OLD, "parameters": {**OLD["parameters"], "required": ["id"]}}  # type: ignore[dict-item]
DEFINITIONS = {"h1": OLD, "h2": NEW, "h3": {**OLD, "name": "look"}}


@given(trajectories=st.integers(2, 9), data=st.data())
def test_the_chance_of_absence_is_that_of_all_dealings(trajectories: int, data: st.DataObject) -> None:
    of_one = data.draw(st.integers(1, trajectories - 1))
    with_it = data.draw(st.integers(0, trajectories - of_one))
    dealings = list(itertools.combinations(range(trajectories), of_one))
    without = sum(all(one >= with_it for one in dealt) for dealt in dealings)
    assert absent_by_chance(trajectories, of_one, with_it) == pytest.approx(without / len(dealings))


def offered(trajectories: int, since: int = 0, **contracts: int) -> Offered:
    """Return what a side offered, by ``tool_hash``; tools with no trajectory were last seen ``since`` so many."""
    counts = {(key.split("_")[0], key.split("_")[1]): count for key, count in contracts.items()}
    tools = {name: sum(count for (other, _), count in counts.items() if other == name) for name, _ in counts}
    return Offered(trajectories, counts, tools, dict.fromkeys(tools, since))


def test_a_tool_that_all_had_and_none_has_vanished() -> None:
    (found,) = tool_shifts(offered(100, find_h1=100, look_h3=100), offered(30, look_h3=30), DEFINITIONS)
    assert (found.tool, found.kind, found.share, found.breaking) == ("find", "vanished", 1.0, True)
    assert found.p < 1e-25


def test_a_tool_is_gone_as_soon_as_the_newest_lack_it() -> None:
    old, new = offered(100, find_h1=100), offered(100, since=10, find_h1=90)
    (found,) = tool_shifts(old, new, DEFINITIONS)
    assert (found.kind, found.share) == ("vanished", 1.0)
    assert "in none of the newest 10" in found.text
    assert found.p < 1e-10


def test_a_tool_that_few_had_may_be_absent_by_chance() -> None:
    assert tool_shifts(offered(100, find_h1=2, look_h3=100), offered(30, look_h3=30), DEFINITIONS) == []


def test_another_contract_is_told_with_what_differs() -> None:
    (found,) = tool_shifts(offered(100, find_h1=100), offered(30, find_h1=5, find_h2=25), DEFINITIONS)
    assert (found.kind, found.breaking) == ("changed", True)
    assert "id" in found.text


def test_a_new_tool_breaks_nothing() -> None:
    (found,) = tool_shifts(offered(9, find_h1=9), offered(9, find_h1=9, look_h3=9), DEFINITIONS)
    assert (found.tool, found.kind, found.breaking) == ("look", "new", False)


def test_more_than_all_can_not_have_it() -> None:
    with pytest.raises(ValueError, match="11 of 10 trajectories"):
        absent_by_chance(20, 10, 11)
