import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from imitrace.cli import main
from imitrace.exceptions import ConfigError
from imitrace.schema import SCHEMA_VERSION
from imitrace_trainer.charges import KINDS, Charge, Decided, charged, decisions
from imitrace_trainer.prices import UNITS, ModelPrice, Prices, exact, rounded
from imitrace_trainer.queue_items import find_items
from imitrace_trainer.queue_verdicts import Judgement, record_judgement
from imitrace_trainer.savings import OVERHEAD, Savings, Scope, savings, scope_of, write_rows
from imitrace_trainer.spending import Spending, record_spending

Make = Callable[..., dict[str, pl.DataFrame]]
Json = dict[str, Any]  # a JSON object

MODEL = ModelPrice(model="big", valid_from=date(1970, 1, 1), input=Decimal("2.50"), output=Decimal(10), version="v")
RATES = {
    "cpu_hour": Decimal("0.36"),
    "gpu_hour": Decimal(3),
    "human_minute": Decimal("0.75"),
    "human_decision": Decimal(1),
    "decision_seconds": Decimal("0.01"),
}
PRICES = Prices(version="v", models=[MODEL], rates=RATES)
TOOLS = [{"name": "look", "description": "", "parameters": {"type": "object"}}]
EXPERT = {"policy_name": "big", "input_tokens": 1_000, "output_tokens": 100}
COST = rounded(Decimal("0.0035"))
CLONE = {"policy_role": "clone", "policy_name": "desk", "policy_version": "v1", "confidence": 0.9}
ASKED = {"clone": "desk", "action": {"kind": "tool_call", "name": "look", "arguments": {"x": 1}}, "confidence": 0.5}


def trajectory(*steps: Json) -> Json:
    return {"tools": TOOLS, "calls": ["look"] * len(steps), "steps": dict(enumerate(steps))}


def saved(make: Make, home: Path, *cases: Json, prices: Prices = PRICES, **scope: Any) -> Savings:
    frames = {table: frame.lazy() for table, frame in make(*cases).items()}
    return savings(home, frames, Scope(agent="desk", **scope), prices)


def test_the_clones_decisions_cost_what_the_experts_like_them_do(make_diverging: Make, tmp_path: Path) -> None:
    found = saved(make_diverging, tmp_path, *[trajectory(EXPERT)] * 6, *[trajectory(CLONE)] * 4)
    assert (found.total("expert").amount, found.total("expert").count) == (6 * COST, 6)
    assert found.gross == 4 * COST
    assert found.total("clone").amount == 4 * 1_000  # a hundredth of a second of an hour that costs 0.36
    assert found.net == 4 * COST - 4_000
    assert found.alone == 10 * COST
    assert found.interval == (4 * COST, 4 * COST)
    assert found.lacks == []


@pytest.mark.parametrize("reason", ["audit", "canary"])
def test_what_is_drawn_for_the_expert_is_told_apart_and_its_price_said(
    make_diverging: Make, tmp_path: Path, reason: str
) -> None:
    audit = {**EXPERT, "route_reason": reason, "propensity": 0.1, "shadow": ASKED}
    found = saved(make_diverging, tmp_path, *[trajectory(EXPERT)] * 6, trajectory(audit), trajectory(CLONE))
    assert (found.total("audit").amount, found.total("audit").count, found.total("expert").count) == (COST, 1, 6)
    assert (found.total("shadow").amount, found.total("shadow").count) == (1_000, 1)
    assert found.net is not None
    assert found.net_without_audit == found.net + COST


def test_parallel_calls_of_one_answer_are_charged_once(make_diverging: Make, tmp_path: Path) -> None:
    both = trajectory({**EXPERT, "decision": "d"}, {**EXPERT, "decision": "d"})
    assert saved(make_diverging, tmp_path, both).total("expert").amount == COST
    first_alone = trajectory({**EXPERT, "decision": "d"}, {"policy_name": "big", "decision": "d"})
    assert saved(make_diverging, tmp_path, first_alone).total("expert").amount == COST


def test_what_has_no_tokens_is_estimated_from_like_decisions_and_said_so(make_diverging: Make, tmp_path: Path) -> None:
    found = saved(make_diverging, tmp_path, *[trajectory(EXPERT)] * 6, trajectory({"policy_name": "big"}))
    assert (found.total("expert").estimated, found.total("expert").amount) == (1, 7 * COST)
    assert "1 estimated" in found.render()


def test_nothing_is_invented_where_the_expert_left_no_tokens(make_diverging: Make, tmp_path: Path) -> None:
    found = saved(make_diverging, tmp_path, *[trajectory({"policy_name": "big"})] * 6, trajectory(CLONE))
    assert (found.gross, found.net, found.alone, found.break_even, found.interval) == (None,) * 5
    assert found.lacks == [
        "1 of avoided: no decision of the expert with tokens and a price",
        "6 of expert: no tokens in the log, and no like decision with some",
    ]
    assert "gross saving        unknown" in found.render()
    assert found.to_json()["net"] is None


