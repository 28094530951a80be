"""Scoring tables: what is scored, what is left as it is, and what is written beside a score."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from imitrace.exceptions import DatasetError
from imitrace.messages import Action
from imitrace.schema import TABLES
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import curate
from imitrace_trainer.evaluators.aggregate import StepCount
from imitrace_trainer.evaluators.completion import TaskCompletion
from imitrace_trainer.evaluators.judge import Judge, JudgeConfig
from imitrace_trainer.evaluators.judge_client import JudgeClient, JudgeError
from imitrace_trainer.evaluators.result import Evaluator, Result
from imitrace_trainer.evaluators.scoring import Plan, Row, Scored, score_source
from imitrace_trainer.evaluators.selection import Reference, ToolSelectionAccuracy
from imitrace_trainer.evaluators.sending import request_of

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]
CONFIG = JudgeConfig(endpoint="http://127.0.0.1:1/v1", model="judge-1", repeats=2)


@dataclass(frozen=True)
class Held:
    """A source of tables in memory."""

    tables: Tables

    def frames(self) -> dict[str, pl.LazyFrame]:
        return {name: frame.lazy() for name, frame in self.tables.items()}

    def describe(self) -> str:
        return "these tables"


class Answering(JudgeClient):
    """A client whose answers come from a list, so that what is asked can be counted."""

    answers: Sequence[float] = ()

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        if self.spent.requests >= len(self.answers):
            raise JudgeError("nothing more to say", final=True)
        self.spent.requests += 1
        return json.dumps({"score": self.answers[self.spent.requests - 1], "reason": "so"})


def score(tables: Tables, *evaluators: Evaluator, **plan: Any) -> tuple[list[Row], Scored]:
    scored = Scored()
    wanted = Plan(evaluators=evaluators, **({"now": lambda: 100} | plan))
    return list(score_source(Held(tables), wanted, scored, lambda stage, share: None)), scored


def with_scores(tables: Tables, rows: Sequence[Mapping[str, Any]]) -> Tables:
    kinds = {"string": pl.String(), "int64": pl.Int64(), "float64": pl.Float64()}
    schema = {name: kinds[kind.removesuffix("?")] for name, kind in TABLES["scores"].items()}
    added = pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
    return tables | {"scores": pl.concat([tables["scores"], added])}


def test_only_whole_and_ended_trajectories_are_scored(make_tables: MakeTables) -> None:
    tables = make_tables(
        {"id": "a"}, {"id": "b", "ended_at": None}, {"id": "c", "complete": False, "incomplete_reason": "cut"}
    )
    rows, scored = score(tables, StepCount())
    assert [row["trajectory_id"] for row in rows] == ["a"]
    assert scored.skipped == {"still running": 1, "incomplete": 1}


def test_agent_and_tags_choose_what_is_scored(make_tables: MakeTables) -> None:
    tables = make_tables(
        {"id": "a", "tags": {"queue": "x"}}, {"id": "b", "tags": {"queue": "y"}}, {"id": "c", "agent": "other"}
    )
    assert [row["trajectory_id"] for row in score(tables, StepCount(), agent="other")[0]] == ["c"]
    assert [row["trajectory_id"] for row in score(tables, StepCount(), tags={"queue": "y"})[0]] == ["b"]
    with pytest.raises(DatasetError, match="these tables has no trajectory of agent 'nobody'"):
        score(tables, StepCount(), agent="nobody")


def test_a_score_is_given_once_a_version_and_value(make_tables: MakeTables) -> None:
    tables = make_tables({"id": "a"}, {"id": "b"})
    first, _ = score(tables, StepCount(), ToolSelectionAccuracy())
    again, scored = score(with_scores(tables, first), StepCount(), ToolSelectionAccuracy())
    assert again == []
    assert scored.tallies["StepCount"].stored == 2
    older = [row | {"evaluator_version": "0"} for row in first]
    changed = [row | {"value": 9.0} for row in first]
    assert len(score(with_scores(tables, older), StepCount(), ToolSelectionAccuracy())[0]) == len(first)
    assert len(score(with_scores(tables, changed), StepCount(), ToolSelectionAccuracy())[0]) == len(first)


def test_the_newest_of_our_own_scores_is_the_one_that_counts(make_tables: MakeTables) -> None:
    tables = make_tables({"id": "a"})
    (row,), _ = score(tables, StepCount())
    grown = with_scores(tables, [row | {"value": 1.0, "scored_at": 200}, row])
    assert len(score(grown, StepCount())[0]) == 1


def test_what_others_gave_stays_and_declares(make_tables: MakeTables) -> None:
    tables = make_tables(
        {"id": "a", "scores": {"TaskCompletion": 0.3}},
        {"id": "b", "scores": {"reward": 0.9}},
        {"id": "c", "scores": {"reward": math.nan}},
    )
    rows, scored = score(tables, TaskCompletion())
    assert [(row["trajectory_id"], row["value"], row["label"]) for row in rows] == [("b", 0.9, "declared")]
    assert scored.tallies["TaskCompletion"].given == 1
    assert scored.tallies["TaskCompletion"].none == {"rejected": 1}


def test_the_scores_of_decisions_are_rows_of_their_steps(make_tables: MakeTables) -> None:
    rows, _ = score(make_tables({"id": "a"}), ToolSelectionAccuracy())
    assert [(row["step_index"], row["value"]) for row in rows] == [(None, 1.0), (0, 1.0), (1, 1.0)]


def test_a_cohort_can_mask_the_steps_in_which_an_expert_did_otherwise(make_desk: MakeTables) -> None:
    tools = [{"name": name, "parameters": {"type": "object"}} for name in ("look", "refund", "cancel")]
    tables = make_desk({"tools": tools, "calls": ["look", "refund"], "task": "order"})
    expert = [(Action("tool_call", name, {}),) for name in ("look", "cancel")]
    rows, _ = score(tables, ToolSelectionAccuracy(Reference(by_task={"order": [("expert's", expert)]})))
    wrong, split = Condition.parse("ToolSelectionAccuracy < 1"), SplitConfig(calibration=0, gate=0)
    cohort = CohortConfig(name="desk", agent="desk", split=split, mask_where=(wrong,))
    found = curate({name: table.lazy() for name, table in with_scores(tables, rows).items()}, cohort).steps.collect()
    assert found["loss_mask"].to_list() == [True, False]
    assert found["mask_reason"][1] == "masked by ToolSelectionAccuracy < 1.0"


def test_an_evaluator_that_returns_no_number_is_refused(make_tables: MakeTables) -> None:
    class Broken:
        name, version = "Broken", "1"

        def evaluate(self, input: object, trajectory: object) -> Result:  # noqa: A002
            return Result(math.nan, "oops")

    with pytest.raises(DatasetError, match="score is nan, allowed: a finite number"):
        score(make_tables({"id": "a"}), Broken())


def test_a_judges_agreement_with_people_stands_beside_its_scores(make_tables: MakeTables) -> None:
    client = Answering("http://127.0.0.1:1/v1", "judge-1")
    client.answers = [1.0, 0.8, 0.0, 0.2, 0.9, 0.9]
    tables = make_tables(
        {"id": "a", "task": "1", "scores": {"human": 1.0}},
        {"id": "b", "task": "2", "scores": {"human": 0.0}},
        {"id": "c", "task": "3"},
    )
    rows, scored = score(tables, Judge(CONFIG, client), labels="human")
    assert [row["value"] for row in rows] == [0.9, 0.1, 0.9]
    assert {row["evaluator"] for row in rows} == {"judge:judge-1"}
    detail = json.loads(rows[2]["label"])
    assert detail["agreement"]["n"] == 2
    assert detail["agreement"]["kappa"] == scored.agreement["Judge"].kappa == 1.0
    again, _ = score(with_scores(tables, rows), Judge(CONFIG, client), labels="human")
    assert (again, client.spent.requests) == ([], 6)


def test_without_a_verdict_there_is_no_score_and_a_reason(make_tables: MakeTables) -> None:
    rows, scored = score(make_tables({"id": "a"}), Judge(CONFIG, Answering("http://127.0.0.1:1/v1", "judge-1")))
    assert rows == []
    assert scored.tallies["Judge"].none == {"nothing more to say": 1}


def test_many_trajectories_are_taken_a_few_at_a_time(make_tables: MakeTables) -> None:
    shares: list[float] = []
    tables = make_tables(*({"id": f"t{number}"} for number in range(1200)))
    plan = Plan(evaluators=[StepCount()])
    rows = list(score_source(Held(tables), plan, Scored(), lambda stage, share: shares.append(share)))
    assert len(rows) == 1200
    assert shares == [500 / 1200, 1000 / 1200, 1.0]


def test_a_score_goes_over_the_wire_as_an_evaluation_result(tmp_path: Path) -> None:
    row: Row = {
        "trajectory_id": "a",
        "step_index": 0,
        "name": "x",
        "value": 0.8,
        "evaluator": "imitrace",
        "scored_at": 7,
    }
    (record,) = request_of([row]).resource_logs[0].scope_logs[0].log_records
    told = {one.key: one.value for one in record.attributes}
    assert record.event_name == "gen_ai.evaluation.result"
    assert told["gen_ai.evaluation.score.value"].double_value == 0.8
    assert told["agent.trajectory.step.index"].int_value == 0
    assert "gen_ai.evaluation.explanation" not in told
