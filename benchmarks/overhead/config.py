"""Make the environment of the programs that are measured: nothing that the caller has set may change a figure."""

import os

_OURS = ("OTEL_", "IMITRACE_", "LOGFIRE_", "LANGFUSE_", "TRACELOOP_", "OPENINFERENCE_", "PYTHON")
_QUIET = {"TRACELOOP_TELEMETRY": "false", "PYTHONUNBUFFERED": "1"}


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)} | _QUIET
