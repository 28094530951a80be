"""Alerts to a real webhook and a real collector: each begin and each end once, signed, tried again, failing nothing."""

import hashlib
import hmac
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace.exceptions import ConfigError
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer
from imitrace_trainer.alerting import webhook
from imitrace_trainer.alerting.alert_file import AlertFile
from imitrace_trainer.alerting.config import AlertsConfig
from imitrace_trainer.alerting.standing import standing
from imitrace_trainer.alerting.telling import tell_alerts
from imitrace_trainer.drift.sequential import Look, Watch, WatchFile
from imitrace_trainer.live_file import Alarm, Live, LiveFile
from imitrace_trainer.refreshing.runs import Runs
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.step_backs import StepBack, StepBacks

Fork = Callable[[Path], Path]
Request = tuple[dict[str, str], bytes]


@contextmanager
def listening(*statuses: int) -> Iterator[tuple[str, list[Request]]]:
    """Answer the n-th request with the n-th status, and all further ones with the last; what came is kept."""
    came: list[Request] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            came.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(statuses[min(len(came), len(statuses)) - 1])
            self.send_header("location", "/elsewhere")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/hook", came
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "_FIRST_PAUSE", 0.001)
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def home(promoted_home: Path, fork: Fork) -> Path:
    return fork(promoted_home)


def drifting(home: Path, verdict: str = "drift") -> None:
    look = Look(1, "2026-03-01T00:00:00+00:00", 0.025, 40, verdict, ("states: kernel",) if verdict == "drift" else ())
    WatchFile(home, "counter").write(Watch(1, 1, 0.025, 5, None, (look,)))


def said(came: list[Request]) -> list[tuple[str, str]]:
    return [(told["name"], told["state"]) for told in (json.loads(body) for _, body in came)]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_what_goes_on_is_told_once_and_its_end_once(home: Path) -> None:
    with listening(204) as (address, came):
        config = {"alerts": {"webhook": address}}
        assert tell_alerts(home, config) == []
        assert came == []
        drifting(home)
        for _ in range(3):
            assert tell_alerts(home, config) == []
        assert said(came) == [("imitrace.drift", "firing")]
        told = json.loads(came[0][1])
        assert (told["clone"], told["why"], told["ended"]) == ("counter", "states: kernel", None)
        drifting(home, "none")
        for _ in range(2):
            assert tell_alerts(home, config) == []
        assert said(came)[1:] == [("imitrace.drift", "resolved")]
        assert AlertFile(home).read() == []
        drifting(home)
        tell_alerts(home, config)
        assert said(came)[2:] == [("imitrace.drift", "firing")]


def test_a_webhook_that_fails_is_tried_again_at_the_next_call(home: Path) -> None:
    drifting(home)
    with listening(500, 500, 200) as (address, came):
        config = {"alerts": {"webhook": address, "tries": 2}}
        (problem,) = tell_alerts(home, config)
        assert "alert imitrace.drift/counter was not told: the webhook answered 500, 2 times" in problem
        assert tell_alerts(home, config) == []
        assert len(came) == 3
    (problem,) = tell_alerts(home, {"alerts": {"webhook": address, "tries": 1}}) or [""]
    assert problem == ""  # it knows already


@pytest.mark.parametrize("status", [302, 404])
def test_a_refusal_is_not_tried_at_once_again_and_no_redirect_followed(home: Path, status: int) -> None:
    drifting(home)
    with listening(status) as (address, came):
        (problem,) = tell_alerts(home, {"alerts": {"webhook": address}})
        assert f"the webhook answered {status}" in problem
        assert len(came) == 1


