"""Read a conversation and the tools offered for the wire: each once while it stays the same, and redacted."""

import contextlib
import copy
import json
import operator
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from imitrace.canonical import content_hash
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
    copied: tuple[Any, ...] | None
    """A copy, where they are plain objects: what tells that one was changed in place."""
    definitions: list[dict[str, Any]]
    """``{name, description, parameters}`` of each."""
    sent: str
    """The definitions as canonical JSON."""
    hash: str
    """Of the definitions."""


_TOOL_RESULT = 3
"""Strings in the key of a tool's result; a message's has two, a call's more, and JSON among them."""

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
                found = _same(plain_text(key)) if self.redactor is None else self._redacted(key, self.redactor)
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

    def _redacted(self, key: tuple[str, ...], redactor: "Redactor") -> WireMessage:
        """Return a message of plain text; what is in it needs no way through JSON to be redacted."""
        raw = plain_text(key)
        if len(key) > _TOOL_RESULT:
            return self.made(raw)
        return WireMessage(raw, plain_text((key[0], *map(redactor.text, key[1:]))))

    def made(self, raw: str) -> WireMessage:
        """Return a message from its canonical JSON."""
        redactor = self.redactor
        return WireMessage(raw, raw if redactor is None else json_text(redactor.value(json.loads(raw))))

    def read_tools(self, given: Sequence[Any], before: OfferedTools | None) -> OfferedTools:
        """Return the tools offered; ``before`` again when they are those of the step before."""
        tools = tuple(given)
        if before is not None and len(tools) == len(before.given):
            if before.copied is None and all(map(operator.is_, tools, before.given)):
                return before
            if before.copied is not None and tools == before.copied:
                return before
        definitions = tool_definitions(tools, self.faults)
        return OfferedTools(tools, _copied(tools), definitions, json_text(definitions), content_hash(definitions))


def _same(text: str) -> WireMessage:
    made: WireMessage = tuple.__new__(
        WireMessage, (text, text)
    )  # the named tuple's own constructor takes twice as long
    return made


def listed_tools(given: Any) -> Sequence[Any]:
    """Return the tools as a list; a dictionary's are its values.

    Raises:
        WireError: it is neither, for instance a generator, which would be used up by looking at it.
    """
    if isinstance(given, Mapping):
        return list(given.values())
    if isinstance(given, Sequence | Set) and not isinstance(given, str | bytes):
        return list(given)
    raise WireError(f"tools are a {type(given).__name__}, expected a list")


def _copied(tools: tuple[Any, ...]) -> tuple[Any, ...] | None:
    if not all(type(tool) is dict for tool in tools):
        return None
    with contextlib.suppress(Exception):  # an object somewhere in it that can't be copied
        return copy.deepcopy(tools)
    return None
