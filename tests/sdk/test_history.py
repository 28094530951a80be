import copy
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from imitrace.faults import Faults
from imitrace.history import HistoryReader, Known
from imitrace.messages import tool_definition
from imitrace.redaction.redactor import make_redactor
from imitrace.shapes.chat_shapes import wire_messages

CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"q": 1}'}}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
MESSAGE = st.one_of(
    st.builds(
        lambda role, text: {"role": role, "content": text}, st.sampled_from(["system", "user", "assistant"]), TEXT
    ),
    st.builds(lambda text: {"role": "tool", "tool_call_id": "c1", "content": text}, TEXT),
    st.just({"role": "assistant", "content": None, "tool_calls": [CALL]}),
    st.just({"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}"}),
    st.builds(lambda text: {"type": "function_call_output", "call_id": "c1", "output": text}, TEXT),
)
LOOK = {"name": "look", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}


def reader(redact: bool = False) -> HistoryReader:
    return HistoryReader(Faults(), make_redactor(["email"], "0123456789abcdef") if redact else None)


@given(st.lists(st.lists(MESSAGE, max_size=6), max_size=4))
def test_what_is_known_changes_nothing_of_what_is_read(histories: list[list[dict[str, Any]]]) -> None:
    known: Known = {}
    for history in histories:
        found, known = reader().read(history, None, known)
        assert [message.raw for message in found] == wire_messages(history, Faults())
        assert all(message.sent == message.raw for message in found)


def test_a_message_that_was_changed_in_place_is_read_anew() -> None:
    history: list[dict[str, Any]] = [{"role": "user", "content": "one"}]
    _, known = reader().read(history, None, {})
    history[0]["content"] = "two"
    found, _ = reader().read(history, None, known)
    assert json.loads(found[0].raw)["parts"][0]["content"] == "two"


def test_only_the_last_history_is_remembered() -> None:
    known: Known = {}
    for number in range(100):
        _, known = reader().read([{"role": "user", "content": str(number)}], None, known)
    assert len(known) == 1


def test_the_system_prompt_that_stands_apart_comes_first() -> None:
    found, _ = reader().read([{"role": "user", "content": "hi"}], "be kind", {})
    assert [json.loads(message.raw)["role"] for message in found] == ["system", "user"]


def test_what_is_sent_is_redacted_and_what_the_clone_sees_is_not() -> None:
    (found,), _ = reader(redact=True).read("write to ann@shop.org", None, {})
    assert "ann@shop.org" in found.raw
    assert "ann@shop.org" not in found.sent


def test_what_holds_no_messages_is_kept_as_text_and_counted() -> None:
    here = reader()
    (found,), _ = here.read(object(), None, {})
    assert json.loads(found.raw)["role"] == "user"
    assert here.faults.counts() == {"unknown_message": 1}


def test_tools_are_read_once_while_they_stay_the_same() -> None:
    tools = [copy.deepcopy(LOOK)]
    first = reader().read_tools(tools, None)
    assert first.definitions == [tool_definition(LOOK)]
    assert reader().read_tools([copy.deepcopy(LOOK)], first) is first
    tools[0]["description"] = "Look well."
    changed = reader().read_tools(tools, first)
    assert changed.definitions[0]["description"] == "Look well."
    assert changed.hash != first.hash


def test_tools_that_are_objects_are_read_once_while_they_are_the_same_objects() -> None:
    def look(q: str) -> str:
        """Look."""
        return q

    first = reader().read_tools([look], None)
    assert reader().read_tools([look], first) is first
    assert reader().read_tools([look, look], first) is not first
    assert first.definitions[0]["name"] == "look"
