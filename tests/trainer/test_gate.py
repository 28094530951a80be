"""Verdicts on literal cases, and their error rates by seeded simulation."""

import json
import random
from collections.abc import Callable
from functools import cache

import pytest

from imitrace.exceptions import CloneError, ConfigError
from imitrace_trainer.gate import CohortVerdict, GateConfig, GateReport, PairedCase, judge
from imitrace_trainer.gate_report import gate_section


@cache
def case(cohort: str, i: int, expert: bool, clone: bool) -> PairedCase:
    return PairedCase(f"{cohort}-{i}", cohort, expert, clone)


def pairs(cohort: str, both: int, only_clone: int = 0, only_expert: int = 0, neither: int = 0) -> list[PairedCase]:
    outcomes = [(True, True)] * both + [(False, True)] * only_clone + [(True, False)] * only_expert
    outcomes += [(False, False)] * neither
    return [case(cohort, i, *outcome) for i, outcome in enumerate(outcomes)]


def gate(cases: list[PairedCase], config: GateConfig | None = None, method: str = "rollout") -> GateReport:
    return judge(
        cases,
        config or GateConfig(),
        method=method,
        dataset_hash="d41d8cd9",
        clone="airline",
        version=3,
        created_at="2026-11-21T00:00:00Z",
    )


def only(cases: list[PairedCase], config: GateConfig | None = None) -> CohortVerdict:
    (verdict,) = gate(cases, config).cohorts
    return verdict


def drawn(rng: random.Random, cohort: str, n: int, wins: float, losses: float) -> list[PairedCase]:
    draws = rng.choices(["win", "loss", "same"], [wins, losses, 1 - wins - losses], k=n)
    return pairs(cohort, draws.count("same"), draws.count("win"), draws.count("loss"))


def test_a_clone_that_calls_a_tool_that_is_not_there_fails_the_cohort_however_well_it_does() -> None:
    cases = [PairedCase(str(i), "common", True, True, decisions=4, clone_decisions=4) for i in range(2000)]
    report = gate([*cases, PairedCase("dead", "common", True, True, decisions=4, clone_decisions=4, dead_calls=1)])
    (verdict,) = report.cohorts
    assert (verdict.verdict, verdict.dead_calls, verdict.action) == ("fail", 1, "see imitrace tools diff")
    assert "1 of the clone's 8004 decisions called a tool that is not there" in verdict.reason
    assert report.dead_call_rate == 1 / 8004
    assert "dead calls 0.01%" in report.render()
    assert gate(cases).dead_call_rate == 0.0


def test_a_record_from_before_dead_calls_were_counted_is_read() -> None:
    record = json.loads(gate(pairs("common", 400)).to_json())
    for cohort in record["cohorts"]:
        del cohort["clone_decisions"], cohort["dead_calls"]
    assert GateReport.from_json(json.dumps(record)).verdict == "pass"


@pytest.mark.parametrize(
    ("cohort", "margin", "action"),
    [
        ("common", 0.01, "retrain with more rows"),
        ("long_tail", 0.03, "route to expert"),
        ("tool_heavy", 0.02, "inspect coverage"),
        ("multi_turn_refunds", 0.02, "sample more multi-turn"),
        ("night_shift", 0.02, "route to expert"),
    ],
)
def test_a_clearly_worse_clone_fails_with_the_action_of_its_cohort(cohort: str, margin: float, action: str) -> None:
    verdict = only(pairs(cohort, 100, only_expert=40))
    assert (verdict.verdict, verdict.margin, verdict.action) == ("fail", margin, action)
    assert verdict.reason.startswith("success at least ")


@pytest.mark.parametrize("cohort", ["common", "long_tail", "tool_heavy", "night_shift"])
def test_an_equal_clone_passes_with_enough_cases(cohort: str) -> None:
    verdict = only(pairs(cohort, 2900, only_clone=50, only_expert=50))
    assert verdict.verdict == "pass"
    assert verdict.action == ""
    assert verdict.cases_needed == 0


def test_few_cases_are_inconclusive_and_say_how_many_more_would_do() -> None:
    verdict = only(pairs("common", 100))
    assert verdict.verdict == "inconclusive"
    assert verdict.cases_needed == 708
    assert verdict.reason == "success between -2.95 and +2.95 points, 1 is allowed"


def test_the_forecast_of_cases_is_enough_for_an_equal_clone_in_four_of_five_gates() -> None:
    rng = random.Random(3)
    first = only(drawn(rng, "long_tail", 60, 0.05, 0.05))
    more = first.n + first.cases_needed
    passes = sum(only(drawn(rng, "long_tail", more, 0.05, 0.05)).verdict == "pass" for _ in range(200))
    assert passes / 200 > 0.7


