"""Let go of what is too old or too much: whole trajectories, with all that came in for them and follows from it.

What belongs together goes together: a trajectory with the other spans and log records of its traces; a trace without
any trajectory; a log record without any trace. Its age is that of the newest item, by this machine's clock when it
arrived. A span that comes after its trajectory has expired makes a new, incomplete trajectory, which expires in turn.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from imitrace.exceptions import ConfigError
from imitrace_collector.amounts import age, size
from imitrace_collector.compaction import compact
from imitrace_collector.copying import used_bytes
from imitrace_collector.derive import note_tables
from imitrace_collector.derived_tables import as_arrow
from imitrace_collector.raw_tables import LOGS, SPANS
from imitrace_collector.store import Session, Store

_ITEMS = 5_000
"""Spans and log records of one transaction, about."""
_LOOSE = 50_000
_NAMED = (("messages", "message_id", "histories"), ("tools", "tools_hash", "bare_steps"))
"""Tables whose rows go with the last that names them: their key, and what names them by it."""

_OWNED = """
CREATE OR REPLACE TEMP TABLE owned AS
WITH active AS (
    SELECT trajectory_id, max(received_at) AS newest FROM chunks WHERE trajectory_id IS NOT NULL GROUP BY trajectory_id
), owners AS (
    SELECT s.trace_id, arg_max(trajectory_id, (newest, trajectory_id)) AS owner
    FROM (SELECT DISTINCT trace_id, trajectory_id FROM spans WHERE trajectory_id IS NOT NULL) s
    JOIN active USING (trajectory_id) GROUP BY s.trace_id
), linked AS (
    SELECT l.trace_id, min(trajectory_id) AS owner
    FROM links l JOIN component_trajectories USING (component) GROUP BY l.trace_id
), owned AS (
    SELECT c.*, coalesce(c.trajectory_id, o.owner, l.owner) AS owner
    FROM chunks c LEFT JOIN owners o ON c.trajectory_id IS NULL AND o.trace_id = c.trace_id
    LEFT JOIN linked l ON c.trajectory_id IS NULL AND l.trace_id = c.trace_id
)
SELECT chunk, kind, noted, origin, items, received_at, bytes, owner AS trajectory_id,
    coalesce('trajectory ' || owner, 'trace ' || trace_id, 'chunk ' || chunk) AS unit
FROM owned
"""
"""Each chunk with what it goes with: of several trajectories in its trace the one that is active last, of those that
other instrumentation's traces make together the first by name."""

_GREW = """
SELECT trajectory_id FROM chunks WHERE chunk > (SELECT chunk FROM watermark) UNION ALL
SELECT t.trajectory_id FROM chunks c JOIN links l USING (trace_id) JOIN component_trajectories t USING (component)
WHERE c.chunk > (SELECT chunk FROM watermark)
"""

_EXPIRING = """
CREATE OR REPLACE TEMP TABLE expiring AS
WITH units AS (
    SELECT unit, any_value(trajectory_id) AS trajectory_id, any_value(origin) AS origin,
        max(received_at) AS newest, max(chunk) AS last, sum(bytes) AS bytes,
        coalesce(sum(items) FILTER (kind = 'spans'), 0) AS spans,
        coalesce(sum(items) FILTER (kind = 'log_records'), 0) AS log_records
    FROM owned GROUP BY unit
), known AS (
    SELECT u.*, coalesce(t.agent, o.service, 'unknown') AS agent
    FROM units u LEFT JOIN trajectories t USING (trajectory_id) LEFT JOIN origins o USING (origin)
), limits AS (
    SELECT k.*, CASE WHEN a.agent IS NULL THEN $oldest ELSE a.oldest END AS oldest,
        a.agent IS NOT NULL AND a.oldest IS NULL AS kept
    FROM known k LEFT JOIN (SELECT unnest($agents::VARCHAR[]) AS agent, unnest($oldests::BIGINT[]) AS oldest) a
    USING (agent)
), judged AS (
    SELECT *, coalesce(newest < oldest, false) AS old,
        sum(bytes) OVER (ORDER BY coalesce(newest < oldest, false), newest DESC, unit ROWS UNBOUNDED PRECEDING) AS above
    FROM limits
), chosen AS (
    SELECT *, row_number() OVER (ORDER BY newest, unit) AS number
    FROM judged WHERE (old OR (above > $bytes AND NOT kept)) AND last <= $derived
)
SELECT unit, trajectory_id, agent, spans, log_records, bytes,
    (sum(spans + log_records) OVER (ORDER BY number) // $items)::BIGINT AS batch
FROM chosen
"""

_DELETED = "INSERT OR REPLACE INTO meta VALUES ('deleted', 'true')"
"""Until the file is compacted more of it is in use than what is left needs, so nothing is judged by its size."""


