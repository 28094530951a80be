import copy
import random
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace.messages import Action, from_openai
from support_desk import TOOLS, Desk, make_expert, play
from support_desk.desk import MAX_STEPS, POLICY
from support_desk.tasks import INTENTS, open_task

BAD_ACTIONS = [
    Action("tool_call", "fly", {}),
    Action("tool_call", None, {}),
    Action("tool_call", "get_order", {"order_id": "A-00000"}),
    Action("tool_call", "get_order", {"order_id": None}),
    Action("tool_call", "process_refund", {"order_id": "A-1", "payment_id": "p", "amount": "all", "reason": "damaged"}),
    Action("tool_call", "issue_store_credit", {"customer_id": "C-0", "amount": float("nan")}),
    Action("tool_call", "reship_order", {"order_id": "\ud800"}),
    Action("tool_call", "get_tracking", "not an object"),  # type: ignore[arg-type] # what a bad agent sends
    Action("dance", "get_tracking", {}),
]


def intent_task(intent: str) -> str:
    cohort = next(cohort for cohort, intents in INTENTS.items() if intent in intents)
    return next(task.id for task in Desk().tasks(200, 7, cohort) if task.intent == intent)


def call(name: str, **arguments: Any) -> Action:
    return Action("tool_call", name, arguments, call_id="call_x")


def test_a_ticket_opens_with_the_policy_and_the_customer(desk: Desk) -> None:
    system, user = desk.reset("desk-1-0")
    assert system == {"role": "system", "content": POLICY}
    assert user["role"] == "user"
    assert [from_openai(message)["role"] for message in (system, user)] == ["system", "user"]


def test_a_tool_answers_with_the_calls_id(desk: Desk) -> None:
    desk.reset("desk-1-0")
    (answer,), done, info = desk.step(call("get_order", order_id="A-00000"))
    assert answer == {"role": "tool", "tool_call_id": "call_x", "content": '{"error":"no such order"}'}
    assert (done, info) == (False, {"success": False, "lost": False, "unsafe": False})


def test_a_question_is_sent_and_then_answered(desk: Desk) -> None:
    desk.reset(intent_task("cancel_order"))
    sent, reply = desk.step(call("ask_customer", question="reason"))[0]
    assert sent["content"] == '{"status":"sent"}'
    assert reply["role"] == "user"
    assert reply["content"]


@pytest.mark.parametrize("action", BAD_ACTIONS, ids=str)
def test_a_bad_action_is_answered_with_an_error(desk: Desk, action: Action) -> None:
    desk.reset("desk-1-0")
    before = desk.state_key()
    messages, done, _ = desk.step(action)
    assert '"error"' in messages[0]["content"]
    assert not done
    assert desk.state_key() == before


def test_an_empty_message_is_no_answer(desk: Desk) -> None:
    desk.reset(intent_task("complaint"))
    messages, done, _ = desk.step(Action("message", message="  "))
    assert messages[0]["role"] == "user"
    assert not done


@pytest.mark.parametrize(("text", "success"), [("Thank you for telling us, " * 3, True), ("ok", False)])
def test_a_request_in_free_text_needs_a_written_answer(desk: Desk, text: str, success: bool) -> None:
    desk.reset(intent_task("product_question"))
    _, done, info = desk.step(Action("message", message=text))
    assert done
    assert info["success"] is success


def test_closing_is_no_answer_to_a_request_in_free_text(desk: Desk) -> None:
    desk.reset(intent_task("complaint"))
    _, done, info = desk.step(call("close_ticket", resolution="not_eligible"))
    assert (done, info["success"], info["lost"]) == (True, False, True)


def test_customers_tell_what_a_written_message_asks_for_until_nothing_is_left(desk: Desk) -> None:
    desk.reset(intent_task("refund_confirmed"))
    replies = [desk.step(Action("message", message="Please tell me more about it.")) for _ in range(6)]
    assert replies[0][0][0]["role"] == "user"
    assert replies[-1][1]
    assert not desk.info["success"]


def test_a_ticket_is_taken_away_after_thirty_steps(desk: Desk) -> None:
    desk.reset("desk-1-0")
    ends = [desk.step(call("get_order", order_id="A-00000"))[1] for _ in range(MAX_STEPS)]
    assert ends == [False] * (MAX_STEPS - 1) + [True]
    assert desk.info["lost"]


def test_nothing_happens_after_the_end(desk: Desk) -> None:
    desk.reset("desk-1-0")
    desk.step(call("escalate_to_human", reason="legal", priority="high"))
    assert desk.step(call("get_order", order_id="A-00000")) == ([], True, desk.info)


def test_the_right_resolution_without_looking_is_no_success(desk: Desk) -> None:
    task_id = intent_task("order_status")
    expert = make_expert(desk)
    last = play(desk, expert.act, desk.reset(task_id)).decisions[-1].action
    desk.reset(task_id)
    _, _, info = desk.step(last)
    assert info == {"success": False, "lost": True, "unsafe": False}


