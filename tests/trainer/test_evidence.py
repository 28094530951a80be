from datetime import datetime

import pytest

from imitrace.exceptions import CloneError
from imitrace_trainer.evidence import Evidence, weigh
from imitrace_trainer.gate import GateConfig, PairedCase, judge
from imitrace_trainer.gate_report import GateReport
from imitrace_trainer.route_config import RouteConfig

GATED = "2026-03-01T00:00:00+00:00"
MONTH = RouteConfig(gate_days=30, tools_days=30)


def report(created_at: str = GATED, success: bool = True) -> GateReport:
    cases = [PairedCase(str(number), "common", True, success) for number in range(400)]
    return judge(
        cases, GateConfig(), method="rollout", dataset_hash="d1", clone="lamps", version=3, created_at=created_at
    )


def at(day: str) -> float:
    return datetime.fromisoformat(f"{day}T00:00:00+00:00").timestamp()


def test_evidence_lapses_by_itself_when_its_days_are_over() -> None:
    found = weigh("lamps v3", report(), "d1", {}, MONTH)
    assert found.at(at("2026-03-30")).cohorts == ("common",)
    lapsed = found.at(at("2026-03-31"))
    assert lapsed.cohorts == ()
    assert lapsed.lack == (
        "lamps v3's evidence lapsed: gate of 2026-03-01T00:00:00+00:00, older than 30 days; run 'imitrace gate'"
    )


def test_looking_at_the_tools_again_renews_theirs_and_not_the_gates() -> None:
    config = RouteConfig(gate_days=30, tools_days=7)
    stale = weigh("lamps v3", report(), "d1", {}, config)
    assert "tools of 2026-03-01" in str(stale.at(at("2026-03-09")).lack)
    fresh = weigh("lamps v3", report(), "d1", {"tools": "2026-03-08T00:00:00+00:00"}, config)
    assert fresh.at(at("2026-03-14")).lack is None
    assert "run 'imitrace tools diff'" in str(fresh.at(at("2026-03-15")).lack)


def test_a_look_before_the_gate_takes_nothing_from_the_gates_own() -> None:
    found = weigh("lamps v3", report(), "d1", {"tools": "2025-01-01T00:00:00+00:00"}, MONTH)
    assert found.until == at("2026-03-31")


def test_drift_must_have_been_looked_for_where_that_is_asked() -> None:
    config = RouteConfig(drift_days=2)
    assert weigh("lamps v3", report(), "d1", {}, config) == Evidence(
        lack="lamps v3 has no record of drift; run 'imitrace drift'"
    )
    found = weigh("lamps v3", report(), "d1", {"drift": "2026-03-02T00:00:00+00:00"}, config)
    assert found.until == at("2026-03-04")


def test_what_never_ages_has_no_end() -> None:
    config = RouteConfig(gate_days=0, tools_days=0)
    assert weigh("lamps v3", report(), "d1", {}, config) == Evidence(("common",))


@pytest.mark.parametrize(
    ("said", "made_from", "lack"),
    [
        (None, "d1", "lamps v3 has no gate record"),
        (report(), "d2", "lamps v3 was gated on another dataset than it was made from"),
        (report(success=False), "d1", "lamps v3 passed its gate in no cohort"),
    ],
)
def test_without_a_passing_record_there_is_no_evidence(said: GateReport | None, made_from: str, lack: str) -> None:
    assert weigh("lamps v3", said, made_from, {}, MONTH) == Evidence(lack=lack)


def test_a_time_that_is_none_is_refused() -> None:
    with pytest.raises(CloneError, match=r"time 'soon' in a clone's records is not ISO 8601"):
        weigh("lamps v3", report("soon"), "d1", {}, MONTH)