@dataclass(frozen=True, kw_only=True)
class RetentionConfig:
    """Say how long a store keeps what it holds, and how much."""

    max_age: timedelta | None = None
    """Age at which a trajectory expires, since something of it came in last; None keeps it."""

    agents: Mapping[str, timedelta | None] = field(default_factory=dict)
    """The same by agent, overruling ``max_age``; None keeps the agent's, also above ``max_bytes``."""

    max_bytes: int | None = None
    """Size of the store's file above which the oldest expire; None sets no limit."""

    every: timedelta = timedelta(hours=1)
    """How often a running collector looks."""

    compact_share: float = 0.5
    """Share of free space inside the file at which a running collector compacts it; 1 never does."""

    def __post_init__(self) -> None:
        """Refuse what would delete everything, or never end.

        Raises:
            ConfigError: an age or a size is not above 0, or the share is none.
        """
        ages = {"max_age": self.max_age, "every": self.every} | {
            f"agents.{name}": at for name, at in self.agents.items()
        }
        for name, value in ages.items():
            if value is not None and value <= timedelta(0):
                raise ConfigError(f"retention {name} is {value}, allowed: more than 0")
        if self.max_bytes is not None and self.max_bytes <= 0:
            raise ConfigError(f"retention max_bytes is {self.max_bytes}, allowed: more than 0")
        if not 0 < self.compact_share <= 1:
            raise ConfigError(f"retention compact_share is {self.compact_share}, allowed: above 0, up to 1")

    @property
    def limits_nothing(self) -> bool:
        """Return whether everything is kept."""
        return self.max_bytes is None and not any((self.max_age, *self.agents.values()))


def retention_from(table: Mapping[str, Any]) -> RetentionConfig:
    """Return a ``[collector.retention]`` table's settings, like ``max_age = "90d"`` and ``agents = {support = "30d"}``.

    Raises:
        ConfigError: a key is unknown, or a value can't be read.
    """
    allowed = ("max_age", "agents", "max_bytes", "every", "compact_share")
    for key in table:
        if key not in allowed:
            raise ConfigError(f"[collector.retention] has the key {key!r}, allowed: {', '.join(allowed)}")
    read: dict[str, Any] = {key: age(str(table[key])) for key in ("max_age", "every") if key in table}
    if "max_bytes" in table:
        read["max_bytes"] = size(str(table["max_bytes"]))
    if "agents" in table:
        if not isinstance(table["agents"], Mapping):
            raise ConfigError(f"[collector.retention] agents is {table['agents']!r}, expected a table of ages by agent")
        read["agents"] = {name: None if at == "keep" else age(str(at)) for name, at in table["agents"].items()}
    if "compact_share" in table:
        read["compact_share"] = _share(table["compact_share"])
    return RetentionConfig(**read)


def _share(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"[collector.retention] compact_share is {value!r}, expected a number")
    return float(value)


@dataclass(frozen=True, kw_only=True)
class Gone:
    """How much of one agent expired, or would."""

    trajectories: int
    others: int
    """Traces, and log records without a trace, of no trajectory; their agent is the service that sent them."""
    spans: int
    log_records: int
    bytes: int
    """Of what came in, as it is kept; what follows from it comes on top."""


def expire(store: Store, config: RetentionConfig, now: int, *, dry_run: bool = False) -> dict[str, Gone]:
    """Delete what is too old or too much, in bounded transactions, and return how much that was by agent.

    The store may be read and written to meanwhile. What gets a new span while this runs is left for the next time.
    Above ``max_bytes`` the file is compacted too, before it is judged and after; else the space is free for new items.

    Args:
        store: where from.
        config: what to keep.
        now: nanoseconds since 1970.
        dry_run: delete nothing.

    Raises:
        StoreError: it could not be written, or compacted.
    """
    with store.maintenance:
        if config.max_bytes is not None and used_bytes(store)[0] > config.max_bytes and not dry_run and _deleted(store):
            compact(store)
        too_much = config.max_bytes is not None and used_bytes(store)[0] > config.max_bytes
        with store.session() as session:
            batches = _plan(session, config, now, used_bytes(store)[0] if too_much else 0)
            if not dry_run:
                for batch in range(batches):
                    _delete_batch(session, batch)
                _delete_loose(session)
            gone = _gone(session)
        if gone and not dry_run:
            if too_much:
                compact(store)
            else:
                store.checkpoint()
    return gone


def _deleted(store: Store) -> bool:
    with store.reader() as reader:
        return bool(reader.rows("SELECT key FROM meta WHERE key = 'deleted'"))


