"""Derive one trajectory's rows from its raw spans: the same rows for any order and repetition of arrival."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from imitrace import semconv
from imitrace.canonical import canonical_json, content_hash
from imitrace.conformance import not_among, read_tags
from imitrace.exceptions import WireError
from imitrace.messages import Message
from imitrace_collector.histories import Histories, State, goes_on
from imitrace_collector.normalize import (
    Columns,
    SentStep,
    ToolRun,
    as_type,
    reason,
    service_of,
    source_of,
    storable,
    trajectory_columns,
)
from imitrace_collector.parts import Part, Sent, sort_spans
from imitrace_collector.rows import SpanRow

STILL_RUNNING = "still running"
UNKNOWN_AGENT = "unknown"

_REPEATED = 128 * 1024 * 1024
"""Characters that a trajectory's rows may repeat: results, and the ids of a history that another begins with."""
_STATES = 2**27
"""Ids that the states of a trajectory may have together: the store has each once, but who reads them has them all."""
ID_LENGTH = 32

_Responses = Mapping[str, Sequence[tuple[int, str]]]
"""Call id -> what later messages say came back, each with the place of the step that has it, in order."""


class Room:
    """What is left of ``_REPEATED`` and ``_STATES``: else a small request could make a table without end."""

    def __init__(self) -> None:
        self._left = _REPEATED
        self._ids = _STATES
        self._taken: set[int] = set()

    def problem(self, size: int) -> str | None:
        """Take so many characters, or return why not."""
        if size > self._left:
            return f"this trajectory's steps repeat more than {_REPEATED >> 20} MiB"
        self._left -= size
        return None

    def state(self, length: int, repeated: int = 0) -> str | None:
        """Take a state's ids, of which so many are kept once more, or return why not."""
        if length > self._ids:
            return f"state is left out: this trajectory's states have more than {_STATES} message ids"
        too_much = self.problem(repeated * ID_LENGTH)
        if too_much:
            return f"state is left out: {too_much}"
        self._ids -= length
        return None

    def again(self, text: str) -> str | None:
        """Take a text's characters, unless it is for the first time, or return why not."""
        if id(text) in self._taken:
            return self.problem(len(text))
        self._taken.add(id(text))
        return None


@dataclass(frozen=True)
class Assembled:
    """Rows of the derived tables, by table; scores are derived apart."""

    trajectories: list[Columns] = field(default_factory=list)
    steps: list[Columns] = field(default_factory=list)
    messages: list[Columns] = field(default_factory=list)
    tools: list[Columns] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class _Placed:
    """The spans that claim one step, at its place in the merged order of all parts."""

    place: int
    index: int
    part: Part
    step: SentStep
    claims: int
    state: State
    state_problem: str | None


def assemble(trajectory_id: str, spans: Iterable[SpanRow]) -> Assembled:
    """Return a trajectory's rows from all its raw spans; none when they hold neither a step nor the trajectory.

    With several parts the steps are numbered anew, in one order: those of a part that joined stand where it joined,
    parts that resumed follow each other. Agent, task and tags are those of the first part that says them, the outcome
    is that of the last; a part ends after those that joined it.
    """
    sent = sort_spans(spans)
    if not sent.parts:
        return Assembled()
    steps = [step for part in sent.parts for step in part.in_order()]
    trajectory = _trajectory_row(trajectory_id, sent, steps)
    rows = _step_rows(trajectory, sent, steps)
    problems = [*_part_problems(sent), *_trajectory_problems(sent, trajectory), *step_problems(rows)]
    trajectory |= {
        "step_count": len(rows),
        "complete": not problems,
        "incomplete_reason": reason(problems),
    }
    messages = {row["message_id"]: row for step in steps for row in step.message_rows}
    tools = {row["tools_hash"] + str(row["position"]): row for step in steps for row in step.tool_rows}
    return Assembled([trajectory], rows, list(messages.values()), list(tools.values()))


def unreadable(trajectory_id: str, spans: Sequence[SpanRow], error: Exception) -> Assembled:
    """Return the row of a trajectory that could not be assembled, with the reason."""
    row = {
        "trajectory_id": trajectory_id,
        "agent": service_of(spans[0]) or UNKNOWN_AGENT,
        **dict.fromkeys(("agent_version", "task", "outcome", "parent", "parent_step", "ended_at")),
        "tags": "{}",
        "source": source_of(spans[0]),
        "step_count": 0,
        "started_at": min(span.started_at for span in spans),
        "complete": False,
        "incomplete_reason": reason([f"its spans can't be read: {type(error).__name__}: {error}"]),
    }
    return Assembled([row])


