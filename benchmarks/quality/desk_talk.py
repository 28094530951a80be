"""Let the bundled support desk's expert work tickets, and divide what it did by task."""

from imitrace.messages import from_openai, tool_definition
from imitrace_trainer.demo import example_folder
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.environment import load_object
from imitrace_trainer.policy import State
from quality.recorded import Division

DESK = "desk"
TASKS = 1_000
COHORT = "long_tail"
"""The rare requests: all that the desk answers in writing are among them."""
ERROR_RATE = 0.03
"""As in ``imitrace demo``."""


def played(count: int = TASKS, seed: int = 1) -> Division:
    """Return the decisions of an expert that errs now and then: a fifth of the tasks held out, a fifth to calibrate."""
    names = ("desk:Desk", "expert:make_expert", "episode:play")
    make_desk, make_expert, play = (load_object(f"support_desk.{name}", example_folder()) for name in names)
    desk = make_desk()
    expert = make_expert(desk, ERROR_RATE, seed)
    tools = [tool_definition(tool) for tool in desk.tools]
    division = Division([], [], [])
    for number, task in enumerate(desk.tasks(count, seed, COHORT)):
        part = (division.held_out, division.calibration, division.train, division.train, division.train)[number % 5]
        for made in play(desk, expert.act, desk.reset(task.id)).decisions:
            state = State([from_openai(message) for message in made.messages], tools, task.tags)
            part.append(Demonstration(state, made.action, task.id))
    return division
