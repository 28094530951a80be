import random
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace_trainer.judged_texts import JudgedTexts
from imitrace_trainer.veto_rules import Judged, VetoRule, learn_rules

ASKED = "called ask.what=consent"


def judged(task: int, success: bool, tool: str, *state: str, action: Sequence[str] = ()) -> Judged:
    return Judged(JudgedTexts(tool, tuple(action), state), f"t{task}", str(task), success)


def refunds(start: int = 0) -> list[Judged]:
    """Return 60 tasks: a large refund needs consent, which ten lack; a small one never does."""
    made = []
    for task in range(start, start + 60):
        size, hasty = "order:size=large" if task % 2 else "order:size=small", task % 6 == 1
        made.append(judged(task, not hasty, "look"))
        made.append(judged(task, not hasty, "refund", size, *([] if hasty or task % 2 == 0 else [ASKED])))
        if hasty:
            made.append(judged(task, False, "escalate", action=["escalate.why=mistake"]))
    return made


def test_what_failures_lack_and_successes_never_do_becomes_a_rule() -> None:
    (rule,) = learn_rules(refunds(), [])
    assert (rule.tool, rule.present, rule.absent) == ("refund", "order:size=large", ASKED)
    assert (rule.failures, rule.successes) == (10, 50)
    assert str(rule).startswith("refund with order:size=large before it called ask.what=consent: in 10 failed tasks ")
    assert rule.meets(JudgedTexts("refund", (), ("order:size=large",)))
    assert not rule.meets(JudgedTexts("refund", (), ("order:size=large", ASKED)))
    assert not rule.meets(JudgedTexts("refund", (), ("order:size=small",)))
    assert not rule.meets(JudgedTexts("look", (), ("order:size=large",)))


def test_what_follows_a_mistake_is_no_rule() -> None:
    assert "escalate" not in {rule.tool for rule in learn_rules(refunds(), [])}


def test_a_success_of_the_calibration_tasks_breaks_a_rule() -> None:
    broken = learn_rules(refunds(), [judged(99, True, "refund", "order:size=large")])
    assert "refund" not in {rule.tool for rule in broken}


def test_four_failures_prove_nothing() -> None:
    few = [one for one in refunds() if one.success or int(one.task) < 24]
    assert learn_rules(few, []) == []


def test_a_tool_that_only_failures_call_is_a_rule_of_its_own() -> None:
    made = [judged(task, task % 3 > 0, "look") for task in range(60)]
    made += [judged(task, False, "wipe") for task in range(0, 60, 3)]
    (rule,) = learn_rules(made, [])
    assert (rule.tool, rule.present, rule.absent, rule.failures) == ("wipe", "", "", 20)


def test_outcomes_that_have_nothing_to_do_with_calls_make_no_rule() -> None:
    found = 0
    for seed in range(40):
        draw = random.Random(seed)
        made = [
            judged(task, draw.random() < 0.5, draw.choice("ab"), *draw.sample(["p", "q", "r", "called s"], 2))
            for task in range(80)
        ]
        found += bool(learn_rules(made, []))
    assert found <= 2


CALL = st.tuples(st.integers(0, 12), st.booleans(), st.sampled_from("ab"), st.lists(st.sampled_from("pqr"), max_size=3))


@settings(max_examples=60)
@given(st.lists(CALL, max_size=80), st.lists(CALL, max_size=20))
def test_no_success_that_was_shown_is_ever_vetoed(
    train: list[tuple[int, bool, str, list[str]]], kept: list[tuple[int, bool, str, list[str]]]
) -> None:
    shown, calibration = ([judged(*one[:3], *one[3]) for one in calls] for calls in (train, kept))
    rules = learn_rules(shown, calibration)
    assert not any(rule.meets(one.texts) for rule in rules for one in (*shown, *calibration) if one.success)


def test_a_rule_comes_back_from_json() -> None:
    (rule,) = learn_rules(refunds(), [])
    assert VetoRule(**rule.to_json()) == rule
