import json
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import CloneError
from imitrace_trainer.drift.sequential import KEPT, Look, Watch, WatchFile, level


def look(number: int, verdict: str = "none") -> Look:
    return Look(number, "2026-03-01T00:00:00+00:00", level(0.05, number), 100, verdict, ("because",))


@given(alpha=st.floats(1e-4, 0.5), looks=st.integers(1, 3_000))
def test_all_looks_together_spend_no_more_than_alpha(alpha: float, looks: int) -> None:
    spent = [level(alpha, number) for number in range(1, looks + 1)]
    assert sum(spent) < alpha
    assert all(later < sooner for sooner, later in pairwise(spent))


def test_a_look_is_remembered_and_the_first_alarm_stands() -> None:
    watch = Watch(3).after(look(1), 50, alarmed=False).after(look(2, "drift"), 40, alarmed=True)
    watch = watch.after(look(3), 60, alarmed=False)
    assert (watch.looks, watch.seen, watch.alarm) == (3, 60, look(2, "drift"))
    assert watch.spent == pytest.approx(sum(level(0.05, number) for number in (1, 2, 3)))


def test_another_champion_begins_anew() -> None:
    watch = Watch(3).after(look(1, "drift"), 50, alarmed=True)
    assert watch.of(3) == watch
    assert watch.of(4) == Watch(4)


def test_no_more_looks_are_kept_than_are_of_use() -> None:
    watch = Watch(1)
    for number in range(1, KEPT + 20):
        watch = watch.after(look(number), number, alarmed=False)
    assert (len(watch.last), watch.last[-1].number) == (KEPT, KEPT + 19)


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "clones" / "desk").mkdir(parents=True)
    file = WatchFile(tmp_path, "desk")
    assert file.read() == Watch()
    with file.held() as before:
        after = before.of(2).after(look(1, "drift"), 50, alarmed=True)
        file.write(after)
    assert file.read() == after


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "champion": 1}'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    file = WatchFile(tmp_path, "desk")
    file.path.parent.mkdir(parents=True)
    file.path.write_text(text)
    with pytest.raises(CloneError, match=r"drift\.json can't be read .*; delete it"):
        file.read()


def test_the_file_is_json_of_a_known_format(tmp_path: Path) -> None:
    file = WatchFile(tmp_path, "desk")
    file.path.parent.mkdir(parents=True)
    file.write(Watch(1).after(look(1), 5, alarmed=False))
    record = json.loads(file.path.read_text())
    assert (record["format"], record["champion"], record["last"][0]["why"]) == (1, 1, ["because"])