def _plan(session: Session, config: RetentionConfig, now: int, used: int) -> int:
    """Write down on this connection what expires, and return in how many batches; ``used`` is 0 where size is none."""
    with session.transaction():
        session.execute(_OWNED)
        (kept,) = session.execute("SELECT coalesce(sum(bytes), 0) FROM owned")
        session.execute(
            _EXPIRING,
            oldest=_before(now, config.max_age),
            agents=list(config.agents),
            oldests=[_before(now, limit) for limit in config.agents.values()],
            bytes=kept[0] * (config.max_bytes or 0) // used if used else 2**63 - 1,
            derived=session.derived.derived_chunk(),
            items=_ITEMS,
        )
        session.execute("CREATE OR REPLACE TEMP TABLE loose (kind VARCHAR, id VARCHAR)")
        session.execute("CREATE OR REPLACE TEMP TABLE watermark AS SELECT max(chunk) AS chunk FROM owned")
        (last,) = session.execute("SELECT coalesce(max(batch) + 1, 0) FROM expiring")
    return int(last[0])


def _before(now: int, limit: timedelta | None) -> int | None:
    return None if limit is None else now - limit // timedelta(microseconds=1) * 1000


def _delete_batch(session: Session, batch: int) -> None:
    with session.derivation():
        session.execute(
            f"DELETE FROM expiring WHERE batch = $batch AND trajectory_id IN ({_GREW})",  # noqa: S608 - a literal
            batch=batch,
        )
        chosen = "SELECT unit FROM expiring WHERE batch = $batch"
        found = session.execute(f"SELECT chunk, kind, noted FROM owned WHERE unit IN ({chosen})", batch=batch)  # noqa: S608
        if not found:
            return
        _forget_notes(session, [(chunk, kind) for chunk, kind, noted in found if noted])
        _forget_derived(session, batch)
        session.raw.forget([chunk for chunk, *_ in found])
        session.execute(_DELETED)


def _forget_notes(session: Session, chunks: Sequence[tuple[int, str]]) -> None:
    """Delete the scores and losses that these chunks told, and no others that say the same."""
    spans = session.raw.spans_in([chunk for chunk, kind in chunks if kind == SPANS])
    logs = session.raw.logs_in([chunk for chunk, kind in chunks if kind == LOGS])
    for table, rows in note_tables(spans, logs):
        session.derived.delete(table, rows)


def _forget_derived(session: Session, batch: int) -> None:
    chosen = "SELECT trajectory_id FROM expiring WHERE batch = $batch AND trajectory_id IS NOT NULL"
    traces = session.links.traces_of([row[0] for row in session.execute(chosen, batch=batch)])
    with_theirs = f"{chosen} UNION SELECT unnest($linked::VARCHAR[])"
    of_ids = f"trajectory_id IN ({with_theirs})"
    named = {"batch": batch, "linked": session.links.trajectories_of(traces)}
    for kind, key, table in _NAMED:
        session.execute(f"INSERT INTO loose SELECT DISTINCT '{kind}', {key} FROM {table} WHERE {of_ids}", **named)  # noqa: S608
    for table in ("trajectories", "bare_steps", "histories"):
        session.execute(f"DELETE FROM {table} WHERE {of_ids}", **named)  # noqa: S608 - literals
    session.derived.delete("scores", as_arrow("scores", session.links.scores_of(traces)))
    session.links.forget(traces)


def _delete_loose(session: Session) -> None:
    """Delete the messages and tools of deleted steps that no other step names."""
    with session.transaction():
        session.execute(
            "CREATE OR REPLACE TEMP TABLE loose AS SELECT kind, id, row_number() OVER () // $slice AS slice "
            "FROM (SELECT DISTINCT kind, id FROM loose WHERE id IS NOT NULL)",
            slice=_LOOSE,
        )
        (last,) = session.execute("SELECT coalesce(max(slice) + 1, 0) FROM loose")
    for number in range(last[0]):
        for kind, key, naming in _NAMED:
            mine = "SELECT id FROM loose WHERE slice = $slice AND kind = $kind"
            gone = f"{key} IN ({mine} EXCEPT SELECT {key} FROM {naming})"  # noqa: S608 - literals
            with session.derivation():
                session.derived.messages_change()
                session.execute(f"DELETE FROM {kind} WHERE {gone}", slice=number, kind=kind)  # noqa: S608 - literals


def _gone(session: Session) -> dict[str, Gone]:
    with session.transaction():
        rows = session.execute(
            "SELECT agent, count(trajectory_id), count(*) - count(trajectory_id), sum(spans), sum(log_records), "
            "sum(bytes) FROM expiring GROUP BY agent ORDER BY agent"
        )
    names = list(Gone.__dataclass_fields__)
    return {agent: Gone(**dict(zip(names, map(int, found), strict=True))) for agent, *found in rows}


def as_json(gone: Mapping[str, Gone]) -> dict[str, dict[str, int]]:
    """Return what expired as JSON."""
    return {agent: asdict(counted) for agent, counted in gone.items()}
