"""Find the decisions that a person should look at: clone and expert differ, the clone was unsure, or it handed over.

What has the same content is one item, however often it was seen: its id is a hash of the state and of both actions,
without the ids of calls, which differ each time.
"""

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from typing import Any, Final

import polars as pl

from imitrace.canonical import canonical_json, content_hash, text_hash
from imitrace.messages import Action, Message
from imitrace_trainer.equivalence import Made, equivalent
from imitrace_trainer.frames import gather
from imitrace_trainer.policy import same_action
from imitrace_trainer.survey import Frames

KINDS: Final = ("disagreement", "handover", "low_confidence")
"""Why a decision is asked about: both differ; the expert took over from the clone there; the clone acted unsure."""

_ID: Final = 16
_STEP: Final = ("trajectory_id", "step_index")
_ROW: Final = (
    *("trajectory_id", "step_index", "decision", "agent", "policy_role", "policy_name", "policy_version", "state"),
    *("tools_hash", "action_kind", "action_name", "action_arguments", "action_message", "observation", "confidence"),
    *("route_reason", "propensity", "shadow", "started_at"),
)


@dataclass(frozen=True, kw_only=True)
class Item:
    """One decision to judge."""

    id: str
    agent: str
    kind: str
    """One of ``KINDS``."""
    state: tuple[Message, ...]
    """What both saw, oldest first."""
    tools: tuple[dict[str, Any], ...]  # JSON schemas
    """The tools offered."""
    tags: dict[str, str]
    expert: Action | None
    """What the expert, or a person, did; None where the clone acted."""
    expert_name: str | None
    clone: Action | None
    """What the clone did, or would have done; None where nobody asked it."""
    clone_name: str | None
    """With its version, for instance ``airline v3``."""
    confidence: float | None = None
    """Calibrated, that the expert would do what the clone would."""
    ood: float | None = None
    """Distance from the clone's training states; above 1 it is out of distribution."""
    propensity: float | None = None
    """With which probability the one who acted was chosen; below 1 for the audit slice."""
    reason: str | None = None
    """Why the route chose who acted."""
    observation: str | None = None
    """What came of what was done."""
    equivalent: str | None = None
    """Why both actions come to the same; None where that is not shown."""
    places: tuple[tuple[str, int], ...] = ()
    """The trajectories and steps where it was seen."""
    tasks: tuple[str, ...] = ()
    """Keys of the tasks that these belong to, as curation names them."""
    at: int = 0
    """When it was seen first, in nanoseconds since 1970 UTC."""

    @property
    def seen(self) -> int:
        """How often it was seen."""
        return len(self.places)

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values."""
        record = asdict(self)
        return {**record, "places": [list(place) for place in self.places], "seen": self.seen}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Item":
        """Return what ``to_json`` gave."""
        told = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        actions = {side: read_action(told[side]) for side in ("expert", "clone")}
        lists = {"state": tuple(told["state"]), "tools": tuple(told["tools"]), "tasks": tuple(told["tasks"])}
        places = tuple((str(trajectory), int(step)) for trajectory, step in told["places"])
        return cls(**{**told, **actions, **lists, "places": places})


def read_action(record: Mapping[str, Any] | None) -> Action | None:
    """Return an action from JSON values, with or without what is empty."""
    if record is None:
        return None
    arguments = record.get("arguments") or {}
    return Action(str(record["kind"]), record.get("name"), dict(arguments), record.get("message"))


def find_items(
    frames: Frames, agent: str | None = None, low: float = 0.5, reads: Mapping[str, Collection[str]] | None = None
) -> list[Item]:
    """Return the decisions to judge, by when they were seen first.

    Args:
        frames: the tables of ``schema.TABLES`` by name.
        agent: whose; None for everybody's.
        low: what a clone did with less confidence is asked about.
        reads: by agent: its tools that change nothing.
    """
    asked = _asked(frames, agent, low)
    if asked.is_empty():
        return []
    context = _Context.of(frames, asked)
    found: dict[str, Item] = {}
    for row in asked.iter_rows(named=True):
        item = _item(row, context, (reads or {}).get(row["agent"], ()))
        if item is not None:
            same = found.get(item.id)
            found[item.id] = item if same is None else _joined(same, item)
    return sorted(found.values(), key=lambda item: (item.at, item.id))


def _asked(frames: Frames, agent: str | None, low: float) -> pl.DataFrame:
    """Return the first step of each decision that may be asked about, and whether a clone acted just before it."""
    steps = frames["steps"] if agent is None else frames["steps"].filter(pl.col("agent") == agent)
    facts = (*_STEP, "decision", "policy_role", "confidence", "complete", pl.col("shadow").is_not_null().alias("asked"))
    firsts = (
        steps.select(facts)  # without states, which are long
        .sort(_STEP)
        .unique(["trajectory_id", "decision"], keep="first", maintain_order=True)
    )
    by_clone = pl.col("policy_role") == "clone"
    before = pl.col("policy_role").shift(1).over("trajectory_id") == "clone"
    by_expert = pl.col("policy_role").is_in(["expert", "human"])
    handed = (by_expert & before).fill_null(value=False)
    unsure = (by_clone & (pl.col("confidence") < low)).fill_null(value=False)
    wanted = firsts.with_columns(handed.alias("handed")).filter(
        pl.col("complete") & ((by_expert & pl.col("asked")) | pl.col("handed") | unsure)
    )
    found = gather({"wanted": wanted.select(*_STEP, "handed")})["wanted"]
    rows = steps.select(_ROW).join(found.lazy(), on=list(_STEP), how="inner")
    return gather({"asked": rows.sort(_STEP)})["asked"]


@dataclass(frozen=True)
class _Context:
    """What else there is to know of the trajectories that are asked about."""

    messages: Mapping[str, Message]
    bare: Mapping[str, str]
    """By message: a hash of it without the ids of calls."""
    tools: Mapping[str, tuple[dict[str, Any], ...]]  # JSON schemas
    trajectories: Mapping[str, tuple[str | None, dict[str, str]]]
    """Task and tags."""
    steps: Mapping[str, Sequence[tuple[int, Made]]]

    @classmethod
    def of(cls, frames: Frames, asked: pl.DataFrame) -> "_Context":
        ids = asked.lazy().select("trajectory_id").unique()
        said = asked.lazy().select(pl.col("state").alias("message_id")).explode("message_id").unique()
        offered = asked.lazy().select("tools_hash").unique()
        columns = ("trajectory_id", "step_index", "decision", "action_kind", "action_name", "action_arguments")
        followed = frames["steps"].select(*columns, "action_message", "observation")
        found = gather(
            {
                "messages": frames["messages"].join(said, on="message_id", how="semi").select("message_id", "content"),
                "tools": frames["tools"].join(offered, on="tools_hash", how="semi").sort("tools_hash", "position"),
                "trajectories": frames["trajectories"].join(ids, on="trajectory_id", how="semi"),
                "steps": followed.join(ids, on="trajectory_id", how="semi").sort("trajectory_id", "step_index"),
            }
        )
        messages = {name: json.loads(content) for name, content in found["messages"].iter_rows()}
        tools: dict[str, tuple[dict[str, Any], ...]] = {}
        for tools_hash, definition in found["tools"].select("tools_hash", "definition").iter_rows():
            tools[tools_hash] = (*tools.get(tools_hash, ()), json.loads(definition))
        steps: dict[str, list[tuple[int, Made]]] = {}
        for row in found["steps"].iter_rows(named=True):
            made = Made(_action(row), row["observation"], row["decision"])
            steps.setdefault(row["trajectory_id"], []).append((row["step_index"], made))
        rows = found["trajectories"].select("trajectory_id", "task", "tags").iter_rows()
        return cls(
            messages=messages,
            bare={name: content_hash(without_ids(message)) for name, message in messages.items()},
            tools=tools,
            trajectories={name: (task, json.loads(tags)) for name, task, tags in rows},
            steps=steps,
        )

    def followed(self, trajectory: str, step: int) -> list[Made]:
        """Return a trajectory's steps from one on."""
        return [made for index, made in self.steps.get(trajectory, ()) if index >= step]


