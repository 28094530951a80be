"""Compare tool calls: names by declared equivalents, arguments canonically, parallel calls as a set."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from imitrace.canonical import canonical_json
from imitrace.messages import Action
from imitrace_trainer.argument_fit import numbers_folded
from imitrace_trainer.evaluators.result import Calls
from imitrace_trainer.schemas import allows, enumerated, plain_schema

Tools = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Equivalence:
    """Which calls count as the same."""

    names: Mapping[str, str] = field(default_factory=dict)
    """Name of a tool, and the name that it counts as."""
    ignored: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Arguments that don't count, by tool; ``*`` for all tools."""

    @classmethod
    def of(cls, groups: Iterable[Sequence[str]], ignored: Mapping[str, Iterable[str]] | None = None) -> "Equivalence":
        """Return it from groups of tools that do the same, and arguments that don't count."""
        names = {name: group[0] for group in groups for name in group}
        return cls(names=names, ignored={tool: frozenset(given) for tool, given in (ignored or {}).items()})

    def name(self, action: Action) -> str:
        """Return the name that a call counts as."""
        return self.names.get(action.name or "", action.name or "")

    def key(self, action: Action, tools: Tools) -> str:
        """Return a name under which calls meet that ask for the same.

        3 equals 3.0; an argument that has the default of the tool's schema, or is null, equals one left out.
        """
        properties = _properties(action.name, tools)
        dropped = self.ignored.get("*", frozenset()) | self.ignored.get(self.name(action), frozenset())
        dropped |= self.ignored.get(action.name or "", frozenset())
        kept = {
            name: folded
            for name, value in action.arguments.items()
            if name not in dropped
            and (folded := numbers_folded(value)) is not None
            and not ("default" in properties.get(name, {}) and numbers_folded(properties[name]["default"]) == folded)
        }
        return f"{self.name(action)} {canonical_json(kept)}"


def tool_calls(actions: Iterable[Action]) -> Calls:
    """Return the tool calls among a decision's actions."""
    return tuple(action for action in actions if action.kind == "tool_call")


def overlap(made: Calls, wanted: Calls, equivalence: Equivalence, tools: Tools) -> float:
    """Return how far two sets of parallel calls are the same: those that meet, over the larger; 1 for none and none."""
    if not made and not wanted:
        return 1.0
    ours, theirs = (Counter(equivalence.key(action, tools) for action in calls) for calls in (made, wanted))
    return (ours & theirs).total() / max(len(made), len(wanted))


def difference(made: Calls, wanted: Calls, equivalence: Equivalence, tools: Tools) -> str:
    """Say in a few words how the calls made differ from those wanted."""
    if not wanted:
        return f"called {_names(made)}, the expert called nothing" if made else "no call, as the expert"
    if not made:
        return f"no call, the expert called {_names(wanted)}"
    ours, theirs = (Counter(equivalence.name(action) for action in calls) for calls in (made, wanted))
    if ours != theirs:
        return f"called {_names(made)}, the expert called {_names(wanted)}"
    keys = [{equivalence.key(action, tools) for action in calls} for calls in (made, wanted)]
    return "as the expert" if keys[0] == keys[1] else f"called {_names(made)} with other arguments than the expert"


def argument_problem(action: Action, tools: Tools) -> str | None:
    """Return why a call could not be carried out as it is: not offered, or arguments that its schema refuses."""
    tool = next((tool for tool in tools if tool.get("name") == action.name), None)
    if tool is None:
        return f"{action.name} was not offered" if tools else None
    schema = plain_schema(tool.get("parameters"))
    properties = schema.get("properties") or {}
    missing = [name for name in schema.get("required") or () if name not in action.arguments]
    if missing:
        return f"{action.name} lacks {', '.join(missing)}"
    for name, value in action.arguments.items():
        if name not in properties:
            if schema.get("additionalProperties") is False:
                return f"{action.name} knows no argument {name}"
            continue
        problem = _value_problem(value, properties[name])
        if problem:
            return f"{action.name}.{name} {problem}"
    return None


def _value_problem(value: object, schema: Mapping[str, Any]) -> str | None:
    allowed = enumerated(schema)
    if allowed and value not in allowed:
        return "is not one of the values that are allowed"
    kinds = schema.get("type")
    kinds = [kinds] if isinstance(kinds, str) else list(kinds or ())
    if isinstance(value, dict | list):
        return f"is no {kinds[0]}" if kinds and {dict: "object", list: "array"}[type(value)] not in kinds else None
    return None if not kinds or allows(schema, value) else f"is no {kinds[0]}"


def _properties(name: str | None, tools: Tools) -> Mapping[str, Any]:
    found = next((tool for tool in tools if tool.get("name") == name), {})
    properties = (found.get("parameters") or {}).get("properties") or {}
    return {name: schema for name, schema in properties.items() if isinstance(schema, Mapping)}


def _names(calls: Calls) -> str:
    return ", ".join(sorted(str(action.name) for action in calls))
