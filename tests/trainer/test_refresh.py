import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.refresh import champion_dataset, refresh
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig

Fork = Callable[[Path], Path]


def quiet(stage: str, share: float) -> None:
    pass


def test_a_first_turn_goes_from_traces_to_a_champion(counter: Path, counter_clone: CloneConfig, tmp_path: Path) -> None:
    said: list[str] = []
    turn = refresh(tmp_path, counter_clone, str(counter / "snapshot"), quiet, said.append)
    assert turn.reason == "v1 acts in common, safety"
    assert turn.promotion is not None and turn.promotion.cohorts == ("common", "safety")
    assert Registry(tmp_path).aliases("counter")["champion"] == 1
    assert turn.dataset is not None
    assert champion_dataset(tmp_path, "counter") == turn.dataset.hash
    assert [text.splitlines()[0] for text in said] == [
        "dataset counter v1",
        "trained counter v1",
        "gate of counter v1: pass",
    ]


def test_the_same_data_twice_say_that_there_is_nothing_new(
    counter: Path, counter_clone: CloneConfig, promoted_home: Path, fork: Fork
) -> None:
    home, said = fork(promoted_home), list[str]()
    turn = refresh(home, counter_clone, str(counter / "snapshot"), quiet, said.append)
    assert (turn.trained, turn.gate, turn.promotion) == (None, None, None)
    assert turn.reason == "the champion was trained on this dataset: nothing new to learn"
    assert said == ["dataset counter v1 (unchanged)"]
    assert Registry(home).versions("counter") == [1]


def test_new_data_make_a_new_champion(
    counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home = fork(promoted_home)
    turn = refresh(home, counter_clone, str(more_tickets), quiet, lambda text: None)
    assert turn.dataset is not None
    assert (turn.dataset.version, turn.reason) == (2, "v2 acts in common, safety")
    assert turn.promotion is not None and turn.promotion.previous == 1
    assert Registry(home).aliases("counter") == {"candidate": 2, "champion": 2, "previous": 1}


def test_a_clone_that_proves_nothing_leaves_the_champion_in_place(
    counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home = fork(promoted_home)
    worse = replace(counter_clone, route=RouteConfig(error=0.001))  # more than so few decisions can prove
    turn = refresh(home, worse, str(more_tickets), quiet, lambda text: None)
    assert (turn.promotion, turn.reason) == (None, "no cohort passed its gate: the champion stays")
    assert turn.gate is not None and turn.gate.passed_cohorts() == ()
    assert Registry(home).aliases("counter") == {"candidate": 2, "champion": 1}
    assert champion_dataset(home, "counter") == open_dataset(home, "counter", 1).hash


def test_a_champion_that_acts_in_more_cohorts_stays(
    counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home = fork(promoted_home)
    record = Registry(home).gate_record("counter", 1)
    assert record is not None
    wider = replace(record, cohorts=(*record.cohorts, replace(record.cohorts[0], cohort="vip")))
    Registry(home).record_gate("counter", 1, wider)
    turn = refresh(home, counter_clone, str(more_tickets), quiet, lambda text: None)
    assert (turn.promotion, turn.reason) == (None, "the champion acts in vip too: it stays")
    assert Registry(home).aliases("counter") == {"candidate": 2, "champion": 1}


def test_a_version_of_the_same_data_and_settings_is_gated_and_not_trained_again(
    counter: Path, counter_clone: CloneConfig, trained_home: Path, fork: Fork
) -> None:
    home = fork(trained_home)
    turn = refresh(home, counter_clone, str(counter / "snapshot"), quiet, lambda text: None)
    assert turn.dataset is not None and turn.dataset.created is False
    assert (turn.trained, turn.reason) == (None, "v1 acts in common, safety")
    assert Registry(home).versions("counter") == [1]


def test_with_other_settings_it_is_trained_again(
    counter: Path, counter_clone: CloneConfig, trained_home: Path, fork: Fork
) -> None:
    other = replace(counter_clone, train=replace(counter_clone.train, seed=5))
    turn = refresh(fork(trained_home), other, str(counter / "snapshot"), quiet, lambda text: None)
    assert turn.trained is not None
    assert (turn.trained.version, turn.reason) == (2, "v2 acts in common, safety")


def renamed_tool(snapshot: Path, folder: Path) -> Path:
    """Copy a snapshot in which the newer half of the trajectories is offered ``find_ticket`` for ``find_order``."""
    shutil.copytree(snapshot, folder)
    tools = pl.read_parquet(folder / "tools.parquet")
    name = pl.when(pl.col("name") == "find_order").then(pl.lit("find_ticket")).otherwise("name")
    newer = tools.with_columns(pl.lit("newer").alias("tools_hash"), name.alias("name"))
    newer = newer.with_columns(pl.col("definition").str.replace_all("find_order", "find_ticket"))
    newer = newer.with_columns(pl.format("{}-newer", "schema_hash").alias("schema_hash"))
    steps = pl.read_parquet(folder / "steps.parquet")
    late = pl.col("trajectory_id") > steps["trajectory_id"].sort()[len(steps) // 2]
    steps = steps.with_columns(
        pl.when(late).then(pl.lit("newer")).otherwise("tools_hash").alias("tools_hash"),
        pl.when(late).then(pl.col("started_at") + 10**15).otherwise("started_at").alias("started_at"),
    )
    steps.write_parquet(folder / "steps.parquet")
    pl.concat([tools, newer]).write_parquet(folder / "tools.parquet")
    manifest = json.loads((folder / "manifest.json").read_text())
    counts = manifest["counts"] | {"tools": 2 * len(tools)}
    (folder / "manifest.json").write_text(json.dumps({**manifest, "counts": counts, "files": {}}))
    return folder


def test_nothing_is_made_while_a_change_of_a_tool_is_undecided(
    counter: Path, counter_clone: CloneConfig, tmp_path: Path
) -> None:
    source, said = renamed_tool(counter / "snapshot", tmp_path / "snapshot"), list[str]()
    turn = refresh(tmp_path / "home", counter_clone, str(source), quiet, said.append)
    assert (turn.dataset, turn.trained, turn.promotion) == (None, None, None)
    assert [(finding.tool, finding.kind) for finding in turn.undecided] == [("find_order", "vanished")]
    assert (
        turn.reason == f"undecided changes of the tools of {counter_clone.cohort.agent}: 1; decide, then refresh again"
    )
    assert "! undecided: imitrace tools rename find_order NEW, or imitrace tools deprecate find_order" in said[0]
    assert not (tmp_path / "home" / "datasets").exists()


def test_a_clone_without_a_champion_learned_from_no_dataset(trained_home: Path, tmp_path: Path) -> None:
    assert champion_dataset(trained_home, "counter") is None
    assert champion_dataset(tmp_path, "counter") is None


def test_a_world_that_is_not_there_promotes_nothing(counter: Path, counter_clone: CloneConfig, tmp_path: Path) -> None:
    assert counter_clone.rollout is not None
    nowhere = replace(counter_clone.rollout, environment="counter_world:Nowhere")
    quick = replace(counter_clone, rollout=nowhere, train=replace(counter_clone.train, epochs=1))
    with pytest.raises(ConfigError, match="can't be loaded"):
        refresh(tmp_path, quick, str(counter / "snapshot"), quiet, lambda text: None)
    assert Registry(tmp_path).aliases("counter") == {"candidate": 1}
