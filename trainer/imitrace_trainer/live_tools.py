"""Tell which calls the tools of today can't carry out."""

from collections.abc import Mapping, Sequence
from typing import Any

from imitrace.canonical import content_hash
from imitrace.messages import Action
from imitrace_trainer.argument_fit import misfit
from imitrace_trainer.tool_ledger import ToolRules

Tools = Sequence[Mapping[str, Any]]
"""Tool definitions."""


def dead_tool(action: Action, tools: Tools, rules: ToolRules) -> str | None:
    """Return why an action calls a tool that is not there, None where it is, or nothing is called.

    Args:
        action: what is to be done.
        tools: those offered.
        rules: what was decided about the agent's tools.
    """
    name = action.name or ""
    if action.kind != "tool_call":
        return None
    if name in rules.retired:
        return f"tool {name!r} is {rules.state(name)}"
    if any(tool["name"] == name for tool in tools):
        return None
    known = ", ".join(sorted({str(tool["name"]) for tool in tools} - rules.retired)) or "none"
    return f"tool {name!r} is not offered, offered: {known}"


def dead_call(action: Action, tools: Tools, rules: ToolRules) -> str | None:
    """Return why an action can't be carried out: as ``dead_tool``, or as its arguments fit no contract in force."""
    gone = dead_tool(action, tools, rules)
    if gone is not None or action.kind != "tool_call":
        return gone
    offered = [tool for tool in tools if tool["name"] == action.name]
    stale = rules.superseded.get(action.name or "", ())
    live = [tool for tool in offered if content_hash(dict(tool)) not in stale]
    problems = [misfit(tool.get("parameters"), action.arguments) for tool in live]
    if None in problems:
        return None
    return f"{action.name}: {problems[0]}" if problems else f"tool {action.name!r} is offered by an older contract only"
