"""What the wheel carries and asks for, and what importing the base package costs."""

import subprocess
import sys
from collections.abc import Iterator
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[1]
BASE = ("click>=", "opentelemetry-", "grpcio>=", "protobuf>=", "googleapis-common-protos>=")
HEAVY = "torch polars duckdb starlette uvicorn pyarrow numpy"

_IMPORT = """
import sys, threading
import {module}
heavy = sorted(set("{heavy}".split()) & {{name.split(".")[0] for name in sys.modules}})
print(threading.active_count(), heavy)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZipFile]:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    built = subprocess.run(build, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    with ZipFile(path) as archive:
        yield archive


@pytest.mark.parametrize(
    "path",
    [
        "imitrace/py.typed",
        "imitrace/semconv.py",
        "imitrace_collector/py.typed",
        "imitrace_collector/schema.sql",
        "imitrace_trainer/py.typed",
        "imitrace_trainer/gate.py",
        "imitrace_trainer/examples/support_desk/__init__.py",
    ],
)
def test_the_wheel_carries(wheel: ZipFile, path: str) -> None:
    assert path in wheel.namelist()


def test_the_wheel_carries_three_packages_and_nothing_beside_them(wheel: ZipFile) -> None:
    tops = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" not in name}
    assert tops == {"imitrace", "imitrace_collector", "imitrace_trainer"}
    assert [
        name for name in wheel.namelist() if "/test_" in name or "conftest" in name or name.endswith(".duckdb")
    ] == []


def test_the_wheel_carries_every_file_of_the_rooms(wheel: ZipFile) -> None:
    sources = {
        path.relative_to(ROOT / room).as_posix()
        for room in ("sdk", "collector", "trainer")
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert sources - set(wheel.namelist()) == set()


def test_the_base_install_asks_for_click_opentelemetry_and_what_otlp_is_made_of(wheel: ZipFile) -> None:
    (path,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    wanted = Parser().parsestr(wheel.read(path).decode()).get_all("Requires-Dist", [])
    always = [requirement for requirement in wanted if "extra ==" not in requirement]
    assert always
    assert [name for name in always if not name.startswith(BASE)] == []


@pytest.mark.parametrize("module", ["imitrace", "imitrace.cli"])
def test_importing_the_base_starts_no_thread_and_loads_nothing_heavy(module: str) -> None:
    code = _IMPORT.format(module=module, heavy=HEAVY)
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output == "1 []\n"
