"""Know which conversation a request goes on with, so that its steps make one trajectory."""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from imitrace.context import Trajectory
from imitrace.history import OfferedTools
from imitrace_trainer.serving.naming import Naming

Key = bytes
_ANSWER = '"role":"assistant"}'
"""How the canonical JSON of an answer ends."""


class _Chain:
    """A key for each beginning of a conversation: of the first message, of the first two, and so on."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts
        self.keys: list[Key] = []
        self._hasher = hashlib.blake2b(digest_size=16)
        for text in texts:
            self._hasher.update(_marked(text))
            self.keys.append(self._hasher.digest())

    def end_after(self, texts: Sequence[str]) -> Key:
        """Return the key of the whole with more messages behind it."""
        hasher = self._hasher.copy()
        for text in texts:
            hasher.update(_marked(text))
        return hasher.digest()


def _marked(text: str) -> bytes:
    return f"{len(text)} {text}".encode("utf-8", "surrogatepass")


@dataclass(eq=False)
class Conversation:
    """A trajectory that may go on."""

    trajectory: Trajectory
    name: str | None
    tags: dict[str, str]
    touched: float
    tools: OfferedTools | None = None
    """Those that the request before offered."""
    keys: list[Key] = field(default_factory=list)
    chain: _Chain | None = None
    """The request before."""
    failed: bool = False
    """Whether nothing came of the request before."""


class Conversations:
    """The conversations of a proxy: bounded, and forgotten when they were idle for long; safe for several threads.

    A request that names its trajectory belongs to that. Any other goes on with the conversation whose messages it
    begins with: those of the request before, with the answer where it stands there. One that is the very same as an
    answered request is a new conversation where it holds no answer of the model yet, since people begin alike; else it
    is the same, tried again.
    """

    def __init__(self, most: int, idle_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._idle = idle_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._open: OrderedDict[int, Conversation] = OrderedDict()
        self._by_name: dict[str, Conversation] = {}
        self._by_key: dict[Key, Conversation] = {}

    def __len__(self) -> int:
        return len(self._open)

    def find(self, named: Naming, texts: Sequence[str], before: str | None = None) -> Conversation:
        """Return the conversation that a request belongs to.

        Args:
            named: what the request says of it.
            texts: its messages, as canonical JSON, the oldest first.
            before: the name of the response that it follows, which the model's service keeps.
        """
        with self._lock:
            self._forget_idle()
            chain = _Chain(texts)
            found = self._by_name.get(named.trajectory) if named.trajectory else self._going_on(chain, before)
            if found is None:
                found = self._begin(named)
            found.touched = self._clock()
            found.failed = False
            self._open.move_to_end(id(found))
            found.chain = chain
            self._know(found, chain.keys[-1:] if before is None else [])
            return found

    def answered(self, found: Conversation, texts: Sequence[str], said: Sequence[str], name: str | None) -> None:
        """Take what a request of a conversation was answered with.

        Args:
            found: the conversation.
            texts: the request's messages.
            said: those of the answer.
            name: of the response, under which the model's service keeps it.
        """
        with self._lock:
            if id(found) not in self._open:
                return
            chain = found.chain if found.chain is not None and found.chain.texts is texts else _Chain(texts)
            ends = [*chain.keys[-1:], chain.end_after(said)] if texts else []
            self._know(found, [*ends, *([_service_key(name)] if name else [])])

    def end_all(self) -> None:
        """End every trajectory; their outcome is not known here."""
        with self._lock:
            while self._open:
                self._end(next(iter(self._open.values())))

    def _going_on(self, chain: _Chain, before: str | None) -> Conversation | None:
        if before is not None:
            return self._by_key.get(_service_key(before))
        for count in range(len(chain.keys), 0, -1):
            found = self._by_key.get(chain.keys[count - 1])
            if found is None:
                continue
            again = count == len(chain.keys) and not found.failed
            return None if again and not any(text.endswith(_ANSWER) for text in chain.texts) else found
        return None

    def _begin(self, named: Naming) -> Conversation:
        while len(self._open) >= self._most:
            self._end(next(iter(self._open.values())))
        given = None if named.joins else named.trajectory
        trajectory = Trajectory(named.task, given, named.tags, joins=named.joins)
        trajectory.__enter__()
        trajectory.suspend()
        found = Conversation(trajectory, named.trajectory, dict(named.tags), self._clock())
        self._open[id(found)] = found
        if named.trajectory:
            self._by_name[named.trajectory] = found
        return found

    def _know(self, found: Conversation, keys: list[Key]) -> None:
        """Know a conversation by what it holds now, and no longer by what it held before."""
        for key in found.keys:
            if self._by_key.get(key) is found:
                del self._by_key[key]
        found.keys = keys
        self._by_key.update(dict.fromkeys(keys, found))

    def forget_idle(self) -> None:
        """End what was idle for too long."""
        with self._lock:
            self._forget_idle()

    def _forget_idle(self) -> None:
        until = self._clock() - self._idle
        while self._open and (oldest := next(iter(self._open.values()))).touched < until:
            self._end(oldest)

    def _end(self, found: Conversation) -> None:
        del self._open[id(found)]
        self._know(found, [])
        if found.name and self._by_name.get(found.name) is found:
            del self._by_name[found.name]
        found.trajectory.end()


def _service_key(name: str) -> Key:
    return f"response {name}".encode("utf-8", "surrogatepass")
