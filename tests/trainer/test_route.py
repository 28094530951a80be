import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.intervals import upper_bound
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.route import NEVER, Route, RouteConfig, Thresholds, choose_threshold, design_effects, route

TOOLS = [{"name": "look"}, {"name": "cancel"}]
THRESHOLDS = Thresholds(0.6, 0.9, ("cancel",))
JUDGED = st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=80)


def decide(
    name: str | None = "look",
    confidence: float = 0.7,
    ood: float = 0.5,
    order: object = 1,
    tags: Mapping[str, str] = {},
    vetoes: tuple[str | None, str | None] = (None, None),
) -> Route:
    kind = "message" if name is None else "tool_call"
    arguments = {} if name is None else {"order": order}
    decision = Decision(Action(kind, name, arguments), confidence, ood, {}, None, *vetoes)
    made = [{"type": "tool_call", "id": str(order), "name": "look", "arguments": {"order": order}} for order in (2, 3)]
    messages = [{"role": "assistant", "parts": [part]} for part in made]
    return route(decision, State(messages, TOOLS, {"cohort": "common"} | dict(tags)), THRESHOLDS, {"common"})


def test_a_proven_sure_new_call_of_an_offered_tool_is_the_clones() -> None:
    assert decide() == Route("clone", "trusted")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"tags": {"cohort": "safety"}}, "cohort 'safety' has no passing gate"),
        ({"name": None}, "the clone can't write text"),
        ({"name": "refund"}, "tool 'refund' is not offered"),
        ({"ood": 1.01}, "out of distribution (1.01)"),
        ({"confidence": 0.599}, "confidence 0.599"),
        ({"vetoes": ("veto: never", None)}, "veto: never"),
        ({"name": "cancel", "confidence": 0.95, "vetoes": (None, "veto: not this")}, "veto: not this"),
        ({"order": 2}, "the same call was already made"),
        ({"order": 3.0}, "the same call was already made"),
        ({"tags": {"cohort": "safety"}, "name": None, "ood": 9.0}, "cohort 'safety' has no passing gate"),
    ],
)
def test_the_expert_acts_for_the_first_reason_that_holds(changed: dict[str, Any], reason: str) -> None:
    assert decide(**changed) == Route("expert", reason)


@pytest.mark.parametrize(
    "changed",
    [{"ood": 1.0}, {"confidence": 0.6}, {"order": "2"}, {"order": True}, {"vetoes": (None, "veto: not this")}],
)
def test_the_clone_acts_at_the_very_limits(changed: dict[str, Any]) -> None:
    assert decide(**changed).actor == "clone"


@pytest.mark.parametrize(("confidence", "actor"), [(0.899, "expert"), (0.9, "clone")])
def test_a_tool_that_cannot_be_undone_has_the_stricter_threshold(confidence: float, actor: str) -> None:
    assert decide("cancel", confidence, order=2).actor == actor


@pytest.mark.parametrize(("passed", "actor"), [(("all",), "clone"), (("common",), "expert"), ((), "expert")])
def test_a_trajectory_without_a_cohort_needs_the_gate_of_all(passed: Sequence[str], actor: str) -> None:
    decision = Decision(Action("tool_call", "look"), 1.0, 0.0, {})
    assert route(decision, State([], TOOLS), THRESHOLDS, passed).actor == actor


def test_nobody_is_as_sure_as_never() -> None:
    decision = Decision(Action("tool_call", "look"), 1.0, 0.0, {})
    never = Thresholds(NEVER, NEVER)
    assert route(decision, State([], TOOLS), never, {"all"}) == Route("expert", "confidence 1.000")


def test_thresholds_come_back_from_json() -> None:
    assert Thresholds.from_json(json.loads(json.dumps(THRESHOLDS.to_json()))) == THRESHOLDS


