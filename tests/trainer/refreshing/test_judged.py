"""A gate that would only repeat what it said is not asked again: it costs the expert's calls."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from imitrace_trainer.config import CloneConfig
from imitrace_trainer.gate_rules import GateConfig
from imitrace_trainer.refreshing.judged import gate_terms, judged_before
from imitrace_trainer.refreshing.runs import Run
from imitrace_trainer.refreshing.scheduled import Asked, scheduled_refresh
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig

Fork = Callable[[Path], Path]
LAX = GateConfig(margins={"common": 0.9}, safety_bound=0.2, waive={"long_tail": "all are common"})


def go(home: Path, clone: CloneConfig, source: Path, **asked: bool) -> Run:
    return scheduled_refresh(Asked(home, clone, str(source), **asked), lambda stage, share: None, lambda text: None)


def gated_at(home: Path) -> str:
    record = Registry(home).gate_record("counter", 2)
    assert record is not None
    return record.created_at


def test_what_was_held_is_gated_again_only_when_something_changed_or_by_force(
    counter_clone: CloneConfig, promoted_home: Path, fork: Fork, grumpy_tickets: Path
) -> None:
    home, lax = fork(promoted_home), replace(counter_clone, gate=LAX)
    first = go(home, lax, grumpy_tickets)
    assert (first.outcome, first.version) == ("held", 2)
    gate = Registry(home).gate_page("counter", 2).with_suffix(".json")
    gate.write_text(gate.read_text(encoding="utf-8").replace(gated_at(home), "2026-01-01T00:00:00+00:00"))
    again = go(home, lax, grumpy_tickets)
    assert (again.outcome, again.exit_code, again.gate) == ("unchanged", 0, None)
    assert again.why.startswith(f"v2 is not gated again, for nothing changed since run {first.id} came to held: v2 is")
    assert gated_at(home) == "2026-01-01T00:00:00+00:00"
    forced = go(home, lax, grumpy_tickets, force=True)
    assert (forced.outcome, forced.version) == ("held", 2)
    assert gated_at(home) > "2026-01-01T00:00:00+00:00"
    stricter = replace(counter_clone, gate=replace(LAX, confidence=0.96))
    assert go(home, stricter, grumpy_tickets).outcome == "held"


def test_what_proved_nothing_is_gated_again_once_the_gates_table_changed(
    counter_clone: CloneConfig, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home, unsure = fork(promoted_home), replace(counter_clone, route=RouteConfig(error=0.001))
    first = go(home, unsure, more_tickets)
    assert first.outcome in ("failed_gate", "inconclusive")
    assert go(home, unsure, more_tickets).outcome == "unchanged"
    other = replace(unsure, gate=replace(unsure.gate, confidence=0.9))
    assert go(home, other, more_tickets).outcome == first.outcome
    assert Registry(home).versions("counter") == [1, 2]


def test_terms_are_the_gates_own_and_the_champions(counter_clone: CloneConfig) -> None:
    usual = gate_terms(counter_clone, 1, ("common", "safety"))
    assert gate_terms(counter_clone, 1, ("safety", "common")) == usual
    others = [
        gate_terms(counter_clone, 2, ("common", "safety")),
        gate_terms(counter_clone, 1, ("common",)),
        gate_terms(replace(counter_clone, gate=LAX), 1, ("common", "safety")),
        gate_terms(replace(counter_clone, rollout=None), 1, ("common", "safety")),
    ]
    assert len({usual, *others}) == 5


def test_a_version_that_passed_since_is_not_held_for_what_came_before() -> None:
    def run(outcome: str) -> Run:
        gate = {"verdict": "fail", "terms": "t"}
        return Run(id=outcome, clone="c", started_at="", state="finished", outcome=outcome, version=3, gate=gate)

    assert judged_before([run("failed_gate")]) == {(3, "t"): "run failed_gate came to failed_gate: "}
    assert judged_before([run("held"), run("promoted")]) == {}
    assert judged_before([replace(run("held"), gate={"verdict": "fail"})]) == {}
