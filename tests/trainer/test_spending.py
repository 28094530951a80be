from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from imitrace_trainer.spending import FILE, Spending, read_spending, record_spending, spends

CLONE = SimpleNamespace(name="desk", cohort=SimpleNamespace(agent="shop"), train=SimpleNamespace(device="cpu"))


@spends("train")
def stage(home: Path, clone: Any, fail: bool = False) -> int:
    """Work, or fail."""
    if fail:
        raise ValueError("no")
    return 7


def test_what_a_stage_takes_is_written_down_also_where_it_fails(tmp_path: Path) -> None:
    assert stage(tmp_path, CLONE) == 7
    with pytest.raises(ValueError, match="no"):
        stage(tmp_path, CLONE, fail=True)
    (first, second), broken = read_spending(tmp_path)
    assert broken == 0
    assert (first.kind, first.agent, first.clone, first.device, first.failed) == ("train", "shop", "desk", "cpu", False)
    assert second.failed
    assert first.at < second.at
    assert stage.__doc__ == "Work, or fail."


def test_half_a_line_costs_only_itself(tmp_path: Path) -> None:
    judge = Spending(kind="judge", at=5, agent="shop", model="m", input_tokens=3, output_tokens=4, requests=1)
    record_spending(tmp_path, judge)
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes() + b'{"kind": "tr')
    record_spending(tmp_path, judge)
    assert read_spending(tmp_path) == ([judge, judge], 1)


@pytest.mark.parametrize(
    "line", ["[]", "7", '{"kind": "train"}', '{"kind": "x", "at": 1, "agent": "a"}', '{"at": "1"}']
)
def test_what_is_no_spending_is_counted(tmp_path: Path, line: str) -> None:
    (tmp_path / FILE).write_text(line + "\n")
    assert read_spending(tmp_path) == ([], 1)


def test_nothing_was_spent_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_spending(tmp_path) == ([], 0)


def test_work_is_not_lost_because_its_cost_can_not_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "home").write_text("no folder")
    assert stage(tmp_path / "home", CLONE) == 7
    assert "savings will lack it" in capsys.readouterr().err
