"""The files in deploy/ say what the collector understands, agree with each other, and their commands really start."""

import configparser
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from imitrace.config import ENVIRONMENT, child_environment
from imitrace_collector.cli import collect

DEPLOY = Path(__file__).parents[1] / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
HOME, UID, PORTS = "/var/lib/imitrace", 10001, {"4317", "4318"}
TOKENS = {"IMITRACE_INGEST_TOKEN": "i", "IMITRACE_READ_TOKEN": "r", "IMITRACE_ADMIN_TOKEN": "a"}

Json = dict[str, Any]  # a JSON object


def instruction(word: str) -> str:
    """Return what the image's last stage says after an instruction, its last one of the kind."""
    stage = DOCKERFILE.split("\nFROM ")[-1].replace("\\\n", " ")
    found: list[str] = re.findall(rf"^{word} +(.*)$", stage, re.MULTILINE)
    return found[-1]


def unit() -> configparser.SectionProxy:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case of keys
    parser.read(DEPLOY / "systemd" / "imitrace-collector.service")
    return parser["Service"]


def manifest(name: str) -> list[Json]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")))


def pod(name: str) -> Json:
    (found,) = (document for document in manifest(name) if document["kind"] in ("Deployment", "StatefulSet"))
    spec = found["spec"]["template"]["spec"]
    assert isinstance(spec, dict)
    return spec


def container(name: str) -> Json:
    spec = pod(name)
    found = [one for one in spec.get("initContainers", []) + spec["containers"] if one["name"] == "collector"]
    assert len(found) == 1
    assert isinstance(found[0], dict)
    return found[0]


MANIFESTS = ("sidecar.yaml", "collector.yaml")
COMMANDS = {
    "image": json.loads(instruction("ENTRYPOINT")) + json.loads(instruction("CMD")),
    "systemd": shlex.split(unit()["ExecStart"]),
    **{name: ["imitrace", "collect", *container(name)["args"]] for name in MANIFESTS},
}
HEALTHCHECKS = {
    "image": json.loads(instruction("HEALTHCHECK").partition("CMD ")[2]),
    "compose": COMPOSE["services"]["collector"]["healthcheck"]["test"][1:],
}
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file())


@contextmanager
def started(command: list[str], home: Path) -> Iterator[str]:
    """Run a command as it stands, but on free ports and in a folder of its own; give its HTTP port."""
    replaced = {"4317": "0", "4318": "0", HOME: str(home)}
    arguments = [replaced.get(word, word) for word in command[1:]]
    if "--http-port" not in arguments:
        arguments += ["--http-port", "0", "--grpc-port", "0"]
    script = [sys.executable, "-c", "from imitrace.cli import main; main()", *arguments]
    environment = child_environment(TOKENS | {"IMITRACE_HOME": str(home)})
    with subprocess.Popen(script, stdout=subprocess.PIPE, text=True, cwd=home, env=environment) as process:
        try:
            assert process.stdout is not None
            ready = re.match(r"collector ready http=http://[\d.]+:(\d+) ", process.stdout.readline())
            assert ready is not None
            yield ready[1]
        finally:
            process.terminate()
            assert process.wait(30) == 0


def probe(command: list[str], port: str, token: str) -> int:
    """Run a probe's command against that port; return its exit code."""
    script = [sys.executable, *(word.replace("4318", port) for word in command[1:])]
    return subprocess.run(script, env=child_environment({"IMITRACE_READ_TOKEN": token}), timeout=30).returncode


@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_starts_and_stops(name: str, tmp_path: Path) -> None:
    with started(COMMANDS[name], tmp_path):
        assert (tmp_path / "traces.duckdb").exists()


@pytest.mark.parametrize("name", HEALTHCHECKS)
def test_the_health_check_tells_a_collector_from_none(name: str, tmp_path: Path) -> None:
    with started(COMMANDS["image"], tmp_path) as port:
        assert probe(HEALTHCHECKS[name], port, "") == 0
    assert probe(HEALTHCHECKS[name], port, "") != 0


