"""A passport says what a clone was made of, as counted in its dataset; the same making gives the same passport."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.datasets import Dataset, open_dataset
from imitrace_trainer.passport import learned_from, mask_report, passport, sources_hash
from imitrace_trainer.tool_ledger import ToolDecision, read_ledger, record_decision


@pytest.fixture
def dataset(make_snapshot: Callable[..., Path], tmp_path: Path) -> Dataset:
    """Return a dataset of two experts, a person and a clone whose steps are only context."""
    who = [("expert", "gpt-9", "3"), ("human", "ada", None), ("expert", "claude-9", None), ("expert", "gpt-9", "3")]
    cases: list[dict[str, Any]] = [
        {"id": f"t{n}", "roles": [role, "clone"], "step": {"policy_name": name, "policy_version": version}}
        for n, (role, name, version) in enumerate(who)
    ]
    cohort = CohortConfig(name="desk", agent="desk")
    return curate_stage(
        tmp_path, replace(cohort, split=replace(cohort.split, gate=0.0, calibration=0.0)), str(make_snapshot(*cases))
    )


def test_the_registered_clone_carries_its_passport(trained_home: Path, counter_clone: CloneConfig) -> None:
    record = json.loads((trained_home / "clones/counter/v1/clone.json").read_text(encoding="utf-8"))
    dataset, told = open_dataset(trained_home, "counter"), record["passport"]
    weights = {f"{part}.{kind}" for part in ("critic", "second") for kind in ("json", "safetensors")}
    files = {"card.md", "model.safetensors", "report.html", "report.json"} | weights
    assert told["files"].keys() == files
    assert all(re.fullmatch("[0-9a-f]{64}", hashed) for hashed in told.pop("files").values())
    assert told == passport(
        dataset, counter_clone, read_ledger(trained_home).rules("counter"), ("train", "calibration")
    )
    assert (told["dataset"]["hash"], told["seeds"]) == (dataset.hash, {"train": 0, "split": 0})
    assert told["masks"]["train"] == {"counted": dataset.manifest["splits"]["train"]["trained_steps"], "masked": {}}


def test_a_mask_report_counts_each_reason(dataset: Dataset) -> None:
    report = mask_report(dataset)
    assert report["train"] == {"counted": 4, "masked": {"by a clone, not confirmed": 4}}
    assert report["gate"] == {"counted": 0, "masked": {}}


def test_whose_decisions_were_learned_is_told_with_the_licence_that_fits_first(dataset: Dataset) -> None:
    cohort = CohortConfig(name="desk", agent="desk", licences={"gpt-*": "allowed", "*-9": "forbidden"})
    assert [
        (who["policy"], who["version"], who["steps"], who["licence"])
        for who in learned_from(dataset, cohort, ("train",))
    ] == [
        ("claude-9", None, 1, {"pattern": "*-9", "verdict": "forbidden"}),
        ("gpt-9", "3", 2, {"pattern": "gpt-*", "verdict": "allowed"}),
        ("ada", None, 1, None),
    ]


def test_a_decision_about_tools_after_curation_shows(
    trained_home: Path, counter_clone: CloneConfig, fork: Callable[[Path], Path]
) -> None:
    home = fork(trained_home)
    record_decision(home, ToolDecision(kind="deprecate", tool="find_order", agent="counter"))
    tools = passport(open_dataset(home, "counter"), counter_clone, read_ledger(home).rules("counter"), ("train",))[
        "tools"
    ]
    assert tools["ledger_of_dataset"] != tools["ledger_of_training"]


def test_the_sources_have_one_hash() -> None:
    assert sources_hash() == sources_hash()
    assert re.fullmatch("[0-9a-f]{64}", sources_hash())
