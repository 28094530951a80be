from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from imitrace.exceptions import DatasetError
from imitrace.messages import Action
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import curate
from imitrace_trainer.dataset_changes import Row, add_evaluation, add_row, add_rows, difference, evaluations
from imitrace_trainer.datasets import Dataset, open_dataset, write_dataset
from imitrace_trainer.tool_ledger import ToolDecision, record_decision

MakeTables = Callable[..., dict[str, pl.DataFrame]]

COHORT = CohortConfig(name="desk", agent="desk", where=(Condition.parse("s >= 0.5"),))
CASES: list[dict[str, Any]] = [{"id": f"t{n}", "task": f"task {n}", "scores": {"s": n / 10}} for n in range(10)]
SAID = [{"role": "user", "parts": [{"type": "text", "content": "Cancel it."}]}]
ROW = Row(state=SAID, action=Action("tool_call", "lookup", {"order": 7}), task="new", tools=[{"name": "lookup"}])


def write(home: Path, make_tables: MakeTables, cases: list[dict[str, Any]], cohort: CohortConfig = COHORT) -> Dataset:
    frames = {table: frame.lazy() for table, frame in make_tables(*cases).items()}
    return write_dataset(home, cohort, curate(frames, cohort), "a test")


def test_a_difference_says_what_came_and_went_and_which_rule_did_it(tmp_path: Path, make_tables: MakeTables) -> None:
    before = write(tmp_path, make_tables, CASES)
    cases = [{**case, "ended_at": None} if case["id"] == "t9" else case for case in CASES if case["id"] != "t8"]
    cases = [{**case, "roles": ["expert"]} if case["id"] == "t7" else case for case in cases]
    looser = replace(COHORT, where=(Condition.parse("s >= 0.4"),))
    after = write(tmp_path, make_tables, [*cases, {"id": "new", "task": "x", "scores": {"s": 1.0}}], looser)
    found = difference(before, after)
    assert (found.before, found.after) == ("desk v1", "desk v2")
    assert found.came == {"not in the source": 1, "scores": 1}
    assert found.went == {"complete": 1, "not in the source": 1}
    assert found.asked == {"where": (["s >= 0.5"], ["s >= 0.4"])}
    assert found.changed == 1
    told = set(found.rows.filter(pl.col("what") != "moved").rows())
    assert ("t4", "came", "scores") in told
    assert ("t7", "changed", "steps") in told


def test_a_version_does_not_differ_from_itself(tmp_path: Path, make_tables: MakeTables) -> None:
    dataset = write(tmp_path, make_tables, CASES)
    found = difference(dataset, dataset)
    assert (found.came, found.went, found.moved, found.changed, found.same) == ({}, {}, {}, 0, 5)


def test_rows_added_by_hand_make_a_version_and_the_old_one_stays(tmp_path: Path, make_tables: MakeTables) -> None:
    old = write(tmp_path, make_tables, CASES)
    new = add_rows(tmp_path, old, [ROW, replace(ROW, action=Action("message", message="Done."))], "Ann")
    assert (new.version, new.created, len(new.examples()) - len(old.examples())) == (2, True, 2)
    added = [example for example in new.examples("train") if example.task == "new"]
    assert [example.action for example in added] == [ROW.action, Action("message", message="Done.")]
    assert added[0].state == SAID
    assert (added[0].tools, added[0].loss_mask) == ([{"name": "lookup"}], True)
    assert new.manifest["source"] == "2 rows by Ann to v1 of a test"
    assert open_dataset(tmp_path, "desk", 1).hash == old.hash
    assert add_row(tmp_path, old, ROW, "Ann").version == 3


def test_what_is_there_already_is_not_added_again(tmp_path: Path, make_tables: MakeTables) -> None:
    new = add_row(tmp_path, write(tmp_path, make_tables, CASES), ROW, "Ann")
    again = add_row(tmp_path, new, ROW, "Ben")
    assert (again.version, again.created) == (2, False)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no row to add to dataset desk, expected one or more"),
        ([replace(ROW, split="test")], "split of a row is 'test', expected one of train, calibration, gate"),
        ([replace(ROW, policy_role="clone")], "policy_role of a row is 'clone', expected expert, human or synthetic"),
        ([ROW, replace(ROW, split="gate")], "task 'new' is in split train already and can't be in gate too"),
    ],
)
def test_rows_that_cannot_be_learnt_from_are_refused(
    tmp_path: Path, make_tables: MakeTables, rows: list[Row], message: str
) -> None:
    dataset = write(tmp_path, make_tables, CASES)
    with pytest.raises(DatasetError, match=message):
        add_rows(tmp_path, dataset, rows, "Ann")


