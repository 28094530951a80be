import datetime as dt
import tomllib

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.cohort import CohortConfig, SplitConfig, cohort_from_config
from imitrace_trainer.conditions import Condition

AIRLINE = """
[cohort.airline]
agent = "airline"
where = ["TaskCompletion >= 0.8"]
split = { by = "task", calibration = 0.2, gate = 0.2, seed = 7 }
"""


def test_a_cohort_is_read_from_toml() -> None:
    assert cohort_from_config(tomllib.loads(AIRLINE), "airline") == CohortConfig(
        name="airline",
        agent="airline",
        where=(Condition("TaskCompletion", ">=", 0.8),),
        split=SplitConfig(by="task", calibration=0.2, gate=0.2, seed=7),
    )


def test_every_key_of_a_cohort_can_be_set() -> None:
    table = {
        "agent": "a",
        "roles": ["clone"],
        "tags": {"intent": "refund"},
        "min_steps": 3,
        "where": ["x < 1", "y > 2"],
    }
    cohort = cohort_from_config({"cohort": {"c": table}}, "c")
    assert (cohort.roles, cohort.tags, cohort.min_steps) == (("clone",), {"intent": "refund"}, 3)
    assert [str(condition) for condition in cohort.where] == ["x < 1.0", "y > 2.0"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"wher": []}, r"cohort\.c has unknown key 'wher', allowed: agent, where, roles, tags, min_steps, since"),
        (
            {"split": {"test": 0.1}},
            r"cohort\.c\.split has unknown key 'test', allowed: by, calibration, gate, seed, near",
        ),
        ({"split": 0.2}, r"cohort\.c\.split is 0\.2, expected a table with by"),
        ({"split": {"gate": 1}}, r"cohort\.c\.split\.gate is 1, expected a share of at least 0 and below 1"),
        ({"split": {"gate": -0.1}}, r"cohort\.c\.split\.gate is -0\.1, expected a share"),
        ({"split": {"gate": float("nan")}}, r"cohort\.c\.split\.gate is nan, expected a share"),
        ({"split": {"gate": True}}, r"cohort\.c\.split\.gate is True, expected a share"),
        ({"split": {"gate": 0.5, "calibration": 0.5}}, "calibration 0.5 and .*gate 0.5 leave nothing to train on"),
        ({"split": {"by": "step"}}, r"split\.by is 'step', expected one of task, trajectory"),
        ({"split": {"by": ["task"]}}, r"split\.by is \['task'\], expected one of task, trajectory"),
        ({"split": {"seed": 0.5}}, r"split\.seed is 0\.5, expected a whole number of at least 0"),
        ({"where": "x >= 1"}, r"cohort\.c\.where is 'x >= 1', expected a list of texts"),
        ({"where": ["x > 'y'"]}, r"cohort\.c\.where: condition \"x > 'y'\" asks for an order of labels"),
        ({"where": ["x"]}, r"cohort\.c\.where: condition 'x' can't be read"),
        ({"roles": []}, r"roles is \[\], expected one or more of expert, clone, human, synthetic"),
        ({"roles": ["boss"]}, r"roles is \['boss'\], expected one or more of expert"),
        ({"tags": {"vip": 1}}, r"tags is \{'vip': 1\}, expected a table of texts"),
        ({"min_steps": 0}, r"min_steps is 0, expected a whole number of at least 1"),
        ({"since": "yesterday"}, r"since is 'yesterday', expected a time such as 2026-11-21T08:00:00Z"),
        ({"until": 3}, r"until is 3, expected a time"),
        ({"confirmed": "x"}, r"cohort\.c\.confirmed: condition 'x' can't be read"),
        ({"confirmed": 1}, r"cohort\.c\.confirmed is \[1\], expected a list of texts"),
        ({"mask_where": ["x"]}, r"cohort\.c\.mask_where: condition 'x' can't be read"),
        ({"mask_cap": 1.5}, r"mask_cap is 1\.5, expected a share of 0 to 1"),
        ({"hindsight": 1.0}, r"hindsight is 1\.0, expected a share of at least 0 and below 1"),
        ({"hindsight": 0.1}, r"hindsight is 0\.1, which needs cohort\.c\.where to say what failed"),
        ({"max_repeats": 0}, r"max_repeats is 0, expected a whole number of at least 1"),
        ({"duplicates": 0.2}, r"duplicates is 0\.2, expected a share of 0\.5 to 1"),
        ({"quarantine": 1}, r"quarantine is 1, expected true or false"),
        ({"personal_data": ["name"]}, r"personal_data is \['name'\], expected some of email, phone, card, iban, key"),
        ({"personal_data_action": "warn"}, r"personal_data_action is 'warn', expected one of reject, mask, count"),
        ({"licences": {"gpt-4o": "yes"}}, r"licences is .*, expected a table of allowed or forbidden such as"),
        ({"caps": {"intent": 0}}, r"cohort\.c\.caps\.intent is 0, expected a whole number of at least 1"),
        ({"caps": 3}, r"caps is 3, expected a table of whole numbers by tag"),
        ({"several_steps": 0.5}, r"several_steps is 0\.5, expected a factor of 1 to 5"),
        ({"balance": 1}, r"balance is 1, expected text"),
        ({"split": {"near": 0.9, "by": "trajectory"}}, r"split\.near is 0\.9, which needs by = \"task\""),
        ({"forbidden": "warn"}, r"forbidden is 'warn', expected one of refuse, reject"),
        ({"retired_tools": "keep"}, r"retired_tools is 'keep', expected one of mask, drop"),
        ({"agent": ""}, r"cohort\.c\.agent is '', expected text"),
    ],
)
def test_a_wrong_value_is_refused_with_its_key_and_what_is_allowed(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cohort_from_config({"cohort": {"c": {"agent": "a", **change}}}, "c")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "cohort 'c' is not in imitrace.toml, it has: none"),
        ({"cohort": {"b": {}, "a": {}}}, "cohort 'c' is not in imitrace.toml, it has: a, b"),
        ({"cohort": []}, "cohort = .* is no table"),
        ({"cohort": {"c": {}}}, r"cohort\.c\.agent is missing"),
        ({"cohort": {"c": 1}}, r"cohort\.c is 1, expected a table"),
    ],
)
def test_a_missing_cohort_is_refused_with_what_there_is(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cohort_from_config(config, "c")


@pytest.mark.parametrize("name", ["../c", ".c", "a/b", ""])
def test_a_name_that_leaves_the_workspace_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="can't name a folder"):
        cohort_from_config({"cohort": {name: {"agent": "a"}}}, name)


@pytest.mark.parametrize(
    "text", ["2026-11-21T08:00:00Z", "2026-11-21T09:00:00+01:00", "2026-11-21T08:00:00", dt.datetime(2026, 11, 21, 8)]
)
def test_a_time_is_read_as_utc_unless_it_says_otherwise(text: object) -> None:
    assert cohort_from_config({"cohort": {"c": {"agent": "a", "since": text}}}, "c").since == 1_795_248_000 * 10**9


def test_a_day_begins_at_midnight() -> None:
    found = cohort_from_config({"cohort": {"c": {"agent": "a", "until": dt.date(2026, 11, 21)}}}, "c")
    assert found.until == 1_795_219_200 * 10**9
