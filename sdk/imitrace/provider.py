"""Turn tracing on and off, and say what became of the traces; unconfigured, everything is a cheap no-op."""

import atexit
import functools
from typing import TYPE_CHECKING

from imitrace.config import setting
from imitrace.faults import LOGGER
from imitrace.outbox import Stats

if TYPE_CHECKING:  # OpenTelemetry's SDK is loaded when tracing is configured
    from imitrace.pipeline import Pipeline

_EXIT_SECONDS = 5.0
_installed: "Pipeline | None" = None


def configure(  # noqa: PLR0913 - typed by hand at the top of every agent, so each option is a plain keyword
    *,
    agent: str | None = None,
    endpoint: str | None = None,
    protocol: str | None = None,
    policy_name: str | None = None,
    policy_version: str | None = None,
    policy_role: str = "expert",
    agent_version: str | None = None,
    token: str | None = None,
) -> None:
    """Send this process's trajectories to a collector, beside whatever OpenTelemetry the application has of its own.

    A second call replaces the first, whose records are flushed. ``IMITRACE_DISABLED=1`` leaves tracing off. A forked
    child traces on its own; one that ends by ``os._exit``, as ``multiprocessing`` does, calls ``flush()`` before.

    Args:
        agent: agent name, also the resource's ``service.name``; else ``IMITRACE_AGENT``, else the service's name.
        endpoint: collector's base address, ``http://127.0.0.1:4318`` for http and ``:4317`` for grpc by default;
            else ``IMITRACE_ENDPOINT``.
        protocol: ``http`` (default) or ``grpc``; else ``IMITRACE_PROTOCOL``.
        policy_name: model that decides; when not given, the one that an answer names.
        policy_version: version of that model.
        policy_role: ``expert``, ``clone``, ``human`` or ``synthetic``.
        agent_version: version of the agent's code or prompt.
        token: bearer token for the collector; else ``IMITRACE_TOKEN``.

    Raises:
        ConfigError: protocol, endpoint or policy_role is not one of those allowed.
    """
    from imitrace.exporters import connect
    from imitrace.pipeline import TracingConfig

    config = TracingConfig(
        agent=setting("IMITRACE_AGENT", agent),
        agent_version=agent_version,
        policy_role=policy_role,
        policy_name=policy_name,
        policy_version=policy_version,
        protocol=setting("IMITRACE_PROTOCOL", protocol, "http") or "http",
        endpoint=setting("IMITRACE_ENDPOINT", endpoint),
        token=setting("IMITRACE_TOKEN", token),
    )
    shutdown()
    if (setting("IMITRACE_DISABLED") or "0").lower() not in ("0", "false"):
        return
    _flush_at_exit()
    install(connect(config))


def flush(timeout: float = 10.0) -> bool:
    """Wait until everything emitted so far is delivered.

    Args:
        timeout: seconds to wait at most.

    Returns:
        True when all of it was delivered in time and nothing was lost since the previous flush; ``stats()`` says how
        many were not. True also when tracing is off.
    """
    pipeline = active()
    return pipeline is None or pipeline.flush(timeout)


def shutdown(timeout: float = _EXIT_SECONDS) -> bool:
    """Flush and turn tracing off; it also happens when the process ends.

    Args:
        timeout: seconds to wait for the collector at most.

    Returns:
        What ``flush`` would have returned.
    """
    pipeline = active()
    if pipeline is None:
        return True
    flushed = pipeline.close(timeout)
    stats = pipeline.stats()
    if missing := stats.records - stats.exported:
        LOGGER.warning("imitrace: %d of %d records did not reach %s", missing, stats.records, pipeline.config.address)
    return flushed


def stats() -> Stats:
    """Return what became of everything emitted since ``configure``, also after ``shutdown``."""
    return Stats() if _installed is None else _installed.stats()


def active() -> "Pipeline | None":
    """Return the pipeline that records now, None when tracing is off."""
    return None if _installed is None or _installed.closed else _installed


def install(pipeline: "Pipeline | None") -> "Pipeline | None":
    """Make ``pipeline`` the one that records and return the one before."""
    global _installed
    previous, _installed = _installed, pipeline
    return previous


@functools.cache
def _flush_at_exit() -> None:
    atexit.register(shutdown)
