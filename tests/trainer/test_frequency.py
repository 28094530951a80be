"""The floor of the ladder: shares counted by hand."""

import json
from typing import Any

import pytest

from imitrace.messages import Action, Message
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.family import Parts
from imitrace_trainer.fit import calibrate
from imitrace_trainer.frequency import FrequencyPolicy, FrequencyTable, previous_action
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
    name, share = table.predict(State(after("order_status"), []))
    assert (name, round(share, 2)) == ("look_up", 0.67)


def test_a_message_is_an_action_too(table: FrequencyTable) -> None:
    assert table.predict(State(after("cancel"), [])) == (MESSAGE, 1.0)


@pytest.mark.parametrize("messages", [[HELLO], [], after("refund")])
def test_after_what_was_never_seen_nothing_is_predicted(table: FrequencyTable, messages: list[Message]) -> None:
    assert table.predict(State(messages, [])) == (None, 0.0)


def test_asking_for_what_was_never_seen_leaves_the_table_as_it_was(table: FrequencyTable) -> None:
    table.predict(State(after("refund"), []))
    assert table.predict(State(after("refund"), [])) == (None, 0.0)


def test_of_parallel_calls_the_last_counts() -> None:
    assert previous_action(after("find", "pay")) == "pay"


def test_before_the_first_action_there_is_a_start_of_its_own() -> None:
    assert FrequencyTable([demonstration([HELLO], "find")]).predict(State([], [])) == ("find", 1.0)


LOOK_UP = {"name": "look_up", "parameters": {"type": "object", "properties": {"order": {"type": "integer"}}}}
CANCEL = {"name": "cancel", "parameters": {"type": "object", "properties": {}}}


def asked(intent: str, tools: list[dict[str, Any]]) -> State:
    return State([HELLO], tools, {"intent": intent})


@pytest.fixture
def desk() -> FrequencyPolicy:
    """Return a policy of the classic example: an intent, the action taken for it, and its parameters."""
    shown = [("order_status", "look_up", {"order": 7})] * 2 + [("order_status", "cancel", {}), ("return", "cancel", {})]
    demonstrations = [
        Demonstration(asked(intent, [LOOK_UP, CANCEL]), Action("tool_call", name, arguments), "task")
        for intent, name, arguments in shown
    ]
    policy = FrequencyPolicy(FrequencyTable(demonstrations), [LOOK_UP, CANCEL])
    calibrate(policy, demonstrations)
    return policy


def test_an_intent_is_answered_by_what_was_done_most_with_the_arguments_given_most(desk: FrequencyPolicy) -> None:
    decision = desk.act(asked("order_status", [LOOK_UP, CANCEL]))
    assert decision.action == Action("tool_call", "look_up", {"order": 7})
    assert {name: round(share, 2) for name, share in decision.tools.items()} == {
        "look_up": 0.67,
        "cancel": 0.33,
        "message": 0.0,
    }
    assert 0 < decision.confidence < 1
    assert decision.ood == 0


def test_an_unknown_intent_has_confidence_0_and_is_out_of_distribution(desk: FrequencyPolicy) -> None:
    decision = desk.act(asked("lost luggage", [LOOK_UP, CANCEL]))
    assert (decision.action.kind, decision.confidence, decision.ood > 1) == ("message", 0.0, True)


def test_what_is_not_offered_or_takes_other_arguments_now_gives_way_to_the_next(desk: FrequencyPolicy) -> None:
    texts = {**LOOK_UP, "parameters": {"type": "object", "properties": {"order": {"type": "string"}}}}
    for offered in ([CANCEL], [texts, CANCEL]):
        assert desk.act(asked("order_status", offered)).action == Action("tool_call", "cancel", {})
    assert desk.act(asked("order_status", [])).action.kind == "message"


def test_its_parts_make_it_again(desk: FrequencyPolicy) -> None:
    parts = desk.parts()
    again = FrequencyPolicy.of_parts(Parts(parts.tensors, json.loads(json.dumps(parts.record))))
    again.calibration = desk.calibration
    states = [asked(intent, [LOOK_UP, CANCEL]) for intent in ("order_status", "return", "other")]
    assert [again.act(one) for one in states] == [desk.act(one) for one in states]
