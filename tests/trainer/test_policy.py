"""What a state and an action are, and when two actions are the same."""

from typing import Any

import pytest

from imitrace.exceptions import WireError
from imitrace.messages import Action
from imitrace_trainer.policy import make_state, same_action


def call(arguments: dict[str, Any], name: str = "pay") -> Action:
    return Action("tool_call", name, arguments)


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (call({"a": 1, "b": [2]}), call({"b": [2.0], "a": 1.0}), True),
        (call({"a": {"b": 3}}), call({"a": {"b": 3.0}}), True),
        (call({"a": 1}), call({"a": True}), False),
        (call({"a": 1}), call({"a": "1"}), False),
        (call({"a": [1, 2]}), call({"a": [2, 1]}), False),
        (call({"a": None}), call({}), False),
        (call({}), call({}, "find"), False),
        (call({}), Action("message", message="pay"), False),
        (Action("message", message="yes"), Action("message", message="no"), False),
        (Action("message", message="Yes,  sir"), Action("message", message="yes, sir\n"), True),
        (Action("tool_call", "pay", {}, call_id="1"), Action("tool_call", "pay", {}, call_id="2"), True),
    ],
)
def test_actions_are_the_same_when_their_arguments_are_equal_as_json(first: Action, second: Action, same: bool) -> None:
    assert same_action(first, second) is same
    assert same_action(second, first) is same


def test_a_message_without_text_is_right_wherever_one_is_wanted_and_a_text_never_where_none_is_known() -> None:
    silent, said = Action("message", message=""), Action("message", message="yes")
    assert same_action(silent, said)
    assert not same_action(said, silent)


def test_a_state_is_made_from_either_form() -> None:
    tool = {"type": "function", "function": {"name": "pay"}}
    state = make_state([{"role": "user", "content": "hi"}], [tool])
    again = make_state(state.messages, state.tools, {"cohort": "common"})
    assert state.messages == [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]
    assert (again.messages, again.tools) == (state.messages, state.tools)
    assert (state.tags, again.tags) == ({}, {"cohort": "common"})


@pytest.mark.parametrize(
    ("message", "tool", "told"),
    [({"content": "hi"}, {"name": "pay"}, "'role'"), ({"role": "user"}, {"description": "pay"}, "'name'")],
)
def test_a_state_is_refused_when_a_part_of_it_is_of_no_known_shape(
    message: dict[str, Any], tool: dict[str, Any], told: str
) -> None:
    with pytest.raises(WireError, match=told):
        make_state([message], [tool])
