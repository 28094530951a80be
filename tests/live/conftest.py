"""Let the live tests import what stands beside them, as the programs that they start do; write down what they saw."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

HERE = Path(__file__).parent
AGENTS = HERE.parents[1] / ".venv-live" / "bin" / "python"
sys.path.insert(0, str(HERE))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--record", type=Path, help="write which packages ran and how many steps were compared to a file")


def versions() -> dict[str, str]:
    """Return the installed versions of the packages that ``requirements.in`` names."""
    names = [line.partition("[")[0] for line in (HERE / "requirements.in").read_text(encoding="utf-8").split()]
    script = "import importlib.metadata, sys; print(*map(importlib.metadata.version, sys.argv[1:]))"
    asked = subprocess.run([str(AGENTS), "-c", script, *names], capture_output=True, text=True, timeout=60, check=True)
    return dict(zip(names, asked.stdout.split(), strict=True))


@pytest.fixture(scope="session")
def record(request: pytest.FixtureRequest) -> Iterator[Callable[..., None]]:
    """Return what notes that a program's steps were those of the script."""
    matched: dict[str, dict[str, int]] = {}

    def note(program: str, **counts: int) -> None:
        matched[program] = counts

    yield note
    path: Path | None = request.config.getoption("--record", None)
    if path is not None:
        report = {
            "date": datetime.now(UTC).date().isoformat(),
            "machine": f"{os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}",
            "command": f'make live LIVE_FLAGS="--record {path.as_posix()}"',
            "versions": versions(),
            "matched": matched,
        }
        path.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
