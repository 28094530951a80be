"""Trace an agent, so that its behaviour can be cloned."""

from imitrace.context import Trajectory, current_trajectory_id
from imitrace.exceptions import ImitraceError
from imitrace.messages import Action
from imitrace.outbox import Stats
from imitrace.provider import configure, flush, shutdown, stats
from imitrace.steps import Step, step
from imitrace.tools import ToolRun, tool
from imitrace.tracer import agent, outcome, score, trajectory

__all__ = [
    "Action",
    "ImitraceError",
    "Stats",
    "Step",
    "ToolRun",
    "Trajectory",
    "agent",
    "configure",
    "current_trajectory_id",
    "flush",
    "outcome",
    "score",
    "shutdown",
    "stats",
    "step",
    "tool",
    "trajectory",
]
