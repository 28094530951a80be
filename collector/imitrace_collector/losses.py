"""Read out of log records what senders say they lost."""

from collections.abc import Iterable

from imitrace.canonical import canonical_json
from imitrace.semconv import EVENT_LOSS, LOSS_DROPPED, LOSS_FAILED
from imitrace_collector.normalize import Columns, as_type
from imitrace_collector.rows import LogRow


def losses_of(logs: Iterable[LogRow]) -> list[Columns]:
    """Return how many records each process says it lost since its start.

    A process is a ``service.instance.id``; what has none is told apart by its whole resource.
    """
    return [_loss(log) for log in logs if log.event_name == EVENT_LOSS]


def _loss(log: LogRow) -> Columns:
    counts = (as_type(log.attributes.get(name), "int64") or 0 for name in (LOSS_FAILED, LOSS_DROPPED))
    return {
        "service": as_type(log.resource.get("service.name"), "string") or "unknown",
        "process": as_type(log.resource.get("service.instance.id"), "string") or canonical_json(log.resource),
        "lost": min(sum(max(0, count) for count in counts), 2**63 - 1),
    }
