import pytest

from imitrace.redaction.credentials import find_keys
from imitrace.redaction.readings import Reading


def found(text: str, label: str = "") -> list[str]:
    return [text[start:end] for start, end in find_keys(Reading(text, label))]


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("password: hunter2!", "hunter2!"),
        ('{"api_key": "abc def"}', None),
        ('{"api_key": "abcdef"}', "abcdef"),
        ("mein Passwort ist Geheim12", "Geheim12"),
        ("a&client_secret=abc123&b", "abc123"),
        ("https://u:pw12@host/", "pw12"),
        ("-----BEGIN PRIVATE KEY-----\nMIIab\n-----END PRIVATE KEY-----", "MIIab"),
        ("my password is secure", None),
        ("password=$PASSWORD", None),
    ],
)
def test_the_secret_is_found_without_what_stands_around_it(text: str, secret: str | None) -> None:
    assert found(text) == ([secret] if secret else [])


@pytest.mark.parametrize(("label", "secret"), [("apiKey", True), ("db_password", True), ("keyboard", False)])
def test_a_label_makes_a_text_a_secret(label: str, secret: bool) -> None:
    assert found("tr0ub4dor", label) == (["tr0ub4dor"] if secret else [])
