"""Read what a span left to events: in log records or on the span, in each generation of the conventions."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from imitrace_collector.foreign.contents import NOTHING, Told, read_messages
from imitrace_collector.foreign.dialects import (
    EVENT_CHOICE,
    EVENT_COMPLETION,
    EVENT_DETAILS,
    EVENT_PROMPT,
    EVENT_ROLES,
)
from imitrace_collector.foreign.readings import Reading
from imitrace_collector.foreign.said import CUT, Said, json_value

_LISTED = ("events", "all_messages_events")
"""Attributes of a span that hold its events as a JSON list."""


class Event(NamedTuple):
    """An event about a span, on it or in a log record."""

    name: str
    values: Mapping[str, Any]
    """Its attributes and what its body holds."""
    source: str
    """``event`` or ``log``."""


def events_of(reading: Reading) -> list[Event]:
    """Return a span's events, in the order of their times; log records after those on the span."""
    found = [Event(event["name"], _values(event["attributes"], None), "event") for event in reading.row.events]
    for name in _LISTED:
        listed = json_value(reading.said.attributes.get(name))[0]
        for event in listed if isinstance(listed, list) else ():
            if isinstance(event, dict) and isinstance(event.get("event.name"), str):
                found.append(Event(event["event.name"], event, "event"))
    return found + [Event(log.event_name, _values(log.attributes, log.body), "log") for log in reading.logs]


def details_in(events: Iterable[Event]) -> Iterator[tuple[Said, str]]:
    """Yield what events say under the names that a span's attributes have, and where it stands."""
    for event in events:
        if event.name in (EVENT_DETAILS, EVENT_PROMPT, EVENT_COMPLETION):
            yield Said(event.values), event.source


def request_in(events: Iterable[Event]) -> Told:
    """Return the messages of a request that were sent as one event each."""
    asked = [event for event in events if event.name in EVENT_ROLES]
    if not asked:
        return NOTHING
    told = read_messages("events", [_message(event, EVENT_ROLES[event.name]) for event in asked])
    cut = next((event.name for event in asked if json_value(event.values.get("content"))[1]), None)
    return told if cut is None else Told(told.messages, f"{cut} {CUT}")


def answer_in(events: Iterable[Event]) -> Told:
    """Return the answer that was sent as an event."""
    for event in events:
        if event.name != EVENT_CHOICE:
            continue
        message, problem = json_value(event.values.get("message"))
        if problem:
            return read_messages(EVENT_CHOICE, event.values["message"])
        if isinstance(message, dict) and ("role" in message or "content" in message or "tool_calls" in message):
            item: dict[str, Any] = {"role": "assistant", **message}
        else:
            item = _message(event, "assistant") if message is None else {"role": "assistant", "content": message}
        return read_messages(EVENT_CHOICE, [item])
    return NOTHING


def _message(event: Event, role: str) -> dict[str, Any]:
    values = event.values
    content = json_value(values.get("content"))[0]
    item = {"role": role, "content": content if isinstance(content, list) else values.get("content")}
    if item["content"] is None and isinstance(values.get("parts"), list | str):
        item["parts"] = json_value(values["parts"])[0]
    calls = json_value(values.get("tool_calls"))[0]
    if isinstance(calls, list):
        item["tool_calls"] = calls
    if role == "tool":
        item["tool_call_id"] = values.get("id", values.get("tool_call_id"))
    if isinstance(content, dict):
        item["content"] = values["content"] if isinstance(values["content"], str) else [content]
    return item


def _values(attributes: Mapping[str, Any], body: Any) -> Mapping[str, Any]:
    inner = json_value(attributes.get("gen_ai.event.content"))[0] if body is None else json_value(body)[0]
    if isinstance(inner, dict):
        return {**attributes, **inner}
    return {**attributes, "content": inner} if isinstance(inner, str) and "content" not in attributes else attributes