def asking(**properties: object) -> list[dict[str, object]]:
    return [{"name": "find", "parameters": {"type": "object", "properties": properties, "required": [*properties]}}]


FIND = replace(ROW, action=Action("tool_call", "find", {"id": 7}), tools=asking(id={"type": "integer"}))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (replace(ROW, action=Action("tool_call", "find", {})), "tool 'find' is not offered, offered: lookup; write it"),
        (replace(ROW, action=Action("tool_call", "find", {}), tools=()), "tool 'find' is not offered, offered: lookup"),
        (replace(FIND, action=Action("tool_call", "find", {"id": "7"})), "'new' can't be learnt from: find: .*id"),
        (replace(FIND, action=Action("tool_call", "find", {})), "find: .*id"),
    ],
)
def test_a_row_that_calls_what_the_tools_of_today_do_not_take_is_refused(
    tmp_path: Path, make_tables: MakeTables, row: Row, message: str
) -> None:
    dataset = write(tmp_path, make_tables, CASES)
    with pytest.raises(DatasetError, match=message):
        add_row(tmp_path, dataset, row, "Ann")
    assert open_dataset(tmp_path, "desk").version == 1
    assert add_row(tmp_path, dataset, FIND, "Ann").version == 2


def test_a_row_must_fit_the_contract_in_the_dataset_whatever_it_says_was_offered(
    tmp_path: Path, make_tables: MakeTables
) -> None:
    dataset = add_row(tmp_path, write(tmp_path, make_tables, CASES), FIND, "Ann")
    older = replace(FIND, action=Action("tool_call", "find", {"name": "x"}), tools=asking(name={"type": "string"}))
    with pytest.raises(DatasetError, match=r"find: .*id"):
        add_row(tmp_path, dataset, replace(older, task="other"), "Ann")


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (ToolDecision(kind="deprecate", tool="lookup"), "tool 'lookup' is deprecated"),
        (ToolDecision(kind="rename", tool="lookup", to="find"), "tool 'lookup' is renamed to find"),
    ],
)
def test_a_row_that_calls_a_retired_tool_is_refused(
    tmp_path: Path, make_tables: MakeTables, made: ToolDecision, message: str
) -> None:
    dataset = write(tmp_path, make_tables, CASES)
    record_decision(tmp_path, made)
    with pytest.raises(DatasetError, match=message):
        add_row(tmp_path, dataset, ROW, "Ann")
    said = replace(ROW, action=Action("message", message="It is gone."))
    assert add_row(tmp_path, dataset, said, "Ann").version == 2


def test_a_row_cannot_bring_a_task_of_the_gate_into_training(tmp_path: Path, make_tables: MakeTables) -> None:
    dataset = write(tmp_path, make_tables, CASES)
    (task, *_) = sorted(dataset.tasks("gate"))
    with pytest.raises(DatasetError, match="is in split gate already and can't be in train too"):
        add_row(tmp_path, dataset, replace(ROW, task=task), "Ann")


def test_evaluations_are_attached_to_a_version_that_stays_as_it_is(tmp_path: Path, make_tables: MakeTables) -> None:
    dataset = write(tmp_path, make_tables, CASES)
    add_evaluation(tmp_path, dataset, "Reviewed", {"t6": 1.0, "t5": 0.5}, "human Ann")
    add_evaluation(tmp_path, dataset, "Reviewed", {"t6": 0.0}, "human Ben")
    found = [(row["trajectory_id"], row["value"], row["evaluator"]) for row in evaluations(tmp_path, dataset)]
    assert found == [("t5", 0.5, "human Ann"), ("t6", 1.0, "human Ann"), ("t6", 0.0, "human Ben")]
    assert open_dataset(tmp_path, "desk").version == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"t6": float("nan")}, "score Reviewed of t6 is nan, expected a finite number"),
        ({"t0": 1.0}, "dataset desk v1 has no trajectory 't0' to score"),
    ],
)
def test_an_evaluation_of_nothing_or_without_a_number_is_refused(
    tmp_path: Path, make_tables: MakeTables, values: dict[str, float], message: str
) -> None:
    dataset = write(tmp_path, make_tables, CASES)
    with pytest.raises(DatasetError, match=message):
        add_evaluation(tmp_path, dataset, "Reviewed", values, "human Ann")
    assert evaluations(tmp_path, dataset) == []