def _trajectory_row(trajectory_id: str, sent: Sent, steps: Sequence[SentStep]) -> Columns:
    roots = [trajectory_columns(part.root[1]) for part in sent.parts if part.root]
    ends = sorted((part for part in sent.parts if part.root), key=lambda part: part.end_path(), reverse=True)
    last = [trajectory_columns(part.root[1]) for part in ends if part.root]
    said = [trajectory_columns(step.attributes) for step in steps]
    columns = {
        name: next((says[name] for says in [*(last if name == "outcome" else roots), *said] if says[name]), None)
        for name in (roots or said)[0]
    }
    first = sent.parts[0].root[0] if sent.parts[0].root else steps[0].row
    return columns | {
        "trajectory_id": trajectory_id,
        "agent": columns["agent"] or service_of(first) or UNKNOWN_AGENT,
        "tags": columns["tags"] or "{}",
        "source": source_of(first),
        "parent": None,
        "parent_step": None,
        "started_at": min(part.started_at for part in sent.parts),
        "ended_at": _ended_at(sent),
    }


def _ended_at(sent: Sent) -> int | None:
    """Return when the last part ended; None while one runs."""
    ends = [part.root[0].ended_at for part in sent.parts if part.root and not part.caller_missing]
    return max(ends) if len(ends) == len(sent.parts) else None


def _part_problems(sent: Sent) -> list[str]:
    problems = [STILL_RUNNING] if _ended_at(sent) is None else []
    for number, part in enumerate(sent.parts, start=1):
        which = f"part {number} of {len(sent.parts)}: " if len(sent.parts) > 1 else ""
        found = [part.problem] if part.problem else []
        if part.root:
            lack = part.root[1].get(semconv.STEP_INCOMPLETE)
            found += [str(lack) or "sent incomplete"] if lack is not None else []
            found += _count_problems(part.announced, part.steps)
        if part.unnumbered:
            found.append(f"{len(part.unnumbered)} step spans without a step index from 0")
        problems += [which + problem for problem in found]
    return problems


def _trajectory_problems(sent: Sent, trajectory: Columns) -> list[str]:
    """Say what is wrong with the whole; replaces what can't be used in ``trajectory`` by what can."""
    problems = []
    if sent.stray_chunks:
        problems.append(f"{sent.stray_chunks} chunks belong to no step and no tool run that arrived")
    outcome_problem = not_among("outcome", trajectory["outcome"], semconv.OUTCOMES)
    if outcome_problem:
        problems.append(outcome_problem)
        trajectory["outcome"] = None
    try:
        trajectory["tags"] = storable(canonical_json(read_tags(trajectory["tags"])))
    except WireError:
        problems.append("tags are not a JSON object of strings")
        trajectory["tags"] = "{}"
    return problems


def _count_problems(announced: int | None, steps: Mapping[int, object]) -> list[str]:
    if announced is None:
        return [f"its {semconv.SPAN_TRAJECTORY} span announces no step count, so a lost step would go unnoticed"]
    if announced != len(steps):
        return [f"{len(steps)} of {announced} steps arrived"]
    if steps and max(steps) >= announced:
        return [f"{announced} steps arrived, but the last has index {max(steps)}"]
    return []


def step_problems(rows: Sequence[Columns]) -> list[str]:
    """Return what is wrong with a trajectory's steps: the first, and how many more; nothing when all are complete."""
    broken = [row for row in rows if not row["complete"]]
    if not broken:
        return []
    more = f" ({len(broken) - 1} more steps incomplete)" if len(broken) > 1 else ""
    return [f"step {broken[0]['step_index']}: {broken[0]['incomplete_reason']}{more}"]


def _step_rows(trajectory: Columns, sent: Sent, steps: Sequence[SentStep]) -> list[Columns]:
    defined = {row["tools_hash"] for step in steps for row in step.tool_rows}
    room = Room()
    merged = _merged(sent.parts, room)
    responses = _responses(merged)
    rows: list[Columns] = []
    for placed in merged:
        step = placed.step
        observation, observation_problem = _observation(placed, responses, sent.runs)
        repeated = observation and room.again(observation)
        if repeated:
            observation, observation_problem = None, f"result is left out: {repeated}"
        problems = [*step.problems, placed.state_problem, _tools_problem(step, defined), observation_problem]
        if placed.claims > 1:
            problems.append(f"{placed.claims} different spans claim this step")
        why_not = reason(problems)
        agent = trajectory_columns(placed.part.root[1])["agent"] if placed.part.root else None
        row = step.row
        rows.append(
            step.columns
            | {
                "trajectory_id": trajectory["trajectory_id"],
                "step_index": placed.index if len(sent.parts) == 1 else placed.place,
                "agent": step.columns["agent"] or agent or trajectory["agent"],
                "state": placed.state,
                "observation": observation,
                "started_at": row.started_at,
                "ended_at": row.ended_at,
                "trace_id": row.trace_id,
                "span_id": row.span_id,
                "complete": why_not is None,
                "incomplete_reason": why_not,
            }
        )
    return rows


