"""The floor of the ladder: shares counted by hand."""

import pytest

from imitrace.messages import Action, Message
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.frequency import FrequencyTable, previous_action
from imitrace_trainer.policy import State

HELLO: Message = {"role": "user", "parts": [{"type": "text", "content": "hello"}]}


def after(*calls: str) -> list[Message]:
    parts = [{"type": "tool_call", "id": str(n), "name": name, "arguments": {}} for n, name in enumerate(calls)]
    return [HELLO, {"role": "assistant", "parts": parts}, {"role": "tool", "parts": []}]


def demonstration(messages: list[Message], name: str | None) -> Demonstration:
    action = Action("tool_call", name, {}) if name else Action("message", message="done")
    return Demonstration(State(messages, []), action, "task")


@pytest.fixture(scope="module")
def table() -> FrequencyTable:
    shown = [("order_status", "look_up"), ("order_status", "look_up"), ("order_status", "cancel"), ("cancel", None)]
    return FrequencyTable([demonstration(after(before), name) for before, name in shown])


def test_two_of_three_demonstrations_make_two_thirds(table: FrequencyTable) -> None:
    name, share = table.predict(after("order_status"))
    assert (name, round(share, 2)) == ("look_up", 0.67)


def test_a_message_is_an_action_too(table: FrequencyTable) -> None:
    assert table.predict(after("cancel")) == (MESSAGE, 1.0)


@pytest.mark.parametrize("messages", [[HELLO], [], after("refund")])
def test_after_what_was_never_seen_nothing_is_predicted(table: FrequencyTable, messages: list[Message]) -> None:
    assert table.predict(messages) == (None, 0.0)


def test_asking_for_what_was_never_seen_leaves_the_table_as_it_was(table: FrequencyTable) -> None:
    table.predict(after("refund"))
    assert table.predict(after("refund")) == (None, 0.0)


def test_of_parallel_calls_the_last_counts() -> None:
    assert previous_action(after("find", "pay")) == "pay"


def test_before_the_first_action_there_is_a_start_of_its_own() -> None:
    assert FrequencyTable([demonstration([HELLO], "find")]).predict([]) == ("find", 1.0)