@pytest.mark.parametrize(
    ("cohort", "n", "wins", "losses"),
    [("common", 400, 0.0, 0.01), ("common", 1000, 0.02, 0.03), ("long_tail", 300, 0.05, 0.08)],
)
def test_a_clone_exactly_at_the_margin_passes_at_most_one_time_in_twenty(
    cohort: str, n: int, wins: float, losses: float
) -> None:
    rng = random.Random(11)
    passes = sum(only(drawn(rng, cohort, n, wins, losses)).verdict == "pass" for _ in range(1000))
    assert passes / 1000 <= 0.05 + 0.014  # two standard errors of 1,000 simulations


def test_a_clone_exactly_at_the_margin_fails_at_most_one_time_in_twenty() -> None:
    rng = random.Random(11)
    fails = sum(only(drawn(rng, "long_tail", 300, 0.05, 0.08)).verdict == "fail" for _ in range(1000))
    assert fails / 1000 <= 0.05 + 0.014


def test_a_clone_better_than_the_expert_passes() -> None:
    assert only(pairs("common", 100, only_clone=60)).verdict == "pass"


@pytest.mark.parametrize(
    ("cases", "verdict", "more"), [(98, "inconclusive", 1), (99, "pass", 0), (40, "inconclusive", 59)]
)
def test_safety_passes_when_enough_cases_show_no_regression(cases: int, verdict: str, more: int) -> None:
    judged = only(pairs("safety", cases))
    assert (judged.verdict, judged.cases_needed, judged.metric) == (verdict, more, "SafetyRegression")
    assert f"rate at most {judged.regression_bound:.2%}" in judged.reason


def test_one_safety_regression_blocks_every_cohort() -> None:
    unsafe = PairedCase("harm", "safety", True, True, clone_unsafe=True)
    report = gate([*pairs("safety", 2000), unsafe, *pairs("common", 2000)])
    assert [cohort.verdict for cohort in report.cohorts] == ["pass", "fail"]
    assert report.cohorts[1].action == "block"
    assert report.blocked
    assert report.passed_cohorts() == ()


def test_a_regression_outside_the_safety_cohort_fails_that_cohort_alone() -> None:
    unsafe = PairedCase("harm", "common", True, True, clone_unsafe=True)
    report = gate([*pairs("common", 2000), unsafe, *pairs("safety", 2000)])
    assert (report.cohorts[0].verdict, report.cohorts[0].action) == ("fail", "block")
    assert (report.blocked, report.passed_cohorts()) == (False, ("safety",))


@pytest.mark.parametrize("cohort", ["common", "safety"])
def test_a_clone_that_took_no_decision_proved_nothing(cohort: str) -> None:
    verdict = only([PairedCase(str(i), cohort, True, True, decisions=3) for i in range(2000)])
    assert (verdict.verdict, verdict.clone_share) == ("inconclusive", 0.0)
    assert verdict.reason.endswith("; the clone was never sure enough to act")


def test_the_clones_share_counts_the_decisions_that_it_took_itself() -> None:
    cases = [PairedCase(str(i), "common", True, True, decisions=4, clone_decisions=i % 2) for i in range(2000)]
    verdict = only(cases)
    assert (verdict.verdict, verdict.clone_share) == ("pass", 0.125)


def test_cases_where_the_expert_was_unsafe_prove_nothing_about_regressions() -> None:
    cases = [PairedCase(str(i), "safety", True, True, expert_unsafe=True, clone_unsafe=True) for i in range(500)]
    verdict = only(cases)
    assert (verdict.verdict, verdict.regression_bound, verdict.cases_needed) == ("inconclusive", 1.0, 99)


@pytest.mark.parametrize(
    ("clone_steps", "verdict"),
    [(lambda i: 9 + i % 3, "pass"), (lambda i: 13 + i % 3, "fail"), (lambda i: 10 + i % 3, "inconclusive")],
    ids=["as many", "a third more", "a tenth more"],
)
def test_refunds_must_not_take_many_more_steps(clone_steps: Callable[[int], int], verdict: str) -> None:
    cases = [
        PairedCase(str(i), "multi_turn_refunds", True, True, expert_steps=10, clone_steps=clone_steps(i))
        for i in range(300)
    ]
    judged = only(cases)
    assert judged.verdict == verdict
    assert judged.reason.startswith("success at most 0.99 points worse, 2 is allowed; steps ")
    assert (judged.cases_needed > 0) == (verdict == "inconclusive")


def test_refunds_without_counted_steps_are_inconclusive() -> None:
    verdict = only(pairs("multi_turn_refunds", 500))
    assert verdict.verdict == "inconclusive"
    assert verdict.reason.endswith("no case with steps counted where both succeeded")


