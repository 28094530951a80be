import json
from typing import Any

from imitrace.messages import Action
from imitrace_trainer.encoding import view_state
from imitrace_trainer.judged_texts import JudgedTexts, judged_texts
from imitrace_trainer.policy import make_state
from imitrace_trainer.reading import Reader

TEXT = {"type": "string"}
TOOLS = [
    {"name": "find", "parameters": {"type": "object", "properties": {"email": TEXT}}},
    {
        "name": "ask",
        "parameters": {"type": "object", "properties": {"what": {"type": "string", "enum": ["order", "consent"]}}},
    },
    {"name": "refund", "parameters": {"type": "object", "properties": {"order_id": TEXT, "all": {"type": "boolean"}}}},
]


def call(number: int, name: str, answer: Any, **arguments: Any) -> list[dict[str, Any]]:  # JSON values
    function = {"name": name, "arguments": json.dumps(arguments)}
    return [
        {"role": "assistant", "tool_calls": [{"id": f"c{number}", "type": "function", "function": function}]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": json.dumps(answer)},
    ]


TALK = [
    {"role": "user", "content": "I am Ann, ann@mail.test, and hate your shop"},
    *call(1, "find", {"order_id": "R17", "status": "sent"}, email="ann@mail.test"),
    *call(2, "ask", {"error": "nobody is there"}, what="consent"),
]


def said(name: str = "refund", talk: list[dict[str, Any]] = TALK, **arguments: Any) -> JudgedTexts:
    state = make_state(talk, TOOLS)
    return judged_texts(view_state(state.messages, state.tools, Reader()), Action("tool_call", name, arguments))


def test_a_call_is_told_by_where_its_values_were_seen_and_what_it_chose() -> None:
    found = said(order_id="R17", all=True)
    assert (found.tool, found.action) == ("refund", ("refund.order_id from find:order_id", "refund.all=True"))


def test_a_value_seen_nowhere_is_told() -> None:
    assert {"refund.order_id seen nowhere", "an argument seen nowhere"} <= set(said(order_id="R18").action)


def test_a_value_that_the_newest_answer_has_otherwise_is_told() -> None:
    assert "refund.order_id contradicts the newest answer" in said(talk=TALK[:3], order_id="ann@mail.test").action
    assert "refund.order_id contradicts the newest answer" not in said(talk=TALK[:3], order_id="R17").action
    assert "refund.order_id contradicts the newest answer" not in said(order_id="ann@mail.test").action


def test_a_call_made_before_is_told() -> None:
    assert "the same call again" in said("find", email="ann@mail.test").action
    assert "the same call again" not in said("find", email="bob@mail.test").action


def test_a_state_is_told_by_what_was_done_and_what_came_of_it() -> None:
    assert set(said().state) == {
        *("after ask", "after find and ask", "called ask", "called ask.what=consent", "called find", "ask failed"),
        *("ask:error=nobody is there", "find:order_id=r#", "find:status=sent", "the newest call failed"),
    }


def test_nobodys_own_words_are_told() -> None:
    everything = " ".join(said(order_id="R17").features())
    assert not {"ann", "hate", "r17"} & set(everything.lower().replace(".", " ").split())


def test_an_empty_state_and_arguments_of_any_shape_are_told() -> None:
    odd: dict[str, Any] = {"order_id": {"deep": [1, None, {"x": "y"}]}, "all": 0.5}
    assert said(talk=[], **odd).state == ("after nothing", "after nothing and nothing")
