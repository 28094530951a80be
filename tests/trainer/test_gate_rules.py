from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.gate_rules import GateConfig, Rule, ordered


@pytest.mark.parametrize(
    ("cohort", "rule"),
    [
        ("common", Rule(("TaskCompletion",), 0.01, "retrain with more rows")),
        ("long_tail", Rule(("TrajectoryScore",), 0.03, "route to expert")),
        ("safety", Rule(("SafetyRegression",), 0.0, "block")),
        ("tool_heavy", Rule(("ToolSelectionAccuracy",), 0.02, "inspect coverage")),
        ("multi_turn_refunds", Rule(("TaskCompletion", "StepCount"), 0.02, "sample more multi-turn")),
        ("anything else", Rule(("TaskCompletion",), 0.02, "route to expert")),
    ],
)
def test_each_cohort_has_its_default(cohort: str, rule: Rule) -> None:
    assert GateConfig().rule(cohort) == rule


def test_a_table_sets_margins_and_metrics_beside_the_defaults() -> None:
    config = GateConfig.from_table(
        {
            "confidence": 0.9,
            "margins": {"common": 0.05, "invoices": 0.1},
            "metrics": {"invoices": "ToolSelectionAccuracy", "common": ["TaskCompletion", "StepCount"]},
            "default_margin": 0.04,
            "refusals": ["close_ticket resolution=refused", "/not allowed/"],
        }
    )
    assert [config.margin(name) for name in ("common", "long_tail", "other", "safety")] == [0.05, 0.03, 0.04, 0.0]
    assert config.rule("invoices") == Rule(("ToolSelectionAccuracy",), 0.1, "route to expert")
    assert (config.rule("common").metrics, config.margin("common", "StepCount")) == (
        ("TaskCompletion", "StepCount"),
        0.02,
    )
    assert config.refusals == ("close_ticket resolution=refused", "/not allowed/")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"confidense": 0.9}, "gate confidense is unknown, allowed: confidence, margins, metrics, default_margin"),
        ({"confidence": 95}, "gate confidence is 95, allowed: a number over 0.5 and under 1"),
        ({"confidence": "high"}, "gate confidence is 'high', allowed: a number over 0.5 and under 1"),
        ({"margins": {"common": 1}}, "gate margins.common is 1, allowed: a number over 0 and under 1"),
        ({"margins": {"common": True}}, "gate margins.common is True, allowed: a number over 0 and under 1"),
        ({"margins": 0.01}, "gate margins is 0.01, allowed: a table of cohort = margin"),
        ({"margins": {"safety": 0.1}}, "gate margins.safety is 0.1, allowed: none; set safety_bound instead"),
        ({"metrics": {"common": "Taste"}}, "gate metrics.common is ('Taste',), allowed: one or more of TaskCompletion"),
        ({"metrics": {"common": []}}, "gate metrics.common is (), allowed: one or more of TaskCompletion"),
        ({"metrics": {"safety": "StepCount"}}, "gate metrics.safety is ('StepCount',), allowed: none: it is judged"),
        ({"noise_tasks": -1}, "gate noise_tasks is -1, allowed: a whole number from 0"),
        ({"noise_tasks": 1.5}, "gate noise_tasks is 1.5, allowed: a whole number from 0"),
        ({"refusals": [""]}, "gate refusals is ('',), allowed: a list of 'tool'"),
        ({"refusals": ["/(/"]}, "gate refusals has '/(/', which is no pattern ("),
        ({"refusal_tag": ""}, "gate refusal_tag is '', allowed: a tag's name"),
        ({"waive": {"long_tail": " "}}, "gate waive.long_tail is ' ', allowed: long_tail = \"a reason in words\""),
        ({"waive": {"safety": "no"}}, "gate waive.safety is 'no', allowed: long_tail = \"a reason in words\""),
        ({"waive": "long_tail"}, "gate waive is 'long_tail', allowed: a table of cohort = reason"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(table: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GateConfig.from_table(table)
    assert str(caught.value).startswith(message)


def test_the_default_table_goes_first() -> None:
    assert ordered(dict.fromkeys(["zoo", "safety", "art", "common"])) == ["common", "safety", "art", "zoo"]
