"""A page is whole by itself, and what comes from data is only text."""

from imitrace_trainer.pages import page, table


def test_a_page_forbids_scripts_and_what_lies_elsewhere() -> None:
    text = page("<a>", ["<p>one</p>", "<p>two</p>"], "p { color: red }")
    assert text.startswith("<!doctype html>\n<html lang=en><head>")
    assert "default-src 'none'; style-src 'unsafe-inline'" in text
    assert "<title>&lt;a&gt;</title>" in text
    assert "<p>one</p>\n<p>two</p>" in text
    assert "p { color: red }</style>" in text


def test_cells_are_text_but_for_bars_and_a_row_has_its_header() -> None:
    text = table(("name", "n:count", ""), [["row:<a>", "n:1", "bar:<svg></svg>"]])
    assert "<th scope=col>name</th><th scope=col class=n>count</th>" in text
    assert "<th scope=row class=name>&lt;a&gt;</th><td class=n>1</td><td class=bar><svg></svg></td>" in text
