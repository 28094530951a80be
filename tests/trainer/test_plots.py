"""What is drawn lies inside its plot, where its numbers say."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace_trainer.plots import Axis, Plot, Series, whisker
from imitrace_trainer.task_draws import Share

shares = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1)).map(
    lambda three: Share(sorted(three)[1], min(three), max(three), 9)
)


@given(st.lists(st.tuples(st.floats(-1, 2), shares), max_size=8), st.booleans())
@settings(max_examples=30, deadline=None)
def test_whatever_the_points_are_they_stay_inside(points: list[tuple[float, Share]], joined: bool) -> None:
    plot = Plot("p", Axis("x"), Axis("y"), [Series("s", points, joined=joined)], diagonal=True, marks=[0.5, 3.0])
    drawn = plot.figure("c")
    across = [float(x) for x in re.findall(r" (?:x1|x2|cx|x)=([-0-9.]+)", drawn)]
    up = [float(y) for y in re.findall(r" (?:y1|y2|cy|y)=([-0-9.]+)", drawn)]
    assert 0 <= min(across) <= max(across) <= 420
    assert 0 <= min(up) <= max(up) <= 300


def test_more_is_farther_right_and_higher() -> None:
    points = [(0.1, Share(0.2, 0.1, 0.3, 9)), (0.9, Share(0.8, 0.7, 0.9, 9))]
    drawn = Plot("p", Axis("x"), Axis("y"), [Series("s", points)]).figure("c")
    (x1, y1), (x2, y2) = re.findall(r'<circle class="dot a" cx=([0-9.]+) cy=([0-9.]+)', drawn)
    assert float(x1) < float(x2)
    assert float(y1) > float(y2)


@pytest.mark.parametrize(
    ("axis", "texts"),
    [
        (Axis("x"), ["0%", "20%", "40%", "60%", "80%", "100%"]),
        (Axis("x", 0, 0.04), ["0.0%", "0.8%", "1.6%", "2.4%", "3.2%", "4.0%"]),
        (Axis("x", 0, 150, percent=False), ["0", "30", "60", "90", "120", "150"]),
    ],
)
def test_an_axis_says_its_values(axis: Axis, texts: list[str]) -> None:
    assert [text for _, text in axis.ticks()] == texts


def test_names_are_only_text() -> None:
    drawn = Plot('"<b>', Axis("<x>"), Axis("<y>"), []).figure("<c>")
    assert not {"<b>", "<x>", "<y>", "<c>"} & set(re.findall(r"<[a-z]>", drawn))
    assert 'aria-label="&quot;&lt;b&gt;"' in drawn


def test_a_whisker_of_a_difference_shows_where_nothing_is() -> None:
    assert "class=axis x1=120.0" in whisker(Share(0.1, 0.0, 0.2, 9), -1, 1)
    assert "class=axis" not in whisker(Share(0.1, 0.0, 0.2, 9))
