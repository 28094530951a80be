"""Read what tools did: each run once, also where a framework and a server both tell of it."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imitrace.canonical import canonical_json
from imitrace_collector.foreign.calls import error_of
from imitrace_collector.foreign.dialects import EVENT_CHOICE, TOOL
from imitrace_collector.foreign.events import details_in, events_of
from imitrace_collector.foreign.readings import Reading
from imitrace_collector.foreign.results import unwrapped
from imitrace_collector.foreign.said import as_text, inside, json_value
from imitrace_collector.foreign.text_histories import literal
from imitrace_collector.normalize import storable

_STARTS = ("execute_tool ", "tools/call ", "running tool: ")
_ENDS = (".tool", ".__call__")
_REPR = re.compile(r"content=('(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")(?= |$)", re.DOTALL)
_REPR_ID = re.compile(r" tool_call_id=(?:'([^']*)'|\"([^\"]*)\")")
_LONGEST = 2**20


@dataclass(slots=True, eq=False)
class Run:
    """One run of a tool."""

    reading: Reading
    name: str
    arguments: Any
    """As JSON value; what an instrumentor makes of a single argument is the bare value."""
    call_id: str | None
    result: str | None
    error_type: str | None
    error_text: str | None

    @property
    def began(self) -> int:
        """Return when it began."""
        return self.reading.row.started_at

    def fits(self, arguments: Any) -> bool:
        """Return whether it was run with a call's arguments."""
        own = self.arguments
        if own is None:
            return False
        if isinstance(arguments, dict) and not isinstance(own, dict) and len(arguments) == 1:
            (arguments,) = arguments.values()
        return canonical_json(own) == canonical_json(arguments)


def read_runs(readings: Iterable[Reading]) -> dict[int, Run]:
    """Return the runs of tools by the identity of their outermost span's reading, in the order of the readings."""
    return {id(reading): _read(reading) for reading in readings if reading.role == TOOL and outermost(reading) is None}


def outermost(reading: Reading) -> Reading | None:
    """Return the run that this span tells of again; None when it is the first to."""
    found = None
    for span in reading.above():
        if span.role == TOOL:
            if not _name(span).endswith(_name(reading)):  # some put the server's name before it
                break
            found = span
        elif span.role != "other":
            break
    return found


def run_of(reading: Reading) -> Reading:
    """Return the span by which a tool's run is known."""
    return outermost(reading) or reading


def _read(reading: Reading) -> Run:
    spans = [reading, *_repeats(reading)]
    result, call_id = None, None
    for span in spans:
        own_result, own_id = _result(span)
        result = own_result if result is None else result
        call_id = call_id or span.text("call_id") or own_id
    errors = [error_of(span) for span in spans]
    if reading.said.attributes.get("gen_ai.tool.status") == "error":
        errors.append("error")
    return Run(
        reading=reading,
        name=_name(reading),
        arguments=next((found for found in map(_arguments, spans) if found is not None), None),
        call_id=call_id,
        result=None if result is None else storable(result),
        error_type=next(filter(None, errors), None),
        error_text=next(filter(None, map(_error_text, spans)), None),
    )


def _repeats(reading: Reading) -> list[Reading]:
    return [span for span in reading.inside if span.role == TOOL and outermost(span) is not None]


def _name(reading: Reading) -> str:
    name = reading.text("tool_name")
    if name is None:
        name = reading.row.name
        for start in _STARTS:
            name = name.removeprefix(start)
        for end in _ENDS:
            name = name.removesuffix(end)
    return name


def _arguments(reading: Reading) -> Any:
    """Return what a tool was run with; ``{args, kwargs}`` of a traced function are its keywords."""
    value = reading.said.first(reading.names("arguments"))[1]
    if value is None:
        value = _event_arguments(reading)
    parsed = json_value(value)[0]
    if not isinstance(parsed, dict):
        return parsed
    if isinstance(parsed.get("input_str"), str):  # LangChain's callback, as OpenLLMetry writes it
        return literal(parsed["input_str"])
    if isinstance(parsed.get("kwargs"), dict) and ("args" in parsed or len(parsed) == 1):
        given = parsed.get("args")
        return parsed["kwargs"] or (given[0] if given and isinstance(given, list) else {})
    return parsed


def _event_arguments(reading: Reading) -> Any:
    for event in events_of(reading):
        if event.name == "gen_ai.tool.message":
            return event.values.get("content")
    return None


def _result(reading: Reading) -> tuple[str | None, str | None]:
    """Return what a run gave, as the model would see it, and the call's id where it stands in the result."""
    events = events_of(reading)
    for name in reading.names("result"):
        value = reading.said.value(name)
        if value is not None:
            return _as_seen(value)
    for said, _ in details_in(events):
        for name in reading.names("outputs"):
            response = _response_in(json_value(said.value(name))[0])
            if response is not None:
                return _as_seen(response)
    for event in events:
        if event.name == EVENT_CHOICE and "message" in event.values:
            return _as_seen(event.values["message"])
    return None, None


def _as_seen(value: Any) -> tuple[str | None, str | None]:
    call_id = None
    if isinstance(value, str) and value[:1] == '"':  # a text that was written as JSON
        value = json_value(value)[0]
    if isinstance(value, str) and value.startswith("content="):
        written, named = _REPR.match(value), _REPR_ID.search(value)
        if written is not None and len(value) <= _LONGEST:
            call_id = (named.group(1) or named.group(2)) if named else None
            value = literal(written.group(1))
    if isinstance(value, str) and value.startswith("[{'"):
        value = _from_blocks(value)
    parsed = json_value(value)[0]
    if isinstance(parsed, dict) and isinstance(parsed.get("output"), dict) and "kwargs" in parsed["output"]:
        value = parsed = {**inside(parsed["output"], "kwargs"), "type": "tool"}  # LangChain's message, as JSON has it
    if isinstance(parsed, dict):
        message = inside(parsed, "data")
        identity = message.get("tool_call_id")
        call_id = identity if isinstance(identity, str) and identity else call_id
    found = unwrapped(value)
    return (None if found is None else as_text(found)), call_id


def _from_blocks(text: str) -> Any:
    """Return what is in a list of blocks, as Strands writes it in Python's own form; other text as it is."""
    blocks = literal(text)
    inner = unwrapped(blocks)
    return text if inner is blocks else inner


def _response_in(messages: Any) -> Any:
    for message in messages if isinstance(messages, list) else ():
        parts = message.get("parts") if isinstance(message, Mapping) else None
        for part in parts if isinstance(parts, list) else ():
            if isinstance(part, Mapping) and part.get("type") == "tool_call_response":
                return next((part[key] for key in ("response", "result", "content") if part.get(key) is not None), None)
    return None


def _error_text(reading: Reading) -> str | None:
    for event in reading.row.events:
        if event["name"] == "exception" and isinstance(event["attributes"].get("exception.message"), str):
            return storable(event["attributes"]["exception.message"]) or None
    return storable(reading.row.status_message) if reading.row.status == 2 and reading.row.status_message else None
