import json
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.critic import Critic
from imitrace_trainer.critic_fit import CriticCase, CriticConfig, choose_veto, fit_critic
from imitrace_trainer.encoding import Vocabulary, feature_id
from imitrace_trainer.intervals import upper_bound
from imitrace_trainer.judged_texts import JudgedTexts
from imitrace_trainer.policy import make_state
from imitrace_trainer.veto_rules import Judged

TOOLS = [{"name": name, "parameters": {"type": "object", "properties": {}}} for name in ("look", "wipe", "keep")]


def case(task: int, success: bool, name: str, status: str, before: int = 0) -> CriticCase:
    talk: list[dict[str, Any]] = [{"role": "user", "content": "Please tidy up."}]
    for number in range(before + 1):
        call = {"id": f"c{number}", "type": "function", "function": {"name": "look", "arguments": "{}"}}
        talk.append({"role": "assistant", "tool_calls": [call]})
        talk.append({"role": "tool", "tool_call_id": f"c{number}", "content": json.dumps({"status": status})})
    return CriticCase(make_state(talk, TOOLS), Action("tool_call", name, {}), f"t{task}", f"task {task}", success)


def tidied(start: int, count: int, careful: float = 0.9) -> list[CriticCase]:
    """Return tasks in which wiping fails where something is in use, and keeping where it is not; most are careful."""
    cases = []
    for task in range(start, start + count):
        draw = random.Random(task)
        status = draw.choice(["used", "idle"])
        name = draw.choice(["wipe", "keep"]) if draw.random() > careful else {"used": "keep", "idle": "wipe"}[status]
        lost = draw.random() < 0.1
        success = not lost and name == {"used": "keep", "idle": "wipe"}[status]
        cases.append(case(task, success, name, status, draw.randrange(3)))
    return cases


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)  # small tensors: two threads on a busy machine are ten times slower than one


@pytest.fixture(scope="module")
def critic() -> Critic:
    return fit_critic(tidied(0, 240, 0.6), tidied(1_000, 240, 0.6), CriticConfig(veto=0.05))


def texts(name: str, status: str) -> JudgedTexts:
    state = ("after look", "after nothing and look", "called look", f"look:status={status}")
    return JudgedTexts(name, (), state)


def test_what_led_to_failures_is_vetoed_and_what_led_to_successes_is_not(critic: Critic) -> None:
    assert critic.refused is None
    assert critic.judge(texts("keep", "used")).veto is None
    assert critic.judge(texts("wipe", "idle")).veto is None
    for name, status in (("wipe", "used"), ("keep", "idle")):
        assert critic.judge(texts(name, status)).veto is not None
        assert critic.value(texts(name, status)) < critic.threshold


def test_a_veto_names_value_threshold_and_the_features_that_speak_against(critic: Critic) -> None:
    veto = replace(critic, rules=()).judge(texts("wipe", "used")).veto
    assert veto is not None
    value = critic.value(texts("wipe", "used"))
    assert veto.startswith(f"veto: critic {value:.3f}, below {critic.threshold:.3f}; ")
    assert "wipe while look:status=used (-" in veto


def test_the_card_says_how_well_it_was_measured_and_what_it_forbids(critic: Critic) -> None:
    first, *rules = critic.lines()
    auroc, length = critic.report["auroc"], critic.report["by_length"]
    assert first.startswith(f"- on: AUROC {auroc['value']:.3f} [{auroc['low']:.3f}, {auroc['high']:.3f}]")
    assert auroc["low"] > length["value"]
    assert len(rules) == len(critic.rules) == 2
    assert rules[0].startswith("- never ")


def test_more_is_asked_of_what_cant_be_undone(critic: Critic) -> None:
    value = critic.value(texts("wipe", "idle"))
    strict = replace(critic, threshold=value - 0.1, irreversible_threshold=value + 0.1, rules=())
    judged = strict.judge(texts("wipe", "idle"))
    assert (judged.value, judged.veto) == (value, None)
    assert judged.veto_irreversible is not None
    assert critic.threshold <= critic.irreversible_threshold


