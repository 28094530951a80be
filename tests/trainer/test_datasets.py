import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.exceptions import DatasetError
from imitrace.messages import Action
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.conditions import Condition
from imitrace_trainer.curate import curate
from imitrace_trainer.datasets import Dataset, check_licences, list_datasets, open_dataset, write_dataset
from imitrace_trainer.datasets_cli import describe_dataset
from imitrace_trainer.progress import silent
from imitrace_trainer.sources import open_source
from imitrace_trainer.step_counts import CORRECTIONS, StepCounts

Tables = dict[str, pl.DataFrame]
MakeTables = Callable[..., Tables]

COHORT = CohortConfig(name="desk", agent="desk", where=(Condition.parse("s >= 0.5"),))
CASES: list[dict[str, Any]] = [
    {"id": f"t{n}", "task": f"task {n % 5}", "scores": {"s": n / 10}, "started_at": -n, "roles": ["expert", "clone"]}
    for n in range(20)
]


def write(home: Path, tables: Tables, cohort: CohortConfig = COHORT) -> Dataset:
    frames = {table: frame.lazy() for table, frame in tables.items()}
    return write_dataset(home, cohort, curate(frames, cohort), "a test")


def test_a_snapshot_becomes_a_dataset(tmp_path: Path, make_snapshot: Callable[..., Path]) -> None:
    source = open_source(str(make_snapshot(*CASES)), tmp_path)
    written = write_dataset(tmp_path, COHORT, curate(source.frames(), COHORT), source.describe())
    opened = open_dataset(tmp_path, "desk")
    assert (written.created, opened.created) == (True, False)
    assert opened.path == tmp_path / "datasets" / "desk" / "v1"
    assert opened.manifest == written.manifest
    tables = {f"{table}.parquet" for table in ("trajectories", "steps", "rejected", "messages", "tools")}
    assert {path.name for path in opened.path.iterdir()} == {"manifest.json", *tables}


def test_a_manifest_says_what_is_kept_and_why_the_rest_is_not(tmp_path: Path, make_tables: MakeTables) -> None:
    manifest = write(tmp_path, make_tables(*CASES, {"id": "x", "agent": "other"})).manifest
    assert manifest["splits"]["train"] == {"tasks": 3, "trajectories": 9, "steps": 18, "trained_steps": 9}
    assert manifest["rejected"] == {"scores": 5}
    assert (manifest["other_agents"], manifest["source"]) == (1, "a test")
    assert manifest["cohort"]["where"] == ["s >= 0.5"]
    assert manifest["counts"] == {"trajectories": 15, "steps": 30, "rejected": 5, "messages": 15, "tools": 1}


def test_a_manifest_says_what_was_gained_by_handovers_in_the_train_split(
    tmp_path: Path, make_tables: MakeTables
) -> None:
    roles = {"a": ["clone", "expert", "clone", "human"], "b": ["expert", "expert", "clone"], "c": ["clone", "clone"]}
    whole = replace(COHORT, where=(), split=SplitConfig(calibration=0, gate=0))
    mixed = write(tmp_path, make_tables(*({"id": name, "roles": found} for name, found in roles.items())), whole)
    assert mixed.manifest["handovers"] == {"trajectories": 1, "learnt": 2}
    assert "\n  handovers: 2 steps learnt behind a clone's own, in 1 trajectories\n" in describe_dataset(mixed)
    alone = write(tmp_path / "alone", make_tables({"id": "d", "roles": ["expert", "expert"]}), whole)
    assert alone.manifest["handovers"] == {"trajectories": 0, "learnt": 0}
    assert "handovers" not in describe_dataset(alone)
    held = replace(whole, split=SplitConfig(calibration=0, gate=0.7))
    judged = write(tmp_path / "held", make_tables(*({"id": f"{n}", "roles": roles["a"]} for n in range(9))), held)
    trained = judged.manifest["splits"]["train"]["trajectories"]
    assert judged.manifest["handovers"] == {"trajectories": trained, "learnt": 2 * trained}
    assert 0 < trained < 9


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_handovers_are_counted_alike_however_the_steps_are_portioned(make_tables: MakeTables, size: int) -> None:
    cases = [
        {"id": "a", "roles": ["clone", "expert", "expert", "expert"]},
        {"id": "b", "roles": ["expert"]},
        {"id": "c", "roles": ["expert", "clone", "expert"], "source": CORRECTIONS},
        {"id": "d", "roles": ["clone", "expert"]},
    ]
    tables = make_tables(*cases)
    whole = replace(COHORT, where=(), split=SplitConfig(calibration=0, gate=0))
    curated = curate({table: frame.lazy() for table, frame in tables.items()}, whole)
    steps = curated.steps.collect().sort("trajectory_id", "step_index")
    counts = StepCounts(curated.trajectories, silent)
    watch = counts.watch("steps")
    assert watch is not None
    for portion in steps.iter_slices(size):
        watch(portion)
    assert counts.handovers() == {"trajectories": 2, "learnt": 4}


