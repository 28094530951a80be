"""Read one raw span as what it says in our words; which attribute fills which column is a table.

Everything here is a pure function of one span, so that arrival order can't matter.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from imitrace import semconv
from imitrace.canonical import canonical_json, content_hash, step_digest
from imitrace.exceptions import WireError
from imitrace.messages import Message, from_openai, tool_definition
from imitrace.schema import STEPS, TRAJECTORIES
from imitrace_collector.rows import SpanRow

SOURCE = "imitrace"
"""What ``trajectories.source`` says of spans in our own dialect."""

IMPORT_SCOPE = "imitrace.import."
"""Scope name by which an importer signs its spans; what follows is their source."""

MAX_DEPTH = 100
"""How deeply a payload's JSON may be nested; protobuf has the same limit."""

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


def operation(span: SpanRow, attributes: Attributes) -> str | None:
    """Return which of our span kinds this is: ``SPAN_STEP``, ``SPAN_TRAJECTORY``, ``SPAN_TOOL`` or none."""
    if span.name == semconv.SPAN_STEP:
        return semconv.SPAN_STEP
    named = attributes.get(semconv.OPERATION, span.name.partition(" ")[0])
    return named if named in (semconv.SPAN_TRAJECTORY, semconv.SPAN_TOOL) else None


def read_attributes(span: SpanRow) -> Attributes:
    """Return a span's attributes as values."""
    attributes: Attributes = json.loads(span.attributes)
    return attributes


def pick(columns: Mapping[str, str], attributes: Attributes, types: Mapping[str, str]) -> Columns:
    """Return the columns that attributes fill, each in its schema's type; what does not fit is null."""
    return {column: as_type(attributes.get(name), types[column]) for column, name in columns.items()}


def as_type(value: Any, kind: str) -> Any:  # any JSON value to any plain one
    """Return an attribute as a schema's type, or None where it is no such thing."""
    if value is None:
        return None
    plain = kind.rstrip("?")
    if plain == "string":
        return storable(value if isinstance(value, str) else canonical_json(value))
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if plain == "int64":
        return value if isinstance(value, int) else None
    return float(value) if math.isfinite(value) else None


def storable(text: str) -> str:
    r"""Return text with lone surrogates written as ``\udXXX``, which in JSON means the same."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def trajectory_columns(attributes: Attributes) -> Columns:
    """Return what a span says about its trajectory."""
    return pick(TRAJECTORY_COLUMNS, attributes, TRAJECTORIES)


def source_of(span: SpanRow) -> str:
    """Return which dialect or importer a span came from."""
    name = str(json.loads(span.scope).get("name", ""))
    return name.removeprefix(IMPORT_SCOPE) if name.startswith(IMPORT_SCOPE) else SOURCE


def read_step(span: SpanRow, attributes: Attributes) -> SentStep:
    """Return what a step span says, and in words what is wrong with it."""
    columns = pick(STEP_COLUMNS, attributes, STEPS)
    messages, payload_problem = _messages(attributes)
    tools, tools_problem = _tools(attributes, columns)
    dropped = f"{span.dropped_attributes} attributes were dropped on the way" if span.dropped_attributes else None
    payload_problem = dropped or _digest_problem(attributes) or payload_problem
    problems = [payload_problem, tools_problem, *_fill(columns, attributes, span)]
    offset = attributes.get(semconv.STEP_MESSAGES_OFFSET)
    return SentStep(
        row=span,
        attributes=attributes,
        columns=columns,
        messages=messages,
        message_rows=tuple(map(_message_row, messages)),
        offset=offset if isinstance(offset, int) and offset >= 0 else None,
        tool_rows=tools,
        payload_problem=payload_problem,
        problems=tuple(filter(None, problems)),
    )


def _message_row(message: Message) -> Columns:
    return {
        "message_id": content_hash(message),
        "role": storable(message["role"]),
        "content": storable(canonical_json(message)),
    }


def _parse(text: object, kind: type) -> Any:  # any JSON value of that kind
    """Return the JSON value in ``text``, or raise WireError in words."""
    if not isinstance(text, str):
        raise WireError("not JSON text")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("not JSON") from error
    if _deeper_than(value, MAX_DEPTH):
        raise WireError(f"nested deeper than {MAX_DEPTH}")
    if not isinstance(value, kind):
        raise WireError(f"not a JSON {'object' if kind is dict else 'list'}")
    return value


def _deeper_than(value: object, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth == 0 or any(_deeper_than(item, depth - 1) for item in inner)


def _messages(attributes: Attributes) -> tuple[tuple[Message, ...], str | None]:
    try:
        sent = _parse(attributes.get(semconv.STEP_MESSAGES), list)
        return tuple(from_openai(message) for message in sent), None
    except WireError as error:
        return (), f"messages: {error}"


def _tools(attributes: Attributes, columns: Columns) -> tuple[tuple[Columns, ...], str | None]:
    """Return the definitions sent with a step as rows; fills in their hash where the sender left it out."""
    if semconv.TOOL_DEFINITIONS not in attributes:
        return (), None
    try:
        sent = _parse(attributes[semconv.TOOL_DEFINITIONS], list)
        rows = _tool_rows(sent)
    except WireError as error:
        return (), f"tool definitions: {error}"
    tools_hash = content_hash(sent)
    if columns["tools_hash"] is None:
        columns["tools_hash"] = tools_hash
    if columns["tools_hash"] != tools_hash:
        return rows, f"tools_hash is {columns['tools_hash']}, the definitions sent with it hash to {tools_hash}"
    return rows, None


def _tool_rows(sent: list[Any]) -> tuple[Columns, ...]:
    tools_hash = content_hash(sent)
    definitions = [tool_definition(tool) for tool in sent]
    return tuple(
        {
            "tools_hash": tools_hash,
            "position": position,
            "name": storable(tool["name"]),
            "schema_hash": content_hash(tool),
            "definition": storable(canonical_json(tool)),
        }
        for position, tool in enumerate(definitions)
    )


def _digest_problem(attributes: Attributes) -> str | None:
    sent = attributes.get(semconv.STEP_DIGEST)
    if sent is None:
        return "no digest, so nothing proves that the payload is whole"
    found = step_digest(attributes)
    return None if sent == found else f"digest is {sent}, the payload that arrived has {found}"


def _fill(columns: Columns, attributes: Attributes, span: SpanRow) -> list[str | None]:
    """Put defaults into the columns that may not be null; return what is wrong with the action."""
    columns["decision"] = columns["decision"] or span.span_id
    columns["policy_role"] = columns["policy_role"] or "expert"
    problems = [_not_among("policy role", columns["policy_role"], semconv.POLICY_ROLES)]
    kind = columns["action_kind"] or ""
    columns["action_kind"] = kind
    problems.append(_not_among("action kind", kind, semconv.ACTION_KINDS))
    if kind == "message" and columns["action_message"] is None:
        problems.append("action is a message without text")
    if kind == "tool_call":
        if not columns["action_name"]:
            problems.append("action is a tool call without a tool's name")
        try:
            arguments = _parse(attributes.get(semconv.TOOL_CALL_ARGUMENTS, "{}"), dict)
            columns["action_arguments"] = storable(canonical_json(arguments))
        except WireError as error:
            problems.append(f"arguments: {error}")
    return problems


def _not_among(what: str, value: str, allowed: tuple[str, ...]) -> str | None:
    return None if value in allowed else f"{what} is {value!r}, allowed: {', '.join(allowed)}"
