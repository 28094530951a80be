"""What is read from a message: words, values of each type, and where each was seen."""

import json

import pytest

from imitrace.messages import Message
from imitrace_trainer.reading import Reader, Reading, Scalar, find_year, shape, value_key, value_shape, words


def text(role: str, content: str) -> Message:
    return {"role": role, "parts": [{"type": "text", "content": content}]}


def observed(response: object, tool: str = "look") -> Reading:
    message = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": response}]}
    return Reader().read(message, tool)


def values(reading: Reading, source: str) -> list[Scalar]:
    return [seen.value for seen in reading.seen if seen.source == source]


def test_words_keep_identifiers_whole() -> None:
    assert words("Refund #W12-a to Ann.Lee@x.org, NOW!") == ("refund", "w12-a", "to", "ann.lee@x.org", "now")


@pytest.mark.parametrize(("word", "folded"), [("w1234", "w#"), ("a1b22", "a#b#"), ("late", "late"), ("", "")])
def test_shape_folds_digits_alone(word: str, folded: str) -> None:
    assert shape(word) == folded


@pytest.mark.parametrize(("value", "outline"), [("Ab-12", "Aa-#"), (3, "number"), (3.5, "number"), (True, "bool")])
def test_the_outline_of_a_value_tells_its_kind(value: Scalar, outline: str) -> None:
    assert value_shape(value) == outline


@pytest.mark.parametrize(
    ("first", "second", "meet"),
    [(3, 3.0, True), (1, True, False), (1, "1", False), (0, False, False), (10**400, 10**400, True), (2, 3, False)],
)
def test_values_meet_when_json_holds_them_equal(first: Scalar, second: Scalar, meet: bool) -> None:
    assert (value_key(first) == value_key(second)) is meet


def test_an_observation_gives_typed_values_with_their_paths() -> None:
    reading = observed(json.dumps({"id": "W1", "items": [{"sku": "A", "n": 2}, {"sku": "B", "n": 2.5}], "paid": True}))
    assert values(reading, "look:id") == ["W1"]
    assert values(reading, "look:items.*.sku") == ["A", "B"]
    assert values(reading, "look:items.*.n") == [2, 2.5]
    assert values(reading, "look:paid") == [True]


def test_objects_of_a_list_are_records_of_their_own() -> None:
    seen = observed({"items": [{"sku": "A", "n": 2}, {"sku": "B", "n": 3}]}).seen
    records = {item.value: item.record for item in seen}
    assert records["A"] == records[2] != records["B"] == records[3]
    assert [item.ordinal for item in seen if item.leaf == "sku"] == [0, 1]


def test_an_object_under_an_identifier_is_a_record_and_the_identifier_a_value() -> None:
    seen = observed({"cards": {"card_77": {"brand": "visa"}}}).seen
    assert [(item.value, item.source) for item in seen] == [
        ("card_77", "look:cards.<key>"),
        ("visa", "look:cards.<key>.brand"),
    ]
    assert seen[0].record == seen[1].record > 0
    assert "visa" in seen[0].record_words


def test_short_values_become_facts_with_numbers_folded() -> None:
    assert observed({"status": "Late", "id": "W12", "note": "x" * 40}).facts == ("look:status=late", "look:id=w#")


@pytest.mark.parametrize(
    ("response", "error"),
    [('{"error": "none"}', True), ("Error: no such order", True), ('{"errors": 0}', False), ("fine", False)],
)
def test_an_error_is_told_from_an_answer(response: str, error: bool) -> None:
    assert observed(response).error is error


@pytest.mark.parametrize("response", ['{"id": "W1', "W1 is late", '"W1"', "[W1]"])
def test_what_is_no_json_is_read_as_text(response: str) -> None:
    assert "W1" in values(observed(response), "look:")


def test_numbers_in_running_text_are_seen_as_text_and_as_numbers() -> None:
    found = values(Reader().read(text("user", "pay $12.50 for 3 of 3kg")), "user")
    assert {"$12.50", 12.5, "3", 3, "3kg"} <= set(found)


def test_neighbouring_capitalised_words_are_seen_as_one_name() -> None:
    reading = Reader().read(text("user", "I am Mia Le Roux of Paris"))
    assert values(reading, "user+2") == ["Mia Le", "Le Roux"]
    assert values(reading, "user+3") == ["Mia Le Roux"]


def test_a_spoken_date_is_completed_by_the_year_of_the_first_message() -> None:
    year = find_year([text("system", "It is 2026-03-01.")])
    assert values(Reader().read(text("user", "on May 5th please"), year=year), "userdate") == ["2026-05-05"]
    assert values(Reader().read(text("user", "on May 5th please")), "userdate") == []


@pytest.mark.parametrize("messages", [[], [text("system", "hello")]])
def test_no_year_is_found_where_none_is_told(messages: list[Message]) -> None:
    assert find_year(messages) == ""


def test_the_system_prompt_gives_no_values_to_copy() -> None:
    assert Reader().read(text("system", "order W1")).seen == ()


def test_a_message_is_read_once_as_long_as_it_lives() -> None:
    reader, message = Reader(), text("user", "order W1")
    assert reader.read(message) is reader.read(message)
    assert reader.read(message) is not reader.read(dict(message))


def test_a_full_cache_starts_anew_and_still_reads_right() -> None:
    reader = Reader(limit=2)
    assert [reader.read(text("user", f"W{n}")).words for n in range(5)] == [(f"w{n}",) for n in range(5)]


def test_the_tool_that_answered_is_part_of_what_was_read() -> None:
    reader = Reader()
    message = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "1", "response": {"a": 1}}]}
    assert [reader.read(message, tool).seen[0].source for tool in ("look", "find")] == ["look:a", "find:a"]


def test_very_long_and_very_deep_observations_are_read_in_part() -> None:
    assert len(observed(list(range(5_000))).seen) == 600
    assert observed("[" * 900 + "1" + "]" * 900).seen == ()
    assert len(observed("word " * 5_000).words) == 800


def test_the_items_of_a_list_are_values_as_wholes() -> None:
    listed = "You need:\n- red hot pepper\n* block of cheese\nsalt\nslice it all with the knife\nServe it hot.\n"
    assert values(observed(listed), "look:line") == ["red hot pepper", "block of cheese"]
    assert values(observed("red hot pepper"), "look:line") == []  # all that was said is no list
    assert len(values(observed("two words\n" * 1_000), "look:line")) == 200