def test_the_same_cases_give_the_same_critic() -> None:
    one, other = (fit_critic(tidied(0, 60), tidied(1_000, 40), CriticConfig()) for _ in range(2))
    assert one.to_json() == other.to_json()
    assert one.weights.tobytes() == other.weights.tobytes()


def test_a_critic_that_knows_no_more_than_the_length_is_refused_and_says_so() -> None:
    long = [case(task, task % 2 == 0, "look", "used", before=5 * (task % 2)) for task in range(120)]
    chance = [replace(one, success=random.Random(number).random() < 0.5) for number, one in enumerate(tidied(0, 120))]
    for cases in (long, chance):
        critic = fit_critic(cases, tidied(1_000, 40, 0.5), CriticConfig())
        assert critic.refused is not None
        assert critic.refused.startswith("AUROC ")
        assert critic.lines()[0] == f"- off: {critic.refused}"
        assert critic.judge(texts("wipe", "used")).value is None


def test_rules_hold_where_the_critic_is_refused(critic: Critic) -> None:
    off = replace(critic, refused="too few tasks")
    judged = off.judge(texts("wipe", "used"))
    assert judged.value is None
    assert judged.veto == judged.veto_irreversible == f"veto: {next(r for r in off.rules if r.tool == 'wipe')}"


def test_too_few_calibration_tasks_refuse_it() -> None:
    critic = fit_critic(tidied(0, 240, 0.6), tidied(1_000, 12, 0.6), CriticConfig(veto=0.05))
    assert critic.refused == "the calibration tasks are too few to prove that successes are spared"


@pytest.mark.parametrize(
    ("train", "kept", "lack"),
    [
        ([], [], "0 training tasks failed, needed 5"),
        ([case(1, True, "keep", "used")] * 9, [], "0 training tasks failed, needed 5"),
        ([case(task, False, "keep", "used") for task in range(9)], [], "0 training tasks succeeded, needed 5"),
        (tidied(0, 60, 0.5), [case(1, True, "keep", "used")], "0 calibration tasks failed, needed 1"),
    ],
)
def test_without_successes_and_failures_there_is_none(
    train: list[CriticCase], kept: list[CriticCase], lack: str
) -> None:
    critic = fit_critic(train, kept, CriticConfig())
    assert critic.refused == f"{lack}: it learns from successes and failures"
    assert critic.judge(texts("wipe", "used")) == replace(critic.judge(texts("keep", "used")))


SPARED = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 100)), min_size=1, max_size=120)


@settings(max_examples=60)
@given(SPARED, st.sampled_from([0.02, 0.1, 0.3]))
def test_a_threshold_spares_the_promised_share_of_successes(spared: list[tuple[int, int]], share: float) -> None:
    vocabulary = Vocabulary.learn([[feature_id(str(level))] for level in range(101)], minimum=1)
    weights = [next(level for level in range(101) if feature_id(str(level)) == row) / 10 for row in vocabulary.ids]
    critic = Critic(
        vocabulary,
        np.array([*weights, -5.0], dtype=np.float32),
        Calibration([1.0], 0.0, [0.0], [1.0], 1.0, 10_000),
        None,
    )
    kept = [Judged(JudgedTexts(str(level), (), ()), f"t{task}", f"t{task}", True) for task, level in spared]
    threshold = choose_veto(critic, kept, share, 0.9)
    values = sorted(critic.value(one.texts) for one in kept)
    if threshold is None:
        assert upper_bound(0, len(values), 0.9) > share or len({task for task, _ in spared}) < len(spared)
    else:
        assert upper_bound(sum(value < threshold for value in values), len(values), 0.9) <= share


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"vetos": 0.1}, "critic vetos is unknown, allowed: enabled, veto, irreversible_veto, confidence, calls"),
        ({"veto": 0}, "critic veto is 0, allowed: a number over 0 and under 1"),
        ({"confidence": True}, "critic confidence is True, allowed: a number over 0 and under 1"),
        ({"enabled": 1}, "critic enabled is 1, allowed: true or false"),
        ({"calls": 0}, "critic calls is 0, allowed: a whole number from 1"),
    ],
)
def test_a_wrong_setting_is_refused(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}$"):
        CriticConfig.from_table(table)