def without_ids(message: Message) -> Message:
    """Return a message without the ids of its calls."""
    return {**message, "parts": [{key: part[key] for key in part if key != "id"} for part in message["parts"]]}


def item_id(state: Iterable[str], expert: Action | None, clone: Action | None) -> str:
    """Name an item by what it is: the hashes of its messages without ids, and both actions."""
    told = [_named(expert), _named(clone)]
    return content_hash({"state": list(state), "actions": told}).rpartition(":")[2][:_ID]


def task_key(task: str | None, state: Sequence[str], messages: Mapping[str, Message], trajectory: str) -> str:
    """Return a trajectory's task as curation names it: its own, else its first request, else the trajectory."""
    asked = (name for name in state if messages.get(name, {}).get("role") == "user")
    return task or next(asked, trajectory)


def _item(row: Mapping[str, Any], context: _Context, reads: Collection[str]) -> Item | None:
    acted, shadow = _action(row), json.loads(row["shadow"]) if row["shadow"] else {}
    by_clone = row["policy_role"] == "clone"
    other = None if by_clone else read_action(shadow.get("action"))
    if not by_clone and other is not None and (same_action(other, acted) or _textless(other)):
        return None  # they agree, or the clone would have left it to the expert
    if not by_clone and other is None and not row["handed"]:
        return None
    state = [name for name in row["state"] if name in context.messages]
    if len(state) < len(row["state"]):
        return None  # what they saw is not all there
    task, tags = context.trajectories.get(row["trajectory_id"], (None, {}))
    tools = context.tools.get(row["tools_hash"], ())
    expert, clone = (None, acted) if by_clone else (acted, other)
    followed = context.followed(row["trajectory_id"], row["step_index"])
    clone_name = _named_clone(row["policy_name"], row["policy_version"])
    return Item(
        id=item_id((context.bare[name] for name in state), expert, clone),
        agent=row["agent"],
        kind="low_confidence" if by_clone else "handover" if row["handed"] else "disagreement",
        state=tuple(context.messages[name] for name in state),
        tools=tools,
        tags=tags,
        expert=expert,
        expert_name=None if by_clone else row["policy_name"],
        clone=clone,
        clone_name=clone_name if by_clone else _named_clone(shadow.get("clone"), shadow.get("version")),
        confidence=row["confidence"] if by_clone else shadow.get("confidence"),
        ood=shadow.get("ood"),
        propensity=row["propensity"],
        reason=row["route_reason"],
        observation=row["observation"],
        equivalent=None if other is None else equivalent(acted, other, followed, tools, reads),
        places=((row["trajectory_id"], row["step_index"]),),
        tasks=(task_key(task, state, context.messages, row["trajectory_id"]),),
        at=row["started_at"],
    )


