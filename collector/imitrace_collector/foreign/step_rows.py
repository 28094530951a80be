"""Write a thread's steps as rows of the derived tables."""

from collections.abc import Sequence
from operator import is_
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.messages import Message, message_text
from imitrace.schema import STEPS
from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.flat_messages import UNREADABLE
from imitrace_collector.foreign.observations import Outcome
from imitrace_collector.foreign.threads import Thread
from imitrace_collector.histories import Histories, State
from imitrace_collector.normalize import LONGEST_NAME, Columns, message_row, reason, storable, tool_rows
from imitrace_collector.trajectories import Assembled, Room, step_problems

_EMPTY: Columns = dict.fromkeys(STEPS)


class Rows:
    """The rows of one trajectory, as its steps are added."""

    def __init__(self, thread: Thread, parent_step: int | None) -> None:
        self.steps: list[Columns] = []
        self._thread = thread
        self._parent_step = parent_step
        self._room = Room()
        self._messages: dict[str, Columns] = {}
        self._tools: dict[tuple[str, int], Columns] = {}
        self._last: list[tuple[Message, str]] = []
        self._offered: tuple[list[dict[str, Any]], str] | None = None
        self._histories = Histories()
        self._states: dict[int, tuple[State, str | None]] = {}

    def add(self, call: Call, outcome: Outcome | None) -> int:
        """Add a step, and return its index: one action of a call's answer.

        Args:
            call: the model call.
            outcome: what came back, for a tool call; None for a message.
        """
        index = len(self.steps)
        first = id(call) not in self._states
        if first:
            self._states[id(call)] = self._state(call)
        state, state_problem = self._states[id(call)]
        action, action_problem = self._action(call, outcome)
        tools_hash = self._tools_hash(call)
        observation = outcome.text if outcome is not None else None
        repeated = self._room.again(observation) if observation else None
        problems = [state_problem, call.answer_problem, action_problem, repeated]
        reasons = list(dict.fromkeys(filter(None, problems)))
        row = call.reading.row
        self.steps.append(
            _EMPTY
            | action
            | {
                "trajectory_id": self._thread.trajectory_id,
                "step_index": index,
                "decision": call.decision,
                "agent": self._thread.agent,
                "policy_role": "expert",
                "policy_name": _name(call.reading.text("model")),
                "state": state,
                "tools_hash": tools_hash,
                "observation": None if repeated else observation,
                "input_tokens": call.input_tokens if first else None,
                "output_tokens": call.output_tokens if first else None,
                "error_type": call.error_type or (outcome.run.error_type if outcome and outcome.run else None),
                "started_at": min(row.started_at, _LATEST),
                "ended_at": min(row.ended_at, _LATEST),
                "trace_id": row.trace_id,
                "span_id": row.span_id,
                "complete": not reasons,
                "incomplete_reason": reason(reasons),
            }
        )
        return index

    def assembled(self, problems: Sequence[str]) -> Assembled:
        """Return the rows, with the trajectory's own.

        Args:
            problems: what is wrong with the whole.
        """
        reasons = [*problems, *step_problems(self.steps)]
        first = self._thread.calls[0].reading
        trajectory: Columns = {
            "trajectory_id": self._thread.trajectory_id,
            "agent": self._thread.agent,
            "agent_version": _name(first.text("version")),
            "task": None,
            "tags": "{}",
            "outcome": None,
            "source": first.source,
            "parent": self._thread.parent.trajectory_id if self._thread.parent else None,
            "parent_step": self._parent_step,
            "step_count": len(self.steps),
            "started_at": min(step["started_at"] for step in self.steps),
            "ended_at": max(step["ended_at"] for step in self.steps),
            "complete": not reasons,
            "incomplete_reason": reason(reasons),
        }
        return Assembled([trajectory], self.steps, list(self._messages.values()), list(self._tools.values()))

    def _state(self, call: Call) -> tuple[State, str | None]:
        problem = (
            call.seen_problem if call.seen else call.seen_problem or "the messages that it saw are not in its span"
        )
        too_long = self._room.state(len(call.seen))
        if too_long:
            return self._histories.of([]), too_long
        ids = []
        for place, message in enumerate(call.seen):
            if place < len(self._last) and self._last[place][0] is message:  # as the call before it saw
                ids.append(self._last[place][1])
                continue
            row = message_row(message)
            self._messages.setdefault(row["message_id"], row)
            ids.append(row["message_id"])
        self._last = list(zip(call.seen, ids, strict=True))
        return self._histories.of(ids), problem

    def _action(self, call: Call, outcome: Outcome | None) -> tuple[Columns, str | None]:
        answer = call.answer or {"parts": []}
        if outcome is None and answer.get("role") == UNREADABLE:
            return {"action_kind": "", "action_message": storable(message_text(answer))}, None
        if outcome is None:
            return {"action_kind": "message", "action_message": storable(message_text(answer))}, None
        part = outcome.part
        arguments: Any = part["arguments"]
        known = isinstance(arguments, dict)
        columns = {
            "action_kind": "tool_call",
            "action_name": storable(part["name"])[:LONGEST_NAME],
            "action_arguments": storable(canonical_json(arguments) if known else str(arguments)),
            "call_id": None if part["id"] is None else storable(part["id"]),
        }
        return columns, None if known else "its arguments are no JSON object"

    def _tools_hash(self, call: Call) -> str | None:
        if call.tools is None:
            return None
        if self._offered is None or not _same(self._offered[0], call.tools):
            tools_hash, rows = tool_rows(canonical_json(call.tools))
            for row in rows:
                self._tools.setdefault((tools_hash, row["position"]), row)
            self._offered = (call.tools, tools_hash)
        return self._offered[1]


def _same(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return len(one) == len(other) and all(map(is_, one, other))


_LATEST = 2**63 - 1


def _name(text: str | None) -> str | None:
    return None if text is None else storable(text)[:LONGEST_NAME]
