"""Keep what reviewers say of decisions: ``queue/AGENT.jsonl`` in the workspace, which is only added to.

A line is an item as the reviewer saw it, or a verdict on one. Each is on the disk before it is acknowledged; of two
reviewers at once each writes its own lines whole. What a killed writer left half written is counted and left.
"""

import fcntl
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from imitrace.canonical import canonical_json, text_hash
from imitrace.exceptions import ConfigError, DatasetError
from imitrace.messages import Action
from imitrace_trainer.argument_fit import misfit
from imitrace_trainer.queue_items import Item, read_action

FOLDER: Final = "queue"
VERDICTS: Final[Mapping[str, str]] = {
    "expert_right": "the expert is right, the clone is not",
    "clone_right": "the clone is right, the expert is not",
    "both_fine": "both are fine",
    "both_wrong": "both are wrong",
    "unsafe": "what the clone would do must never be done here",
}
"""What a reviewer can say, and what it means."""
CORRECTED: Final = ("both_wrong", "unsafe")
"""Verdicts that a correction may come with."""

_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """What one reviewer said of one item."""

    item: str
    verdict: str
    """One of ``VERDICTS``."""
    reviewer: str
    at: str = ""
    """When, ISO 8601."""
    correction: Action | None = None
    """What should have been done, where neither is right."""
    note: str = ""
    seconds: float | None = None
    """How long the reviewer looked at it; None: nobody measured it."""

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values, without what is empty."""
        made = self.correction
        record: dict[str, Any] = {name: getattr(self, name) for name in self.__dataclass_fields__}
        record["correction"] = made and {key: value for key, value in vars(made).items() if value not in (None, {})}
        return {key: value for key, value in record.items() if value not in (None, "")}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> "Judgement":
        """Return what ``to_json`` gave."""
        told = {key: value for key, value in record.items() if key in cls.__dataclass_fields__}
        made = cls(**{**told, "correction": read_action(told.get("correction"))})
        if made.verdict not in VERDICTS:
            raise ValueError(f"verdict {made.verdict!r} is none of {', '.join(VERDICTS)}")
        return made


@dataclass(frozen=True)
class Reviews:
    """What was said of an agent's decisions."""

    items: Mapping[str, Item] = field(default_factory=dict)
    """Those that were judged, by id, as the first reviewer saw them."""
    judgements: Sequence[Judgement] = ()
    """All, oldest first."""
    broken: int = 0
    """Lines that can't be read."""

    @property
    def standing(self) -> dict[str, dict[str, Judgement]]:
        """What counts, by item and reviewer: of each reviewer the newest word."""
        found: dict[str, dict[str, Judgement]] = {}
        for made in self.judgements:
            found.setdefault(made.item, {})[made.reviewer] = made
        return found


@dataclass(frozen=True)
class Label:
    """What several judgements of one item come to."""

    action: Action | None
    """What is right; None where that was not said."""
    verdict: str
    """What most said, or ``disputed``."""
    reviewers: tuple[str, ...]
    """Who said so."""


def check_judgement(item: Item, made: Judgement) -> None:
    """Refuse a verdict that makes no sense for an item.

    Raises:
        ConfigError: it is about a side that is not there, or its correction comes with another verdict, or calls what
            the tools offered don't take.
    """
    sides = {"expert_right": item.expert, "clone_right": item.clone, "both_fine": item.expert and item.clone}
    if made.verdict in sides and sides[made.verdict] is None:
        known = ", ".join(name for name in VERDICTS if name not in sides or sides[name] is not None)
        raise ConfigError(
            f"verdict {made.verdict} on {item.id} says what nobody did or would have done, allowed: {known}"
        )
    if made.correction is None:
        return
    if made.verdict not in CORRECTED:
        raise ConfigError(f"a correction comes with {' or '.join(CORRECTED)}, not with {made.verdict}")
    check_correction(item, made.correction)


def check_correction(item: Item, action: Action) -> None:
    """Refuse a correction that can't be carried out.

    Raises:
        ConfigError: it is an empty message, calls a tool that is not offered, or its arguments don't fit.
    """
    if action.kind == "message" and not (action.message or "").strip():
        raise ConfigError('correction is an empty message, write {"message": "..."}')
    if action.kind != "tool_call":
        return
    offered = {str(tool["name"]): tool for tool in item.tools}
    if action.name not in offered:
        raise ConfigError(f"correction calls {action.name!r}, offered: {', '.join(sorted(offered)) or 'none'}")
    problem = misfit(offered[action.name].get("parameters"), action.arguments, strict=True)
    if problem is not None:
        raise ConfigError(f"correction does not fit {action.name}: {problem}")


