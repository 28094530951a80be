import json

from hypothesis import given
from hypothesis import strategies as st

from imitrace.redaction.readings import Reading, with_escapes, without_escapes


@given(st.text(), st.booleans())
def test_a_span_of_the_text_leads_back_to_the_raw_text(text: str, ascii_only: bool) -> None:
    raw = json.dumps(f"{text}\nMIDDLE\n{text}", ensure_ascii=ascii_only)
    reading = Reading(raw)
    start = reading.text.index("MIDDLE")
    begin, end = reading.raw_span((start, start + 6))
    assert raw[begin:end] == "MIDDLE"


@given(st.text(alphabet='\n\t"é\u00a0ab'))
def test_escapes_come_back_where_characters_stayed(text: str) -> None:
    raw = json.dumps(text)[1:-1]
    assert with_escapes(raw, without_escapes(raw)) == raw


def test_nested_escapes_are_undone_too() -> None:
    assert without_escapes(json.dumps(json.dumps("a\nb"))).strip('"') == "a\nb"


def test_digits_are_counted_over_what_separates_groups() -> None:
    assert Reading("x 12 34-56.7 y").has_digits(7) and not Reading("x 12 34-56:7 y").has_digits(7)


def test_the_label_stands_before_the_text() -> None:
    assert Reading("0170 1", "phone").before(0, 40) == "phone: "


def test_lower_case_moves_no_character() -> None:
    assert Reading("İTOKEN").lower() == "İtoken"
