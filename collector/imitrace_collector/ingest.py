"""Write batches: raw rows, and in the same transaction all that is derived from them."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from imitrace.semconv import EVENT_SCORE
from imitrace_collector.rows import Batch, SpanRow
from imitrace_collector.scores import scores_of
from imitrace_collector.store import Store
from imitrace_collector.trajectories import assemble

_REBUILD_CHUNK = 256


@dataclass(frozen=True, kw_only=True)
class Ingested:
    """How much of what came was new."""

    spans: int
    logs: int
    trajectories: int


def ingest(store: Store, batches: Sequence[Batch]) -> Ingested:
    """Write batches in one transaction; when this returns they are durable, and the derived tables are whole."""
    with store.transaction():
        spans = store.add_spans([span for batch in batches for span in batch.spans])
        logs = store.add_logs([log for batch in batches for log in batch.logs])
        touched = sorted({span.trajectory_id for span in spans if span.trajectory_id is not None})
        _derive(store, touched)
        store.insert("scores", scores_of(spans, logs))
    return Ingested(spans=len(spans), logs=len(logs), trajectories=len(touched))


def rebuild(store: Store) -> int:
    """Derive every row anew from the raw ones, in one transaction, and return the number of trajectories."""
    with store.transaction():
        store.forget_all()
        trajectory_ids = store.trajectory_ids()
        for start in range(0, len(trajectory_ids), _REBUILD_CHUNK):
            _derive(store, trajectory_ids[start : start + _REBUILD_CHUNK])
        store.insert("scores", scores_of(store.scoring_spans(EVENT_SCORE), store.logs_named(EVENT_SCORE)))
    return len(trajectory_ids)


def _derive(store: Store, trajectory_ids: Sequence[str]) -> None:
    if not trajectory_ids:
        return
    groups: dict[str, list[SpanRow]] = defaultdict(list)
    for span in store.spans_of(trajectory_ids):
        groups[span.trajectory_id or ""].append(span)
    assembled = [assemble(trajectory_id, group) for trajectory_id, group in groups.items()]
    store.forget(trajectory_ids)
    store.insert("trajectories", [row for rows in assembled for row in rows.trajectories])
    store.insert("steps", [row for rows in assembled for row in rows.steps])
    store.insert("messages", [row for rows in assembled for row in rows.messages])
    store.insert("tools", [row for rows in assembled for row in rows.tools])