def parse_correction(text: str) -> Action:
    """Return the action that a correction's JSON says.

    Args:
        text: ``{"name": ..., "arguments": {...}}`` or ``{"message": ...}``.

    Raises:
        ConfigError: it is neither.
    """
    try:
        record = json.loads(text)
    except ValueError:
        record = None
    if isinstance(record, dict) and isinstance(record.get("message"), str) and set(record) <= {"message", "kind"}:
        return Action("message", message=record["message"])
    named = isinstance(record, dict) and isinstance(record.get("name"), str)
    if named and isinstance(record.get("arguments", {}), dict) and set(record) <= {"name", "arguments", "kind"}:
        return Action("tool_call", record["name"], record.get("arguments", {}))
    raise ConfigError(f'correction is {text!r}, write {{"name": "TOOL", "arguments": {{...}}}} or {{"message": "..."}}')


def label(judgements: Mapping[str, Judgement], item: Item) -> Label:
    """Return what is right by most of the reviewers; where not more than half say the same, it is disputed.

    What one of them calls unsafe is never the label, though it be the clone's action that the others found right.

    Args:
        judgements: by reviewer, at least one.
        item: what they judged.
    """
    votes: dict[str, list[Judgement]] = {}
    for made in judgements.values():
        action = _meant(made, item)
        votes.setdefault(canonical_json(None if action is None else _content(action)), []).append(made)
    most = max(votes.values(), key=len)
    action = _meant(most[0], item)
    feared = any(made.verdict == "unsafe" for made in judgements.values())
    danger = feared and action is not None and item.clone is not None and _content(action) == _content(item.clone)
    if 2 * len(most) <= len(judgements) or danger:
        return Label(None, "disputed", tuple(sorted(judgements)))
    return Label(action, most[0].verdict, tuple(sorted(made.reviewer for made in most)))


def path_of(home: Path, agent: str) -> Path:
    """Return the file of an agent's verdicts; a name that can't name a file is made one that can."""
    if _PLAIN.fullmatch(agent):
        return home / FOLDER / f"{agent}.jsonl"
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", agent).strip(".-")[:40]
    return home / FOLDER / f"{plain or 'agent'}-{text_hash(agent)[:8]}.jsonl"


def read_reviews(home: Path, agent: str) -> Reviews:
    """Return what was said of an agent's decisions; nothing where nobody judged any.

    Raises:
        DatasetError: the file can't be read.
    """
    path = path_of(home, agent)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Reviews()
    except OSError as error:
        raise DatasetError(f"verdicts {path} can't be read: {error.strerror}") from error
    items: dict[str, Item] = {}
    judgements: list[Judgement] = []
    broken = 0
    for line in filter(None, data.split(b"\n")):
        try:
            record = json.loads(line)
            if record["kind"] == "item":
                item = Item.from_json(record["item"])
                items.setdefault(item.id, item)
            else:
                judgements.append(Judgement.from_json(record["verdict"]))
        except (ValueError, LookupError, TypeError, AttributeError):
            broken += 1
    return Reviews(items, judgements, broken)


def record_judgement(home: Path, item: Item, made: Judgement) -> Judgement:
    """Add a verdict, and its item where nobody judged that before; it is on the disk when this returns.

    Returns:
        The verdict with its time.

    Raises:
        ConfigError: it makes no sense for the item.
        DatasetError: it can't be written.
    """
    check_judgement(item, made)
    timed = Judgement(**{**vars(made), "at": made.at or datetime.now(UTC).isoformat(timespec="seconds")})
    known = item.id in read_reviews(home, item.agent).items
    lines = [] if known else [{"kind": "item", "item": item.to_json()}]
    _append(path_of(home, item.agent), [*lines, {"kind": "verdict", "verdict": timed.to_json()}])
    return timed


def _append(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    text = "".join(canonical_json(record) + "\n" for record in records)
    try:
        new = not path.exists()
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # closing the file gives it back, and so does the process's death
            file.seek(0, os.SEEK_END)
            if file.tell() and not _ends_whole(file.fileno(), file.tell()):
                text = "\n" + text  # a killed writer's half line stays one of its own
            file.write(text.encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
        if new:
            _sync_folder(path.parent)
    except OSError as error:
        raise DatasetError(f"verdicts {path} can't be written: {error.strerror}; name a --home that can") from error


def _ends_whole(descriptor: int, size: int) -> bool:
    return os.pread(descriptor, 1, size - 1) == b"\n"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _meant(made: Judgement, item: Item) -> Action | None:
    """Return what a judgement says is right."""
    if made.verdict == "expert_right":
        return item.expert
    if made.verdict == "clone_right":
        return item.clone
    if made.verdict == "both_fine":
        return item.expert  # what was done; two labels for one state would only blur it
    return made.correction


def _content(action: Action) -> list[Any]:  # JSON
    return [action.kind, action.name, action.arguments, action.message]
