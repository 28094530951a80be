"""A card speaks against a clone by what was counted, and only by that."""

from pathlib import Path

import pytest

from imitrace.messages import Action
from imitrace_trainer.card import (
    Limits,
    cohort_warnings,
    confidence,
    expert_warnings,
    measure_limits,
    text_warnings,
    tool_warnings,
    warnings,
)
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.evaluate import EvaluationReport
from imitrace_trainer.policy import State
from imitrace_trainer.stages import demonstrations
from imitrace_trainer.task_draws import Share
from imitrace_trainer.thresholds import NEVER, Thresholds

TOOLS: list[dict[str, object]] = [
    {"name": name, "description": "", "parameters": {}} for name in ("look", "pay", "close")
]
SHARE = Share(0.5, 0.4, 0.6, 40)
REPORT = EvaluationReport(9, SHARE, SHARE, SHARE, SHARE, 0.1, 0.2, 0.125)


def shown(task: str, said: str, action: Action, cohort: str = "day") -> Demonstration:
    message = {"role": "user", "parts": [{"type": "text", "content": said}]}
    return Demonstration(State([message], TOOLS, {"cohort": cohort}), action, task)


def call(name: str, **arguments: object) -> Action:
    return Action("tool_call", name, arguments)


@pytest.fixture
def limits(trained_home: Path) -> Limits:
    train = [shown(str(n % 12), f"I am A-{n}", call("look", order=f"A-{n}", why="asked")) for n in range(24)]
    train += [shown("t", "Pay", call("pay", note="as agreed"), "night")] * 2
    held_out = [
        shown("h1", "I am B-7", call("look", order="B-7", why="asked")),
        shown("h2", "I am B-8", call("look", order="X-1", why="urgent today")),
        shown("h3", "Thanks", Action("message", message="Bye")),
    ]
    return measure_limits(train, held_out, open_dataset(trained_home, "counter"), ("train",))


def test_limits_are_counted(limits: Limits) -> None:
    assert limits.cohorts == {"day": (12, 3), "night": (1, 0)}
    assert limits.tools == {"look": (24, 12), "pay": (2, 1), "close": (0, 0)}
    assert limits.arguments == {"look.order": (1, 2), "look.why": (1, 2)}
    assert limits.replies == (1, 3)
    assert limits.outcomes == {"success": 32}


def test_tools_that_training_hardly_saw_are_named(limits: Limits) -> None:
    never, rare = tool_warnings(limits)
    assert never == "- for tools that were offered and never called in training: close."
    assert rare.endswith("training tasks (calls in tasks): pay (2 in 1).")
    assert tool_warnings(Limits(tools={"look": (24, 12)})) == []


def test_cohorts_with_few_tasks_are_named(limits: Limits) -> None:
    assert cohort_warnings(limits)[1].endswith("day (trained on 12, held out 3), night (trained on 1, held out 0).")
    (only,) = cohort_warnings(Limits(cohorts={"day": (12, 10)}))
    assert only.endswith("Cohorts it was made from: day.")


def test_free_text_is_named(limits: Limits) -> None:
    replies, arguments = text_warnings(limits)
    assert "1 of 3 held-out decisions (33.3%) were replies" in replies
    assert arguments.endswith(": look.order (1 of 2), look.why (1 of 2).")
    assert text_warnings(Limits(arguments={"look.order": (9, 10)}, replies=(0, 5))) == []


def test_what_the_expert_got_wrong_is_told() -> None:
    lines = expert_warnings(Limits(outcomes={"failure": 3, "success": 9}, masked={"by clone": 4}))
    assert lines[0].endswith("ended: 3 failure, 9 success; in 25.0% the expert itself failed.")
    assert lines[1].endswith("context only: by clone 4.")
    assert len(expert_warnings(Limits(outcomes={"success": 9}))) == 1


def test_a_clone_that_may_never_act_says_so_first() -> None:
    assert warnings(REPORT, Thresholds(NEVER, NEVER), Limits())[0] == "- anywhere: it may never act"
    assert not warnings(REPORT, Thresholds(0.9, NEVER), Limits())[0].startswith("- anywhere")
    assert any("12.5% of 40 states" in line for line in warnings(REPORT, Thresholds(0.9, 0.9), Limits()))


def test_the_registered_card_warns_by_its_own_numbers(trained_home: Path) -> None:
    dataset = open_dataset(trained_home, "counter")
    fitted = ("train", "calibration")
    learnt = demonstrations(dataset.examples_of(fitted))
    own = measure_limits(learnt, demonstrations(dataset.examples("gate")), dataset, fitted)
    card = (trained_home / "clones/counter/v1/card.md").read_text(encoding="utf-8")
    told = card.split("## Do not use it\n\n")[1].splitlines()
    assert [line in told for line in [*cohort_warnings(own), *tool_warnings(own), *text_warnings(own)]].count(
        False
    ) == 0


@pytest.mark.parametrize(
    ("replies", "silence", "told"),
    [
        (0.93, None, "0.9300"),
        (NEVER, "they are off", "never: they are off"),
        (NEVER, None, "never: nothing could be promised on the calibration tasks"),
    ],
)
def test_the_card_says_from_when_it_replies_or_why_never(replies: float, silence: str | None, told: str) -> None:
    assert confidence(Thresholds(0.9, 0.9, replies=replies), silence).endswith(f"- replies by a template: {told}")
