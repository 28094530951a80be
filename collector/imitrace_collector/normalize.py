"""Read one raw span as what it says in our words; which attribute fills which column is a table.

Everything here is a pure function of one span, so that arrival order can't matter.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from imitrace import semconv
from imitrace.canonical import canonical_json, content_hash, text_hash
from imitrace.conformance import (
    action_problems,
    digest_problem,
    hash_problem,
    not_among,
    read_messages,
    read_object,
    read_tools,
    reassemble,
)
from imitrace.exceptions import WireError
from imitrace.messages import Message
from imitrace.schema import STEPS, TRAJECTORIES
from imitrace_collector.rows import SpanRow

SOURCE = "imitrace"
"""What ``trajectories.source`` says of spans in our own dialect."""

IMPORT_SCOPE = "imitrace.import."
"""Scope name by which an importer signs its spans; what follows is their source."""

STEP_COLUMNS: dict[str, str] = {
    "step_index": semconv.STEP_INDEX,
    "decision": semconv.STEP_DECISION,
    "agent": semconv.AGENT_NAME,
    "policy_role": semconv.POLICY_ROLE,
    "policy_name": semconv.POLICY_NAME,
    "policy_version": semconv.POLICY_VERSION,
    "tools_hash": semconv.STEP_TOOLS_HASH,
    "action_kind": semconv.STEP_ACTION_KIND,
    "action_name": semconv.TOOL_NAME,
    "action_arguments": semconv.TOOL_CALL_ARGUMENTS,
    "action_message": semconv.STEP_MESSAGE,
    "call_id": semconv.TOOL_CALL_ID,
    "observation": semconv.TOOL_CALL_RESULT,
    "confidence": semconv.STEP_CONFIDENCE,
    "route_reason": semconv.STEP_ROUTE_REASON,
    "propensity": semconv.STEP_PROPENSITY,
    "shadow": semconv.STEP_SHADOW,
    "input_tokens": semconv.INPUT_TOKENS,
    "output_tokens": semconv.OUTPUT_TOKENS,
    "error_type": semconv.ERROR_TYPE,
}
"""Column of ``schema.STEPS`` -> attribute that fills it."""

TRAJECTORY_COLUMNS: dict[str, str] = {
    "agent": semconv.AGENT_NAME,
    "agent_version": semconv.AGENT_VERSION,
    "task": semconv.TRAJECTORY_TASK,
    "tags": semconv.TRAJECTORY_TAGS,
    "outcome": semconv.TRAJECTORY_OUTCOME,
}
"""Column of ``schema.TRAJECTORIES`` -> attribute that fills it, on the trajectory's span or else on its steps."""

_REMEMBERED = 2**16
LONGEST_NAME = 1000
"""Characters of a name that many rows repeat."""
LONGEST_REASON = 2000
"""Characters of ``incomplete_reason``: senders' own words stand in it."""

Attributes = Mapping[str, Any]
Columns = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SentStep:
    """What one step span says by itself; its state needs the steps before it."""

    row: SpanRow
    attributes: Attributes
    columns: Columns
    messages: tuple[Message, ...]
    message_rows: tuple[Columns, ...]
    offset: int | None
    tool_rows: tuple[Columns, ...]
    payload_problem: str | None
    """Why the messages can't be trusted; then no later state that builds on them can."""
    problems: tuple[str, ...]


@dataclass(frozen=True)
class ToolRun:
    """What one ``execute_tool`` span says."""

    started_at: int
    result: str | None
    problem: str | None
    """Why the result is not whole."""


def operation(span: SpanRow, attributes: Attributes) -> str | None:
    """Return which of our spans this is: one of ``SPAN_STEP``, ``SPAN_CHUNK``, ``SPAN_TRAJECTORY``, ``SPAN_TOOL``."""
    if span.name in (semconv.SPAN_STEP, semconv.SPAN_CHUNK):
        return span.name
    named = attributes.get(semconv.OPERATION, span.name.partition(" ")[0])
    return named if named in (semconv.SPAN_TRAJECTORY, semconv.SPAN_TOOL) else None


def pick(columns: Mapping[str, str], attributes: Attributes, types: Mapping[str, str]) -> Columns:
    """Return the columns that attributes fill, each in its schema's type; what does not fit is null."""
    found: Columns = dict.fromkeys(columns)
    for column, name in columns.items():
        if name in attributes:
            found[column] = as_type(attributes[name], types[column])
    return found