def provable_share(confidences: Sequence[float], right: Sequence[bool], error: float, confidence: float) -> float:
    """Search by the definition: from the surest quarter and from the surest half, by fortieths until one fails."""
    found, ranked, each = [NEVER], sorted(confidences, reverse=True), (1 + confidence) / 2
    for start in (10, 20):
        for value in (ranked[len(ranked) * part // 40 - 1] for part in range(start, 41) if len(ranked) * part >= 40):
            above = [hit for sure, hit in zip(confidences, right, strict=True) if sure >= value]
            if upper_bound(0, len(above), each) > error:
                continue
            if upper_bound(above.count(False), len(above), each) > error:
                break
            found.append(value)
    return min(found)


@settings(max_examples=60, deadline=None)
@given(judged=JUDGED, error=st.sampled_from([0.05, 0.2, 0.5]), confidence=st.sampled_from([0.3, 0.8, 0.95]))
def test_the_threshold_is_that_of_a_search_by_the_definition(
    judged: list[tuple[float, bool]], error: float, confidence: float
) -> None:
    confidences, right = [round(value, 1) for value, _ in judged], [hit for _, hit in judged]
    expected = provable_share(confidences, right, error, confidence)
    assert choose_threshold(confidences, right, error, confidence) == expected


@settings(max_examples=60, deadline=None)
@given(judged=JUDGED, error=st.floats(0.01, 0.6), confidence=st.floats(0.5, 0.99))
def test_above_the_threshold_the_data_never_break_the_promise(
    judged: list[tuple[float, bool]], error: float, confidence: float
) -> None:
    confidences, right = [value for value, _ in judged], [hit for _, hit in judged]
    threshold = choose_threshold(confidences, right, error, confidence)
    above = [hit for value, hit in judged if value >= threshold]
    assert above.count(False) <= error * len(above)
    assert (threshold == NEVER) == (not above)


@pytest.mark.parametrize(
    ("cases", "wrong", "threshold"),
    [(0, 0, NEVER), (148, 0, NEVER), (149, 0, 0.5), (149, 1, NEVER), (235, 1, NEVER), (236, 1, 0.5)],
)
def test_two_percent_take_149_faultless_cases_or_236_with_one_fault(cases: int, wrong: int, threshold: float) -> None:
    right = [number >= wrong for number in range(cases)]
    assert choose_threshold([0.5] * cases, right, 0.02, 0.9) == threshold


def test_faults_among_the_surest_half_stop_the_search_whatever_comes_after() -> None:
    confidences = [0.9] * 200 + [0.5] * 200
    assert choose_threshold(confidences, [False] * 15 + [True] * 385, 0.1, 0.9) == NEVER
    assert choose_threshold([0.5] * 400, [False] * 15 + [True] * 385, 0.1, 0.9) == 0.5


def test_a_fault_at_the_very_top_does_not() -> None:
    confidences = [0.9] + [0.5] * 399
    assert choose_threshold(confidences, [False] + [True] * 399, 0.1, 0.9) == 0.5


def test_the_promise_holds_at_least_as_often_as_its_confidence_says() -> None:
    draw, runs, broken, used = random.Random(5), 300, 0, 0
    for _ in range(runs):
        confidences = [draw.random() for _ in range(300)]
        right = [draw.random() < sure**0.2 for sure in confidences]  # P(right) at confidence c is c ** 0.2
        threshold = choose_threshold(confidences, right, 0.08, 0.8)
        used += threshold < 1
        broken += threshold < 1 and 1 - (1 - threshold**1.2) / 1.2 / (1 - threshold) > 0.08  # its integral above
    assert used / runs > 0.6
    assert broken / runs < 0.2 + 0.05


def drawn_in_tasks(draw: random.Random, tasks: int) -> tuple[list[float], list[bool], list[int]]:
    """Return twelve decisions a task; about one task in nine gets all of them wrong, the others all right."""
    confidences, right = [], []
    for _ in range(tasks):
        lost = draw.random() < 0.11
        for _ in range(12):
            confidences.append(draw.random())
            right.append(not lost)
    return confidences, right, [number // 12 for number in range(12 * tasks)]


def test_the_promise_holds_as_often_where_the_decisions_of_a_task_fail_together() -> None:
    draw, runs = random.Random(5), 150
    broken = {True: 0, False: 0}  # 11 % are wrong above every threshold, so each one breaks the promise of 10 %
    for _ in range(runs):
        confidences, right, tasks = drawn_in_tasks(draw, 40)
        for known in broken:
            broken[known] += choose_threshold(confidences, right, 0.1, 0.8, tasks if known else None) < 1
    assert broken[True] / runs < 0.2 + 0.05
    assert broken[False] / runs > 0.25


def test_decisions_of_one_task_count_as_many_where_they_do_not_resemble_each_other() -> None:
    surprises = [0.5, -0.5] * 300
    apart = design_effects(surprises, range(600))
    together = design_effects(surprises, [number // 6 for number in range(600)])
    assert set(apart) == {1.0}
    assert together[0] == 1.0
    assert 1.0 < together[-1] < 1.2


def test_decisions_of_one_task_that_are_all_alike_count_as_one() -> None:
    tasks = [number // 6 for number in range(600)]
    assert design_effects([float(task % 2) for task in tasks], tasks)[-1] == pytest.approx(6)
    assert design_effects([0.5, -0.5, 0.5], ["a"] * 3) == [1, 2, 3]


@pytest.mark.parametrize("key", ["error", "irreversible_error", "confidence"])
@pytest.mark.parametrize("value", [0, 1, -0.1, True, "0.1", float("nan")])
def test_a_wrong_share_is_refused_with_what_is_allowed(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^route {key} is .+, allowed: a number over 0 and under 1$"):
        RouteConfig.from_table({key: value})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"irreversible": "cancel"}, "route irreversible is 'cancel', allowed: a list of tool names"),
        ({"irreversible": ["cancel", 3]}, "route irreversible is ['cancel', 3], allowed: a list of tool names"),
        ({"eror": 0.1}, "route eror is unknown, allowed: error, irreversible_error, confidence, irreversible"),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_allowed(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RouteConfig.from_table(table)
    assert str(caught.value) == message


def test_a_table_fills_the_settings() -> None:
    config = RouteConfig.from_table({"error": 0.05, "irreversible": ["cancel"]})
    assert config == RouteConfig(error=0.05, irreversible=("cancel",))


@pytest.mark.parametrize("confidence", [0.1, 0.5])
def test_a_modest_confidence_is_allowed_too(confidence: float) -> None:
    assert choose_threshold([0.5] * 100, [True] * 100, 0.1, confidence) == 0.5


@pytest.mark.parametrize("value", [0.1, 0.9, -0.3, 1 / 3])
@pytest.mark.parametrize("size", [2, 3, 7])
def test_decisions_that_surprise_equally_count_for_one_at_most_a_task(value: float, size: int) -> None:
    tasks = [f"t{number}" for number in range(5) for _ in range(size)]
    effects = design_effects([value] * len(tasks), tasks)
    assert min(effects) == 1.0
    assert max(effects) <= size
