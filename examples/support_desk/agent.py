"""Run the expert over tasks in a process of its own, traced by the SDK: ``python -m support_desk.agent --help``."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, Final

import imitrace
from imitrace.exceptions import ImitraceError
from imitrace.messages import Action
from support_desk.desk import Desk
from support_desk.episode import Message, play
from support_desk.expert import Expert, make_expert
from support_desk.task import COHORTS, Task

_EVALUATOR: Final = "support_desk"
_FLUSH_EVERY: Final = 50
_FLUSH_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Worked:
    """How one task went: steps taken, how many of them were the right ones, and whether the task succeeded."""

    cohort: str
    steps: int
    right: int
    success: bool


def work(desk: Desk, expert: Expert, task: Task) -> Worked:
    """Work one task to its end inside a trajectory of its own."""
    right: list[bool] = []

    @imitrace.step
    def decide(messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> Action | None:
        return expert.act(messages)

    def act(messages: Sequence[Message]) -> Action | None:
        wanted = expert.reference(messages)
        action = decide(messages, desk.tools)
        right.append(action == wanted)
        return action

    with imitrace.trajectory(task=task.id, tags=task.tags):
        episode = play(desk, act, desk.reset(task.id), partial(perform, desk))
        success = episode.info["success"]
        imitrace.outcome("success" if success else "failure")
        imitrace.score("TaskCompletion", float(success), evaluator=_EVALUATOR)
        imitrace.score("ToolSelectionAccuracy", sum(right) / len(right), evaluator=_EVALUATOR)
    return Worked(task.cohort, len(right), sum(right), success)


def perform(desk: Desk, action: Action) -> Sequence[Message]:
    """Do an action at the desk, traced, and return the messages that follow it."""
    if action.kind == "message":
        return desk.step(action)[0]
    with imitrace.tool(action.name, call_id=action.call_id, arguments=action.arguments) as run:
        following, _, _ = desk.step(action)
        run.result(following[0]["content"])
    return following


def summary(worked: Sequence[Worked]) -> dict[str, Any]:  # a JSON object
    """Return the figures of a run: tasks, steps, success, agreement, by cohort, and what became of the records."""
    steps = sum(one.steps for one in worked)
    stats = imitrace.stats()
    return {
        "tasks": len(worked),
        "steps": steps,
        "success": _share(worked),
        "right": sum(one.right for one in worked) / max(steps, 1),
        "cohorts": {name: _share([one for one in worked if one.cohort == name]) for name in COHORTS},
        "records": stats.records,
        "exported": stats.exported,
        "failed": stats.lost,
        "faults": asdict(stats)["faults"],
    }


def _share(worked: Sequence[Worked]) -> float | None:
    return sum(one.success for one in worked) / len(worked) if worked else None


def run(options: argparse.Namespace) -> dict[str, Any]:  # a JSON object
    """Trace the expert on the tasks that the options ask for, and return the figures."""
    imitrace.configure(
        agent="support",
        endpoint=options.endpoint,
        protocol=options.protocol,
        policy_name="scripted-expert",
        policy_version="1",
    )
    desk = Desk()
    expert = make_expert(desk, options.error_rate, options.seed)
    worked: list[Worked] = []
    for task in desk.tasks(options.tasks, options.seed, options.cohort):
        worked.append(work(desk, expert, task))
        if len(worked) % _FLUSH_EVERY == 0:
            print(f"{len(worked)}/{options.tasks} tasks", file=sys.stderr)
            if not imitrace.flush(_FLUSH_SECONDS):
                break
    imitrace.flush(_FLUSH_SECONDS)
    return summary(worked)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="support_desk.agent", description="Run the support desk's expert, traced.")
    parser.add_argument("--tasks", type=int, default=600, help="how many tasks (default 600)")
    parser.add_argument("--seed", type=int, default=1, help="draws the tasks, and the expert's errors (default 1)")
    parser.add_argument("--cohort", choices=list(COHORTS), help="tasks of one cohort only")
    parser.add_argument("--error-rate", type=float, default=0.0, help="share of decisions that go wrong (default 0)")
    parser.add_argument("--endpoint", help="collector's OTLP address (default IMITRACE_ENDPOINT)")
    parser.add_argument("--protocol", choices=["http", "grpc"], help="OTLP transport (default IMITRACE_PROTOCOL)")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print the figures, and return the exit status: 1 when not every record was delivered, 2 for a wrong call."""
    options = _parser().parse_args(arguments)
    try:
        figures = run(options)
    except ImitraceError as error:
        print(f"support_desk: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(figures))
    else:
        shares = ", ".join(f"{name} {share:.1%}" for name, share in figures["cohorts"].items() if share is not None)
        print(f"{figures['tasks']} tasks, {figures['steps']} steps, success {figures['success'] or 0:.1%} ({shares})")
        print(f"exported {figures['exported']} of {figures['records']} records")
    missing = figures["records"] - figures["exported"]
    if missing:
        print(f"support_desk: {missing} of {figures['records']} records were not delivered", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
