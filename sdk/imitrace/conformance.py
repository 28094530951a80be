"""Say in words what is wrong with the spans that an emitter sends; ``docs/wire.md`` says the same in prose.

For users' own emitters and their tests; the collector judges what arrives by the same functions.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeGuard

from imitrace.canonical import content_hash, step_digest
from imitrace.exceptions import WireError
from imitrace.messages import Message, from_openai, tool_definition
from imitrace.semconv import (
    ACTION_KINDS,
    AGENT_NAME,
    AGENT_VERSION,
    CHUNK_ATTRIBUTE,
    CHUNK_COUNT,
    CHUNK_INDEX,
    CHUNK_TEXT,
    CONVERSATION_ID,
    DIGEST_PAYLOADS,
    ERROR_TYPE,
    INPUT_TOKENS,
    OUTPUT_TOKENS,
    POLICY_NAME,
    POLICY_ROLE,
    POLICY_ROLES,
    POLICY_VERSION,
    STEP_ACTION_KIND,
    STEP_CHUNKS,
    STEP_CONFIDENCE,
    STEP_DECISION,
    STEP_DIGEST,
    STEP_INCOMPLETE,
    STEP_INDEX,
    STEP_MESSAGE,
    STEP_MESSAGES,
    STEP_MESSAGES_OFFSET,
    STEP_PROPENSITY,
    STEP_ROUTE_REASON,
    STEP_SHADOW,
    STEP_TOOLS_HASH,
    TOOL_CALL_ARGUMENTS,
    TOOL_CALL_ID,
    TOOL_CALL_RESULT,
    TOOL_DEFINITIONS,
    TOOL_NAME,
    TRAJECTORY_ID,
    TRAJECTORY_TAGS,
    TRAJECTORY_TASK,
)

Attributes = Mapping[str, object]

MAX_DEPTH: Final = 100
"""How deeply a payload's JSON may be nested; protobuf has the same limit."""

_REQUIRED: Final = (TRAJECTORY_ID, STEP_INDEX)
_TEXTS: Final = (
    *(TRAJECTORY_ID, TRAJECTORY_TASK, TRAJECTORY_TAGS, CONVERSATION_ID, AGENT_NAME, AGENT_VERSION),
    *(POLICY_ROLE, POLICY_NAME, POLICY_VERSION, STEP_DECISION, STEP_MESSAGES, STEP_TOOLS_HASH, STEP_ACTION_KIND),
    *(STEP_MESSAGE, STEP_ROUTE_REASON, STEP_SHADOW, STEP_INCOMPLETE, STEP_DIGEST, TOOL_DEFINITIONS, TOOL_NAME),
    *(TOOL_CALL_ID, TOOL_CALL_ARGUMENTS, TOOL_CALL_RESULT, ERROR_TYPE),
)
_COUNTS: Final = (STEP_INDEX, STEP_MESSAGES_OFFSET, STEP_CHUNKS, INPUT_TOKENS, OUTPUT_TOKENS)
_SHARES: Final = (STEP_CONFIDENCE, STEP_PROPENSITY)
_CHUNK: Final = (CHUNK_ATTRIBUTE, CHUNK_INDEX, CHUNK_COUNT, CHUNK_TEXT)


def step_problems(attributes: Attributes) -> list[str]:
    """Return what is wrong with the attributes of one ``agent.trajectory.step`` span; nothing when it conforms.

    Payloads that went into chunks are missed: put them back by ``reassemble`` before. What only the whole trajectory
    shows is not looked at: whether all steps arrived, and whether their offsets and tools fit together.

    Args:
        attributes: as OpenTelemetry holds them, or as JSON has them.
    """
    found = [f"{name} is missing" for name in _REQUIRED if attributes.get(name) in (None, "")]
    for names, expected, fits in _KINDS:
        wrong = [name for name in names if name in attributes and not fits(attributes[name])]
        found += [f"{name} is {_short(attributes[name])}, expected {expected}" for name in wrong]
    if STEP_INCOMPLETE in attributes:
        return [*found, f"{STEP_INCOMPLETE} says {_short(attributes[STEP_INCOMPLETE])}"]
    if STEP_MESSAGES_OFFSET not in attributes and attributes.get(STEP_INDEX) != 0:
        found.append(f"{STEP_MESSAGES_OFFSET} is missing, and only step 0 may leave it out")
    reasons = [digest_problem(attributes), not_among("policy role", attributes.get(POLICY_ROLE), POLICY_ROLES)]
    reasons += [_refusal("messages", lambda: read_messages(attributes)), _tools_problem(attributes)]
    reasons += [_refusal("shadow", lambda: read_object(attributes.get(STEP_SHADOW, "{}")))]
    reasons += [_refusal("tags", lambda: read_tags(attributes.get(TRAJECTORY_TAGS, "{}")))]
    return found + [reason for reason in (*reasons, *action_problems(attributes)) if reason]


def reassemble(attributes: Attributes, chunks: Iterable[Attributes]) -> tuple[Attributes, str | None]:
    """Put the payloads that went into chunks back into their span's attributes.

    Args:
        attributes: of a step, or of a tool run.
        chunks: attributes of the ``agent.trajectory.chunk`` spans whose parent it is, in any order.

    Returns:
        All the attributes, and why they are not whole, or None. A payload that lacks a chunk is left out.
    """
    chunks = list(chunks)
    if not chunks and STEP_CHUNKS not in attributes:
        return attributes, None
    pieces: dict[str, dict[int, str]] = defaultdict(dict)
    counts: dict[str, int] = {}
    ordered = sorted(chunks, key=lambda chunk: [str(chunk.get(key)) for key in _CHUNK])
    problems = {_sort_chunk(attributes, chunk, pieces, counts) for chunk in ordered}
    expected, arrived = attributes.get(STEP_CHUNKS, 0), sum(map(len, pieces.values()))
    whole = {name: found for name, found in pieces.items() if len(found) == counts[name]}
    if not _is_count(expected):
        problems.add(f"{STEP_CHUNKS} is {_short(expected)}, expected a whole number from 0")
    elif arrived != expected:
        problems.add(f"{arrived} of {expected} chunks arrived")
    else:
        broken = pieces.keys() - whole.keys()
        problems |= {f"{len(pieces[name])} of {counts[name]} chunks of {name} arrived" for name in broken}
    joined = {name: "".join(found[index] for index in sorted(found)) for name, found in whole.items()}
    return {**attributes, **joined}, "; ".join(sorted(filter(None, problems))) or None