def test_an_unknown_model_is_named_with_the_mend(make_diverging: Make, tmp_path: Path) -> None:
    found = saved(make_diverging, tmp_path, trajectory({**EXPERT, "policy_name": "odd"}), trajectory(CLONE))
    assert found.lacks[1] == "1 of expert: no price of odd; add it to [[prices.models]] of imitrace.toml"
    assert "unknown" in found.render().splitlines()[1]


def test_a_rate_that_nobody_said_is_named_and_never_nothing(make_diverging: Make, tmp_path: Path) -> None:
    bare = replace(PRICES, rates={"decision_seconds": Decimal("0.01")})
    cases = [*[trajectory(EXPERT)] * 6, trajectory(CLONE), trajectory({"policy_role": "human"})]
    found = saved(make_diverging, tmp_path, *cases, prices=bare)
    assert found.lacks == [
        "1 of clone: no prices.cpu_hour; say it in [prices] of imitrace.toml",
        "1 of human: no prices.human_decision; say it in [prices] of imitrace.toml",
    ]
    assert not found.to_json()["complete"]


def test_reviews_training_gates_and_judges_are_charged(make_diverging: Make, tmp_path: Path) -> None:
    cases = [*[trajectory(EXPERT)] * 6, trajectory(CLONE), trajectory({**EXPERT, "shadow": ASKED})]
    frames = {table: frame.lazy() for table, frame in make_diverging(*cases).items()}
    (item,) = find_items(frames)
    for reviewer, seconds in (("ann", 120.0), ("ben", None)):
        made = Judgement(item=item.id, verdict="expert_right", reviewer=reviewer, seconds=seconds)
        record_judgement(tmp_path, item, made)
    spent: Json = {"agent": "desk", "at": 5}
    for one in (
        Spending(kind="train", clone="desk", seconds=90.0, cpu_seconds=50.0, **spent),
        Spending(kind="gate", clone="desk", seconds=36.0, device="cuda", **spent),
        Spending(kind="train", clone="other", cpu_seconds=50.0, **spent),
        Spending(kind="judge", model="big", input_tokens=2_000, output_tokens=10, **spent),
        Spending(kind="train", clone="x", agent="shop", at=5),
    ):
        record_spending(tmp_path, one)
    found = savings(tmp_path, frames, Scope(agent="desk", clone="desk"), PRICES)
    assert found.total("human").amount == rounded(Decimal("1.50"))
    assert found.total("refresh").amount == rounded(Decimal("0.005") + Decimal("0.03"))
    assert found.total("judge").amount == rounded(Decimal("0.0051"))
    assert found.lacks == ["1 of human: nobody measured how long it took"]
    assert savings(tmp_path, frames, Scope(agent="desk"), PRICES).total("refresh").count == 3
    assert found.break_even is not None
    gain = COST - 2_000
    assert found.break_even == -(-(found.overhead - 2_000) // gain)


def test_scores_by_a_model_without_a_record_of_their_cost_are_told(make_diverging: Make, tmp_path: Path) -> None:
    tables = make_diverging(*[trajectory(EXPERT)] * 2)
    row: Json = dict.fromkeys(tables["scores"].columns)
    row |= {"trajectory_id": "t0", "name": "s", "value": 1.0, "evaluator": "judge:big", "scored_at": 9}
    tables["scores"] = pl.DataFrame([row], schema=tables["scores"].schema)
    frames = {table: frame.lazy() for table, frame in tables.items()}
    found = savings(tmp_path, frames, Scope(agent="desk"), PRICES)
    assert found.lacks == ["1 scores by models, of whose cost there is no record"]
    record_spending(tmp_path, Spending(kind="judge", agent="desk", at=5, model="big", input_tokens=1))
    assert savings(tmp_path, frames, Scope(agent="desk"), PRICES).lacks == []


def test_only_one_clones_decisions_count_when_it_is_named(make_diverging: Make, tmp_path: Path) -> None:
    other = {**CLONE, "policy_name": "other"}
    cases = [*[trajectory(EXPERT)] * 6, trajectory(CLONE), trajectory(other)]
    assert saved(make_diverging, tmp_path, *cases).total("clone").count == 2
    assert saved(make_diverging, tmp_path, *cases, clone="desk").total("clone").count == 1


def test_what_is_earlier_is_not_charged_but_tells_what_like_decisions_cost(
    make_diverging: Make, tmp_path: Path
) -> None:
    found = saved(make_diverging, tmp_path, *[trajectory(EXPERT)] * 6, trajectory(CLONE), since=55)
    assert (found.total("expert").count, found.gross) == (0, COST)


def decided(number: int, **more: Any) -> Decided:
    told = {"trajectory": f"t{number}", "decision": "d", "step": 0, "role": "expert", "name": "big", "asked": None}
    told |= {
        "audit": False,
        "input_tokens": 10,
        "output_tokens": 1,
        "at": 0,
        "task": f"k{number}",
        "cohort": "",
        "length": 1,
    }
    return Decided(**{**told, **more})


def test_like_decisions_are_of_the_same_cohort_and_length_while_there_are_enough() -> None:
    made = [decided(n, cohort="a", length=2, input_tokens=1_000_000) for n in range(5)]
    made += [decided(n, cohort="b", length=2, input_tokens=3_000_000) for n in range(5, 10)]
    made += [decided(n, cohort="b", length=5, input_tokens=5_000_000) for n in range(10, 12)]
    prices = replace(PRICES, models=[replace(MODEL, input=Decimal(1), output=Decimal(0))])

    def avoided(**more: Any) -> int | None:
        rows, _ = charged([*made, decided(99, role="clone", name="desk", **more)], None, prices)
        return next(row.amount for row in rows if row.kind == "avoided")

    assert avoided(cohort="a", length=2) == UNITS
    assert avoided(cohort="b", length=2) == 3 * UNITS
    assert avoided(cohort="c", length=2) == 2 * UNITS
    assert avoided(cohort="b", length=5) == round(30 * UNITS / 12)


def test_the_clones_decision_is_priced_by_the_prices_of_its_day() -> None:
    later = replace(MODEL, valid_from=date(2026, 1, 1), input=Decimal(5), output=Decimal(0))
    prices = replace(PRICES, models=[replace(MODEL, output=Decimal(0)), later])
    clones = [decided(50 + n, role="clone", name="desk", at=at) for n, at in enumerate((0, 1_800_000_000 * UNITS))]
    rows, _ = charged([*(decided(n) for n in range(5)), *clones], None, prices)
    assert [row.amount for row in rows if row.kind == "avoided"] == [
        rounded(Decimal("0.000025")),
        rounded(Decimal("0.00005")),
    ]


ROLES = st.sampled_from(["expert", "clone", "human", "synthetic"])
TOKENS = st.none() | st.integers(min_value=0, max_value=10**7)
DECIDED = st.builds(
    decided,
    st.integers(0, 30),
    role=ROLES,
    name=st.sampled_from(["big", "small", ""]),
    asked=st.sampled_from([None, "desk"]),
    audit=st.booleans(),
    input_tokens=TOKENS,
    output_tokens=TOKENS,
    at=st.integers(0, 3).map(lambda year: (1_700_000_000 + year * 31_536_000) * UNITS),
    cohort=st.sampled_from(["a", "b"]),
    length=st.integers(0, 4),
)
SMALL = [
    replace(MODEL, model="small", input=Decimal("0.0375"), valid_from=date(year, 1, 1), output=Decimal(f"0.{year}"))
    for year in (2024, 2025)
]


@given(st.lists(DECIDED, max_size=40))
def test_totals_are_the_sums_of_their_rows_and_every_decision_is_charged_once(made: list[Decided]) -> None:
    prices = replace(PRICES, models=[MODEL, *SMALL], rates={**RATES, "cpu_hour": Decimal("0.0123457")})
    rows, likes = charged(made, None, prices)
    found = Savings(scope=Scope(agent="desk"), prices=prices, rows=rows, interval=likes.interval(), lacks=())
    written = [json.loads(json.dumps(row.to_json())) for row in rows]
    for kind in KINDS:
        amounts = [Decimal(row["amount"]) for row in written if row["kind"] == kind and row["amount"] is not None]
        assert Decimal(exact(found.total(kind).amount)) == sum(amounts, Decimal(0))
        assert found.total(kind).unpriced == sum(row["amount"] is None for row in written if row["kind"] == kind)
    paid = sum(row.amount or 0 for row in rows if row.kind in (*OVERHEAD, "expert", "audit"))
    if found.net is not None:
        assert found.alone is not None
        assert found.net == found.alone - paid
    charged_roles = Counter(row.kind for row in rows)
    roles = Counter(one.role for one in made)
    assert charged_roles["expert"] + charged_roles["audit"] == roles["expert"]
    assert charged_roles["clone"] == charged_roles["avoided"] == roles["clone"]
    assert charged_roles["human"] == roles["human"]
    assert all(row.price for row in rows)


def test_the_rows_reconcile_with_the_log_to_the_last_digit(make_diverging: Make, tmp_path: Path) -> None:
    cases = [trajectory({**EXPERT, "input_tokens": 37 * n, "output_tokens": n}, CLONE) for n in range(1, 40)]
    tables = make_diverging(*cases)
    found = savings(tmp_path, {name: frame.lazy() for name, frame in tables.items()}, Scope(agent="desk"), PRICES)
    write_rows(tmp_path / "rows.jsonl", found)
    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    log = tables["steps"].filter(pl.col("policy_role") == "expert")
    by_hand = sum(
        Decimal("0.0000025") * said + Decimal("0.00001") * given_back
        for said, given_back in log.select("input_tokens", "output_tokens").iter_rows()
    )
    assert sum(Decimal(row["amount"]) for row in rows if row["kind"] == "expert") == by_hand
    assert Decimal(found.to_json()["totals"]["expert"]["amount"]) == by_hand
    placed = {(row["trajectory"], row["step"]) for row in rows if row["kind"] == "expert"}
    assert placed == set(log.select("trajectory_id", "step_index").iter_rows())


def test_a_name_is_a_clone_or_an_agent_of_the_source(make_diverging: Make, tmp_path: Path) -> None:
    frames = {name: frame.lazy() for name, frame in make_diverging(trajectory(EXPERT)).items()}
    assert scope_of(tmp_path, frames, "desk") == Scope(agent="desk")
    folder = tmp_path / "clones" / "airline" / "v1"
    folder.mkdir(parents=True)
    (folder / "clone.json").write_text('{"agent": "desk"}')
    assert scope_of(tmp_path, frames, "airline", 7) == Scope(agent="desk", clone="airline", since=7)
    with pytest.raises(ConfigError, match="'shop' is no clone and no agent of the source, there are: airline, desk"):
        scope_of(tmp_path, frames, "shop")


def test_the_command_prints_a_table_writes_rows_and_speaks_json(make_diverging: Make, tmp_path: Path) -> None:
    source = tmp_path / "snapshot"
    source.mkdir()
    tables = make_diverging(*[trajectory(EXPERT)] * 6, trajectory(CLONE))
    for table, frame in tables.items():
        frame.write_parquet(source / f"{table}.parquet")
    counts = {table: len(frame) for table, frame in tables.items()}
    (source / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "counts": counts}))
    config = tmp_path / "imitrace.toml"
    config.write_text('[prices]\ncpu_hour = 0.04\n[[prices.models]]\nmodel = "big"\ninput = 2.50\noutput = 10\n')
    words = ["savings", "desk", "--source", str(source), "--home", str(tmp_path / "home"), "--config", str(config)]
    rows = tmp_path / "rows.jsonl"
    done = CliRunner().invoke(main, [*words, "--rows", str(rows)])
    assert done.exit_code == 0, done.output
    assert "net saving          0.0035, 14.3% of 0.0245" in done.stdout
    assert "can't be told" not in done.stdout
    assert len(rows.read_text().splitlines()) == 8
    told = json.loads(CliRunner().invoke(main, [*words, "--json"]).stdout)
    assert told["gross"] == "0.003500000"
    assert told["prices_used"] == ["own + imitrace-2025-12/cpu_hour", "own/big@1970-01-01"]
    assert told["complete"]
    wrong = CliRunner().invoke(main, [*words, "--since", "soon"])
    assert (wrong.exit_code, "--since is 'soon', expected a day" in wrong.stderr) == (2, True)
    assert "Examples:" in CliRunner().invoke(main, ["savings", "--help"]).stdout


def test_an_unwritten_charge_leaves_no_file(make_diverging: Make, tmp_path: Path) -> None:
    found = saved(make_diverging, tmp_path, trajectory(EXPERT))
    with pytest.raises(ConfigError, match="can't be written"):
        write_rows(tmp_path / "none" / "rows.jsonl", found)


def test_a_charge_says_where_it_stands(make_diverging: Make, tmp_path: Path) -> None:
    (row,) = saved(make_diverging, tmp_path, trajectory(EXPERT)).rows
    assert isinstance(row, Charge)
    assert row.to_json() == {
        "kind": "expert",
        "at": 0,
        "amount": "0.003500000",
        "price": "v/big@1970-01-01",
        "who": "big",
        "trajectory": "t0",
        "decision": "t0-0",
        "step": 0,
        "input_tokens": 1000,
        "output_tokens": 100,
    }


def test_another_agents_decisions_are_not_this_ones(make_diverging: Make) -> None:
    cases = [trajectory(EXPERT), {**trajectory(EXPERT), "agent": "shop"}]
    frames = {name: frame.lazy() for name, frame in make_diverging(*cases).items()}
    assert [one.trajectory for one in decisions(frames, "shop")] == ["t1"]
