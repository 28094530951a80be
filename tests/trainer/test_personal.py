from collections.abc import Callable
from dataclasses import replace
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.canonical import canonical_json, content_hash
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.personal import count_personal, mask_personal

MakeTables = Callable[..., dict[str, pl.DataFrame]]

CONFIG = CohortConfig(
    name="desk", agent="desk", split=SplitConfig(calibration=0, gate=0), personal_data=("email", "phone")
)
MAIL = "anna.berg@example.org"


def curated(tables: dict[str, pl.DataFrame], cohort: CohortConfig) -> Curated:
    return curate({table: frame.lazy() for table, frame in tables.items()}, cohort)


def masked(found: Curated) -> list[tuple[str, int, str]]:
    keys = ["trajectory_id", "step_index", "mask_reason"]
    return found.steps.filter(~pl.col("loss_mask")).select(keys).collect().rows()


def told_later(make_tables: MakeTables, **case: Any) -> dict[str, pl.DataFrame]:
    """A trajectory of three steps, whose user tells an address before the second."""
    tables = make_tables({"id": "t", "says": "Hello.", "roles": ["expert"] * 3} | case, {"id": "other", "says": "Hi."})
    message = {"role": "user", "parts": [{"type": "text", "content": f"I am {MAIL}, {MAIL}"}]}
    name = content_hash(message)
    row = pl.DataFrame([{"message_id": name, "role": "user", "content": canonical_json(message)}])
    later = pl.concat_list("state", pl.lit(name))
    after = (pl.col("trajectory_id") == "t") & (pl.col("step_index") > 0)
    steps = tables["steps"].with_columns(pl.when(after).then(later).otherwise("state").alias("state"))
    return tables | {"steps": steps, "messages": pl.concat([tables["messages"], row])}


def test_what_is_found_is_counted_in_messages_once_and_nothing_is_rejected(make_tables: MakeTables) -> None:
    found = curated(told_later(make_tables), replace(CONFIG, personal_data_action="count"))
    assert found.personal == {"email": {"found": 2, "trajectories": 1}}
    assert (len(found.trajectories), masked(found)) == (2, [])


def test_only_steps_that_see_it_are_masked_where_the_cohort_says_so(make_tables: MakeTables) -> None:
    found = curated(told_later(make_tables), replace(CONFIG, personal_data_action="mask"))
    assert masked(found) == [("t", 1, "shows email"), ("t", 2, "shows email")]
    assert found.personal == {"email": {"found": 2, "trajectories": 1}}


def test_a_step_that_does_it_is_masked_too(make_tables: MakeTables) -> None:
    made = make_tables({"id": "t", "says": "Hello.", "roles": ["expert"] * 3})
    said = pl.Series("action_arguments", ["{}", f'{{"to":"{MAIL}"}}', "{}"])
    found = curated(made | {"steps": made["steps"].with_columns(said)}, replace(CONFIG, personal_data_action="mask"))
    assert masked(found) == [("t", 1, "shows email")]


@pytest.mark.parametrize(("column", "text"), [("action_message", f"Write to {MAIL}."), ("action_arguments", MAIL)])
def test_the_last_decision_is_looked_through_as_no_message_repeats_it(
    make_tables: MakeTables, column: str, text: str
) -> None:
    made = make_tables({"id": "t", "says": "Hello."}, {"id": "good", "says": "Hi."})
    last = (pl.col("trajectory_id") == "t") & (pl.col("step_index") == 1)
    said = made["steps"].with_columns(pl.when(last).then(pl.lit(text)).otherwise(column).alias(column))
    found = curated(made | {"steps": said}, CONFIG)
    assert found.rejected.select("trajectory_id", "reason").rows() == [("t", "holds email 1")]


def test_calibration_and_gate_are_never_masked(make_tables: MakeTables) -> None:
    cases = [{"id": f"t{n}", "task": f"t{n}", "says": f"I am {n}, {MAIL}"} for n in range(20)]
    found = curated(make_tables(*cases), replace(CONFIG, personal_data_action="mask", split=SplitConfig()))
    steps = found.steps.collect()
    assert not steps.filter(pl.col("split") == "train")["loss_mask"].any()
    assert steps.filter(pl.col("split") != "train")["loss_mask"].all()


def test_what_another_rule_rejects_first_is_not_counted(make_tables: MakeTables) -> None:
    said = {"says": f"I am {MAIL}"}
    made = make_tables({"id": "bad", "complete": False} | said, {"id": "found"} | said, {"id": "good", "says": "Hi."})
    assert curated(made, CONFIG).personal == {"email": {"found": 1, "trajectories": 1}}


def test_nothing_is_counted_unless_asked_for(make_tables: MakeTables) -> None:
    assert curated(told_later(make_tables), replace(CONFIG, personal_data=())).personal == {}


HELD = st.lists(st.tuples(st.sampled_from(["email", "phone"]), st.integers(1, 9)), unique_by=lambda held: held[0])


@given(st.lists(st.tuples(st.sampled_from([None, "personal_data", "complete"]), HELD), max_size=8))
def test_counts_are_the_sums_over_what_reached_the_rule(rows: list[tuple[str | None, list[tuple[str, int]]]]) -> None:
    held = pl.List(pl.Struct({"kind": pl.String, "count": pl.Int64}))
    judged = pl.DataFrame(
        {
            "rule": [rule for rule, _ in rows],
            "personal": [[{"kind": kind, "count": count} for kind, count in found] or None for _, found in rows],
        },
        schema={"rule": pl.String, "personal": held},
    )
    found = [one for rule, held in rows if rule != "complete" for one in held]
    assert count_personal(judged) == {
        kind: {"found": sum(count for name, count in found if name == kind), "trajectories": kinds.count(kind)}
        for kinds in [[name for name, _ in found]]
        for kind in sorted(set(kinds))
    }


def test_without_a_look_nothing_is_masked() -> None:
    steps = pl.LazyFrame({"loss_mask": [True]})
    assert mask_personal(steps, pl.DataFrame({"trajectory_id": ["t"]})) is steps
