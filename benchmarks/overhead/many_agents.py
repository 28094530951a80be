"""Run many agents at once in one process and watch its memory: with a collector, and with none.

Run as ``python -m overhead.many_agents AGENTS STEPS_EACH SECONDS ENDPOINT``; prints one JSON object.
"""

import asyncio
import json
import random
import resource
import sys
from pathlib import Path

import imitrace
from overhead.states import Message, sliding_states
from overhead.timing import Json

_STATM = Path("/proc/self/statm")
_SHARES = 20
"""Samples of the memory in a run."""
_STATES = 2000


@imitrace.step
async def decide(messages: list[Message]) -> tuple[str, dict[str, str]]:
    await asyncio.sleep(0)
    return "get_order", {"order_id": "Q-7345"}


class Watch:
    """Counts steps and notes the memory now and then."""

    def __init__(self, total: int) -> None:
        self.every = max(1, total // _SHARES)
        self.done = 0
        self.samples: list[tuple[int, float]] = []

    def count(self) -> None:
        self.done += 1
        if self.done % self.every == 0 and _STATM.exists():
            pages = int(_STATM.read_text().split()[1])
            self.samples.append((self.done, pages * resource.getpagesize() / 2**20))


async def agent(states: list[list[Message]], pause: float, watch: Watch, draw: random.Random) -> None:
    """Take a step of each state with a pause before it, as a model's answer would make one."""
    async with imitrace.trajectory():
        for state in states:
            await asyncio.sleep(draw.uniform(0, 2 * pause))
            await decide(json.loads(json.dumps(state)))  # texts of its own: nothing is shared between agents
            watch.count()


async def run(agents: int, steps: int, seconds: float) -> Watch:
    states, watch = sliding_states(_STATES), Watch(agents * steps)
    async with asyncio.TaskGroup() as group:
        for number in range(agents):
            draw = random.Random(number)
            first = draw.randrange(_STATES - steps)
            group.create_task(agent(states[first : first + steps], seconds / steps, watch, draw))
    return watch


def measure(agents: int, steps: int, seconds: float, endpoint: str) -> Json:
    imitrace.configure(agent="desk", endpoint=endpoint)
    watch = asyncio.run(run(agents, steps, seconds))
    imitrace.flush(2.0)
    stats = imitrace.stats()
    return {
        "samples": watch.samples,
        "steps": stats.steps,
        "records": stats.records,
        "exported": stats.exported,
        "dropped": stats.dropped,
        "pending": stats.pending,
        "faults": sum(stats.faults.values()),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4])))
