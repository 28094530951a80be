import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig

Fork = Callable[[Path], Path]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def home(promoted_home: Path, fork: Fork) -> Path:
    return fork(promoted_home)


def with_rules(counter: Path, folder: Path, *lines: str) -> Path:
    """Return a copy of the counter's configuration with a table for its route."""
    text = (counter / "imitrace.toml").read_text(encoding="utf-8")
    text = re.sub(r"\[clone\.counter\.route\][^\[]*", "", text)
    path = folder / "imitrace.toml"
    path.write_text("\n".join([text, "[clone.counter.route]", *lines, ""]), encoding="utf-8")
    return path


def test_it_says_where_the_champion_may_act_and_by_which_settings(home: Path) -> None:
    told = run("route", "counter", "--home", home)
    assert told.exit_code == 0
    assert told.stdout.startswith("counter v1 (champion, candidate) acts in common, safety\nsettings:\n")
    record = json.loads(run("route", "counter", "--home", home, "--json").stdout)
    assert RouteConfig.from_table(record["settings"]) == Registry(home).route_config("counter")
    assert (record["version"], record["refused"]) == (1, None)


def test_settings_are_applied_and_a_tag_asked_about(home: Path, counter: Path, tmp_path: Path) -> None:
    rule = 'rules = [{ when = { tag = "tier", eq = "vip" }, to = "expert" }]'
    config = with_rules(counter, tmp_path, "audit = 0.1", rule)
    applied = run("route", "counter", "--apply", "--config", config, "--home", home)
    assert "  audit = 0.1\n" in applied.stdout
    vip = run("route", "counter", "--tag", "tier=vip", "--tag", "cohort=common", "--home", home)
    assert (vip.exit_code, vip.stdout.splitlines()[1]) == (1, "rule 1 leaves this to the expert")
    other = run("route", "counter", "--tag", "cohort=common", "--home", home)
    assert (other.exit_code, other.stdout.splitlines()[1][:18]) == (0, "the clone is asked")


def test_promoting_takes_the_settings_into_service(home: Path, counter: Path, tmp_path: Path) -> None:
    config = with_rules(counter, tmp_path, "audit = 0.2")
    promoted = run("promote", "counter", "--config", config, "--home", home)
    assert promoted.exit_code == 0, promoted.output
    assert Registry(home).route_config("counter").audit == 0.2


def test_a_route_without_an_audit_is_refused_before_anything_changes(home: Path, counter: Path, tmp_path: Path) -> None:
    config = with_rules(counter, tmp_path, "audit = 0")
    refused = run("promote", "counter", "--config", config, "--home", home)
    assert refused.exit_code != 0
    assert "nobody would notice" in refused.output
    assert Registry(home).route_config("counter").unaudited


def test_lapsed_evidence_is_told_and_not_promoted(home: Path) -> None:
    Registry(home).record_route("counter", RouteConfig(gate_days=1e-9))
    told = run("route", "counter", "--home", home)
    assert (told.exit_code, "acts in none" in told.stdout, "evidence lapsed" in told.stdout) == (1, True, True)
    assert "evidence lapsed" in run("promote", "counter", "--home", home).output
    (row,) = json.loads(run("clones", "--home", home, "--json").stdout)
    assert (row["cohorts"], "evidence lapsed" in row["lapsed"]) == ([], True)


def test_looking_at_the_tools_is_noted_for_the_clones_of_the_agent(home: Path, counter: Path) -> None:
    looked = run("tools", "diff", "--source", counter / "snapshot", "--home", home)
    assert looked.exit_code == 0, looked.output
    assert list(Registry(home).checks("counter")) == ["tools"]
    assert run("tools", "diff", "--agent", "nobody", "--source", counter / "snapshot", "--home", home).exit_code != 0


@pytest.mark.parametrize("given", [["--tag", "tier"], ["--tag", "=" * 0]])
def test_a_tag_without_a_value_is_refused(home: Path, given: list[Any]) -> None:
    refused = run("route", "counter", *given, "--home", home)
    assert "allowed: KEY=VALUE" in refused.output


def test_an_audit_of_a_source_without_audited_decisions_says_so(home: Path, counter: Path) -> None:
    told = run("audit", "counter", "--source", counter / "snapshot", "--home", home)
    assert (told.exit_code, "nothing is known" in told.stdout) == (0, True)
    record = json.loads(run("audit", "counter", "--source", counter / "snapshot", "--home", home, "--json").stdout)
    assert (record["clone"], record["audited"]) == ("counter", 0)


def test_a_record_that_can_not_be_read_is_told_and_allows_nothing(home: Path) -> None:
    (home / "clones/counter/gates/v1.json").write_text("{")
    (row,) = json.loads(run("clones", "--home", home, "--json").stdout)
    assert (row["gate"], row["cohorts"]) == ("unreadable", [])
    assert "gate record is unreadable" in row["lapsed"]
