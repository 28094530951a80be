"""What docs/operations.md says of metrics, alerts and the forwarder is so."""

import http.client
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

PAGE = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
EXAMPLES: list[Any] = [yaml.safe_load(text) for text in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)]
(ALERTS,) = (example["groups"][0]["rules"] for example in EXAMPLES if "groups" in example)
TABLE = re.findall(r"^\| (`imitrace_.*?) \| (\w+) \|", PAGE, re.MULTILINE)
DOCUMENTED = {name: kind for names, kind in TABLE for name in re.findall(r"`(imitrace_\w+)`", names)}


@pytest.fixture
def samples(tmp_path: Path) -> dict[str, str]:
    """Return the samples of a collector that has written once, and of which kind each is."""
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as server:
        loss = {"eventName": "agent.trajectory.loss", "attributes": [count("records", 9), count("failed", 2)]}
        logs = {"resourceLogs": [{"scopeLogs": [{"logRecords": [loss]}]}]}
        CollectorClient(server.http).post("/v1/logs", logs)
        CollectorClient(server.http).post("/v1/logs", logs)
        CollectorClient(server.http).get("/v1/trajectories")
        connection = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=20)
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
    families = list(text_string_to_metric_families(text))
    return {sample.name: family.type for family in families for sample in family.samples}


def count(name: str, value: int) -> dict[str, Any]:
    return {"key": f"agent.trajectory.loss.{name}", "value": {"intValue": value}}


def bare(name: str, kind: str) -> str:
    return re.sub("_(bucket|count|sum)$", "", name) if kind == "histogram" else name


def test_the_page_describes_every_metric_and_no_other(samples: dict[str, str]) -> None:
    found = {bare(name, kind): kind for name, kind in samples.items() if not name.endswith("_created")}
    assert found == DOCUMENTED


def test_alerts_watch_metrics_that_exist(samples: dict[str, str]) -> None:
    used = {name for rule in ALERTS for name in re.findall(r"\bimitrace_\w+", rule["expr"])}
    assert used <= set(samples)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_alerts_say_when_and_what(rule: dict[str, Any]) -> None:
    assert rule.keys() - {"for"} == {"alert", "expr", "annotations"}
    assert rule["expr"].count("(") == rule["expr"].count(")")
    assert rule["annotations"]["summary"].endswith(".")


def test_every_path_that_the_page_names_answers(tmp_path: Path) -> None:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as server:
        for path in re.findall(r"^\| `(/\w+)` \|", PAGE, re.MULTILINE):
            connection = http.client.HTTPConnection(urlsplit(server.http).netloc, timeout=20)
            connection.request("GET", path)
            assert connection.getresponse().status == 200
            connection.close()


def test_the_forwarder_sends_every_signal_through_what_it_defines() -> None:
    (settings,) = (example for example in EXAMPLES if "receivers" in example)
    assert set(settings["service"]["pipelines"]) == {"traces", "logs"}
    for pipeline in settings["service"]["pipelines"].values():
        assert all(set(pipeline[kind]) <= set(settings[kind]) for kind in ("receivers", "processors", "exporters"))
    assert settings["exporters"]["otlphttp/imitrace"]["compression"] == "gzip"


def test_the_files_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:deploy|tests)/[\w./-]+)`", PAGE))
    assert {path for path in named if not (Path(__file__).parents[1] / path).exists()} == set()
