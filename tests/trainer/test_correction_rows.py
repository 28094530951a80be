"""Corrected episodes as rows of a dataset, and the command that makes them."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from imitrace.canonical import canonical_json
from imitrace.cli import main
from imitrace.exceptions import CloneError, ConfigError, DatasetError
from imitrace.messages import Action, action_message, from_openai, tool_definition
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.correcting.config import CorrectConfig
from imitrace_trainer.correcting.corrected_episodes import (
    BY_CLONE,
    LABELLED,
    PREFIX,
    CorrectedEpisode,
    CorrectedStep,
)
from imitrace_trainer.correcting.expert_budget import Budget
from imitrace_trainer.correction_rows import keep, kept
from imitrace_trainer.correction_stage import correct_stage, version_with
from imitrace_trainer.critic_files import critic_cases
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.datasets import Dataset, open_dataset
from imitrace_trainer.environment import load_object
from imitrace_trainer.gating import gate_stage
from imitrace_trainer.registry import Registry
from imitrace_trainer.stages import train_stage
from imitrace_trainer.trial import try_clone

REFUSE = Action("tool_call", "close_ticket", {"resolution": "refused"}, call_id="call_0")
FIND = Action("tool_call", "find_order", {"email": "ann1@mail.test"}, call_id="call_1")


def episode(counter: Path, **changed: Any) -> CorrectedEpisode:
    tools = [tool_definition(tool) for tool in load_object("counter_world:Counter", counter).tools]
    messages = [from_openai({"role": "user", "content": "I am ann1@mail.test and want my money back."})]
    answers = ['{"error": "no such email"}', '{"order_id": "R1", "status": "shipped"}']
    for number, action in enumerate((FIND, FIND)):
        messages.append(action_message(replace(action, call_id=f"call_{number}")))
        messages.append(from_openai({"role": "tool", "tool_call_id": f"call_{number}", "content": answers[number]}))
    steps = [
        CorrectedStep(1, replace(FIND, call_id="call_0"), "clone", None, BY_CLONE, 0.7),
        CorrectedStep(3, FIND, "expert", FIND),
        CorrectedStep(5, REFUSE, "expert", REFUSE),
    ]
    made = CorrectedEpisode(
        task="common-77-1",
        tags={"cohort": "common"},
        method="oec",
        round=1,
        messages=messages,
        tools=tools,
        steps=steps,
        switch=1,
        success=True,
        calls=2,
        world_steps=3,
        clone="counter:1",
        at=5,
    )
    return replace(made, **changed)


@pytest.fixture
def home(trained_home: Path, fork: Callable[[Path], Path]) -> Path:
    return fork(trained_home)


def made_with(home: Path, clone: CloneConfig, *episodes: CorrectedEpisode) -> Dataset:
    keep(home, clone.cohort.name, episodes)
    return version_with(home, clone, open_dataset(home, clone.cohort.name))


def own_steps(dataset: Dataset) -> list[dict[str, Any]]:
    steps = dataset.tables("train")["steps"]
    return [row for row in steps.iter_rows(named=True) if row["trajectory_id"].startswith(PREFIX)]


def test_the_experts_steps_are_learnt_and_the_clones_are_context(
    home: Path, counter: Path, counter_clone: CloneConfig
) -> None:
    before = open_dataset(home, counter_clone.cohort.name)
    dataset = made_with(home, counter_clone, episode(counter))
    steps = own_steps(dataset)
    assert dataset.version == before.version + 1
    assert [(row["policy_role"], row["loss_mask"], row["mask_reason"]) for row in steps] == [
        ("clone", False, BY_CLONE),
        ("expert", True, None),
        ("expert", True, None),
    ]
    assert [row["route_reason"] for row in steps] == ["oec", "oec: the expert took over", "oec"]
    assert [len(row["state"]) for row in steps] == [1, 3, 5]
    assert dataset.manifest["corrected"] == {
        "episodes": 1,
        "learnt": 2,
        "context": 1,
        "failures": 0,
        "left_out": {},
        "weight": 1.0,
    }
    learnt = [one for one in dataset.examples("train") if one.trajectory_id.startswith(PREFIX) and one.loss_mask]
    assert [one.action.name for one in learnt] == ["find_order", "close_ticket"]
    assert learnt[0].state[-1]["role"] == "tool"


def test_a_label_is_a_row_of_its_own_beside_what_the_clone_did(
    home: Path, counter: Path, counter_clone: CloneConfig
) -> None:
    steps = [CorrectedStep(1, REFUSE, "clone", FIND, None, 0.6), CorrectedStep(3, REFUSE, "clone", None, "no word")]
    dataset = made_with(home, counter_clone, episode(counter, method="dagger", steps=steps, switch=None))
    rows = {row["trajectory_id"]: row for row in own_steps(dataset) if row["loss_mask"]}
    (label,) = rows.values()
    assert (label["action_name"], label["policy_role"]) == ("find_order", "expert")
    went = [row for row in own_steps(dataset) if not row["loss_mask"]]
    assert [(row["action_name"], row["mask_reason"]) for row in went] == [
        ("close_ticket", LABELLED),
        ("close_ticket", "no word"),
    ]
    trajectories = dataset.tables("train")["trajectories"]
    parent = trajectories.filter(trajectories["trajectory_id"] == label["trajectory_id"]).row(0, named=True)
    assert (parent["parent"], parent["parent_step"]) == (went[0]["trajectory_id"], 0)


def test_what_failed_goes_to_the_critic_alone(home: Path, counter: Path, counter_clone: CloneConfig) -> None:
    failed = episode(counter, success=False, rejected="it did not succeed")
    dataset = made_with(home, counter_clone, failed)
    assert own_steps(dataset) == []
    assert dataset.manifest["corrected"]["failures"] == 1
    found = [one for one in dataset.failures("train") if one.trajectory_id == failed.name]
    assert [(one.action.name, one.outcome, one.loss_mask) for one in found] == [
        ("find_order", "failure", False),
        ("find_order", "failure", False),
        ("close_ticket", "failure", False),
    ]


def test_only_what_came_to_its_end_badly_is_a_failure(home: Path, counter: Path, counter_clone: CloneConfig) -> None:
    spent = episode(counter, success=False, rejected="500 calls are spent")
    second = episode(counter, success=False, rejected="it did not succeed", task="common-77-2")
    few = replace(counter_clone, cohort=replace(counter_clone.cohort, failures=0))
    dataset = made_with(home, few, spent, second)
    assert dataset.manifest["corrected"]["failures"] == 0
    assert dataset.manifest["corrected"]["left_out"] == {"500 calls are spent": 1, "a failure beyond the cohort's": 1}


def test_a_critic_is_told_nothing_of_where_a_label_would_have_led(
    home: Path, counter: Path, counter_clone: CloneConfig
) -> None:
    steps = [CorrectedStep(1, REFUSE, "clone", FIND, None, 0.6), CorrectedStep(3, FIND, "expert", FIND)]
    failed = episode(counter, method="dagger", steps=steps, switch=1, success=False)
    dataset = made_with(home, counter_clone, failed)
    assert [row["outcome"] for row in own_steps(dataset)] == [None, None, None]
    assert not [case for case in critic_cases(dataset, "train") if case.trajectory.startswith(PREFIX)]


def test_a_task_that_judges_clones_is_left_out(home: Path, counter: Path, counter_clone: CloneConfig) -> None:
    judged = min(open_dataset(home, counter_clone.cohort.name).tasks("gate"))
    dataset = made_with(home, counter_clone, episode(counter, task=judged))
    assert (own_steps(dataset), dataset.manifest["corrected"]["left_out"]) == ([], {"its task judges clones": 1})


def test_a_call_of_a_tool_that_is_no_more_is_context(home: Path, counter: Path, counter_clone: CloneConfig) -> None:
    gone = Action("tool_call", "shout", {})
    steps = [CorrectedStep(1, gone, "expert", gone)]
    dataset = made_with(home, counter_clone, episode(counter, steps=steps))
    (row,) = own_steps(dataset)
    assert (row["loss_mask"], "shout" in row["mask_reason"]) == (False, True)


def test_curating_again_keeps_what_was_corrected(home: Path, counter: Path, counter_clone: CloneConfig) -> None:
    made_with(home, counter_clone, episode(counter))
    again = curate_stage(home, counter_clone.cohort, str(counter / "snapshot"))
    assert again.manifest["corrected"]["learnt"] == 2
    without = replace(counter_clone.cohort, corrected=False)
    assert own_steps(curate_stage(home, without, str(counter / "snapshot"))) == []


def test_the_same_episodes_make_no_second_version_and_a_share_weighs_them(
    home: Path, counter: Path, counter_clone: CloneConfig
) -> None:
    first = made_with(home, counter_clone, episode(counter))
    assert version_with(home, counter_clone, first).version == first.version
    mixed = replace(counter_clone, cohort=replace(counter_clone.cohort, mix=0.25))
    second = version_with(home, mixed, first)
    learnt = [row for row in second.tables("train")["steps"].iter_rows(named=True) if row["loss_mask"]]
    ours = sum(row["weight"] for row in learnt if row["trajectory_id"].startswith(PREFIX))
    assert second.version == first.version + 1
    assert ours / sum(row["weight"] for row in learnt) == pytest.approx(0.25)


def test_a_line_that_was_cut_is_passed_over_and_another_is_named(home: Path, counter: Path) -> None:
    path = keep(home, "desk", [episode(counter)])
    whole = path.read_text(encoding="utf-8")
    path.write_text(whole + whole[:50], encoding="utf-8")
    assert [one.task for one in kept(home, "desk")] == ["common-77-1"]
    keep(home, "desk", [episode(counter, task="common-77-2")])
    assert [one.task for one in kept(home, "desk")] == ["common-77-1", "common-77-2"]
    path.write_text(whole[:50] + "\n" + whole, encoding="utf-8")
    with pytest.raises(DatasetError, match=r"line 1 of .*desk\.jsonl is no corrected episode"):
        kept(home, "desk")


def test_a_corrected_clone_is_trained_and_gated_as_any(home: Path, counter_clone: CloneConfig) -> None:
    made = correct_stage(home, counter_clone, "counter", Budget(calls=30), lambda stage, share: None)
    assert made.corrections.spent.calls <= 30
    assert made.dataset.manifest["corrected"]["learnt"] > 0
    began = [one for one in made.corrections.episodes if any(step.actor == "clone" for step in one.steps)]
    assert made.states.now == len({one.task for one in began}) > 0
    assert next(one.clone for one in kept(home, counter_clone.cohort.name)) == "counter:1"
    trained = train_stage(home, counter_clone, lambda stage, share: None)
    record = json.loads((trained.path / "clone.json").read_text(encoding="utf-8"))
    assert record["dataset_version"] == made.dataset.version


def test_own_successes_pass_the_audit_of_masks(home: Path, counter_clone: CloneConfig) -> None:
    own = replace(counter_clone, correct=CorrectConfig(method="own", tasks=12))
    made = correct_stage(home, own, "counter", Budget(calls=30), lambda stage, share: None)
    assert made.corrections.spent.calls == 0
    assert made.dataset.manifest["corrected"]["learnt"] > 0
    assert {row["policy_role"] for row in own_steps(made.dataset)} == {"clone"}
    train_stage(home, own, lambda stage, share: None)


def test_without_a_world_or_a_mask_nothing_is_corrected(home: Path, counter_clone: CloneConfig) -> None:
    def correct(clone: CloneConfig) -> None:
        correct_stage(home, clone, "counter", Budget(calls=5), lambda stage, share: None)

    with pytest.raises(CloneError, match=r"^clone counter has no environment: name it by --env and --expert"):
        correct(replace(counter_clone, rollout=None))
    with pytest.raises(ConfigError, match="a clone would learn its own mistakes"):
        correct(replace(counter_clone, correct=CorrectConfig(mask=False)))
    with pytest.raises(ConfigError, match="corrected is false, so nothing of it would be learnt"):
        correct(replace(counter_clone, cohort=replace(counter_clone.cohort, corrected=False)))
    with pytest.raises(ConfigError, match="licences forbids to learn from counter_world:"):
        correct(replace(counter_clone, cohort=replace(counter_clone.cohort, licences={"counter*": "forbidden"})))
    assert counter_clone.rollout is not None
    with pytest.raises(ConfigError, match="its tasks, or those after, are the gate's; take another"):
        correct(replace(counter_clone, correct=CorrectConfig(seed=counter_clone.rollout.seed - 1)))
    with pytest.raises(ConfigError, match="budget has 9 tokens, but counter_world:Clerk counts none"):
        correct_stage(home, counter_clone, "counter", Budget(calls=5, tokens=9))
    assert not (home / "corrections").exists()


@pytest.mark.parametrize(
    ("world", "reason"),
    [("Live", r"Live says dry_run = False: its steps have effects"), ("Unending", r"Unending lacks reset, needed")],
)
def test_a_world_in_which_nothing_may_be_tried_is_refused_by_all_who_play(
    home: Path, promoted_home: Path, counter_clone: CloneConfig, world: str, reason: str
) -> None:
    assert counter_clone.rollout is not None
    rollout = replace(counter_clone.rollout, environment=f"counter_world:{world}")
    clone = replace(counter_clone, rollout=rollout)
    with pytest.raises(CloneError, match=reason):
        correct_stage(home, clone, "counter", Budget(calls=5))
    with pytest.raises(CloneError, match=reason):
        gate_stage(home, clone, "counter", lambda stage, share: None)
    with pytest.raises(CloneError, match=reason):
        try_clone(promoted_home, clone, rollout, lambda stage, share: None, 77)
    assert not (home / "corrections").exists()
    assert Registry(home).gate_record("counter", 1) is None


def test_corrections_end_when_the_experts_tokens_are_spent_and_say_how_many(
    home: Path, counter_clone: CloneConfig
) -> None:
    assert counter_clone.rollout is not None
    metered = replace(counter_clone.rollout, expert="counter_world:Metered")
    clone = replace(counter_clone, rollout=metered, correct=CorrectConfig(method="dagger", tokens=35))
    made = correct_stage(home, clone, "counter", Budget.of(clone.correct))
    (played,) = made.corrections.rounds
    assert (played.spent.calls, played.spent.tokens, played.over) == (4, 40, "35 tokens are spent")
    assert made.to_json()["spent"]["tokens"] == 40
    assert f"4 calls of the expert, {played.spent.steps} steps, 40 tokens\n  ended early: 35 tokens" in made.render()


def test_each_of_several_rounds_has_its_share_of_the_tokens(home: Path, counter_clone: CloneConfig) -> None:
    assert counter_clone.rollout is not None
    metered = replace(counter_clone.rollout, expert="counter_world:Metered")
    asked = CorrectConfig(method="dagger", rounds=2, tasks=12, held_out=4)
    clone = replace(counter_clone, rollout=metered, correct=asked)
    made = correct_stage(home, clone, "counter", Budget(tokens=80))
    assert [one.spent.tokens for one in made.corrections.rounds] == [40, 40]
    assert made.corrections.spent.tokens == 80


def test_without_any_reward_a_clone_is_trained_and_corrected_by_what_the_expert_says(
    counter: Path, counter_clone: CloneConfig, tmp_path: Path
) -> None:
    assert counter_clone.rollout is not None
    blind = replace(counter_clone.rollout, environment="counter_world:Rewardless")
    config = CorrectConfig(method="dagger", rounds=2, tasks=12, held_out=4)
    clone = replace(counter_clone, rollout=blind, correct=config)
    snapshot = tmp_path / "snapshot"
    shutil.copytree(counter / "snapshot", snapshot)
    told = pl.read_parquet(snapshot / "trajectories.parquet")
    told.with_columns(outcome=pl.lit(None, pl.String)).write_parquet(snapshot / "trajectories.parquet")
    pl.read_parquet(snapshot / "scores.parquet").clear().write_parquet(snapshot / "scores.parquet")
    manifest = json.loads((snapshot / "manifest.json").read_text(encoding="utf-8"))
    manifest["counts"]["scores"] = 0
    (snapshot / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")

    before = curate_stage(tmp_path, clone.cohort, str(snapshot))
    assert set(before.tables()["trajectories"]["outcome"]) == {None}
    train_stage(tmp_path, clone, lambda stage, share: None)
    made = correct_stage(tmp_path, clone, "counter", Budget(calls=24))
    assert [one.success for one in made.corrections.rounds] == [0.0, 0.0]
    assert (made.corrections.kept, made.corrections.spent.rejected) == (2, 0)
    assert made.dataset.manifest["corrected"]["learnt"] == made.corrections.spent.calls == 24
    assert made.dataset.manifest["corrected"]["failures"] == 0
    assert train_stage(tmp_path, clone, lambda stage, share: None).version == 2


def test_a_second_run_goes_on_with_other_tasks(home: Path, counter_clone: CloneConfig) -> None:
    for calls in (12, 12):
        correct_stage(home, counter_clone, "counter", Budget(calls=calls))
    tasks = [one.task for one in kept(home, counter_clone.cohort.name)]
    assert len(tasks) == len(set(tasks)) > 4


def test_rounds_are_judged_on_tasks_that_nobody_learnt_from(home: Path, counter_clone: CloneConfig) -> None:
    rounds = replace(counter_clone, correct=CorrectConfig(method="dagger", rounds=2, tasks=8, held_out=8))
    made = correct_stage(home, rounds, "counter", Budget(calls=16))
    assert [one.episodes for one in made.corrections.rounds] == [4, 4]
    assert made.corrections.before is not None
    assert len(kept(home, counter_clone.cohort.name)) == 4 * made.corrections.kept


def test_the_command_tells_what_it_did_and_what_it_cost(home: Path, counter: Path) -> None:
    arguments = ["--home", str(home), "--config", str(counter / "imitrace.toml")]
    done = CliRunner().invoke(main, ["correct", "counter", "--budget", "12", *arguments, "--json"])
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["spent"]["calls"] <= 12
    assert told["rounds"][0]["learnt"] == told["corrected"]["learnt"]
    shown = CliRunner().invoke(main, ["correct", "counter", "--method", "dagger", "--budget", "7", *arguments])
    assert "7 calls of the expert" in shown.stdout
    assert "a decision to learn from; as many decisions again would cost some 7 " in shown.stdout
    assert "effective rows: 7, of " in shown.stdout
    assert canonical_json(told["dataset"]["name"]).strip('"') in shown.stdout


def test_the_command_keeps_within_the_limits_of_the_table_unless_told_otherwise(
    home: Path, counter: Path, tmp_path: Path
) -> None:
    written = (
        (counter / "imitrace.toml")
        .read_text(encoding="utf-8")
        .replace("[clone.counter.rollout]", f"[clone.counter.rollout]\npath = {json.dumps(str(counter))}")
    )
    config = tmp_path / "imitrace.toml"
    config.write_text(written + "[clone.counter.correct]\nbudget = 9\nsteps = 30\n", encoding="utf-8")

    def told(*asked: str) -> dict[str, Any]:
        arguments = ["correct", "counter", "--home", str(home), "--config", str(config), "--json"]
        done = CliRunner().invoke(main, [*arguments, "--method", "dagger", *asked])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    by_table, by_option, by_steps = told(), told("--budget", "6"), told("--steps", "5")
    assert (by_table["spent"]["calls"], by_table["rounds"][0]["over"]) == (9, "9 calls are spent")
    assert (by_option["spent"]["calls"], by_option["rounds"][0]["over"]) == (6, "6 calls are spent")
    assert by_steps["spent"]["steps"] < by_table["spent"]["steps"]
