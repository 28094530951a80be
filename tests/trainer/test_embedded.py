"""What the clone decides: always valid, only from what is offered, copied from what it sees."""

import copy
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from imitrace.messages import Message
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.policy import State, same_action

Play = Callable[[int, int], list[Demonstration]]


def said(content: str, role: str = "user") -> Message:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def found(order: str, payment: str, labels: list[str] | None = None, items: Any = ()) -> list[Message]:  # any goods
    call = {"type": "tool_call", "id": order, "name": "find_order", "arguments": {"order_id": order}}
    goods = items or [{"sku": "SK-4", "count": 2}]
    response = {"order_id": order, "payment_id": payment, "customer": "cus_55", "labels": labels or [], "items": goods}
    answer = {"type": "tool_call_response", "id": order, "response": json.dumps(response)}
    return [{"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]


def state(play_shop: Play, *messages: Message) -> State:
    opening = play_shop(1, 1)[0].state
    return State([opening.messages[0], *messages], opening.tools)


def test_it_decides_as_the_expert_in_conversations_it_never_saw(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    held_out = play_shop(20, 3)
    hits = [same_action(shop_clone.act(shown.state).action, shown.action) for shown in held_out]
    assert sum(hits) >= 0.85 * len(hits)


def test_an_identifier_never_seen_is_copied_from_the_newest_observation(
    shop_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    asked = said("Order W70707 is damaged, please pay me back. I am not sure of its number.")
    again = [said("Is it this one?", "assistant"), said("Sorry, the order is W80808.")]
    messages = [asked, *found("W70707", "pay_606060"), *again, *found("W80808", "pay_909090")]
    assert "909090" not in str([shown.state for shown in play_shop(24, 1)])
    action = shop_clone.act(state(play_shop, *messages)).action
    assert (action.name, action.arguments) == ("refund", {"payment_id": "pay_909090", "reason": "damaged"})


@pytest.mark.parametrize("reason", ["damaged", "late", "unwanted"])
def test_an_enumeration_follows_the_users_words(shop_clone: EmbeddedPolicy, play_shop: Play, reason: str) -> None:
    messages = [said(f"Order W70707 is {reason}, please pay me back."), *found("W70707", "pay_606060")]
    assert shop_clone.act(state(play_shop, *messages)).action.arguments["reason"] == reason


@pytest.mark.parametrize(("words", "coupon"), [("", None), (" My coupon is SAVE-606.", "SAVE-606")])
def test_an_optional_parameter_is_given_only_where_the_expert_gives_it(
    shop_clone: EmbeddedPolicy, play_shop: Play, words: str, coupon: str | None
) -> None:
    messages = [said(f"Order W70707 is late, please pay me back.{words}"), *found("W70707", "pay_606060")]
    assert shop_clone.act(state(play_shop, *messages)).action.arguments.get("coupon") == coupon


def test_objects_of_a_list_are_filled_from_one_record_each(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    boxes = [{"sku": "SK-606", "count": 7}, {"sku": "SK-707", "count": 3}]
    asked = said("Order W70707 is late, please send both.")
    action = shop_clone.act(state(play_shop, asked, *found("W70707", "pay_606060", ["cold"], boxes))).action
    assert (action.name, action.arguments) == ("resend", {"labels": ["cold"], "boxes": boxes})


def test_only_what_is_offered_is_chosen_and_its_probabilities_sum_to_one(
    shop_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    for shown in play_shop(4, 3):
        for tools in ([], shown.state.tools[:1], shown.state.tools[1:], shown.state.tools):
            decision = shop_clone.act(State(shown.state.messages, tools))
            assert decision.tools.keys() == {"message", *(tool["name"] for tool in tools)}
            assert math.fsum(decision.tools.values()) == pytest.approx(1, abs=1e-6)
            assert (decision.action.name or "message") == max(decision.tools, key=decision.tools.__getitem__)


def test_a_tool_never_seen_has_a_probability_and_gets_valid_arguments(
    shop_clone: EmbeddedPolicy, keen_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    shown = play_shop(1, 3)[0].state
    parameters = {"type": "object", "properties": {"order_id": {"type": "string"}}, "required": ["order_id"]}
    tool = {"name": "cancel_order", "description": "Cancel an order.", "parameters": parameters}
    assert 0 < shop_clone.act(State(shown.messages, [*shown.tools, tool])).tools["cancel_order"] < 1
    action = keen_clone.act(State(shown.messages, [tool])).action
    assert action.name == "cancel_order"
    assert Draft202012Validator(parameters).is_valid(action.arguments)


def test_a_tools_description_counts_as_it_is_offered_now(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    shown = play_shop(1, 3)[0].state
    tools: list[dict[str, Any]] = [
        {"name": "close", "description": words, "parameters": {}}
        for words in ("Find an order.", "Send the goods again.")
    ]
    first, second = (shop_clone.act(State(shown.messages, [*shown.tools, tool])).tools["close"] for tool in tools)
    assert first != second
    assert shop_clone.act(State(shown.messages, [*shown.tools, tools[0]])).tools["close"] == first


def test_what_was_made_of_descriptions_is_forgotten_when_a_network_is_trained_on(
    shop_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    clone, state = copy.deepcopy(shop_clone), play_shop(1, 9)[0].state
    before = clone.score(state)[0].tool_probability
    clone.choice.train()
    with torch.no_grad():
        clone.choice.describe.weight.mul_(-3)
    clone.choice.eval()
    after = clone.score(state)[0].tool_probability
    assert after == EmbeddedPolicy.of_parts(clone.parts()).score(state)[0].tool_probability != before


def test_states_of_another_domain_are_out_of_distribution(shop_clone: EmbeddedPolicy) -> None:
    tool = {"name": "book_flight", "description": "Book it.", "parameters": {}}
    asked = ["I'd fly from Oslo to Rome tomorrow at noon, two adults", "Why does my compiler warn about lifetimes?"]
    prompt = said("You are a travel agent.", "system")
    assert all(shop_clone.act(State([prompt, said(words)], [tool])).ood > 1 for words in asked)


def test_held_out_states_of_the_same_domain_are_mostly_in_distribution(
    shop_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    distances = [shop_clone.act(shown.state).ood for shown in play_shop(20, 3)]
    assert sum(distance <= 1 for distance in distances) >= 0.8 * len(distances)


def test_confidence_is_higher_where_the_clone_is_right(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    told: dict[bool, list[float]] = {True: [], False: []}
    for shown in play_shop(60, 3):
        decision = shop_clone.act(shown.state)
        told[same_action(decision.action, shown.action)].append(decision.confidence)
    assert told[False]
    assert sum(told[True]) / len(told[True]) > sum(told[False]) / len(told[False])


def test_the_same_state_gives_the_same_decision_whatever_came_between(
    shop_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    shown = [demonstration.state for demonstration in play_shop(3, 3)]
    first = [shop_clone.act(state) for state in shown]
    assert [shop_clone.act(copy.deepcopy(state)) for state in reversed(shown)] == first[::-1]


def test_acting_leaves_the_state_as_it_was(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    shown = play_shop(2, 3)[-1].state
    before = copy.deepcopy(shown)
    shop_clone.act(shown)
    assert shown == before


# What follows is drawn at random: states as wild as the wire can bring them, and schemas of every common kind.

wild_text = (
    st.text(st.characters(exclude_categories=()), max_size=30)
    | st.sampled_from(["", "x" * 20_000, "9" * 500, "1e999 -0 $-5 $5.0 ٣ ²", "W1 " * 2_000, "Ab 1 Cd 2 " * 40])
    | st.sampled_from(["Feb 31", "[" * 2_000, "Order W1 is late, please pay me back.", "please send both"])
)  # fmt: skip
leaf = st.none() | st.booleans() | st.integers() | st.floats() | st.just(10**400) | wild_text
wild_json = st.recursive(
    leaf, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(wild_text, inner, max_size=4), max_leaves=10
)
broken_json = wild_json.map(json.dumps).map(lambda text: text[: len(text) * 2 // 3])
deep_json = st.sampled_from(["[" * 900 + "]" * 900, '{"a":' * 400 + "NaN" + "}" * 400])
call_ids = st.sampled_from(["a", "b", None])
tool_names = st.sampled_from(["find_order", "refund", "resend", "unseen"])
text_part = wild_text.map(lambda text: {"type": "text", "content": text})
call_part = st.builds(
    lambda call, name, arguments: {"type": "tool_call", "id": call, "name": name, "arguments": arguments},
    call_ids, tool_names, st.dictionaries(st.sampled_from(["order_id", "reason", "boxes"]), wild_json, max_size=2),
)  # fmt: skip
answer_part = st.builds(
    lambda call, response: {"type": "tool_call_response", "id": call, "response": response},
    call_ids, wild_json | wild_json.map(json.dumps) | broken_json | deep_json,
)  # fmt: skip
messages = st.one_of(
    st.builds(
        lambda role, parts: {"role": role, "parts": parts},
        st.sampled_from(["user", "system", "assistant"]),
        st.lists(text_part, max_size=2),
    ),
    st.lists(text_part | call_part, max_size=3).map(lambda parts: {"role": "assistant", "parts": parts}),
    st.lists(answer_part, max_size=1).map(lambda parts: {"role": "tool", "parts": parts}),
)

kinds = st.sampled_from(["string", "integer", "number", "boolean", "null"])
enumerations = st.lists(st.sampled_from([1, "1", True, None, 2.5, "late", 0, False]), min_size=1, max_size=4)
flat = st.one_of(
    st.sampled_from([{}, True, {"description": "anything"}, {"type": "array"}, {"type": "object"}, {"const": "late"}]),
    st.sampled_from([{"type": "string", "enum": ["a", None]}, {"type": ["string", "null"], "enum": ["a", None]}]),
    kinds.map(lambda kind: {"type": kind}),
    kinds.flatmap(lambda kind: st.sampled_from([{"type": [kind, "null"]}, {"type": ["null", kind]}])),
    kinds.map(lambda kind: {"anyOf": [{"type": "null"}, {"type": kind}]}),
    enumerations.map(lambda values: {"enum": values}),
)
parameter_names = st.sampled_from(
    ["order_id", "reason", "payment_id", "labels", "boxes", "sku", "count", "new", "new#"]
)


def an_object(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:  # any schemas
    properties = st.dictionaries(parameter_names, inner, max_size=3)
    required = st.sets(parameter_names)
    return st.builds(
        lambda has, needs, typed: {"properties": has, "required": sorted(needs & has.keys())} | typed,
        properties, required, st.sampled_from([{}, {"type": "object"}, {"additionalProperties": False}]),
    )  # fmt: skip


def an_array(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:  # any schemas
    bounds = st.sampled_from([{}, {"minItems": 1}, {"maxItems": 2}, {"minItems": 2, "maxItems": 2}])
    return st.builds(lambda items, least: {"type": "array", "items": items} | least, inner, bounds)


schemas = st.recursive(flat, lambda inner: an_array(inner) | an_object(inner), max_leaves=6)
parameters = st.sampled_from([None, {}, {"type": "object"}]) | an_object(schemas)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(messages, max_size=6), tool_names, parameters)
def test_whatever_the_state_arguments_are_valid_against_the_schema(
    keen_clone: EmbeddedPolicy, history: list[Message], name: str, schema: Any
) -> None:
    tool = {"name": name, "description": "Pay an order back.", "parameters": schema}
    decision = keen_clone.act(State(history, [tool]))
    assert 0 <= decision.confidence <= 1
    assert decision.ood >= -1e-6
    assert math.fsum(decision.tools.values()) == pytest.approx(1, abs=1e-6)
    assert decision.action.kind == "tool_call"
    Draft202012Validator(schema or {}).validate(decision.action.arguments)
    json.dumps(decision.action.arguments, allow_nan=False)


narrow = st.one_of(
    st.sampled_from(
        [{"type": "string", "pattern": pattern} for pattern in ("^W[0-9]+$", "^$", "x{3}", "(", "^[^a]*$")]
    ),
    st.sampled_from([{"type": "string", "minLength": 2, "maxLength": most} for most in (1, 3, 40)]),
    st.sampled_from([{"type": "string", "format": name} for name in ("date", "email", "uuid", "date-time")]),
    st.sampled_from([{"type": "integer", "minimum": 2}, {"type": "number", "exclusiveMaximum": 0}]),
    st.sampled_from(
        [{"type": "integer", "multipleOf": 3, "minimum": 1, "maximum": 9}, {"enum": ["a", 3], "minimum": 4}]
    ),
)
unique = st.sampled_from(
    [{}, {"uniqueItems": True, "minItems": 2}, {"uniqueItems": True, "minItems": 1, "maxItems": 2}]
)
narrowed = st.recursive(
    narrow | flat,
    lambda inner: (
        st.builds(lambda items, most: {"type": "array", "items": items} | most, inner, unique)
        | st.builds(lambda one, most: one | most, an_object(inner), st.sampled_from([{}, {"minProperties": 2}]))
    ),
    max_leaves=5,
)


@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.lists(messages, max_size=4), tool_names, an_object(narrowed))
def test_a_call_is_valid_whatever_narrows_it_or_there_is_none(
    keen_clone: EmbeddedPolicy, history: list[Message], name: str, schema: Any
) -> None:
    action = keen_clone.act(State(history, [{"name": name, "description": "", "parameters": schema}])).action
    if action.kind == "tool_call" and "(" not in json.dumps(schema):
        Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(action.arguments)


def test_where_nothing_makes_a_valid_call_there_is_none_and_no_confidence(
    keen_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    parameters = {"properties": {"order_id": {"type": "string", "pattern": "^never$"}}, "required": ["order_id"]}
    shown = play_shop(1, 3)[0].state
    decision = keen_clone.act(State(shown.messages, [{"name": "refund", "description": "", "parameters": parameters}]))
    assert (decision.action.kind, decision.action.name) == ("message", None)
    assert decision.confidence < 0.5


def test_a_tool_that_takes_the_place_of_a_known_one_is_called_where_that_was(
    shop_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    shown = play_shop(12, 3)
    found = hits = 0
    for one in shown:
        tools = [
            {**tool, "name": "look_up_order"} if tool["name"] == "find_order" else tool for tool in one.state.tools
        ]
        if one.action.name == "find_order":
            found += 1
            hits += shop_clone.act(State(one.state.messages, tools)).action.name == "look_up_order"
    assert found
    assert hits >= 0.7 * found
