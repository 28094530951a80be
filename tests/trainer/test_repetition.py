import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace_trainer.repetition import repetitions

Done = tuple[str, str | None]
"""A tool and what it returned."""


def found(*trajectories: list[Done]) -> dict[str, tuple[int, int, int]]:
    rows = [
        {"trajectory_id": f"t{number}", "step_index": index, "action_kind": "tool_call", "action_name": tool}
        | {"action_arguments": "{}", "action_message": None, "observation": result}
        for number, done in enumerate(trajectories)
        for index, (tool, result) in enumerate(done)
    ]
    texts = ("trajectory_id", "action_kind", "action_name", "action_arguments", "action_message", "observation")
    schema = {"step_index": pl.Int64()} | {name: pl.String() for name in texts}
    repeated = repetitions(pl.DataFrame(rows, schema=schema).lazy()).collect()
    return {name: (times, period, step) for name, times, period, step in repeated.iter_rows()}


@pytest.mark.parametrize(
    ("done", "wanted"),
    [
        ([("look", "nothing")] * 4, (4, 1, 0)),
        ([("a", "x"), ("look", "nothing"), ("look", "nothing")], (2, 1, 1)),
        ([("a", "x"), ("b", "y")] * 3, (3, 2, 0)),
        ([("z", "0"), *[("a", "x"), ("b", "y"), ("c", "z")] * 2], (2, 3, 1)),
        ([*[("a", "x"), ("b", "y")] * 2, ("a", "x")], (2, 2, 0)),
    ],
)
def test_the_longest_repetition_is_found_with_its_period_and_place(
    done: list[Done], wanted: tuple[int, int, int]
) -> None:
    assert found(done) == {"t0": wanted}


@pytest.mark.parametrize(
    "done",
    [
        [("forward", "room 1"), ("forward", "room 2"), ("forward", "room 3")],
        [("forward", None)] * 5,
        [("a", "x"), ("b", "x"), ("c", "x")],
        [("a", "x")],
    ],
    ids=["something else is seen", "what was seen is unknown", "other calls", "one call"],
)
def test_the_same_call_is_no_loop_where_something_else_is_seen(done: list[Done]) -> None:
    assert found(done) == {}


def test_a_repetition_ends_with_its_trajectory() -> None:
    assert found([("a", "x")], [("a", "x")], [("a", "x")] * 2) == {"t2": (2, 1, 0)}


@given(
    before=st.lists(st.integers(0, 10**6), max_size=6, unique=True),
    loop=st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4, unique=True),
    times=st.integers(2, 9),
)
@settings(max_examples=40, deadline=None)
def test_every_planted_loop_is_found_and_nothing_without_one(before: list[int], loop: list[str], times: int) -> None:
    walk: list[Done] = [("walk", str(place)) for place in before]
    round_trip: list[Done] = [(tool, "same") for tool in loop]
    assert found(walk + round_trip * times) == {"t0": (times, len(loop), len(walk))}
    assert found(walk) == {}