def _joined(same: Item, item: Item) -> Item:
    """Return one item of two with the same content; it counts as harmless only where it was so each time."""
    return replace(
        same,
        equivalent=same.equivalent and item.equivalent,
        places=tuple(sorted({*same.places, *item.places})),
        tasks=tuple(sorted({*same.tasks, *item.tasks})),
        at=min(same.at, item.at),
    )


def _action(row: Mapping[str, Any]) -> Action:
    return Action(row["action_kind"], row["action_name"], _arguments(row["action_arguments"]), row["action_message"])


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> Any:  # any JSON value
    try:
        return json.loads(text)
    except ValueError:
        return None


def _arguments(text: str | None) -> dict[str, Any]:
    found = _parsed(text) if text else None
    return dict(found) if isinstance(found, dict) else {}


def _textless(action: Action) -> bool:
    return action.kind == "message" and not action.message


def _named(action: Action | None) -> list[Any] | None:  # JSON
    if action is None:
        return None
    return [action.kind, action.name, text_hash(canonical_json(action.arguments)), action.message]


def _named_clone(name: str | None, version: str | None) -> str | None:
    return None if name is None else " ".join([name, *([version] if version else [])])


def places_of(items: Iterable[Item]) -> Iterator[tuple[str, int]]:
    """Yield every place where the items were seen."""
    for item in items:
        yield from item.places
