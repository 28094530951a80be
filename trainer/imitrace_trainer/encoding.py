"""Encode a state for choosing an action: hashed, segmented features and what each tool's arguments could take.

A feature is a text; its id is the BLAKE2b hash of that text, folded to 31 bits. Only ids seen in training have a row
(``Vocabulary``), so a state's share of unknown features is itself a sign of a new domain.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import chain, islice, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from imitrace.canonical import canonical_json
from imitrace.messages import Message
from imitrace_trainer.places import Places
from imitrace_trainer.reading import (
    Reader,
    Reading,
    Scalar,
    Seen,
    argument_values,
    find_year,
    shape,
    value_key,
    words,
)

MESSAGE = "<message>"
"""The name of the action «write a message» among tool names."""

SEGMENTS = ("last_user", "users", "assistant", "observation", "facts", "history")
"""Parts of a state that are embedded apart."""

MAX_ROWS = 60_000
"""Rows of a vocabulary at most: 13 MB of weights at a network's usual width."""

_MAX_SEEN = 4_000
_BUCKET_BITS = 18

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


@lru_cache(maxsize=400_000)
def feature_id(text: str) -> int:
    """Return a feature's id in [0, 2**31)."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=4).digest()
    return int.from_bytes(digest, "little") & 0x7FFFFFFF


@dataclass(frozen=True)
class Vocabulary:
    """The features seen in training, and how much each tells (inverse document frequency)."""

    ids: IntArray
    """Sorted feature ids, shape (size,)."""
    idf: FloatArray
    """Weight of each, shape (size,)."""
    _index: dict[int, int] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._index.update({int(feature): row for row, feature in enumerate(self.ids)})

    @cached_property
    def _buckets(self) -> tuple[IntArray, IntArray, int]:
        """Where the ids of each leading bits begin, the ids with none behind them, and how many share bits at most."""
        starts = np.searchsorted(self.ids, np.arange(1 << _BUCKET_BITS) << (31 - _BUCKET_BITS))
        most = int(np.diff(np.append(starts, len(self.ids))).max())
        return starts, np.append(self.ids, np.full(most, -1)), most

    @classmethod
    def learn(cls, documents: Iterable[Iterable[int]], minimum: int = 2) -> "Vocabulary":
        """Count features over documents and keep those in at least ``minimum`` of them, the ``MAX_ROWS`` commonest."""
        counts: dict[int, int] = {}
        total = 0
        for document in documents:
            total += 1
            for feature in set(document):
                counts[feature] = counts.get(feature, 0) + 1
        kept = sorted(feature for feature, count in counts.items() if count >= minimum)
        if len(kept) > MAX_ROWS:
            kept = sorted(sorted(kept, key=lambda feature: -counts[feature])[:MAX_ROWS])
        ids = np.array(kept, dtype=np.int64)
        frequency = np.array([counts[feature] for feature in kept], dtype=np.float64)
        return cls(ids, (np.log((1 + total) / (1 + frequency)) + 1).astype(np.float32))

    def find(self, features: IntArray) -> tuple[IntArray, npt.NDArray[np.bool_]]:
        """Return the rows of known features, and which of them are known."""
        if not len(self.ids):
            return np.zeros(0, dtype=np.int64), np.zeros(len(features), dtype=np.bool_)
        starts, padded, most = self._buckets
        rows, at = np.full(len(features), -1), starts[features >> (31 - _BUCKET_BITS)]
        for _ in range(most):
            hit = padded[at] == features
            rows[hit] = at[hit]
            at += 1
        known = rows >= 0
        return rows[known], known

    def rows(self, features: Iterable[int]) -> list[int]:
        """Return the rows of known features; unknown ones are left out."""
        find = self._index.get
        return [row for feature in features if (row := find(feature)) is not None]


@dataclass(frozen=True)
class Call:
    """A tool call that was made earlier in the conversation."""

    name: str
    arguments: dict[str, Any]
    position: int
    error: bool

    @property
    def key(self) -> str:
        """Name and arguments as one text, equal for equal calls."""
        return self.name + canonical_json(self.arguments)


@dataclass
class StateView:
    """A state made ready to be encoded: readings, the calls made so far, values with their positions."""

    readings: list[Reading]
    tools: dict[str, Mapping[str, Any]]
    calls: list[Call]
    actions: list[str]
    last_user: int
    """Position of the last user message, -1 when there is none."""
    used: dict[str, set[Scalar]] = field(default_factory=dict)
    """Argument values already used, by ``TOOL.parameter``."""

    @property
    def last_user_words(self) -> tuple[str, ...]:
        """Words of the last user message."""
        return self.readings[self.last_user].words if self.last_user >= 0 else ()

    @cached_property
    def places(self) -> dict[object, list[tuple[int, Seen]]]:
        """Where each value was seen, newest first, by ``value_key``; of long states the newest part."""
        result: dict[object, list[tuple[int, Seen]]] = {}
        newest = ((n, seen) for n in range(len(self.readings) - 1, -1, -1) for seen in reversed(self.readings[n].seen))
        for place in islice(newest, _MAX_SEEN):
            result.setdefault(value_key(place[1].value), []).append(place)
        return result

    @cached_property
    def table(self) -> Places:
        """All places of all values as one table."""
        return Places(self.readings)

    @cached_property
    def user_words(self) -> frozenset[str]:
        """Words of all user messages."""
        return frozenset(word for reading in self.readings if reading.role == "user" for word in reading.words)


def view_state(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], reader: Reader) -> StateView:
    """Read a state: ``messages`` in parts form before the decision, ``tools`` as definitions."""
    year = find_year(messages)
    names: dict[object, str] = {}
    view = StateView([], {str(tool["name"]): tool for tool in tools}, [], [], -1)
    pending: dict[object, tuple[str, dict[str, Any], int]] = {}
    for position, message in enumerate(messages):
        tool = ""
        if message["role"] == "tool" and message["parts"]:
            part = message["parts"][0]
            tool = names.get(part.get("id")) or str(part.get("name") or "")
        reading = reader.read(message, tool, year)
        view.readings.append(reading)
        if message["role"] == "user":
            view.last_user = position
        elif message["role"] == "assistant":
            _read_actions(message, position, view, names, pending)
        elif message["role"] == "tool" and message["parts"]:
            made = pending.pop(message["parts"][0].get("id"), None)
            if made is not None:
                view.calls.append(Call(*made, reading.error))
    view.calls.extend(Call(*made, False) for made in pending.values())
    view.calls.sort(key=lambda call: call.position)
    return view


def _read_actions(
    message: Message,
    position: int,
    view: StateView,
    names: dict[object, str],
    pending: dict[object, tuple[str, dict[str, Any], int]],
) -> None:
    calls = [part for part in message["parts"] if part.get("type") == "tool_call"]
    view.actions.extend(call["name"] for call in calls)
    if not calls:
        view.actions.append(MESSAGE)
    for call in calls:
        names[call.get("id")] = call["name"]
        arguments = call.get("arguments") or {}
        pending[call.get("id") or (position, call["name"])] = (call["name"], arguments, position)
        for slot, value in argument_values(call["name"], arguments):
            view.used.setdefault(slot, set()).add(value)


def state_features(view: StateView) -> dict[str, list[int]]:
    """Return the hashed features of a state by segment (see ``SEGMENTS``)."""
    assistant = next((r for r in reversed(view.readings) if r.role == "assistant" and r.text), None)
    users = (_gram_ids("users", reading.words) for reading in view.readings if reading.role == "user")
    return {
        "last_user": list(_gram_ids("last_user", view.last_user_words)),
        "users": list(chain.from_iterable(users)),
        "assistant": list(_gram_ids("assistant", assistant.words if assistant else ())),
        "observation": _ids("observation", _observation(view.readings[-1] if view.readings else None)),
        "facts": list(chain.from_iterable(_fact_ids(facts) for facts in _newest_facts(view))),
        "history": _ids("history", _history(view)),
    }


def _ids(segment: str, texts: Iterable[str]) -> list[int]:
    return [feature_id(f"{segment}|{text}") for text in texts]


@lru_cache(maxsize=50_000)
def _gram_ids(segment: str, tokens: tuple[str, ...]) -> tuple[int, ...]:
    """Return the features of a message's words and pairs of neighbouring words."""
    folded = [shape(token) for token in tokens[:600]]
    return tuple(_ids(segment, [*folded, *(f"{first} {second}" for first, second in pairwise(folded))]))


