"""Give every other SDK a virtual environment of its own under ``.benchmarks/``, and measure it there."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from overhead.config import clean_environment
from overhead.timing import Json

HERE = Path(__file__).parents[1]
VENVS = HERE.parent / ".benchmarks"
REQUIREMENTS = {
    "logfire": ["logfire"],
    "traceloop": ["traceloop-sdk", "httpx"],  # it imports httpx without requiring it
    "langfuse": ["langfuse"],
    "openinference": ["openinference-instrumentation"],
}
_LAST = 300


def python_of(name: str) -> Path:
    return VENVS / name / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def install(name: str, packages: Iterable[str]) -> None:
    """Make the environment and install the newest releases; what is there already is brought up to date."""
    VENVS.mkdir(exist_ok=True)
    (VENVS / ".gitignore").write_text("*\n", encoding="utf-8")
    if not python_of(name).exists():
        subprocess.run([sys.executable, "-m", "venv", VENVS / name], check=True)
    pip = [str(python_of(name)), "-m", "pip", "install", "--quiet", "--upgrade", "--disable-pip-version-check"]
    subprocess.run([*pip, *packages], check=True, stdout=sys.stderr)


def measure(name: str, steps: int, rounds: int) -> Json | str:
    """Return what was measured, or why nothing was."""
    if not python_of(name).exists():
        return "not installed: run benchmarks/sdk_overhead.py with --peers once"
    command = [str(python_of(name)), "-m", "overhead.peer_steps", name, str(steps), str(rounds)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=HERE, env=clean_environment())
    if done.returncode:
        return f"failed: {done.stderr.strip()[-_LAST:]}"
    found: Json = json.loads(done.stdout.splitlines()[-1])
    return found
