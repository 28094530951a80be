"""Measure what importing and configuring costs, each in a fresh process."""

import json
import subprocess
import sys

from overhead.config import clean_environment
from overhead.timing import Json, spread

_PROGRAMS = {
    "import_opentelemetry_sdk_ms": "import opentelemetry.sdk.trace",
    "import_imitrace_ms": "import imitrace",
    "configure_ms": "imitrace.configure(agent='desk', endpoint='http://127.0.0.1:9')",
}
_TIMED = "import json, time; {before}; t = time.perf_counter(); {timed}; print((time.perf_counter() - t) * 1e3)"


def measure(runs: int) -> Json:
    """Return milliseconds by what is timed; ``configure`` loads OpenTelemetry's SDK and exporter when it is called."""
    found: dict[str, list[float]] = {name: [] for name in _PROGRAMS}
    for _ in range(runs):
        for name, timed in _PROGRAMS.items():
            before = "import imitrace" if name == "configure_ms" else "pass"
            command = [sys.executable, "-c", _TIMED.format(before=before, timed=timed)]
            out = subprocess.run(command, capture_output=True, text=True, check=True, env=clean_environment())
            found[name].append(float(json.loads(out.stdout)))
    return {name: spread(values) for name, values in found.items()}