def _merged(parts: Sequence[Part], room: Room) -> list[_Placed]:
    """Return the steps of all parts in one order, each with the state that its own part had told."""
    told = _Told(Histories(), room)
    states = {
        (number, index): state for number, part in enumerate(parts) for index, state in _states(part, told).items()
    }
    order = sorted(states, key=lambda at: parts[at[0]].step_path(at[1]))
    return [
        _Placed(
            place=place,
            index=index,
            part=parts[number],
            step=parts[number].steps[index][0],
            claims=len(parts[number].steps[index]),
            state=states[number, index][0],
            state_problem=states[number, index][1],
        )
        for place, (number, index) in enumerate(order)
    ]


def _states(part: Part, told: "_Told") -> dict[int, tuple[State, str | None]]:
    """Return each step's state and what is wrong with it; a step builds on the one before it in its part."""
    states: dict[int, tuple[State, str | None]] = {}
    known: State | None = State([], 0)  # the state of the step before; None where it can't be told
    expected = 0
    for index in sorted(part.steps):
        step, *others = part.steps[index]
        state, problem = states[index] = told.state(step, index, known if index == expected else None)
        known = None if step.payload_problem or problem or others else state
        expected = index + 1
    return states


class _Told:
    """The states of one trajectory, as its steps tell them."""

    def __init__(self, histories: Histories, room: Room) -> None:
        self._histories = histories
        self._room = room

    def state(self, step: SentStep, index: int, known: State | None) -> tuple[State, str | None]:
        """Return the ids of the messages before a decision, and why they are not all of them."""
        new = [row["message_id"] for row in step.message_rows]
        offset = 0 if step.offset is None and index == 0 else step.offset
        if offset is None:
            problem: str | None = "no message offset"
        elif offset == 0:
            problem = None
        elif known is None:
            problem = f"the {offset} messages before it are unknown, because an earlier step is missing or incomplete"
        elif offset > len(known):
            problem = f"{offset} messages should come before it, {len(known)} are known"
        else:
            problem = self._room.state(offset + len(new), 0 if goes_on(known, offset, new) else offset)
            if problem is None:
                return self._histories.after(known, offset, new), None
        return self._histories.of(new), problem


def _tools_problem(step: SentStep, defined: set[str]) -> str | None:
    tools_hash = step.columns["tools_hash"]
    if tools_hash is None or tools_hash in defined or tools_hash == content_hash([]):
        return None
    return f"tools {tools_hash} were offered, and no step defines them"


def _responses(merged: Sequence[_Placed]) -> _Responses:
    """Return the tool results that stand in later steps' messages, by call id, each with that step's place."""
    found: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for placed in merged:
        for step in placed.part.steps[placed.index]:
            if step.payload_problem is None:
                for call_id, response in _responses_in(step.messages):
                    found[call_id].append((placed.place, response))
    return found


def _responses_in(messages: Iterable[Message]) -> Iterable[tuple[str, str]]:
    for message in messages:
        for part in message["parts"]:
            if isinstance(part, dict) and part.get("type") == "tool_call_response":
                response = as_type(part.get("response"), "string")
                if response is not None:
                    yield str(part.get("id")), response


def _observation(
    placed: _Placed, responses: _Responses, runs: Mapping[str, Sequence[ToolRun]]
) -> tuple[str | None, str | None]:
    """Return what the action brought, by how well it is proven, and why it is not whole.

    The step's own result and a later step's messages are covered by a digest, an ``execute_tool`` span only where it
    has one.
    """
    step = placed.step
    own: str | None = step.columns["observation"]
    call_id = step.columns["call_id"]
    if own is not None or call_id is None:
        return own, None
    later = responses.get(call_id, ())
    after = bisect_right(later, placed.place, key=lambda found: found[0])
    if after < len(later):
        return later[after][1], None
    ran_all = runs.get(call_id, ())
    if not ran_all:
        return None, None
    since = bisect_left(ran_all, step.row.started_at, key=lambda run: run.started_at)
    ran = ran_all[since if since < len(ran_all) else 0]
    return ran.result, ran.problem and f"result of its tool run: {ran.problem}"
