"""What README and docs say is so: the code runs, the file map and the lists of commands and settings are complete."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from imitrace.cli import COMMANDS
from imitrace.config import ENVIRONMENT
from imitrace_collector.config import CollectorConfig
from imitrace_collector.reads import list_trajectories
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store
from imitrace_trainer.config import clone_from_config

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_the_readme_code_traces_a_trajectory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as server:
        monkeypatch.setenv("IMITRACE_ENDPOINT", server.http)
        subprocess.run([sys.executable, "-c", blocks(README, "python")[0]], check=True, timeout=60)
    with Store.open(tmp_path / "traces.duckdb", read_only=True) as store:
        (found,) = list_trajectories(store, agent="support", limit=10)
    assert (found["task"], found["outcome"], found["complete"]) == ("ticket-4711", "success", True)


@pytest.mark.parametrize("page", ["README.md", "docs/configuration.md"])
def test_the_configuration_shown_is_accepted(page: str) -> None:
    (text,) = blocks((ROOT / page).read_text(encoding="utf-8"), "toml")
    assert clone_from_config(tomllib.loads(text), "airline", ROOT).cohort.agent == "airline"


def test_the_file_map_names_every_module_and_no_other() -> None:
    modules = {path.relative_to(ROOT).as_posix() for room in ("sdk", "collector", "trainer") for path in rooms(room)}
    named = set(re.findall(r"^((?:sdk|collector|trainer)/\S+)", README, re.MULTILINE))
    assert named == modules


def rooms(room: str) -> list[Path]:
    found = [*(ROOT / room).rglob("*.py"), *(ROOT / room).rglob("*.sql")]
    return [path for path in found if path.name != "__init__.py"]


def test_the_docs_describe_every_command_and_no_other() -> None:
    text = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    assert re.findall(r"^## imitrace (\S+)$", text, re.MULTILINE) == list(COMMANDS)


def test_the_docs_describe_every_environment_variable() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(IMITRACE_\w+)`", text, re.MULTILINE)) == set(ENVIRONMENT)


def test_every_dependency_has_a_line() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    text = (ROOT / "docs" / "dependencies.md").read_text(encoding="utf-8")
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.split(r"[<>=\[]", item)[0] for item in wanted} - {"imitrace"}
    assert [name for name in sorted(names) if name.removeprefix("opentelemetry-exporter-otlp-proto") not in text] == []
