"""A template reads back what it writes, and nothing else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_trainer.conformity import conforms
from imitrace_trainer.reply_slots import KINDS, ReplyTemplate

PAID = ReplyTemplate(("Order ", " was paid back: $", "."), ("code", "amount"))


def test_a_template_is_a_tool_whose_required_arguments_are_its_slots() -> None:
    parameters = PAID.tool["parameters"]
    assert PAID.tool["description"] == "Order {code_1} was paid back: ${amount_1}."
    assert parameters["required"] == ["code_1", "amount_1"]
    assert parameters["properties"]["amount_1"] == {"type": "integer"}
    assert conforms(parameters, {"code_1": "#W17", "amount_1": 12})
    assert not conforms(parameters, {"code_1": "the last one", "amount_1": 12})


def test_equal_templates_have_one_name_and_others_another() -> None:
    assert PAID.name == ReplyTemplate(PAID.pieces, PAID.kinds).name
    assert PAID.name != ReplyTemplate(PAID.pieces, ("code", "number")).name


@pytest.mark.parametrize(
    ("kind", "said", "value"),
    [
        ("amount", "1,250", 1250),
        ("cents", "1,250.40", 1250.4),
        ("day", "May 3, 2024", "2024-05-03"),
        ("email", "mia.li@mail.example", "mia.li@mail.example"),
        ("number", "12", 12),
        ("name", "Mia Li", "Mia Li"),
        ("phrase", "cutting board", "cutting board"),
    ],
)
def test_a_value_is_read_as_the_argument_that_writes_it(kind: str, said: str, value: str | float) -> None:
    template = ReplyTemplate(("It is ", "."), (kind,))
    assert template.read(f"It  is\n{said}.") == {f"{kind}_1": value}
    assert template.fill({f"{kind}_1": value}) == f"It is {said}."


@pytest.mark.parametrize("arguments", [{}, {"day_1": "soon"}, {"day_1": "2024-02-31"}, {"day_1": None}])
def test_what_can_not_stand_in_a_slot_makes_no_reply(arguments: dict[str, str]) -> None:
    assert ReplyTemplate(("On ", "."), ("day",)).fill(arguments) is None


def test_a_day_that_does_not_exist_is_not_read() -> None:
    assert ReplyTemplate(("On ", "."), ("day",)).read("On April 31, 2024.") is None


@given(st.lists(st.sampled_from(sorted(KINDS)), max_size=3), st.text(max_size=40))
def test_reading_any_text_gives_what_writes_it_or_nothing(kinds: list[str], text: str) -> None:
    template = ReplyTemplate(tuple([" and "] * len(kinds) + [""]), tuple(kinds))
    values = template.read(text)
    if values is not None and template.fill(values) is not None:
        assert template.read(template.fill(values) or "") == values
