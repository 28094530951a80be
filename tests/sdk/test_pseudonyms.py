import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.redaction.pseudonyms import Pseudonyms, luhn_digit, mod97

MADE = Pseudonyms(b"a secret of more than 16 bytes")


@pytest.mark.parametrize(
    ("kind", "writings"),
    [
        ("email", ["anna@x.com", "ANNA@X.com", "Anna%40x.com"]),
        ("phone", ["+49 170 1234567", "+49-170-1234567", "+491701234567", "+49 (0)170 1234567", "0049 170 1234567"]),
        ("card", ["4111111111111111", "4111 1111 1111 1111", "4111-1111-1111-1111"]),
        ("iban", ["DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "de89 3704 0044 0532 0130 00"]),
    ],
)
def test_every_writing_of_a_value_has_one_pseudonym(kind: str, writings: list[str]) -> None:
    def bare(text: str) -> str:
        return "".join(filter(str.isalnum, text.lower().replace("(0)", "").replace("%40", "@"))).removeprefix("00")

    assert len({bare(getattr(MADE, kind)(written)) for written in writings}) == 1


def test_the_mailbox_and_the_domain_stay_linked_across_addresses() -> None:
    plain, tagged, other = map(MADE.email, ["anna@x.com", "anna+news@x.com", "bob@x.com"])
    assert tagged.startswith(plain.split("@")[0] + "+")
    assert {address.split("@")[1] for address in (plain, tagged, other)} == {plain.split("@")[1]}
    assert plain.endswith(".example")


def test_a_phone_number_keeps_its_writing_and_country() -> None:
    made = MADE.phone("+49 (0)170/123-4567")
    assert made.startswith("+49 (0)") and [at for at, c in enumerate(made) if not c.isdigit()] == [0, 3, 4, 6, 10, 14]


@given(st.from_regex(r"[2-6][0-9]{11,17}", fullmatch=True))
def test_a_card_passes_luhn_and_is_another(body: str) -> None:
    card = body + luhn_digit(body)
    made = MADE.card(card)
    assert made != card and made[0] == card[0] and luhn_digit(made[:-1]) == made[-1] and len(made) == len(card)


def test_an_account_has_right_check_digits() -> None:
    made = MADE.iban("GB29 NWBK 6016 1331 9268 19")
    bare = made.replace(" ", "")
    assert mod97(bare[4:] + bare[:4]) == 1 and made[:2] == "GB" and made[5:9].isalpha() and made[10:14].isdigit()


@pytest.mark.parametrize(
    "key", ["sk-proj-abcDEF123456", "ghp_abcDEF123", "AKIAABCDEFGHIJKLMNOP", "hunter2!", "eyJab.cd.ef"]
)
def test_a_key_keeps_its_prefix_and_length(key: str) -> None:
    made = MADE.key(key)
    assert made != key and len(made) == len(key)
    assert [c.isdigit() for c in made] == [c.isdigit() for c in key]


def test_a_key_of_signs_alone_is_masked() -> None:
    assert MADE.key("!?!?").startswith("[key:")


def test_another_secret_gives_other_pseudonyms() -> None:
    assert Pseudonyms(b"another secret of 16 bytes").email("anna@x.com") != MADE.email("anna@x.com")


def test_pseudonyms_do_not_change_from_release_to_release() -> None:
    assert MADE.email("anna@x.com") == "kzo8bmyzfj@btqliwuh.example"