def _sort_chunk(
    attributes: Attributes, chunk: Attributes, pieces: dict[str, dict[int, str]], counts: dict[str, int]
) -> str | None:
    """Put a chunk's text among the pieces; return what is wrong with it, the same for any order of arrival."""
    name, index, count, text = (chunk.get(key) for key in _CHUNK)
    if not (isinstance(name, str) and _is_count(index) and _is_count(count) and isinstance(text, str)):
        return "a chunk lacks its attribute's name, its index, its count or its text"
    if name not in DIGEST_PAYLOADS or name in attributes or index >= count:
        return f"a chunk says that it is number {index} of {count} of {_short(name)}, which can't be"
    if counts.setdefault(name, count) != count:
        return f"chunks of {name} don't agree how many there are"
    if pieces[name].setdefault(index, text) != text:
        return f"chunk {index} of {name} came twice, with different text"
    return None


def digest_problem(attributes: Attributes) -> str | None:
    """Return why the digest does not prove the payload whole, or None."""
    sent = attributes.get(STEP_DIGEST)
    if sent is None:
        return "no digest, so nothing proves that the payload is whole"
    found = step_digest(attributes)
    return None if sent == found else f"digest is {_short(sent)}, the payload that arrived has {found}"


def read_messages(attributes: Attributes) -> tuple[Message, ...]:
    """Return a step's new messages.

    Raises:
        WireError: they are no JSON list of messages.
    """
    return tuple(from_openai(message) for message in _parse(attributes.get(STEP_MESSAGES), list))


def read_tools(attributes: Attributes) -> tuple[list[Any], list[dict[str, Any]]]:
    """Return a step's tool definitions, as they were sent and in our form.

    Raises:
        WireError: they are no JSON list of definitions.
    """
    sent = _parse(attributes.get(TOOL_DEFINITIONS), list)
    return sent, [tool_definition(tool) for tool in sent]


def read_object(text: object) -> dict[str, Any]:
    """Return the JSON object in a text.

    Raises:
        WireError: it is none.
    """
    return dict(_parse(text, dict))


def action_problems(attributes: Attributes) -> list[str]:
    """Return what is wrong with a step's action."""
    kind = attributes.get(STEP_ACTION_KIND)
    problems = [not_among("action kind", "" if kind is None else kind, ACTION_KINDS)]
    if kind == "message" and attributes.get(STEP_MESSAGE) is None:
        problems.append("action is a message without text")
    if kind == "tool_call":
        if not attributes.get(TOOL_NAME):
            problems.append("action is a tool call without a tool's name")
        problems.append(_refusal("arguments", lambda: read_object(attributes.get(TOOL_CALL_ARGUMENTS, "{}"))))
    return [problem for problem in problems if problem]


def read_tags(text: object) -> dict[str, str]:
    """Return a trajectory's tags.

    Raises:
        WireError: they are no JSON object of strings.
    """
    tags = read_object(text)
    if not all(isinstance(value, str) for value in tags.values()):
        raise WireError("not a JSON object of strings")
    return tags


def hash_problem(attributes: Attributes, found: str) -> str | None:
    """Return in what the hash of the tools differs from that of the definitions sent with it, or None."""
    tools_hash = attributes.get(STEP_TOOLS_HASH)
    if tools_hash in (None, found):
        return None
    return f"tools_hash is {_short(tools_hash)}, the definitions sent with it hash to {found}"


def not_among(what: str, value: object, allowed: tuple[str, ...]) -> str | None:
    """Return that a value is none of those allowed; None when it is, or is not there."""
    return None if value is None or value in allowed else f"{what} is {value!r}, allowed: {', '.join(allowed)}"


def _tools_problem(attributes: Attributes) -> str | None:
    if TOOL_DEFINITIONS not in attributes:
        return None
    try:
        return hash_problem(attributes, content_hash(read_tools(attributes)[0]))
    except WireError as error:
        return f"tool definitions: {error}"


def _refusal(what: str, read: Callable[[], object]) -> str | None:
    try:
        read()
    except WireError as error:
        return f"{what}: {error}"
    return None


def _parse(text: object, kind: type) -> Any:  # any JSON value of that kind
    if not isinstance(text, str):
        raise WireError("not JSON text")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise WireError("not JSON") from error
    if text.count("[") + text.count("{") > MAX_DEPTH and _deeper_than(value, MAX_DEPTH):
        raise WireError(f"nested deeper than {MAX_DEPTH}")
    if not isinstance(value, kind):
        raise WireError(f"not a JSON {'object' if kind is dict else 'list'}")
    return value


def _deeper_than(value: object, depth: int) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return depth == 0 or any(_deeper_than(item, depth - 1) for item in inner)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_share(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and 0 <= value <= 1


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


_KINDS: Final = (
    (_TEXTS, "text", _is_text),
    (_COUNTS, "a whole number from 0", _is_count),
    (_SHARES, "a number from 0 to 1", _is_share),
)
