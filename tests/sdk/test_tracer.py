import asyncio
from typing import Any

import pytest

import imitrace
from imitrace import semconv
from imitrace.testing import Captured


def scores(seen: Captured) -> list[dict[str, Any]]:
    return [dict(record.log_record.attributes or {}) for record in seen.scores]


def trajectories(seen: Captured) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in seen.spans if span.name == semconv.SPAN_TRAJECTORY]


def test_an_agent_runs_inside_a_trajectory_of_its_own(seen: Captured) -> None:
    @imitrace.agent
    def run(text: str) -> str | None:
        return imitrace.current_trajectory_id()

    assert [run("a"), run("b")] == ["trajectory-1", "trajectory-2"]


def test_an_agent_may_be_async_and_named(seen: Captured) -> None:
    @imitrace.agent(name="desk", task="refund", tags={"cohort": "rare"})
    async def run() -> int:
        return 3

    assert asyncio.run(run()) == 3
    (span,) = trajectories(seen)
    assert (span[semconv.AGENT_NAME], span[semconv.TRAJECTORY_TASK]) == ("desk", "refund")


def test_the_task_of_a_run_may_come_from_its_arguments(seen: Captured) -> None:
    @imitrace.agent(task=lambda number, **_: number)
    def run(number: int, text: str) -> None:
        return None

    run(7, "hi")
    run(number=8, text="hi")
    assert [span[semconv.TRAJECTORY_TASK] for span in trajectories(seen)] == ["7", "8"]


@pytest.mark.parametrize("value", ["won", "", None, ["success"]])
def test_a_wrong_outcome_is_counted_and_ignored(seen: Captured, value: Any) -> None:
    with imitrace.trajectory():
        imitrace.outcome(value)
    assert seen.stats.faults == {"outcome": 1}
    assert semconv.TRAJECTORY_OUTCOME not in trajectories(seen)[0]


def test_an_outcome_outside_of_a_trajectory_is_counted(seen: Captured) -> None:
    imitrace.outcome("success")
    assert seen.stats.faults == {"outcome": 1}


def test_a_score_inside_a_trajectory_belongs_to_it(seen: Captured) -> None:
    with imitrace.trajectory(id="t1"):
        imitrace.score("reward", 1, label="good", explanation="all done", step_index=2, evaluator="judge")
    assert scores(seen) == [
        {
            semconv.SCORE_NAME: "reward",
            semconv.SCORE_VALUE: 1.0,
            semconv.SCORE_LABEL: "good",
            semconv.SCORE_EXPLANATION: "all done",
            semconv.SCORE_EVALUATOR: "judge",
            semconv.TRAJECTORY_ID: "t1",
            semconv.STEP_INDEX: 2,
        }
    ]
    assert seen.scores[0].log_record.event_name == "gen_ai.evaluation.result"
    assert seen.scores[0].log_record.trace_id == seen.spans[0].context.trace_id


def test_a_score_may_name_a_trajectory_of_another_process(seen: Captured) -> None:
    imitrace.score("thumbs", label="up", trajectory_id="t9")
    assert scores(seen)[0][semconv.TRAJECTORY_ID] == "t9"


@pytest.mark.parametrize(
    "score",
    [{"value": 1}, {"trajectory_id": "t1"}, {"value": "high", "trajectory_id": "t1"}],
    ids=["no trajectory", "no value", "no number"],
)
def test_a_score_that_says_nothing_is_counted_and_ignored(seen: Captured, score: dict[str, Any]) -> None:
    imitrace.score("reward", **score)
    assert (seen.scores, seen.stats.faults) == ([], {"score": 1})
