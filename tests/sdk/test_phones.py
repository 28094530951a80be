import pytest

from imitrace.redaction.phones import find_phones
from imitrace.redaction.readings import Reading


def found(text: str, label: str = "") -> list[str]:
    return [text[start:end] for start, end in find_phones(Reading(text, label))]


@pytest.mark.parametrize(
    "number",
    [
        "+49 170 1234567",
        "+1 (415) 555-0123",
        "0049 170 1234567",
        "030/1234567",
        "(089) 12 34 56 78",
        "07700 900123",
        "06.12.34.56.78",
        "612 34 56 78",
        "(11) 91234-5678",
        "98765 43210",
        "090-1234-5678",
        "8 (912) 345-67-89",
    ],
)
def test_a_number_in_a_form_of_its_country_is_found_whole(number: str) -> None:
    assert found(f"it's {number}, 24 pieces") == [number]


@pytest.mark.parametrize("number", ["4155550123", "555-0123", "612 345 678", "12 34 56 78"])
def test_other_numbers_need_a_word_or_a_label_beside_them(number: str) -> None:
    assert found(number) == []
    assert found(f"call me at {number}") == [number] == found(number, "phone")


@pytest.mark.parametrize(
    "text",
    ["order 415-555-0123", "2026-11-21 09:56", "01.02.2026 14:30", "10.0.19041.3", "4111 0211 1111 1111", "07177-2545"],
)
def test_other_numbers_are_left_alone(text: str) -> None:
    assert found(text) == []


def test_what_follows_a_whole_number_is_not_taken_for_its_end() -> None:
    assert found("+49 170 1234567 24 times") == ["+49 170 1234567"]


@pytest.mark.parametrize(
    "text", ["4" * 500 + "a", "+" + "4" * 500 + "a", "+4" + "(1)" * 200 + "a", "01" + "2-" * 200 + "a"]
)
def test_digits_without_end_are_read_once_and_not_in_every_way(text: str) -> None:
    assert len(found(text, "phone")) <= 1