def test_it_is_signed_and_shows_a_token(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMITRACE_ALERTS_TOKEN", "t0ken")
    monkeypatch.setenv("IMITRACE_ALERTS_SECRET", "s3cret")
    with listening(200) as (address, came):
        assert tell_alerts(home, {"alerts": {"webhook": address}}) == []
        drifting(home)
        tell_alerts(home, {"alerts": {"webhook": address}})
    ((headers, body),) = came
    assert headers["authorization"] == "Bearer t0ken"
    at, signature = (part.partition("=")[2] for part in headers["x-imitrace-signature"].split(","))
    assert hmac.new(b"s3cret", f"{at}.".encode() + body, hashlib.sha256).hexdigest() == signature


def test_everything_that_can_stand_is_found(home: Path) -> None:
    registry = Registry(home)
    assert standing(home) == ([], [])
    found = StepBack(since="2099-03-01T00:00:00+00:00", by="drift", why="tools")
    StepBacks(home, "counter").step_back(1, {"common": found})
    LiveFile(home, "counter").write(
        Live(alarms=(Alarm(version=2, cohort="safety", at="", why="12 of 40", did="v1 is champion again"),))
    )
    registry.record_route("counter", RouteConfig(drift_days=1))
    runs = Runs(home, "counter")
    for outcome, state in (("failed_gate", "finished"), ("error", "failed"), ("not_due", "finished")):
        begun = runs.begin(None, datetime.now(UTC))
        runs.write(replace(begun, outcome=outcome, state=state, why=f"it came to {outcome}"))
    drifting(home)
    conditions, broken = standing(home)
    assert broken == []
    assert {one.key: one.why for one in conditions} == {
        "imitrace.drift/counter": "states: kernel",
        "imitrace.stepped_back/counter/common": found.told("common"),
        "imitrace.stepped_back/counter/safety": "v2 broke its promise, v1 is champion again: 12 of 40",
        "imitrace.evidence.lapsed/counter": "counter v1 has no record of drift; run 'imitrace drift'",
        "imitrace.gate.failed/counter": "vNone: failed_gate: it came to failed_gate",
        "imitrace.refresh.failed/counter": "error: it came to error",
    }


def test_what_can_not_be_read_may_still_stand(home: Path) -> None:
    drifting(home)
    with listening(200) as (address, came):
        config = {"alerts": {"webhook": address}}
        tell_alerts(home, config)
        WatchFile(home, "counter").path.write_text("{", encoding="utf-8")
        (problem,) = tell_alerts(home, config)
        assert "drift.json can't be read" in problem
        assert said(came) == [("imitrace.drift", "firing")]


def test_a_damaged_memory_and_a_wrong_table_are_said_and_raise_nothing(home: Path) -> None:
    drifting(home)
    (problem,) = tell_alerts(home, {"alerts": {"webhook": "http://example.com/hook"}})
    assert "allowed: an https:// address, or http:// on this machine" in problem
    AlertFile(home).path.write_text("{", encoding="utf-8")
    (problem,) = tell_alerts(home, {})
    assert "alerts.json can't be read" in problem


@pytest.mark.parametrize(
    "table",
    [{"webhook": "ftp://x"}, {"webhook": 3}, {"tries": 0}, {"timeout": 0}, {"timeout": True}, {"hook": ""}, "no table"],
)
def test_wrong_settings_are_refused(table: Any) -> None:
    with pytest.raises(ConfigError, match="alerts"):
        AlertsConfig.from_config({"alerts": table})
    assert AlertsConfig.from_config({"alerts": {"webhook": "https://x.test/a"}}).webhook


def test_the_commands_list_send_and_try(home: Path, tmp_path: Path) -> None:
    config = tmp_path / "imitrace.toml"
    nothing = run("alerts", "--home", home)
    assert (nothing.exit_code, nothing.stdout) == (0, "nothing stands\n")
    config.write_text("", encoding="utf-8")
    none = run("alerts", "test", "--config", config)
    assert (none.exit_code, none.stdout[:10]) == (1, "no channel")
    drifting(home)
    with listening(200) as (address, came):
        config.write_text(f'[alerts]\nwebhook = "{address}"\n', encoding="utf-8")
        assert run("alerts", "send", "--home", home, "--config", config).exit_code == 0
        tried = run("alerts", "test", "--config", config)
        assert (tried.exit_code, tried.stdout) == (0, "webhook: taken\n")
        assert said(came) == [("imitrace.drift", "firing"), ("imitrace.test", "firing")]
    listed = run("alerts", "--home", home)
    assert listed.exit_code == 1
    assert listed.stdout.startswith("imitrace.drift  counter  since 20")
    (row,) = json.loads(run("alerts", "--home", home, "--json").stdout)
    assert row["told"] == ["webhook"]


def test_a_refresh_tells_when_it_is_done_whatever_came_of_it(home: Path, counter: Path, tmp_path: Path) -> None:
    with listening(200) as (address, came):
        config = tmp_path / "imitrace.toml"
        text = (counter / "imitrace.toml").read_text(encoding="utf-8")
        config.write_text(f'{text}\n[alerts]\nwebhook = "{address}"\n', encoding="utf-8")
        ran = run("refresh", "counter", "--home", home, "--config", config, "--source", tmp_path / "nowhere")
        assert ran.exit_code == 2
        assert said(came) == [("imitrace.refresh.failed", "firing")]
        dry = run("refresh", "counter", "--home", home, "--config", config, "--dry-run")
        assert len(came) == 1, dry.output


def test_events_go_to_a_collector_that_takes_no_metrics(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collected = tmp_path / "collected"
    with CollectorServer(CollectorConfig(home=collected, http_port=0, grpc_port=0)) as server:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", server.http)
        for verdict in ("drift", "drift", "none", "none"):
            drifting(home, verdict)
            assert tell_alerts(home, {}) == []
    asked = "SELECT event_name, severity, service FROM log_records ORDER BY logged_at"
    told = run("sql", asked, "--json", "--home", collected)
    assert json.loads(told.stdout)["rows"] == [["imitrace.drift", 13, "imitrace"], ["imitrace.drift", 9, "imitrace"]]
