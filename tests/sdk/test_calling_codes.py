import pytest

from imitrace.redaction.calling_codes import calling_code, national_digits


@pytest.mark.parametrize(
    ("digits", "code"),
    [("14155550123", "1"), ("491701234567", "49"), ("351912345678", "351"), ("999", "999"), ("0", "")],
)
def test_the_calling_code_is_the_one_that_digits_begin_with(digits: str, code: str) -> None:
    assert calling_code(digits) == code


def test_the_lengths_of_an_unlisted_country_are_those_of_the_standard() -> None:
    assert national_digits("1") == (10, 10) and national_digits("998") == (6, 12)
