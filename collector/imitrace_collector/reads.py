"""Answer questions about trajectories out of the store: the same answers for the HTTP API and for commands."""

import json
from collections.abc import Sequence
from typing import Any

from imitrace.exceptions import StoreError, WireError
from imitrace_collector.histories import BARE_STEPS, State
from imitrace_collector.store import Reader, Store

_MOST_IDS = 4 * 2**20
"""Ids of all states of an answer in JSON; more would be hundreds of megabytes."""

Json = dict[str, Any]
"""A JSON object."""


class NotFoundError(StoreError):
    """Report that what was asked for is not here."""


def list_trajectories(store: Store, agent: str | None, limit: int) -> list[Json]:
    """Return the newest trajectories, of one agent when named."""
    where = "" if agent is None else "WHERE agent = $agent"
    sql = f"SELECT * FROM trajectories {where} ORDER BY started_at DESC, trajectory_id LIMIT $limit"  # noqa: S608 - literals
    parameters: Json = {"limit": limit} if agent is None else {"limit": limit, "agent": agent}
    with store.reader() as reader:
        return [_trajectory(row) for row in reader.rows(sql, **parameters)]


def trajectory_detail(store: Store, trajectory_id: str) -> Json:
    """Return one trajectory with its steps, its scores, and by id the messages and tools that the steps name.

    The steps' states are ``State``, which JSON can't say: see ``shared`` and ``spelled_out``.

    Raises:
        NotFoundError: there is no such trajectory.
    """
    of_id = "WHERE trajectory_id = $id"
    with store.reader() as reader:
        found = reader.rows(f"SELECT * FROM trajectories {of_id}", id=trajectory_id)  # noqa: S608 - literals
        if not found:
            raise NotFoundError(f"no trajectory {trajectory_id!r} in the store; list them by `imitrace trajectories`")
        steps, named = _steps(reader, trajectory_id)
        scores = reader.rows(f"SELECT * FROM scores {of_id} ORDER BY scored_at, name", id=trajectory_id)  # noqa: S608
        messages = reader.rows(
            "SELECT message_id, content FROM messages WHERE message_id IN (SELECT unnest($ids::VARCHAR[]))",
            ids=sorted(named),
        )
        tools = reader.rows(
            "SELECT tools_hash, name FROM tools WHERE tools_hash IN (SELECT unnest($ids::VARCHAR[])) ORDER BY position",
            ids=sorted({step["tools_hash"] for step in steps if step["tools_hash"]}),
        )
    offered: dict[str, list[str]] = {}
    for tool in tools:
        offered.setdefault(tool["tools_hash"], []).append(tool["name"])
    return {
        "trajectory": _trajectory(found[0]),
        "steps": steps,
        "scores": scores,
        "messages": {row["message_id"]: json.loads(row["content"]) for row in messages},
        "tools": offered,
    }


def _steps(reader: Reader, trajectory_id: str) -> tuple[list[Json], set[str]]:
    """Return a trajectory's steps, whose states share their ids, and all these ids."""
    of_id = "WHERE trajectory_id = $id ORDER BY"
    steps = reader.rows(f"SELECT {', '.join(BARE_STEPS)} FROM bare_steps {of_id} step_index", id=trajectory_id)  # noqa: S608
    histories: dict[int, list[str]] = {}
    for row in reader.rows(f"SELECT history, message_id FROM histories {of_id} history, position", id=trajectory_id):  # noqa: S608
        histories.setdefault(row["history"], []).append(row["message_id"])
    for step in steps:
        step["state"] = State(histories.get(step.pop("history"), []), step.pop("history_length"))
    return steps, {message_id for history in histories.values() for message_id in history}


def shared(detail: Json) -> Json:
    """Return a trajectory as JSON in which a step's state is the number of one of its ``histories``, and a length."""
    histories = {id(step["state"].history): step["state"].history for step in detail["steps"]}
    numbers = {history: number for number, history in enumerate(histories)}
    steps = [step | {"state": [numbers[id(step["state"].history)], len(step["state"])]} for step in detail["steps"]]
    return detail | {"steps": steps, "histories": list(histories.values())}


def unshared(told: Json) -> Json:
    """Return the trajectory that ``shared`` told."""
    histories = told["histories"]
    steps = [step | {"state": State(histories[step["state"][0]], step["state"][1])} for step in told["steps"]]
    return {key: value for key, value in told.items() if key != "histories"} | {"steps": steps}


def spelled_out(detail: Json) -> Json:
    """Return a trajectory as JSON in which a step's state is the list of all its ids.

    Raises:
        WireError: they are too many for one answer.
    """
    ids = sum(len(step["state"]) for step in detail["steps"])
    if ids > _MOST_IDS:
        raise WireError(
            f"states have {ids} message ids, allowed in one answer: {_MOST_IDS}; ask for states=shared, "
            "or read /v1/tables/steps?trajectory=ID"
        )
    return detail | {"steps": [step | {"state": list(step["state"])} for step in detail["steps"]]}


def traces_of(store: Store, trajectory_ids: Sequence[str]) -> dict[str, list[str]]:
    """Return for each trajectory that is stored the trace ids of its spans."""
    sql = (
        "SELECT trajectory_id, list(DISTINCT trace_id) AS traces FROM spans "
        "WHERE trajectory_id IN (SELECT unnest($ids::VARCHAR[])) GROUP BY trajectory_id"
    )
    with store.reader() as reader:
        return {row["trajectory_id"]: sorted(row["traces"]) for row in reader.rows(sql, ids=list(trajectory_ids))}


def known_traces(store: Store, trace_ids: Sequence[str]) -> set[str]:
    """Return which of these traces have spans that are stored."""
    sql = "SELECT DISTINCT trace_id FROM spans WHERE trace_id IN (SELECT unnest($ids::VARCHAR[]))"
    with store.reader() as reader:
        return {row["trace_id"] for row in reader.rows(sql, ids=list(trace_ids))}


def lost_records(store: Store) -> dict[str, int]:
    """Return by service how many records its processes say they lost, where any did.

    Each process counts from its start, so its highest count is its last.
    """
    sql = (
        "SELECT service, sum(lost)::BIGINT AS lost FROM "
        "(SELECT service, process, max(lost) AS lost FROM losses GROUP BY ALL) GROUP BY service ORDER BY service"
    )
    with store.reader() as reader:
        return {row["service"]: row["lost"] for row in reader.rows(sql) if row["lost"]}


def _trajectory(row: Json) -> Json:
    return row | {"tags": json.loads(row["tags"])}
