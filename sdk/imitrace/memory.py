"""Remember what a trajectory has sent, so that each step sends only what is new."""

from typing import NamedTuple

from imitrace.history import Known, OfferedTools


class OpenCall(NamedTuple):
    """A tool call of the last decision that no tool run has answered yet."""

    name: str
    arguments: str
    call_id: str


class Memory:
    """What a trajectory has sent, so that each step sends only what is new; guarded by the trajectory's lock."""

    def __init__(self) -> None:
        self.steps = 0
        self.open_steps = 0
        self.unreadable = 0
        """Decisions that were made and could not be recorded; they count, so that the whole is known to lack them."""
        self.messages: list[str] = []
        self.known: Known = {}
        self.tools: OfferedTools | None = None
        self.service_id: str | None = None
        """Under which name the model's service keeps ``messages`` and ``answer``."""
        self.answer: list[str] = []
        self.tools_hash: str | None = None
        self.open_calls: list[OpenCall] = []

    def common_prefix(self, messages: list[str]) -> int:
        """Return how many messages the previous step began with as well."""
        count = 0
        for before, now in zip(self.messages, messages, strict=False):
            if before != now:
                break
            count += 1
        return count
