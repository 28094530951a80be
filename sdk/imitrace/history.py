"""Read a conversation and the tools offered for the wire: each once while it stays the same, and redacted."""

import json
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from imitrace.canonical import canonical_json, content_hash
from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.shapes.chat_shapes import message_list, plain_key, plain_text, system_message, wire_messages
from imitrace.shapes.plain import any_text, json_text
from imitrace.shapes.tool_shapes import tool_definitions

if TYPE_CHECKING:
    from imitrace.redaction.redactor import Redactor


class WireMessage(NamedTuple):
    """A message in parts form, as canonical JSON."""

    raw: str
    """As the agent saw it."""
    sent: str
    """As it is sent, after redaction."""


@dataclass(frozen=True)
class OfferedTools:
    """The tools offered to a decision."""

    given: tuple[Any, ...]
    """As the agent holds them."""
    text: str | None
    """The same as JSON, where they are plain objects: what tells that one was changed in place."""
    definitions: list[dict[str, Any]]
    """``{name, description, parameters}`` of each."""
    sent: str
    """The definitions as canonical JSON."""
    hash: str
    """Of the definitions."""


Known = dict[tuple[str, ...], WireMessage]
"""What was made of messages of plain text, by their text: a history repeats itself at every step."""


@dataclass(frozen=True)
class HistoryReader:
    """Turns what an agent holds into messages of the wire."""

    faults: Faults
    redactor: "Redactor | None" = None

    def read(self, given: Any, system: Any, known: Known) -> tuple[list[WireMessage], Known]:
        """Return the messages, and what to know when the next step's history is read.

        Args:
            given: a list of messages in any client's form, one text, or what holds ``messages``.
            system: the system prompt, where the client takes it apart from the messages; else None.
            known: what the step before returned.
        """
        fresh: Known = {}
        history = [] if system is None else [self.made(json_text(system_message(system)))]
        together: list[Any] = []  # what is not plain text may need its neighbours to be understood
        for message in self._listed(given):
            key = plain_key(message)
            if key is None:
                together.append(message)
                continue
            if together:
                history += map(self.made, wire_messages(together, self.faults))
                together = []
            found = known.get(key)
            if found is None:
                raw = plain_text(key)
                found = WireMessage(raw, raw) if self.redactor is None else self.made(raw)
            fresh[key] = found
            history.append(found)
        if together:
            history += map(self.made, wire_messages(together, self.faults))
        return history, fresh

    def _listed(self, given: Any) -> Sequence[Any]:
        if type(given) is list:
            return given
        try:
            return message_list(given)
        except WireError as error:
            self.faults.count("unknown_message", error)
            return [{"role": "user", "content": any_text(given)}]

    def made(self, raw: str) -> WireMessage:
        """Return a message from its canonical JSON."""
        redactor = self.redactor
        return WireMessage(raw, raw if redactor is None else json_text(redactor.value(json.loads(raw))))

    def read_tools(self, given: Sequence[Any], before: OfferedTools | None) -> OfferedTools:
        """Return the tools offered; ``before`` again when they are those of the step before."""
        tools = tuple(given)
        text = _as_json(tools)
        if before is not None and text == before.text:
            same = len(tools) == len(before.given) and all(map(operator.is_, tools, before.given))
            if text is not None or same:
                return before
        definitions = tool_definitions(tools, self.faults)
        return OfferedTools(tools, text, definitions, json_text(definitions), content_hash(definitions))


def _as_json(tools: tuple[Any, ...]) -> str | None:
    if not all(type(tool) is dict for tool in tools):
        return None
    try:
        return canonical_json(tools)
    except (TypeError, ValueError):  # circular, or keys of mixed types
        return None
