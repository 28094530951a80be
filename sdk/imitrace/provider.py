"""Hold the pipeline that records, and say what became of the traces; without one, everything is a cheap no-op."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from imitrace.delivery.outbox import Stats
from imitrace.faults import LOGGER, Faults

if TYPE_CHECKING:  # OpenTelemetry's SDK is loaded when tracing is configured
    from imitrace.pipeline import Pipeline

EXIT_SECONDS = 5.0
"""How long the end of a process may wait for the collector."""

_installed: "Pipeline | None" = None
_address = ""
_settings: dict[str, Any] = {}
_hooks: list[Callable[[], None]] = []
_untraced = Faults()


def flush(timeout: float = 10.0) -> bool:
    """Wait until everything emitted so far is delivered.

    Args:
        timeout: seconds to wait at most.

    Returns:
        True when all of it was delivered in time and nothing was lost since the previous flush; ``stats()`` says how
        many were not. True also when tracing is off.
    """
    pipeline = active()
    if pipeline is None:
        return True
    _run_hooks()
    return pipeline.flush(timeout)


def shutdown(timeout: float = EXIT_SECONDS) -> bool:
    """Flush and turn tracing off; it also happens when the process ends.

    Args:
        timeout: seconds to wait for the collector at most.

    Returns:
        What ``flush`` would have returned.
    """
    pipeline = active()
    if pipeline is None:
        return True
    _run_hooks()
    flushed = pipeline.close(timeout)
    stats = pipeline.stats()
    if stats.spooled:
        LOGGER.warning("imitrace: %d records wait on disk until the next start", stats.spooled)
    if missing := stats.records - stats.exported - stats.spooled:
        LOGGER.warning("imitrace: %d of %d records did not reach %s", missing, stats.records, _address)
    return flushed


def stats() -> Stats:
    """Return what became of everything emitted since ``configure``, also after ``shutdown``."""
    return Stats() if _installed is None else _installed.stats()


def before_flush(hook: Callable[[], None]) -> None:
    """Call ``hook`` before each flush and shutdown; it must not raise."""
    _hooks.append(hook)


def active() -> "Pipeline | None":
    """Return the pipeline that records now, None when tracing is off."""
    return None if _installed is None or _installed.closed else _installed


def faults() -> Faults:
    """Return where to count what goes wrong: with the pipeline that records, else apart from any."""
    pipeline = active()
    return _untraced if pipeline is None else pipeline.faults


def install(
    pipeline: "Pipeline | None", address: str = "", settings: Mapping[str, Any] | None = None
) -> "Pipeline | None":
    """Make ``pipeline`` the one that records and return the one before.

    Args:
        pipeline: the pipeline, None for none.
        address: where it delivers to, for people.
        settings: the options of ``configure`` that made it, where another process could be given them too.
    """
    global _installed, _address, _settings
    if _installed is not None and _installed.closed:
        _installed.successor = pipeline
    previous, _installed, _address, _settings = _installed, pipeline, address, dict(settings or {})
    return previous


def configured_by() -> dict[str, Any]:
    """Return the options that turned tracing on, for a process that is started without them."""
    return {} if active() is None else _settings


def _run_hooks() -> None:
    for hook in _hooks:
        hook()
