import pytest

from imitrace.redaction.entities import find_cards, find_emails, find_ibans
from imitrace.redaction.readings import Reading


@pytest.mark.parametrize("address", ["a.b+c@x.co.uk", "o'brien@x.ie", "josé@bücher.de", "a%40x.com", "1@qq.com"])
def test_an_address_is_found_whole(address: str) -> None:
    text = f"to <{address}>."
    assert [text[start:end] for start, end in find_emails(Reading(text))] == [address]


@pytest.mark.parametrize(
    "text", ["git@github.com:a/b", "@anna", "logo@2x.png", "pkg@1.2.3", "a @ b.com", "x@localhost"]
)
def test_other_uses_of_the_sign_are_left_alone(text: str) -> None:
    assert list(find_emails(Reading(text))) == []


@pytest.mark.parametrize(
    "card", ["4111111111111111", "4111 1111 1111 1111", "3782-822463-10005", "5500.0000.0000.0004"]
)
def test_a_card_is_found_among_other_numbers(card: str) -> None:
    text = f"2 x {card} 12/26"
    assert [text[start:end] for start, end in find_cards(Reading(text))] == [card]


@pytest.mark.parametrize("number", ["4111111111111112", "1732182000008", "9783161484100", "352099001761481", "0" * 16])
def test_other_long_numbers_are_left_alone(number: str) -> None:
    assert list(find_cards(Reading(number))) == []


def test_accounts_are_found_one_after_the_other() -> None:
    text = "DE89 3704 0044 0532 0130 00. GB29NWBK60161331926819 DE88 3704 0044 0532 0130 00"
    assert [text[start:end] for start, end in find_ibans(Reading(text))] == [text[:27], "GB29NWBK60161331926819"]
