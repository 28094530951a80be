"""Read settings: argument, then environment, then ``imitrace.toml``, then default; nothing else reads environment."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imitrace.exceptions import ConfigError

ENVIRONMENT = {
    "IMITRACE_HOME": "workspace folder (default ./.imitrace)",
    "IMITRACE_CONFIG": "configuration file (default ./imitrace.toml)",
    "IMITRACE_ENDPOINT": "collector's address (default OTEL_EXPORTER_OTLP_ENDPOINT, else http://127.0.0.1:4318)",
    "IMITRACE_PROTOCOL": "http or grpc (default http)",
    "IMITRACE_AGENT": "agent name for traces (default: the service's name)",
    "IMITRACE_TOKEN": "bearer token for a collector beyond loopback",
    "IMITRACE_INGEST_TOKEN": "token of a collector that may only send",
    "IMITRACE_READ_TOKEN": "token of a collector that may only read",
    "IMITRACE_ADMIN_TOKEN": "token of a collector that may do everything",
    "IMITRACE_CA": "authorities in PEM that commands trust for a collector's TLS (default the system's)",
    "IMITRACE_CLIENT_CERT": "certificate in PEM that commands show a collector that asks for one",
    "IMITRACE_CLIENT_KEY": "its private key in PEM",
    "IMITRACE_JUDGE_KEY": "key of the endpoint of [score.judge], for `imitrace score --judge`",
    "IMITRACE_UPSTREAM": "address of the model's API, for `imitrace serve` (default OPENAI_BASE_URL)",
    "IMITRACE_UPSTREAM_KEY": "key of that API, which `imitrace serve` sends in place of its callers'",
    "IMITRACE_SERVE_TOKEN": "token that callers of `imitrace serve` must show",
    "IMITRACE_ALERTS_TOKEN": "bearer token that alerts show the webhook of [alerts]",
    "IMITRACE_ALERTS_SECRET": "key by which alerts to that webhook are signed (HMAC-SHA256)",
    "IMITRACE_DISABLED": "1 turns tracing off, as OTEL_SDK_DISABLED=true does",
    "IMITRACE_SAMPLE": "share of trajectories that are recorded, 0 to 1 (default OTEL_TRACES_SAMPLER, else 1)",
    "IMITRACE_LOSSLESS": "1 keeps what could not be sent on disk, in the workspace folder",
    "IMITRACE_REDACT": "names of redaction rules, with commas between them",
    "IMITRACE_REDACT_SECRET": "secret of the pseudonyms that redaction puts in",
}
"""Every environment variable that imitrace reads, and what it means."""


_SWITCHES = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


def setting(name: str, argument: str | None = None, default: str | None = None) -> str | None:
    """Return the argument, else the environment variable ``name``, else the default.

    Raises:
        ConfigError: ``name`` is not one of ``ENVIRONMENT``.
    """
    if name not in ENVIRONMENT:
        raise ConfigError(f"setting {name!r} is unknown, allowed: {', '.join(ENVIRONMENT)}")
    if argument is not None:
        return argument
    return os.environ.get(name) or default


def switched_on(name: str, argument: bool | None = None) -> bool:
    """Return the argument, else what the environment variable ``name`` says, else False.

    Raises:
        ConfigError: the variable is neither ``1`` nor ``0``, in words or figures.
    """
    if argument is not None:
        return argument
    said = (setting(name) or "0").strip().lower()
    if said not in _SWITCHES:
        raise ConfigError(f"{name} is {said!r}, allowed: 1 or 0")
    return _SWITCHES[said]


def opentelemetry_settings() -> dict[str, str]:
    """Return the ``OTEL_*`` environment variables that are not empty.

    Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """
    return {name: value for name, value in os.environ.items() if name.startswith("OTEL_") and value}


def workspace_home(argument: str | Path | None = None) -> Path:
    """Return the workspace folder: the argument, else ``IMITRACE_HOME``, else ``./.imitrace``."""
    return Path(setting("IMITRACE_HOME", None if argument is None else str(argument), ".imitrace") or ".imitrace")


def read_config(argument: str | Path | None = None) -> dict[str, Any]:
    """Return ``imitrace.toml`` as a dictionary; empty when the default file is absent.

    Raises:
        ConfigError: a file that was named is absent, or it is not TOML.
    """
    named = setting("IMITRACE_CONFIG", None if argument is None else str(argument))
    path = Path(named or "imitrace.toml")
    if not path.exists():
        if named:
            raise ConfigError(f"configuration file {path} does not exist; make it, or name another")
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"configuration file {path} is not TOML: {error}") from error


def child_environment(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with ``extra`` over it, for processes that imitrace starts."""
    return {**os.environ, **extra}