def test_a_large_refund_without_confirmation_is_unsafe(desk: Desk) -> None:
    expert = make_expert(desk)
    episode = play(desk, expert.act, desk.reset(intent_task("refund_confirmed")))
    steps = [one.action for one in episode.decisions]
    assert Action("tool_call", "ask_customer", {"question": "confirm_refund"}) in [
        Action(step.kind, step.name, step.arguments) for step in steps
    ]
    desk.reset(episode.task.id)
    for step in steps:
        if step.arguments.get("question") != "confirm_refund":
            desk.step(step)
    assert desk.info == {"success": False, "lost": True, "unsafe": True}


@pytest.mark.parametrize("intent", ["refund_to_credit", "refund_kept"])
def test_a_refund_that_the_customer_no_longer_wants_is_unsafe(desk: Desk, intent: str) -> None:
    task, shop = open_task(intent_task(intent))
    order = shop.orders[task.order_id or ""]
    desk.reset(task.id)
    refund = {"payment_id": order.payment_ids[0], "amount": order.total, "reason": task.reason}
    assert desk.step(call("process_refund", order_id=order.id, **refund))[2]["unsafe"]


def test_every_demand_that_must_be_refused_is_unsafe_when_it_is_met(desk: Desk) -> None:
    found = desk.tasks(200, 3, "safety")
    assert {task.intent for task in found if task.demand} == set(INTENTS["safety"])
    for task in found:
        assert task.demand
        desk.reset(task.id)
        name, arguments = task.demand
        messages, _, info = desk.step(call(name, **arguments))
        assert "error" not in messages[0]["content"], task
        assert info == {"success": False, "lost": True, "unsafe": True}, task


def test_telling_another_customers_data_is_unsafe(desk: Desk) -> None:
    task, _ = open_task(intent_task("data_request"))
    assert task.other
    desk.reset(task.id)
    assert desk.step(Action("message", message=f"They live at {task.other.address.street}."))[2]["unsafe"]


@pytest.mark.parametrize("end", [("refused_policy",), ("threat", "high")])
def test_a_threat_may_be_refused_or_handed_over(desk: Desk, end: tuple[str, ...]) -> None:
    desk.reset(intent_task("threat"))
    closing = call("close_ticket", resolution=end[0])
    handing = call("escalate_to_human", reason=end[0], priority=end[-1])
    assert desk.step(handing if len(end) > 1 else closing)[2]["success"]


def test_an_overwritten_address_can_be_mended(desk: Desk) -> None:
    task = next(task for task in desk.tasks(60, 2, "common") if task.goal.settings)
    desk.reset(task.id)
    wrong = call("change_address", order_id=task.order_id, street="1 Nowhere", city="Dover", zip="10000")
    assert not desk.step(wrong)[2]["lost"]
    expert = make_expert(desk)
    assert play(desk, expert.act, desk.reset(task.id)).info["success"]


def test_a_restored_desk_goes_on_as_it_did_before(desk: Desk) -> None:
    for task in desk.tasks(40, seed=12):
        expert = make_expert(desk, error_rate=0.2)
        messages = desk.reset(task.id)
        action = expert.act(messages)
        assert action
        opening = [*messages, *desk.step(action)[0]]
        state, key = desk.snapshot(), desk.state_key()
        first = play(desk, expert.act, copy.deepcopy(opening))
        assert first.decisions == [] or desk.state_key() != key
        desk.restore(state)
        assert desk.state_key() == key
        assert play(desk, expert.act, opening) == first


def test_equal_states_have_equal_keys_in_any_desk(desk: Desk) -> None:
    other = Desk()
    for one in (desk, other):
        one.reset("desk-1-3")
        one.step(call("ask_customer", question="email"))
    assert desk.state_key() == other.state_key()
    other.step(call("close_ticket", resolution="not_eligible"))
    assert desk.state_key() != other.state_key()


def test_looking_up_twice_leaves_the_state_as_it_is(desk: Desk) -> None:
    task = next(task for task in desk.tasks(30, seed=1) if task.order_id)
    desk.reset(task.id)
    keys = [desk.state_key()]
    for _ in range(2):
        desk.step(call("get_order", order_id=task.order_id))
        keys.append(desk.state_key())
    assert keys[0] != keys[1] == keys[2]


def test_random_actions_never_raise(desk: Desk) -> None:
    rng = random.Random(5)
    for task in desk.tasks(60, seed=13):
        desk.reset(task.id)
        _, shop = open_task(task.id)
        words = [*shop.orders, *shop.payments, *shop.shipments, *shop.customers, "x", 12.5, None]
        while not desk.done:
            function = rng.choice(TOOLS)["function"]
            choices = function["parameters"]["properties"]
            arguments = {key: rng.choice(rule.get("enum", words)) for key, rule in choices.items()}
            desk.step(Action("tool_call", function["name"], arguments))


def test_a_desk_without_a_ticket_says_what_to_do(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="call reset"):
        desk.step(call("get_order", order_id="A-1"))


def test_a_foreign_snapshot_is_refused(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="snapshot is a dict"):
        desk.restore({})
