import json
import threading
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace.redaction.redactor import FINDERS, Redactor, make_redactor
from imitrace.redaction.rules import RULES, Rule

SECRET = "a secret of more than 16 bytes"
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=12,
)


def redactor(*rules: str | Rule) -> Redactor:
    return make_redactor(rules or RULES, SECRET)


def test_every_built_in_rule_has_its_finder() -> None:
    assert tuple(FINDERS) == RULES


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("email", "Anna.Mueller+news@firma.de", "write to {}, please"),
        ("email", "o'brien@x.ie", "from={}"),
        ("email", "josé@x.com", "メールは{}です"),
        ("phone", "+49 (0)170 1234567", "my number: {}."),
        ("phone", "(415) 555-0123", "or {} then"),
        ("phone", "4155550123", '{{"phone": "{}"}}'),
        ("phone", "06 12 34 56 78", "c'est {} merci"),
        ("card", "4111 1111 1111 1111", "pay with {} 12/26"),
        ("card", "378282246310005", "amex {}."),
        ("iban", "DE89 3704 0044 0532 0130 00", "to {} please"),
        ("iban", "gb29nwbk60161331926819", "to {}, please"),
        ("key", "ghp_16C7e42F292c6912E7710c838347Ae178B4a", "use {} now"),
        ("key", "github_pat_11AAAAAAA0123456789abc_xyz", "use {} now"),
        ("key", "hunter2!", 'password="{}"'),
        ("key", "s3cret", "postgres://app:{}@db/x"),
        ("key", "0123456789abcdef0123", "Authorization: Bearer {}"),
    ],
)
def test_a_value_is_replaced_and_what_stands_around_it_stays(name: str, value: str, text: str) -> None:
    redact = redactor()
    head, tail = text.format("\0").split("\0")
    redacted = redact.text(text.format(value))
    assert redacted.startswith(head) and redacted.endswith(tail)
    assert value not in redacted
    assert redact.counts() == {name: 1}


@pytest.mark.parametrize(
    "text",
    [
        "order 4711 of 2026-11-21 09:56:54, 1732182000000 ms",
        "123e4567-e89b-12d3-a456-426614174000",
        "ISBN 978-3-16-148410-0, version 10.0.19041.3",
        "192.168.10.20:8080, 52.520008, 13.404954",
        "4111 1111 1111 1112",
        "DE88 3704 0044 0532 0130 00",
        "git@github.com:acme/shop.git, logo@2x.png, @anna, pkg@1.2.3",
        'password=os.environ["PASSWORD"], api_key=<YOUR_KEY>, max_tokens=4096',
        "I forgot my password, please help",
    ],
)
def test_what_only_looks_alike_stays(text: str) -> None:
    assert redactor().text(text) == text


def test_one_person_is_one_person_in_text_in_arguments_and_in_results() -> None:
    arguments = {"email": "Anna@firma.de", "card": 4111111111111111}
    conversation = [
        {"role": "user", "content": "I'm anna@firma.de"},
        {"role": "assistant", "tool_calls": [{"arguments": arguments}, {"arguments": json.dumps(arguments)}]},
        {"role": "tool", "content": json.dumps({"note": "from:\nanna@firma.de", "inner": json.dumps(arguments)})},
    ]
    user, assistant, tool = redactor().value(conversation)
    email = user["content"].removeprefix("I'm ")
    first, second = (call["arguments"] for call in assistant["tool_calls"])
    assert first["email"] == email and json.loads(second) == first
    result = json.loads(tool["content"])
    assert result["note"] == f"from:\n{email}" and json.loads(result["inner"]) == first


@given(JSON)
def test_any_json_value_stays_json_of_the_same_shape(value: object) -> None:
    redacted = redactor().value(value)
    assert type(redacted) is type(value)
    json.dumps(redacted)


@given(st.text())
def test_no_text_raises_and_equal_texts_stay_equal(text: str) -> None:
    assert redactor().text(text) == redactor().text(text)


@given(st.dictionaries(st.text(), st.text() | st.just("anna@x.com\n4111 1111 1111 1111")))
def test_json_text_stays_json_text(value: dict[str, str]) -> None:
    assert len(json.loads(redactor("email", "card").text(json.dumps(value)))) <= len(value)


def test_an_integer_that_is_a_card_stays_an_integer_of_its_length() -> None:
    redacted = redactor().value({"n": 4111111111111111, "when": 1732182000000})
    assert redacted["n"] != 4111111111111111 and len(str(redacted["n"])) == 16
    assert redacted["when"] == 1732182000000


def test_keys_of_objects_are_redacted_and_none_is_lost() -> None:
    redacted = redactor().value({"anna@x.com": 1, "ANNA@x.com": 2})
    assert list(redacted.values()) == [1, 2] and not any("anna" in key.lower() for key in redacted)


@pytest.mark.parametrize("label", ["password", "api_key", "clientSecret", "access_token"])
def test_a_string_under_a_secret_name_is_a_secret(label: str) -> None:
    assert redactor().value({label: "hunter22"})[label] != "hunter22"


def test_the_earlier_then_the_longer_hit_wins_and_no_part_of_another_leaks() -> None:
    rules = Rule("ab", "ab", "<1>"), Rule("abc", "abc", "<2>"), Rule("cd", "cd", "<3>")
    assert redactor(*rules).text("xabcdx") == "x<2><3>x"


def test_a_rule_without_a_replacement_leaves_its_name_and_a_keyed_hash() -> None:
    redact = redactor(Rule("order", r"ORD-\d+"))
    first, second = redact.text("ORD-1 ORD-2").split()
    assert first.startswith("[order:") and len(first) == len("[order:12345678]") and first != second


def test_a_finder_names_spans_and_those_out_of_range_are_ignored() -> None:
    rule = Rule("name", find=lambda text: [(0, 4), (3, 99), (-2, 1), (2, 2)], replace=str.upper)
    assert redactor(rule).text("anna asks") == "ANNA asks"


def test_a_finder_that_raises_hides_the_whole_text_and_is_counted() -> None:
    def broken(text: str) -> Iterable[tuple[int, int]]:
        raise RuntimeError(text)

    redact = redactor("email", Rule("name", find=broken))
    assert redact.text("anna@x.com is Anna") == "[name:error]"
    assert redact.counts() == {"name:error": 1}


def test_a_replacement_that_raises_hides_the_place() -> None:
    assert redactor(Rule("n", "a", lambda text: text[9])).text("bab") == "b[n:error]b"


def test_nesting_without_end_becomes_one_word() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert redactor().value(endless) == "[value:error]"


@pytest.mark.parametrize(
    ("rules", "secret", "message"),
    [
        (["mail"], SECRET, "redaction rule 'mail' is unknown, allowed: email, phone, card, iban, key"),
        (["email", "email"], SECRET, "'email' is named twice"),
        ("email", SECRET, "are one text, allowed: a list"),
        (["email"], None, "IMITRACE_REDACT_SECRET=.*secrets.token_hex"),
        (["email"], "short", "has 5 bytes, allowed: 16 or more"),
    ],
)
def test_what_is_wrong_is_named(rules: list[str], secret: str | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_redactor(rules, secret)


def test_threads_lose_no_count_and_a_fork_starts_from_nothing() -> None:
    redact = redactor("email")
    threads = [threading.Thread(target=lambda: [redact.text("a@x.com") for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert redact.counts() == {"email": 800}
    redact.reset()
    assert redact.counts() == {}
