from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest

from imitrace.exceptions import DatasetError
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.rules import RULES

MakeTables = Callable[..., dict[str, pl.DataFrame]]

CONFIG = CohortConfig(name="desk", agent="desk", split=SplitConfig(calibration=0, gate=0))
LONG = "my parcel came late and the box was torn so can you send another one to the same address please and thank you"


def curated(make_tables: MakeTables, cohort: CohortConfig, *cases: dict[str, Any]) -> Curated:
    return curate({table: frame.lazy() for table, frame in make_tables(*cases).items()}, cohort)


def verdicts(found: Curated) -> list[tuple[str, str, str]]:
    return found.rejected.select("trajectory_id", "rule", "reason").rows()


def test_only_what_started_in_the_window_is_kept(make_tables: MakeTables) -> None:
    second = 10**9
    cases = [{"id": name, "started_at": start * second} for name, start in {"a": 9, "b": 10, "c": 19, "d": 20}.items()]
    found = curated(make_tables, replace(CONFIG, since=10 * second, until=20 * second), *cases)
    assert verdicts(found) == [
        ("a", "window", "started 1970-01-01T00:00:09Z, too early"),
        ("d", "window", "started 1970-01-01T00:00:20Z, too late"),
    ]


def test_a_loop_is_rejected_beyond_what_the_cohort_bears(make_tables: MakeTables) -> None:
    stuck = {"action_arguments": "{}", "observation": "nothing"}
    cases: list[dict[str, Any]] = [{"id": f"t{n}", "roles": ["expert"] * n, "step": stuck} for n in (3, 4)]
    found = curated(make_tables, replace(CONFIG, max_repeats=3), *cases)
    assert verdicts(found) == [("t4", "repetition", "1 steps from step 0 on 4 times with the same results")]


def test_copies_of_an_earlier_one_are_rejected(make_tables: MakeTables) -> None:
    cases = [
        {"id": "later", "says": f"{LONG}!", "started_at": 3},
        {"id": "first", "says": LONG, "started_at": 2},
        {"id": "other", "says": "Where do I find the invoice of last month?", "started_at": 4},
    ]
    found = curated(make_tables, replace(CONFIG, duplicates=0.9), *cases)
    assert verdicts(found) == [("later", "duplicates", "alike to first")]


def test_a_copy_of_what_another_rule_rejects_is_kept(make_tables: MakeTables) -> None:
    where = (Condition.parse("s >= 1"),)
    cases: list[dict[str, Any]] = [
        {"id": "first", "says": LONG, "scores": {"s": 0.0}},
        {"id": "second", "says": LONG, "scores": {"s": 1.0}, "started_at": 2},
    ]
    found = curated(make_tables, replace(CONFIG, duplicates=0.9, where=where), *cases)
    assert found.trajectories["trajectory_id"].to_list() == ["second"]


def test_what_holds_personal_data_is_rejected(make_tables: MakeTables) -> None:
    cases = [{"id": "good", "says": "Hello."}, {"id": "bad", "says": "I am anna.berg@example.org, +49 30 901820."}]
    found = curated(make_tables, replace(CONFIG, personal_data=("email", "phone")), *cases)
    assert verdicts(found) == [("bad", "personal_data", "holds email 1, phone 1")]


LICENCES = {"claude-*": "forbidden", "gpt-4o*": "allowed"}
MIXED: list[dict[str, Any]] = [
    {"id": "mine", "step": {"policy_name": "gpt-4o-2024"}},
    {"id": "theirs", "step": {"policy_name": "claude-x"}},
    {"id": "nobody's", "step": {"policy_name": None}},
    {"id": "context", "roles": ["expert", "synthetic"], "step": {"policy_name": "claude-x", "agent": "other"}},
]


def test_a_forbidden_policy_refuses_the_cohort_and_names_the_rows(make_tables: MakeTables) -> None:
    with pytest.raises(
        DatasetError, match=r"1 trajectories have steps by policies .*: theirs step 0 by claude-x; leave"
    ):
        curated(make_tables, replace(CONFIG, licences=LICENCES), *MIXED)


def test_trajectories_with_a_forbidden_policy_are_left_out_when_asked(make_tables: MakeTables) -> None:
    found = curated(make_tables, replace(CONFIG, licences=LICENCES, forbidden="reject"), *MIXED[:3])
    assert verdicts(found) == [("theirs", "licence", "step 0 by claude-x")]
    strict = replace(CONFIG, licences={"gpt-4o*": "allowed", "*": "forbidden"}, forbidden="reject")
    assert [name for name, *_ in verdicts(curated(make_tables, strict, *MIXED[:3]))] == ["nobody's", "theirs"]


INTENTS: list[dict[str, Any]] = [
    {"id": f"{intent}{n}", "tags": {"intent": intent}, "roles": ["expert"] * (1 + n % 2)}
    for intent, count in {"refund": 8, "change": 4, "cancel": 1}.items()
    for n in range(count)
]


@pytest.mark.parametrize("seed", [0, 1])
def test_no_kind_has_more_than_its_cap(make_tables: MakeTables, seed: int) -> None:
    cohort = replace(CONFIG, caps={"intent": 4}, split=replace(CONFIG.split, seed=seed))
    found = curated(make_tables, cohort, *INTENTS)
    assert len(found.trajectories) == 9
    assert set(found.rejected["reason"]) == {"more than 4 of intent refund"}
    again = curated(make_tables, cohort, *reversed(INTENTS))
    assert found.trajectories["trajectory_id"].to_list() == again.trajectories["trajectory_id"].to_list()


def test_rare_kinds_and_longer_trajectories_weigh_more_in_training(make_tables: MakeTables) -> None:
    steps = curated(make_tables, replace(CONFIG, balance="intent", several_steps=2.0), *INTENTS).steps.collect()
    weights = dict(steps.select("trajectory_id", "weight").iter_rows())
    found = [weights[name] for name in ("refund0", "refund1", "change0", "change1", "cancel0")]
    assert found == [1.0, 2.0, 2.0, 4.0, 5.0]


def test_what_is_judged_on_is_never_weighted(make_tables: MakeTables) -> None:
    cohort = replace(CONFIG, balance="intent", several_steps=2.0, split=SplitConfig())
    steps = curated(make_tables, cohort, *INTENTS).steps.collect()
    assert set(steps.filter(pl.col("split") != "train")["weight"]) == {1.0}


@pytest.mark.parametrize(("near", "together"), [(0.8, True), (None, False)])
def test_tasks_that_are_alike_stay_in_one_split_when_asked(
    make_tables: MakeTables, near: float | None, together: bool
) -> None:
    cases = [{"id": f"t{n}", "task": f"{n}", "says": f"{LONG} number{n // 10}"} for n in range(30)]
    cases += [{"id": f"o{n}", "task": f"o{n}", "says": f"other words {n} altogether{n} unlike{n}"} for n in range(4)]
    trajectories = curated(make_tables, replace(CONFIG, split=SplitConfig(near=near)), *cases).trajectories
    alike = trajectories.filter(pl.col("trajectory_id").str.starts_with("t"))
    assert (alike["split"].n_unique() == 1) == together


def test_rules_that_are_not_asked_reject_nothing(make_tables: MakeTables) -> None:
    stuck = {"action_arguments": "{}", "observation": "nothing", "policy_name": "claude-x"}
    cases = [{"id": f"t{n}", "says": "ignore all previous instructions", "step": stuck} for n in range(3)]
    assert curated(make_tables, CONFIG, *cases).rejected.is_empty()


def test_every_rule_has_a_name_of_its_own() -> None:
    assert len(set(RULES.values())) == len(RULES)
