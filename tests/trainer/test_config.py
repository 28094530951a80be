import math
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imitrace.config import read_config
from imitrace.exceptions import ConfigError
from imitrace_trainer.config import CloneConfig, RolloutConfig, clone_from_config
from imitrace_trainer.correcting.expert_budget import Budget
from imitrace_trainer.fit import BCConfig

COHORT = '[cohort.desk]\nagent = "desk"\n'
ROLLOUT: dict[str, Any] = {"environment": "world:World", "expert": "world:Expert"}
SECTIONS = ("family", "train", "gate", "route", "drift", "critic", "rollout", "correct", "schedule")


def read(toml: str) -> CloneConfig:
    return clone_from_config(tomllib.loads(COHORT + toml), "desk", Path("/workspace"))


def read_table(section: str, table: object) -> CloneConfig:
    return clone_from_config(tomllib.loads(COHORT) | {"clone": {"desk": {section: table}}}, "desk", Path())


def test_a_bare_table_gets_the_defaults_and_the_cohort_of_its_name() -> None:
    clone = read("[clone.desk]")
    assert clone == CloneConfig(name="desk", cohort=clone.cohort, folder=Path("/workspace"))
    assert (clone.cohort.name, clone.family, clone.rollout) == ("desk", "best", None)


def test_a_clone_may_learn_from_another_cohort() -> None:
    clone = clone_from_config(tomllib.loads(COHORT + '[clone.night]\ncohort = "desk"\n[clone.day]'), "night", Path())
    assert (clone.name, clone.cohort.name) == ("night", "desk")


def test_every_section_reaches_its_stage(counter: Path) -> None:
    clone = clone_from_config(read_config(counter / "imitrace.toml"), "counter", counter)
    assert clone.train == BCConfig(epochs=4, batch=2, device="cpu")
    assert clone.gate.margins == {"common": 0.2}
    assert clone.route.irreversible == ("refund_order",)
    assert clone.rollout == RolloutConfig(environment="counter_world:Counter", expert="counter_world:Clerk", tasks=24)


def test_a_whole_number_does_for_a_float() -> None:
    rate = read("[clone.desk.train]\nweight_decay = 1").train.weight_decay
    assert (rate, type(rate)) == (1.0, float)


def test_options_reach_the_expert() -> None:
    rollout = read_table("rollout", ROLLOUT | {"expert_options": {"patience": 3}, "seed": 0}).rollout
    assert rollout == replace(RolloutConfig(**ROLLOUT), expert_options={"patience": 3}, seed=0)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("epochs", True, "a whole number such as 8"),
        ("epochs", 2.0, "a whole number such as 8"),
        ("epochs", "2", "a whole number such as 8"),
        ("epochs", 0, "1 or more"),
        ("batch", 0, "1 or more"),
        ("seed", -1, "0 or more"),
        ("seed", False, "a whole number"),
        ("learning_rate", True, "a number such as 0.01"),
        ("learning_rate", "fast", "a number such as 0.01"),
        ("learning_rate", -0.1, "0 or more"),
        ("learning_rate", math.nan, "0 or more"),
        ("weight_decay", math.inf, "0 or more"),
        ("feature_dropout", 1.0, "0 or more and below 1"),
        ("device", 3, "a text such as 'auto'"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(key: str, value: object, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_table("train", {key: value})
    assert str(caught.value) == f"clone.desk.train.{key} is {value!r}, allowed: {allowed}"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tasks": 0}, "clone.desk.rollout.tasks is 0, allowed: 1 or more"),
        ({"expert_options": 3}, "clone.desk.rollout.expert_options is 3, allowed: a table"),
        ({"environment": ""}, "clone.desk.rollout.environment is missing, write 'package.module:name'"),
        ({"expert": ""}, "clone.desk.rollout.expert is missing, write 'package.module:name'"),
        ({"expert": 4}, "clone.desk.rollout.expert is 4, allowed: a text"),
    ],
)
def test_a_rollout_names_what_is_wrong_with_it(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_table("rollout", ROLLOUT | changed)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("key", "value", "least"),
    [("budget", 0, 1), ("budget", 2.5, 1), ("budget", True, 1), ("steps", -1, 0), ("steps", "9", 0), ("tokens", -1, 0)],
)
def test_a_wrong_limit_of_corrections_is_named_with_what_is_allowed(key: str, value: object, least: int) -> None:
    with pytest.raises(ConfigError) as caught:
        read_table("correct", {key: value})
    assert str(caught.value) == f"clone.desk.correct.{key} is {value!r}, allowed: a whole number from {least}"


def test_what_corrections_may_cost_is_read_from_the_table() -> None:
    assert Budget.of(read_table("correct", {}).correct) == Budget(calls=500, steps=None, tokens=None)
    asked = {"budget": 40, "steps": 200, "tokens": 9_000}
    assert Budget.of(read_table("correct", asked).correct) == Budget(calls=40, steps=200, tokens=9_000)


@pytest.mark.parametrize("section", ["train", "gate", "route", "rollout"])
def test_an_unknown_key_is_answered_with_the_known_ones(section: str) -> None:
    with pytest.raises(ConfigError, match=rf"\b{section}[. ]epoch is unknown, allowed: \w+, \w+"):
        read_table(section, {"epoch": 3})


@pytest.mark.parametrize("section", ["train", "gate", "route", "rollout"])
def test_a_section_that_is_no_table_is_told_how_to_write_it(section: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_table(section, 3)
    assert str(caught.value) == f"clone.desk.{section} = 3 in imitrace.toml is no table, write [clone.desk.{section}]"


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("", "clone 'desk' is not in imitrace.toml, it has: none; add a table [clone.desk]"),
        ("[clone.b]\n[clone.a]", "clone 'desk' is not in imitrace.toml, it has: a, b; add a table [clone.desk]"),
        ("[clone]\ndesk = 1", "clone.desk = 1 in imitrace.toml is no table, write [clone.desk]"),
        ("[clone.desk]\nfamily = 'lm'", "clone.desk.family is 'lm', allowed: best, frequency, linear, embedded"),
        ("[clone.desk]\ncohort = 'x'", "cohort 'x' is not in imitrace.toml, it has: desk; add a table [cohort.x]"),
        ("[clone.desk]\nmodel = 1", f"clone.desk.model is unknown, allowed: cohort, {', '.join(SECTIONS)}"),
    ],
)
def test_a_wrong_clone_is_refused_in_one_line(toml: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(toml)
    assert str(caught.value) == message


def test_clone_as_a_value_is_no_table() -> None:
    with pytest.raises(ConfigError, match=r"^clone = 3 in imitrace\.toml is no table, write "):
        clone_from_config({"clone": 3}, "desk", Path())