def test_an_example_holds_what_was_seen_and_done(tmp_path: Path, make_tables: MakeTables) -> None:
    case = {"id": "t", "task": "a", "says": "hello", "tags": {"intent": "refund"}, "outcome": "success"}
    whole = CohortConfig(name="desk", agent="desk", split=SplitConfig(calibration=0, gate=0))
    first, second = write(tmp_path, make_tables(case), whole).examples("train")
    assert (second.trajectory_id, second.step_index, second.task, second.split) == ("t", 1, "a", "train")
    assert (second.tags, second.outcome, second.policy_role) == ({"intent": "refund"}, "success", "expert")
    assert second.action == Action("tool_call", "lookup", {"order": 1})
    assert [message["parts"][0]["content"] for message in second.state] == ["hello", "hello"]
    assert second.message_ids == first.message_ids * 2
    assert [tool["name"] for tool in second.tools] == ["lookup"]


def test_examples_share_messages_and_tools(tmp_path: Path, make_tables: MakeTables) -> None:
    dataset = write(tmp_path, make_tables(*({**case, "says": "the same"} for case in CASES)))
    examples = dataset.examples("train") + dataset.examples("gate")
    assert len({id(message) for example in examples for message in example.state}) == 1
    assert len({id(example.tools) for example in examples}) == 1


def test_examples_come_by_trajectory_and_step(tmp_path: Path, make_tables: MakeTables) -> None:
    examples = write(tmp_path, make_tables(*CASES)).examples()
    wanted = [(f"t{n}", step, step == 0) for n in range(19, 4, -1) for step in (0, 1)]
    assert [(example.trajectory_id, example.step_index, example.loss_mask) for example in examples] == wanted


def test_a_step_without_tools_and_a_message_are_examples_too(tmp_path: Path, make_tables: MakeTables) -> None:
    said = {"tools_hash": None, "action_kind": "message", "action_name": None, "action_arguments": None}
    cases = [{**case, "step": said | {"action_message": "Hello"}} for case in CASES]
    example = write(tmp_path, make_tables(*cases)).examples()[0]
    assert (example.tools, example.action) == ([], Action("message", message="Hello"))


def test_splits_share_no_task(tmp_path: Path, make_tables: MakeTables) -> None:
    dataset = write(tmp_path, make_tables(*CASES))
    parts = [dataset.tasks(split) for split in ("train", "calibration", "gate")]
    assert sum(map(len, parts)) == len(set().union(*parts)) == len(dataset.tasks()) == 5


def test_a_split_that_does_not_exist_is_refused(tmp_path: Path, make_tables: MakeTables) -> None:
    with pytest.raises(DatasetError, match="no split 'test', expected one of train, calibration, gate"):
        write(tmp_path, make_tables(*CASES)).examples("test")


def test_the_same_content_is_not_written_again(tmp_path: Path, make_tables: MakeTables) -> None:
    first, again = (write(tmp_path, make_tables(*CASES)) for _ in range(2))
    assert (again.version, again.hash, again.created) == (1, first.hash, False)
    assert [path.name for path in (tmp_path / "datasets" / "desk").iterdir()] == ["v1"]


@pytest.mark.parametrize(
    ("cases", "cohort"),
    [
        ([*CASES, {"id": "new", "task": "a", "scores": {"s": 1.0}}], COHORT),
        ([*CASES, {"id": "new", "task": "a", "scores": {"s": 0.0}}], COHORT),
        (CASES, CohortConfig(name="desk", agent="desk", where=COHORT.where, split=SplitConfig(seed=1))),
        ([{**CASES[0], "says": "Something else", "scores": {"s": 1.0}}, *CASES[1:]], COHORT),
    ],
)
def test_other_content_is_a_new_version_and_the_old_one_stays(
    tmp_path: Path, make_tables: MakeTables, cases: list[dict[str, Any]], cohort: CohortConfig
) -> None:
    first = write(tmp_path, make_tables(*CASES))
    second = write(tmp_path, make_tables(*cases), cohort)
    assert (second.version, second.created) == (2, True)
    assert second.hash != first.hash == open_dataset(tmp_path, "desk", 1).hash
    assert [dataset.version for dataset in list_datasets(tmp_path)] == [1, 2]


