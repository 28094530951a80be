"""The audit slice: an unbiased estimate of how often the expert does otherwise where the clone is trusted."""

import json
import random
from collections.abc import Sequence
from typing import Any

import polars as pl
import pytest

from imitrace.schema import STEPS, TRAJECTORIES
from imitrace_trainer.disagreement import Audited, Disagreement, estimate, handed_over, weighted_share
from imitrace_trainer.frames import empty

LOOK = ("look", {"order": 1})


def step(number: int, role: str = "expert", did: tuple[str, dict[str, Any]] = LOOK, **more: Any) -> dict[str, Any]:
    """Return a step of the trajectory of this number: by the clone, or by the expert with the clone's beside it."""
    action = {"kind": "tool_call", "name": "look", "arguments": {"order": 1}}
    shadow = {"clone": "desk", "version": "v3", "action": action}
    audited = {"route_reason": "audit", "shadow": json.dumps(shadow), "propensity": 0.05}
    return {
        **{name: 0 if kind.startswith("int64") else "" for name, kind in STEPS.items() if not kind.endswith("?")},
        "trajectory_id": f"t{number}",
        "decision": f"d{number}",
        "policy_role": role,
        "state": [],
        "complete": True,
        "action_kind": "tool_call",
        "action_name": did[0],
        "action_arguments": json.dumps(did[1]),
        **({"policy_name": "desk", "policy_version": "v3", "propensity": 0.95} if role == "clone" else audited),
        **more,
    }


def read(steps: Sequence[dict[str, Any]], **asked: Any) -> Disagreement:
    return estimate(tables(steps), "desk", **asked)


def tables(steps: Sequence[dict[str, Any]]) -> dict[str, pl.LazyFrame]:
    trajectory = {name: 0 for name, kind in TRAJECTORIES.items() if kind == "int64"} | {"complete": True}
    texts = {name: "" for name, kind in TRAJECTORIES.items() if kind == "string"}
    ids = sorted({one["trajectory_id"] for one in steps})
    cohorts = [json.dumps({"cohort": "even" if int(name[1:]) % 2 == 0 else "odd"}) for name in ids]
    rows = [
        {**texts, **trajectory, "trajectory_id": name, "tags": tags} for name, tags in zip(ids, cohorts, strict=True)
    ]
    return {
        "steps": pl.concat([empty(STEPS), pl.DataFrame(steps, schema=empty(STEPS).schema)]).lazy(),
        "trajectories": pl.DataFrame(rows, schema=empty(TRAJECTORIES).schema).lazy(),
    }


def test_it_compares_the_experts_action_with_the_one_that_the_clone_would_have_done() -> None:
    found = read(
        [
            *(step(number, "clone") for number in range(10)),
            step(10),
            step(11, did=("look", {"order": 1.0})),
            step(12, did=("look", {"order": 2})),
            step(13, did=("cancel", {"order": 1})),
        ]
    )
    assert (found.trusted, found.audited, found.rate.value) == (14, 4, 0.5)
    assert {name: share.value for name, share in found.cohorts.items()} == {"even": 0.5, "odd": 0.5}
    assert list(found.tools) == ["look"]


def test_what_is_no_part_of_the_audit_says_nothing() -> None:
    other = json.dumps({"clone": "shop", "version": "v1", "action": {"kind": "tool_call", "name": "look"}})
    declined = step(1, route_reason="confidence 0.412", propensity=None)
    found = read(
        [declined, step(2, shadow=other), step(3, "clone", policy_name="shop"), step(4, started_at=5)], since=6
    )
    assert (found.trusted, found.audited) == (0, 0)
    assert "nothing is known" in found.render()


def test_a_parallel_call_among_several_agrees() -> None:
    both = [step(1, did=("cancel", {})), step(1, step_index=1)]
    assert read(both).rate.value == 0.0


def test_one_version_alone_can_be_asked_for() -> None:
    assert read([step(1), step(2, "clone")], version="v2").trusted == 0
    assert read([step(1), step(2, "clone")], version="v3").trusted == 2


@pytest.mark.parametrize("broken", [{"complete": False}, {"propensity": None}, {"shadow": '{"clone": "desk"}'}])
def test_what_can_not_be_compared_is_counted_and_left_out(broken: dict[str, Any]) -> None:
    found = read([step(1), step(2, **broken)])
    assert (found.audited, found.unread, found.trusted) == (1, 1, 2)
    assert "1 audited decisions are incomplete" in found.render()


def test_a_few_that_all_agree_prove_little() -> None:
    found = read([step(number) for number in range(3)])
    assert (found.rate.value, found.rate.low) == (0.0, 0.0)
    assert found.rate.high > 0.6


def test_decisions_that_were_rarely_drawn_weigh_more() -> None:
    rows = [Audited(f"t{number}", "all", "look", 0.5, True) for number in range(10)]
    rows += [Audited(f"u{number}", "all", "look", 0.1, False) for number in range(10)]
    assert weighted_share(rows).value == pytest.approx(20 / 120)


def test_the_estimate_is_unbiased_and_its_interval_holds_the_planted_error() -> None:
    draw, values, held, runs = random.Random(11), [], 0, 200
    for _ in range(runs):
        rows = []
        for task in range(400):
            hard = draw.random() < 0.2
            for _ in range(4):
                share = 0.3 if hard else 0.1  # what is risky is audited more often
                wrong = draw.random() < (0.3 if hard else 0.02)
                if draw.random() < share:
                    rows.append(Audited(str(task), "all", "look", share, wrong))
        found = weighted_share(rows)
        values.append(found.value)
        held += found.low <= 0.076 <= found.high
    assert sum(values) / runs == pytest.approx(0.2 * 0.3 + 0.8 * 0.02, abs=0.004)
    assert held / runs > 0.88


def test_what_was_handed_over_in_doubt_is_counted_apart_from_the_audit() -> None:
    doubt: dict[str, Any] = {"route_reason": "handover: confidence 0.412", "propensity": None}
    steps = [
        step(1, **doubt),
        step(2, did=("cancel", {"order": 1}), **doubt),
        step(3, did=("cancel", {"order": 1}), complete=False, **doubt),
        step(4, **{**doubt, "route_reason": "confidence 0.412"}),
        step(5, started_at=-1, **doubt),
        step(6),
    ]
    found = handed_over(tables(steps), "desk", 0, "v3")
    assert (found.rate.decisions, found.rate.value, found.unread) == (2, 0.5, 1)
    assert handed_over(tables(steps), "shop").rate.decisions == 0
    assert handed_over(tables(steps), "desk", 0, "v2").rate.decisions == 0
