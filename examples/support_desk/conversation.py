"""Read a conversation the way an agent sees it: calls with their observations, and nothing else."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

_ID_PATTERNS: Final = {
    "order_id": re.compile(r"\bA-\d{5}\b"),
    "payment_id": re.compile(r"\bpay_[a-z0-9]{5}\b"),
    "tracking_number": re.compile(r"\b1Z[A-Z0-9]{10}\b"),
    "customer_id": re.compile(r"\bC-\d{4}\b"),
    "item_id": re.compile(r"\bitem_[a-z0-9]{4}\b"),
}


@dataclass(frozen=True)
class Call:
    """Hold one tool call and its observation."""

    name: str
    arguments: dict[str, Any]  # as the agent sent them
    observation: dict[str, Any]  # a JSON object

    @property
    def failed(self) -> bool:
        """Return whether the tool answered with an error."""
        return "error" in self.observation


class Conversation:
    """Hold what was said and done so far, from chat messages in OpenAI's form."""

    def __init__(self, messages: Sequence[Mapping[str, Any]]) -> None:  # OpenAI messages
        self.messages = messages
        self.decisions = sum(1 for message in messages if message.get("role") == "assistant")
        self.calls = _calls(messages)

    @property
    def opening(self) -> str:
        """Return the customer's first message."""
        return next((str(message["content"]) for message in self.messages if message.get("role") == "user"), "")

    def seen(self, name: str, /, **arguments: object) -> dict[str, Any] | None:  # a JSON object
        """Return the latest observation of a call that had these arguments, errors left out; None without one."""
        found = [call.observation for call in self._matching(name, arguments) if not call.failed]
        return found[-1] if found else None

    def failed(self, name: str, /, **arguments: object) -> bool:
        """Return whether such a call was answered with an error."""
        return any(call.failed for call in self._matching(name, arguments))

    def latest(self, name: str, key: str, value: object) -> dict[str, Any] | None:  # as the agent sent them
        """Return the arguments of the latest call that worked and had this value; None without one."""
        found = [call.arguments for call in self._matching(name, {key: value}) if not call.failed]
        return found[-1] if found else None

    def ids(self, kind: str) -> list[str]:
        """Return the ids of a kind that can be read anywhere, in order of appearance."""
        pattern = _ID_PATTERNS[kind]
        texts = (str(message.get("content") or "") for message in self.messages if message.get("role") != "system")
        return list(dict.fromkeys(found for text in texts for found in pattern.findall(text)))

    def _matching(self, name: str, arguments: Mapping[str, object]) -> list[Call]:
        return [
            call
            for call in self.calls
            if call.name == name and all(call.arguments.get(key) == value for key, value in arguments.items())
        ]


def _calls(messages: Sequence[Mapping[str, Any]]) -> list[Call]:
    answers = {message.get("tool_call_id"): message["content"] for message in messages if message.get("role") == "tool"}
    calls = []
    for message in messages:
        for call in message.get("tool_calls") or ():
            function = call["function"]
            observation = _object(answers.get(call.get("id")))
            calls.append(Call(str(function["name"]), _object(function.get("arguments")), observation))
    return calls


def _object(value: Any) -> dict[str, Any]:  # JSON text or an object
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return {"error": "not JSON"}
    return dict(value) if isinstance(value, Mapping) else {"error": "not an object"}
