"""Trace an agent, so that its behaviour can be cloned."""

from imitrace.clones import CloneHandle
from imitrace.context import Trajectory, current_trajectory_id
from imitrace.deciding import step
from imitrace.delivery.outbox import Stats
from imitrace.exceptions import ImitraceError
from imitrace.messages import Action
from imitrace.provider import flush, shutdown, stats
from imitrace.redaction.rules import Rule
from imitrace.startup import configure
from imitrace.steps import Step
from imitrace.tools import ToolRun, tool
from imitrace.tracer import agent, inject, outcome, score, trajectory

__all__ = [
    "Action",
    "CloneHandle",
    "ImitraceError",
    "Rule",
    "Stats",
    "Step",
    "ToolRun",
    "Trajectory",
    "agent",
    "configure",
    "current_trajectory_id",
    "flush",
    "inject",
    "outcome",
    "score",
    "shutdown",
    "stats",
    "step",
    "tool",
    "trajectory",
]
