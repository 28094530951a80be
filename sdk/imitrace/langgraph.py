"""Put a clone into a LangGraph graph: a node that asks it, and the edge that says whether it was sure.

    clone = CloneNode("support@champion", tools)
    graph.add_node("clone", clone)
    graph.add_conditional_edges("clone", clone.is_sure, {True: "tools", False: "reasoning_node"})

Where the clone is sure its call stands in the state as the expert's would; where it is not, the state is untouched and
the expert's node sees all of it. Nothing of LangGraph is imported.
"""

import importlib
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from imitrace.clones import CloneHandle
from imitrace.context import current
from imitrace.deciding import step
from imitrace.exceptions import ConfigError
from imitrace.messages import Action, action_message, to_openai
from imitrace.provider import faults
from imitrace.shapes.chat_shapes import wire_messages
from imitrace.shapes.tool_shapes import tool_definitions
from imitrace.verdict import Verdict

_MARK = "call_clone_"
"""How the ids of a clone's calls begin, by which ``is_sure`` knows them in messages of any form."""


class CloneNode:
    """A node that writes the clone's call into the state where it is trusted and sure, and nothing elsewhere.

    Sure is what the clone's own route trusts (see ``CloneHandle``) with a confidence over ``above``. The call is
    recorded as a step of the clone; the expert's node records its own. ``node.clone.warm()`` loads the clone ahead.
    """

    def __init__(
        self, clone: str | CloneHandle, tools: Sequence[object], *, above: float = 0.8, key: str = "messages"
    ) -> None:
        """Name the clone and what it may call.

        Args:
            clone: a reference such as ``NAME@champion``, or a handle.
            tools: the tools that the expert is offered here, in any client's form.
            above: the confidence, 0 to 1, that must be exceeded.
            key: where the state holds its messages; its reducer must add to them, as ``add_messages`` does.

        Raises:
            ConfigError: the reference or ``above`` is not one of those allowed.
        """
        if not 0 <= above < 1:
            raise ConfigError(f"above is {above!r}, allowed: a number from 0 to under 1")
        self.clone = clone if isinstance(clone, CloneHandle) else CloneHandle(clone)
        self._tools = list(tools)
        self._definitions = tool_definitions(self._tools, faults())
        self._above = above
        self._key = key

    def __call__(self, state: Any) -> dict[str, Any]:  # a dict, or an object of the application's
        """Return the update of the state: the clone's message, or nothing."""
        messages = self._messages(state)
        verdict = self._ask(messages)
        sure = verdict.trusted and verdict.action is not None and (verdict.confidence or 0.0) > self._above
        # The edges behind this node know the clone by its call.
        if not sure or verdict.action is None or verdict.action.kind != "tool_call":
            return self._decline(len(messages), verdict)
        action = replace(verdict.action, call_id=f"{_MARK}{uuid.uuid4().hex[:24]}")
        answer = _answer(messages, action, f"{verdict.clone}:{verdict.version}")
        with step(messages, self._tools) as recorded:
            recorded.asked(verdict, acted=True)
            recorded.act(action)
        return {self._key: [answer]}

    def _decline(self, seen: int, verdict: Verdict) -> dict[str, Any]:
        """Leave the verdict for the step of whoever decides; told is where this graph asks more than the route."""
        trajectory = current()
        if trajectory is not None:
            trusted = verdict.trusted or verdict.propensity is not None
            if trusted and (verdict.confidence or 0.0) <= self._above:
                verdict = replace(verdict, trusted=False, reason=f"not over {self._above:g}", propensity=None)
            trajectory.declined = (seen, verdict)
        return {}

    def is_sure(self, state: Any) -> bool:  # a dict, or an object of the application's
        """Tell whether the newest message is a call of the clone's: the path of the edges behind this node."""
        messages = self._messages(state)
        calls = _field(messages[-1], "tool_calls") if messages else None
        return isinstance(calls, list) and bool(calls) and str(_field(calls[0], "id")).startswith(_MARK)

    def _messages(self, state: Any) -> Sequence[Any]:
        messages = _field(state, self._key)
        return messages if isinstance(messages, Sequence) else []

    def _ask(self, messages: Sequence[Any]) -> Verdict:
        trajectory = current()
        with faults().guard("clone.node"):
            tags = {} if trajectory is None else trajectory.tags
            course = None if trajectory is None else trajectory.id
            return self.clone.ask(wire_messages(messages, faults()), self._definitions, tags, course)
        return Verdict(None, False, "what the agent saw could not be read")


def _answer(messages: Sequence[Any], action: Action, model: str) -> Any:
    """Return a call as the state's own messages are: LangChain's, or plain dicts in OpenAI's form."""
    if messages and all(isinstance(message, Mapping) for message in messages):
        return to_openai(action_message(action))
    make = importlib.import_module("langchain_core.messages").AIMessage
    call = {"name": action.name, "args": action.arguments, "id": action.call_id}
    return make(content="", tool_calls=[call], response_metadata={"model_name": model})


def _field(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else getattr(value, name, None)
