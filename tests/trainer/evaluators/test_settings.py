from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.evaluators.selection import Reference
from imitrace_trainer.evaluators.settings import (
    DEFAULT,
    EVALUATORS,
    ScoreConfig,
    make_evaluators,
    make_judge,
    score_from_config,
)


def test_without_a_table_everything_has_a_default() -> None:
    assert score_from_config({}) == ScoreConfig()


def test_a_whole_table_is_read() -> None:
    table = {
        "evaluators": ["StepCount"],
        "declared": ["unit_tests"],
        "step_scores": ["Progress"],
        "aggregate": "min",
        "equivalents": [["find", "get"], ["pay", "refund"]],
        "ignored_arguments": {"*": ["note"]},
        "judge": {"endpoint": "http://127.0.0.1:1/v1", "model": "m", "repeats": 2, "timeout": 5},
    }
    found = score_from_config({"score": table})
    assert found.equivalents == (("find", "get"), ("pay", "refund"))
    assert found.judge is not None
    assert (found.judge.repeats, found.judge.timeout, found.judge.name) == (2, 5.0, "Judge")


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ([], "score is .*, expected a table"),
        ({"evaluator": []}, "score has unknown key 'evaluator'"),
        ({"evaluators": "all"}, "score.evaluators is 'all', expected a list of texts"),
        ({"aggregate": "sum"}, "score.aggregate is 'sum', allowed: mean, min, geometric"),
        ({"equivalents": [["a", "b"], ["b", "c"]]}, "score.equivalents is .*, each name once"),
        ({"ignored_arguments": ["note"]}, "score.ignored_arguments is"),
        ({"judge": {"model": "m"}}, "score.judge.endpoint is missing"),
        ({"judge": {"endpoint": "http://x", "model": "m", "repeats": 1.5}}, "score.judge.repeats is 1.5"),
        ({"judge": {"endpoint": "http://x", "model": "m", "key": "k"}}, "score.judge has unknown key 'key'"),
    ],
)
def test_what_is_wrong_is_refused_with_what_is_allowed(table: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        score_from_config({"score": table})


def test_evaluators_are_made_by_name_each_once() -> None:
    made = make_evaluators(["StepCount", "all"], ScoreConfig(), Reference())
    assert sorted(evaluator.name for evaluator in made) == sorted(EVALUATORS)
    assert set(DEFAULT) <= set(EVALUATORS)
    with pytest.raises(ConfigError, match="evaluator 'Kindness' is unknown, allowed: all, TaskCompletion"):
        make_evaluators(["Kindness"], ScoreConfig(), Reference())


def test_a_judge_that_nobody_configured_is_never_made() -> None:
    with pytest.raises(ConfigError, match=r"add a table \[score.judge\]"):
        make_judge(ScoreConfig())


def test_the_judges_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMITRACE_JUDGE_KEY", "k-2")
    table = {"judge": {"endpoint": "http://127.0.0.1:1/v1", "model": "m"}}
    _, client = make_judge(score_from_config({"score": table}))
    assert client.key == "k-2"