@lru_cache(maxsize=50_000)
def _fact_ids(facts: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(_ids("facts", facts[:40]))


def _observation(last: Reading | None) -> list[str]:
    if last is None:
        return ["start"]
    if last.role != "tool":
        return [f"role={last.role}"]
    return ["role=tool", f"error={last.error}", *last.facts[:60], *(shape(word) for word in last.words[:40])]


def _newest_facts(view: StateView) -> Iterable[tuple[str, ...]]:
    """Return the facts of every tool's newest observation."""
    newest: dict[str, tuple[str, ...]] = {}
    for reading in view.readings:
        if reading.role == "tool" and reading.facts:
            newest[reading.facts[0].split(":", 1)[0]] = reading.facts
    return newest.values()


def _history(view: StateView) -> list[str]:
    last = ["^", "^", "^", *view.actions][-3:]
    since_user = sum(reading.role == "assistant" for reading in view.readings[view.last_user + 1 :])
    features = [
        f"1:{last[2]}",
        f"2:{last[1]} {last[2]}",
        f"3:{' '.join(last)}",
        f"turns:{min(len(view.actions), 12)}",
        f"users:{min(sum(reading.role == 'user' for reading in view.readings), 8)}",
        f"since:{min(since_user, 6)}",
        f"last role:{view.readings[-1].role if view.readings else '^'} {last[2]}",
    ]
    for name in sorted(set(view.actions)):
        count = view.actions.count(name)
        features += [f"called:{name}", f"called:{name}*{min(count, 4)}"]
    after = view.actions[-since_user:] if since_user else []
    features += [f"since user:{name}" for name in sorted(set(after))]
    for call in view.calls:
        said = argument_values(call.name, call.arguments)
        features += [f"did:{slot}={value}" for slot, value in said if isinstance(value, str) and value.isidentifier()]
    for call in view.calls[-3:]:
        features += [
            f"arg:{slot}={shape(str(value).lower())}" for slot, value in argument_values(call.name, call.arguments)
        ]
    return features


def description_features(tool: Mapping[str, Any]) -> list[int]:
    """Return the hashed words of a tool's name, description and parameter names."""
    name_words = [part for part in str(tool["name"]).lower().replace("-", "_").split("_") if part]
    parameters = list((tool.get("parameters") or {}).get("properties") or {})
    texts = [*(f"name {word}" for word in name_words), *words(str(tool.get("description") or ""))[:60], *parameters]
    return [feature_id(f"description|{text}") for text in texts]
