"""Read out of log records what senders say they lost."""

from collections.abc import Iterable

from imitrace.canonical import content_hash
from imitrace.semconv import EVENT_LOSS, LOSS_DROPPED, LOSS_FAILED
from imitrace_collector.normalize import Columns, as_type
from imitrace_collector.rows import LogRow

_LONGEST = 1000
"""Characters of a service's name that are kept with each of its losses."""


def losses_of(logs: Iterable[LogRow]) -> list[Columns]:
    """Return how many records each process says it lost since its start.

    A process is a ``service.instance.id``; what has none is told apart by its whole resource.
    """
    senders: dict[int, str] = {}  # by the resource object, which many records share
    return [_loss(log, senders) for log in logs if log.event_name == EVENT_LOSS]


def _loss(log: LogRow, senders: dict[int, str]) -> Columns:
    resource = log.resource
    if id(resource) not in senders:
        senders[id(resource)] = content_hash(resource.get("service.instance.id") or resource)
    counts = (as_type(log.attributes.get(name), "int64") or 0 for name in (LOSS_FAILED, LOSS_DROPPED))
    return {
        "service": (as_type(resource.get("service.name"), "string") or "unknown")[:_LONGEST],
        "process": senders[id(resource)],
        "lost": min(sum(max(0, count) for count in counts), 2**63 - 1),
    }
