"""Simulate a support desk: tasks, tools, customers, and an expert whose work can be traced and cloned."""

from support_desk.desk import Desk
from support_desk.episode import Episode, play
from support_desk.expert import Expert, make_expert
from support_desk.task import COHORTS, Task
from support_desk.tasks import task_by_id, tasks
from support_desk.tools import IRREVERSIBLE, TOOLS

__all__ = [
    "COHORTS",
    "IRREVERSIBLE",
    "TOOLS",
    "Desk",
    "Episode",
    "Expert",
    "Task",
    "make_expert",
    "play",
    "task_by_id",
    "tasks",
]
