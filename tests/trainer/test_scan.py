import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import CliRunner

from imitrace.cli import main
from imitrace.exceptions import DatasetError
from imitrace_trainer.cohort import CohortConfig, SplitConfig
from imitrace_trainer.curate import Curated, curate
from imitrace_trainer.scan import REASONS, Scan, ScanConfig, scan

MakeTables = Callable[..., dict[str, pl.DataFrame]]

WISHES = {"refund": "please pay back what I spent", "cancel": "stop that booking at once"}


def case(number: int) -> dict[str, Any]:
    """Return a task of two steps: one of a tool that the wish names, or, of every fifth, of one that nothing tells."""
    kind = "odd" if number % 5 == 4 else "plain"
    wish = list(WISHES)[number % 2]
    action = f"whim{hash_of(number) % 2}" if kind == "odd" else wish
    told = f"surprise me {number}" if kind == "odd" else f"{WISHES[wish]} number {number}"
    step = {"action_name": action, "action_arguments": "{}"}
    named = {"id": f"t{number:03}", "task": f"t{number:03}", "says": told, "roles": ["expert"]}
    return {**named, "step": step, "tags": {"cohort": kind}}


def hash_of(number: int) -> int:
    return number * 2_654_435_761 % 2**32 >> 16


def curated(make_tables: MakeTables, tasks: int) -> Curated:
    tables = make_tables(*map(case, range(tasks)))
    return curate({name: frame.lazy() for name, frame in tables.items()}, CohortConfig(name="desk", agent="desk"))


@pytest.fixture(scope="module")
def scanned(make_tables: MakeTables) -> Scan:
    return scan(curated(make_tables, 400), ScanConfig(promise=0.9))


def test_what_the_request_tells_is_clonable_and_what_it_does_not_is_left_to_the_expert(scanned: Scan) -> None:
    plain, odd = scanned.kinds
    assert (plain.name, plain.decisions, odd.name, odd.decisions) == ("plain", 320, "odd", 80)
    assert plain.coverage.value > 0.95
    assert odd.coverage.value < 0.3
    assert plain.coverage.low <= plain.coverage.value <= plain.coverage.high
    assert scanned.agreement is not None
    assert scanned.agreement.value > 0.9
    assert set(odd.blocked) <= {"action", "unsure"}
    assert {part.name for part in scanned.actions} == {"refund", "cancel", "whim0", "whim1"}


def test_too_few_tasks_to_prove_anything_say_how_many_more_would(make_tables: MakeTables) -> None:
    found = scan(curated(make_tables, 60), ScanConfig(promise=0.9))
    assert found.decided < 0.5
    assert found.coverage.low == 0
    assert found.trajectories_needed is None or found.trajectories_needed > 0


def test_states_that_led_to_several_actions_are_named(make_tables: MakeTables) -> None:
    same = [{**case(number), "says": "do it"} for number in range(40)]
    tables = make_tables(*same)
    cohort = CohortConfig(name="desk", agent="desk")
    found = scan(curate({name: frame.lazy() for name, frame in tables.items()}, cohort), ScanConfig(promise=0.9))
    assert found.contradictions > 10
    assert found.blocked["contradicting"] > 10


def test_failures_are_learnt_from_and_not_counted(make_tables: MakeTables) -> None:
    misread = [{**case(number), "id": f"f{number:03}", "outcome": "failure"} for number in range(0, 120, 3)]
    astray = [{**one, "step": {"action_name": "whim0", "action_arguments": "{}"}} for one in misread]
    tables = make_tables(*map(case, range(120)), *astray)
    cohort = CohortConfig(name="desk", agent="desk")
    found = scan(curate({name: frame.lazy() for name, frame in tables.items()}, cohort), ScanConfig(promise=0.9))
    assert (found.decisions, found.failures, found.tasks, found.contradictions) == (120, 40, 120, 0)
    assert "40 decisions of failures are not counted, only learnt from" in found.render()


def test_where_all_failed_all_is_counted(make_tables: MakeTables) -> None:
    tables = make_tables(*({**case(number), "outcome": "abandoned"} for number in range(40)))
    cohort = CohortConfig(name="desk", agent="desk")
    found = scan(curate({name: frame.lazy() for name, frame in tables.items()}, cohort), ScanConfig(promise=0.9))
    assert (found.decisions, found.failures) == (40, 0)


def test_only_as_many_decisions_are_looked_at_as_asked_by_whole_tasks(make_tables: MakeTables) -> None:
    assert scan(curated(make_tables, 60), ScanConfig(most=30)).decisions == 30


def test_a_cohort_too_small_to_scan_is_refused_with_what_is_wanted(make_tables: MakeTables) -> None:
    with pytest.raises(DatasetError, match="5 tasks with 3 kinds of action can't be scanned, wanted at least 10 tasks"):
        scan(curated(make_tables, 5), ScanConfig())


def test_a_split_that_leaves_nothing_to_prove_on_is_refused(make_tables: MakeTables) -> None:
    config = ScanConfig(split=SplitConfig(calibration=0))
    with pytest.raises(DatasetError, match=r"split\.calibration 0 and split\.gate 0\.2 leave nothing to prove"):
        scan(curated(make_tables, 20), config)


def test_where_nothing_is_proven_there_is_no_agreement_to_tell(make_tables: MakeTables) -> None:
    found = scan(curated(make_tables, 20), ScanConfig(promise=0.99))
    assert (found.coverage.value, found.agreement) == (0, None)
    assert "none to judge" in found.render()


def test_the_text_names_the_figures_and_what_blocks(scanned: Scan) -> None:
    text = scanned.render()
    assert f"predicted coverage at 90% agreement  {scanned.coverage} of all decisions" in text
    assert all(REASONS[reason] in text for reason in scanned.blocked)
    assert json.loads(json.dumps(scanned.to_json()))["kinds"][0]["name"] == "plain"


def test_the_command_scans_an_agent_or_a_cohort(make_snapshot: Callable[..., Path], tmp_path: Path) -> None:
    source = make_snapshot(*map(case, range(40)))
    (tmp_path / "imitrace.toml").write_text('[cohort.plain]\nagent = "desk"\ntags = { cohort = "plain" }\n')
    config = ["--config", str(tmp_path / "imitrace.toml"), "--source", str(source), "--json"]
    whole = CliRunner().invoke(main, ["scan", "--agent", "desk", "--source", str(source), "--json"])
    part = CliRunner().invoke(main, ["scan", "plain", "--promise", "0.8", *config])
    assert (json.loads(whole.stdout)["tasks"], json.loads(part.stdout)["tasks"]) == (40, 32)
    assert json.loads(part.stdout)["promise"] == 0.8


@pytest.mark.parametrize("options", [[], ["plain", "--agent", "desk"]])
def test_the_command_wants_a_cohort_or_an_agent(options: list[str]) -> None:
    done = CliRunner().invoke(main, ["scan", *options])
    assert done.exit_code == 2
    assert "scan needs a cohort or --agent, and not both" in done.stderr