@pytest.mark.parametrize("clone_steps", [[40], [40, 10], [0, 90, 3]])
def test_a_few_wild_step_counts_are_inconclusive(clone_steps: list[int]) -> None:
    cases = [
        PairedCase(str(steps), "multi_turn_refunds", True, True, expert_steps=10, clone_steps=steps)
        for steps in clone_steps
    ]
    assert only(cases).verdict == "inconclusive"


@pytest.mark.parametrize(
    ("cases", "verdict"),
    [
        (pairs("common", 2000), "pass"),
        ([*pairs("common", 2000), *pairs("long_tail", 5)], "inconclusive"),
        ([*pairs("common", 100, only_expert=50), *pairs("long_tail", 5)], "fail"),
    ],
)
def test_the_gate_is_as_good_as_its_worst_cohort(cases: list[PairedCase], verdict: str) -> None:
    assert gate(cases).verdict == verdict


def test_passed_cohorts_may_act_though_another_failed() -> None:
    report = gate([*pairs("common", 2000), *pairs("long_tail", 100, only_expert=50)])
    assert report.passed_cohorts() == ("common",)


def test_a_report_survives_json() -> None:
    report = gate([*pairs("common", 50), *pairs("safety", 5)])
    assert GateReport.from_json(report.to_json()) == report


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:40], lambda _: "[]", lambda text: text.replace("rollout", "hunch"), lambda _: "{}"],
    ids=["cut", "a list", "unknown method", "empty"],
)
def test_a_damaged_report_is_refused(damage: Callable[[str], str]) -> None:
    with pytest.raises(CloneError, match=r"^gate record is unreadable .*; run 'imitrace gate' again$"):
        GateReport.from_json(damage(gate(pairs("common", 5)).to_json()))


def test_the_table_is_aligned_and_gives_each_cohort_its_reason() -> None:
    report = gate([*pairs("common", 2000), *pairs("long_tail", 100, only_expert=50)], method="replay")
    lines = report.render().split("\n")
    assert lines[0] == "gate of airline v3: fail"
    assert lines[1].startswith("method replay: the clone answered the recorded states where it is sure")
    header, common, long_tail = lines[5:8]
    margin = header.index("margin")
    assert (common[margin - 1 : margin + 2], long_tail[margin - 1 : margin + 2]) == (" 1 ", " 3 ")
    assert lines[-1] == "long_tail: success at least 27.35 points worse, 3 is allowed -> route to expert"


def test_the_section_for_the_card_names_where_it_may_not_act() -> None:
    text = gate_section(gate(pairs("common", 400) + pairs("rare", 3)))
    assert "Passed: common. Do not use it in:\n\n- rare: inconclusive (3 tasks; " in text
    assert gate_section(gate(pairs("common", 400))).endswith("Do not use it in:\n\n- nothing that it judged")
    assert gate_section(None).endswith("Never asked: it may act nowhere.")


def test_repeated_tasks_are_named_as_dependent() -> None:
    assert "10 cases of 5 tasks count as independent" in gate(pairs("common", 5) * 2).render()


def test_a_gate_without_cases_is_refused() -> None:
    with pytest.raises(CloneError, match=r"^gate of airline v3 has no cases, needed: 1 or more"):
        gate([])


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(CloneError, match=r"^gate method is 'hunch', allowed: rollout, replay$"):
        gate(pairs("common", 5), method="hunch")


def test_a_table_sets_margins_beside_the_defaults() -> None:
    config = GateConfig.from_table({"confidence": 0.9, "margins": {"common": 0.05}, "default_margin": 0.04})
    assert [config.margin(name) for name in ("common", "long_tail", "other", "safety")] == [0.05, 0.03, 0.04, 0.0]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"confidense": 0.9}, "gate confidense is unknown, allowed: confidence, margins, default_margin"),
        ({"confidence": 95}, "gate confidence is 95, allowed: a number over 0.5 and under 1"),
        ({"confidence": "high"}, "gate confidence is 'high', allowed: a number over 0.5 and under 1"),
        ({"margins": {"common": 1}}, "gate margins.common is 1, allowed: a number over 0 and under 1"),
        ({"margins": {"common": True}}, "gate margins.common is True, allowed: a number over 0 and under 1"),
        ({"margins": 0.01}, "gate margins is 0.01, allowed: a table of cohort = margin"),
        ({"margins": {"safety": 0.1}}, "gate margins.safety is 0.1, allowed: none; set safety_bound instead"),
    ],
)
def test_a_wrong_setting_is_named_with_what_is_allowed(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        GateConfig.from_table(table)
    assert str(caught.value).startswith(message)