def test_processes_that_write_at_once_do_not_clash(tmp_path: Path, make_tables: MakeTables) -> None:
    barrier = threading.Barrier(8)
    datasets: list[Dataset] = []

    def write_one(seed: int) -> None:
        cohort = CohortConfig(name="desk", agent="desk", split=SplitConfig(seed=seed))
        tables = make_tables(*CASES)
        barrier.wait()
        datasets.append(write(tmp_path, tables, cohort))

    threads = [threading.Thread(target=write_one, args=(n % 4,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    created = sorted(dataset.version for dataset in datasets if dataset.created)
    assert created == list(range(1, len(created) + 1))
    assert len(datasets) == 8
    assert sorted(path.name for path in (tmp_path / "datasets" / "desk").iterdir()) == [f"v{n}" for n in created]


def test_a_dataset_from_before_a_policy_was_forbidden_is_refused(tmp_path: Path, make_tables: MakeTables) -> None:
    dataset = write(tmp_path, make_tables(*({**case, "step": {"policy_name": "claude-x"}} for case in CASES)))
    check_licences(dataset, replace(COHORT, licences={"gpt-*": "forbidden"}))
    with pytest.raises(
        DatasetError, match=r"desk v1 has 15 trajectories .*: t10 step 0 by claude-x; .*curate it again"
    ):
        check_licences(dataset, replace(COHORT, licences={"claude-*": "forbidden"}))


def test_what_a_killed_run_left_goes_with_the_next_one(tmp_path: Path, make_tables: MakeTables) -> None:
    killed = "\n".join(
        [
            "import os, signal, sys",
            "from pathlib import Path",
            "from imitrace_trainer.drafts import draft",
            "with draft(Path(sys.argv[1])) as aside:",
            "    (aside / 'steps.parquet').write_bytes(b'half')",
            "    os.kill(os.getpid(), signal.SIGKILL)",
        ]
    )
    folder = tmp_path / "datasets"
    assert subprocess.run([sys.executable, "-c", killed, str(folder)], check=False).returncode == -signal.SIGKILL
    assert len(list(folder.glob(".new-*"))) == 1
    assert write(tmp_path, make_tables(*CASES)).version == 1
    assert not list(folder.glob(".new-*"))


def test_a_run_that_fails_leaves_nothing(tmp_path: Path, make_tables: MakeTables) -> None:
    frames = {table: frame.lazy() for table, frame in make_tables(*CASES).items()}
    curated = curate(frames, COHORT)
    broken = replace(curated, messages=pl.scan_parquet(tmp_path / "gone.parquet"))
    with pytest.raises(DatasetError, match="datasets/desk can't be written"):
        write_dataset(tmp_path, COHORT, broken, "a test")
    assert [path.name for path in (tmp_path / "datasets").iterdir()] == [".lock"]


def test_a_dataset_that_does_not_exist_is_named_with_what_does(tmp_path: Path, make_tables: MakeTables) -> None:
    with pytest.raises(DatasetError, match=r"dataset 'desk' does not exist, there are: none; .*'imitrace curate desk'"):
        open_dataset(tmp_path, "desk")
    write(tmp_path, make_tables(*CASES))
    with pytest.raises(DatasetError, match="dataset 'other' does not exist, there are: desk"):
        open_dataset(tmp_path, "other")
    with pytest.raises(DatasetError, match="dataset 'desk' has no version 7, there are: 1"):
        open_dataset(tmp_path, "desk", 7)


def test_a_dataset_with_a_row_lost_is_refused(tmp_path: Path, make_tables: MakeTables) -> None:
    path = write(tmp_path, make_tables(*CASES)).path / "steps.parquet"
    pl.read_parquet(path).head(29).write_parquet(path)
    with pytest.raises(DatasetError, match=r"steps\.parquet has 29 rows, its manifest says 30"):
        open_dataset(tmp_path, "desk").examples()


def test_a_dataset_of_a_newer_imitrace_is_refused(tmp_path: Path, make_tables: MakeTables) -> None:
    path = write(tmp_path, make_tables(*CASES)).path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 99}))
    with pytest.raises(DatasetError, match="schema_version 99, this imitrace reads up to"):
        open_dataset(tmp_path, "desk")


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, make_tables: MakeTables) -> None:
    (tmp_path / "datasets").write_text("a file")
    with pytest.raises(DatasetError, match="datasets/desk can't be written"):
        write(tmp_path, make_tables(*CASES))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_the_order_of_rows_does_not_change_the_hash(
    tmp_path_factory: pytest.TempPathFactory, make_tables: MakeTables, seed: int
) -> None:
    tables = make_tables(*CASES)
    shuffled = {table: frame.sample(fraction=1, shuffle=True, seed=seed) for table, frame in tables.items()}
    home = tmp_path_factory.mktemp("home")
    first, again = write(home, tables), write(home, shuffled)
    assert (first.hash, first.version) == (again.hash, again.version)
    assert first.examples() == again.examples()