def as_type(value: Any, kind: str) -> Any:  # any JSON value to any plain one
    """Return an attribute as a schema's type, or None where it is no such thing."""
    if value is None:
        return None
    if kind in ("string", "string?"):
        return storable(value if isinstance(value, str) else canonical_json(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if kind in ("int64", "int64?"):
        return value if isinstance(value, int) else None
    return float(value) if math.isfinite(value) else None


def storable(text: str) -> str:
    r"""Return text with lone surrogates written as ``\udXXX``, which in JSON means the same."""
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")


def reason(problems: Iterable[str | None]) -> str | None:
    """Return what is wrong as one text of at most ``LONGEST_REASON`` characters; None where nothing is."""
    text = storable("; ".join(filter(None, problems)))
    if len(text) > LONGEST_REASON:
        ending = f"... ({len(text)} characters, cut)"
        text = text[: LONGEST_REASON - len(ending)] + ending
    return text or None


def trajectory_columns(attributes: Attributes) -> Columns:
    """Return what a span says about its trajectory."""
    columns = pick(TRAJECTORY_COLUMNS, attributes, TRAJECTORIES)
    columns["agent"] = columns["agent"] and columns["agent"][:LONGEST_NAME]
    return columns


def service_of(span: SpanRow) -> str | None:
    """Return the service that sent a span."""
    name: str | None = as_type(span.resource.get("service.name"), "string")
    return name and name[:LONGEST_NAME]


def scope_name(span: SpanRow) -> str:
    """Return the name of the instrumentation scope that a span came from."""
    return str(span.scope["name"])


def source_of(span: SpanRow) -> str:
    """Return which dialect or importer a span came from."""
    name = scope_name(span)
    return name.removeprefix(IMPORT_SCOPE)[:LONGEST_NAME] if name.startswith(IMPORT_SCOPE) else SOURCE


def read_step(span: SpanRow, sent: Attributes, chunks: Iterable[Attributes] = ()) -> SentStep:
    """Return what a step span says, with its chunks' payloads in place, and in words what is wrong with it."""
    attributes, chunk_problem = reassemble(sent, chunks)
    columns = pick(STEP_COLUMNS, attributes, STEPS)
    messages, payload_problem = _messages(attributes)
    payload_problem = _why_not_whole(span, attributes, chunk_problem) or digest_problem(attributes) or payload_problem
    tools, tools_problem = _tools(attributes, columns)
    problems = [payload_problem, tools_problem, *_fill(columns, attributes, span)]
    offset = attributes.get(semconv.STEP_MESSAGES_OFFSET)
    return SentStep(
        row=span,
        attributes=attributes,
        columns=columns,
        messages=messages,
        message_rows=tuple(map(message_row, messages)),
        offset=offset if isinstance(offset, int) and offset >= 0 else None,
        tool_rows=tools,
        payload_problem=payload_problem,
        problems=tuple(filter(None, problems)),
    )


def read_run(span: SpanRow, sent: Attributes, chunks: Iterable[Attributes] = ()) -> ToolRun:
    """Return what a tool run came to; its digest is looked at where it has one."""
    attributes, chunk_problem = reassemble(sent, chunks)
    problem = reason([_why_not_whole(span, attributes, chunk_problem)])
    if problem is None and semconv.STEP_DIGEST in attributes:
        problem = digest_problem(attributes)
    result = as_type(attributes.get(semconv.TOOL_CALL_RESULT), "string")
    return ToolRun(span.started_at, None if problem else result, problem)


def _why_not_whole(span: SpanRow, attributes: Attributes, chunk_problem: str | None) -> str | None:
    if span.dropped_attributes:
        return f"{span.dropped_attributes} attributes were dropped on the way"
    if attributes.get(semconv.STEP_INCOMPLETE) is not None:
        return f"sent incomplete: {as_type(attributes[semconv.STEP_INCOMPLETE], 'string')}"
    return chunk_problem


def message_row(message: Message) -> Columns:
    """Return a message's row of ``schema.MESSAGES``."""
    content = canonical_json(message)
    return {"message_id": text_hash(content), "role": storable(message["role"]), "content": storable(content)}


def _messages(attributes: Attributes) -> tuple[tuple[Message, ...], str | None]:
    try:
        return read_messages(attributes), None
    except WireError as error:
        return (), f"messages: {error}"


def _tools(attributes: Attributes, columns: Columns) -> tuple[tuple[Columns, ...], str | None]:
    """Return the definitions sent with a step as rows; fills in their hash where the sender left it out."""
    if semconv.TOOL_DEFINITIONS not in attributes:
        return (), None
    sent = attributes[semconv.TOOL_DEFINITIONS]
    text = sent if isinstance(sent, str) else ""
    read = tool_rows if len(text) <= _REMEMBERED else tool_rows.__wrapped__
    try:
        tools_hash, rows = read(text)
    except WireError as error:
        return (), f"tool definitions: {error}"
    if columns["tools_hash"] is None:
        columns["tools_hash"] = tools_hash
    return rows, hash_problem(attributes, tools_hash)


@lru_cache(maxsize=64)
def tool_rows(text: str) -> tuple[str, tuple[Columns, ...]]:
    """Return the hash and the rows of a list of definitions; remembered, for most steps of an agent offer the same."""
    sent, definitions = read_tools({semconv.TOOL_DEFINITIONS: text})
    tools_hash = content_hash(sent)
    rows = []
    for position, tool in enumerate(definitions):
        definition = canonical_json(tool)
        rows.append(
            {
                "tools_hash": tools_hash,
                "position": position,
                "name": storable(tool["name"]),
                "schema_hash": text_hash(definition),
                "definition": storable(definition),
            }
        )
    return tools_hash, tuple(rows)


def _fill(columns: Columns, attributes: Attributes, span: SpanRow) -> list[str | None]:
    """Put defaults into the columns that may not be null; return what is wrong with action, role and shadow."""
    columns["decision"] = columns["decision"] or span.span_id
    columns["policy_role"] = columns["policy_role"] or "expert"
    columns["action_kind"] = columns["action_kind"] or ""
    problems: list[str | None] = [not_among("policy role", columns["policy_role"], semconv.POLICY_ROLES)]
    problems += action_problems(attributes)
    if columns["action_kind"] == "tool_call":
        columns["action_arguments"] = (
            _object(attributes.get(semconv.TOOL_CALL_ARGUMENTS, "{}")) or columns["action_arguments"]
        )
    if columns["shadow"] is not None:
        columns["shadow"] = _object(attributes[semconv.STEP_SHADOW])
        problems.append("shadow: not a JSON object" if columns["shadow"] is None else None)
    return problems


def _object(text: object) -> str | None:
    """Return the canonical text of a JSON object, None for anything else."""
    try:
        return storable(canonical_json(read_object(text)))
    except WireError:
        return None