def test_the_readiness_probe_shows_the_read_token(tmp_path: Path) -> None:
    command = container("collector.yaml")["readinessProbe"]["exec"]["command"]
    with started(COMMANDS["collector.yaml"], tmp_path) as port:
        assert (probe(command, port, "r"), probe(command, port, "i")) == (0, 1)


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_use_flags_that_exist(name: str) -> None:
    known = {flag for parameter in collect.params for flag in parameter.opts}
    assert {word for word in COMMANDS[name] if word.startswith("-")} <= known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_files_name_variables_and_paths_that_exist(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert set(re.findall(r"\bIMITRACE_\w+", text)) <= set(ENVIRONMENT)
    assert set(re.findall(r"/var/lib/\w+", text)) <= {HOME}
    assert set(re.findall(r"\b43\d\d\b", text)) <= PORTS


def test_no_file_carries_a_token() -> None:
    for path in FILES:
        assert re.findall(r"^ *IMITRACE_\w*TOKEN[=:] *(?!\$\{IMITRACE_)\S+", path.read_text(), re.MULTILINE) == []


def test_the_image_runs_as_a_user_without_rights() -> None:
    assert instruction("USER") == f"{UID}:{UID}"
    assert f"--uid {UID}" in DOCKERFILE
    assert set(instruction("EXPOSE").split()) == PORTS
    assert instruction("VOLUME") == HOME
    assert f"IMITRACE_HOME={HOME}" in instruction("ENV")


@pytest.mark.parametrize("name", MANIFESTS)
def test_pods_run_as_the_same_user_with_a_read_only_root(name: str) -> None:
    guard = pod(name)["securityContext"]
    assert (guard["runAsNonRoot"], guard["runAsUser"], guard["fsGroup"]) == (True, UID, UID)
    own = container(name)["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert not own["allowPrivilegeEscalation"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert {str(port["containerPort"]) for port in container(name)["ports"]} == PORTS
    assert HOME in {mount["mountPath"] for mount in container(name)["volumeMounts"]}
    assert container(name)["image"] == COMPOSE["services"]["collector"]["image"]


@pytest.mark.parametrize("name", MANIFESTS)
def test_the_secret_that_pods_read_is_the_one_that_the_comment_makes(name: str) -> None:
    text = (DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")
    made = set(re.findall(r"--from-literal=(\w+)", text))
    assert set(re.findall(r"name: imitrace-tokens, key: (\w+)", text)) == made == {"ingest", "read", "admin"}


def test_the_collector_is_a_native_sidecar() -> None:
    (sidecar,) = pod("sidecar.yaml")["initContainers"]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"]["httpGet"]["path"] == sidecar["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert "readinessProbe" not in sidecar


def test_every_stop_waits_longer_than_the_collector_drains() -> None:
    assert COMPOSE["services"]["collector"]["stop_grace_period"] == "60s"
    assert unit()["TimeoutStopSec"] == "60s"
    assert {pod(name)["terminationGracePeriodSeconds"] for name in MANIFESTS} == {60}


def test_compose_gives_the_agent_only_the_token_for_sending() -> None:
    agent, collector = COMPOSE["services"]["agent"], COMPOSE["services"]["collector"]
    assert agent["environment"]["IMITRACE_TOKEN"] == collector["environment"]["IMITRACE_INGEST_TOKEN"]
    assert agent["environment"]["IMITRACE_ENDPOINT"] == "http://collector:4318"
    assert set(agent["networks"]) == set(collector["networks"]) == set(COMPOSE["networks"])
    assert f"{next(iter(COMPOSE['volumes']))}:{HOME}" in collector["volumes"]
    wanted = set(re.findall(r"\$\{(\w+):\?", (DEPLOY / "compose.yaml").read_text()))
    assert wanted == set(re.findall(r"^(\w+)=$", (DEPLOY / "env.example").read_text(), re.MULTILINE))


def test_the_unit_keeps_its_store_where_systemd_makes_it() -> None:
    assert f"/var/lib/{unit()['StateDirectory']}" == HOME
    assert (unit()["ProtectSystem"], unit()["NoNewPrivileges"], unit()["DynamicUser"]) == ("strict", "yes", "yes")
