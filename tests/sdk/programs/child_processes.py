"""An agent whose steps are taken in child processes: ENDPOINT METHOD WAY."""

import multiprocessing.context
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import imitrace


def say(text: str) -> None:
    with imitrace.step([{"role": "user", "content": "hi"}]) as step:
        step.message(text)


def child(number: int) -> None:
    say(f"child {number}")


class Child:
    """A process that has a ``run`` of its own."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def run(self) -> None:
        child(self.number)


class ForkChild(Child, multiprocessing.context.ForkProcess):
    pass


class SpawnChild(Child, multiprocessing.context.SpawnProcess):
    pass


class ForkserverChild(Child, multiprocessing.context.ForkServerProcess):
    pass


CHILDREN: dict[str, Any] = {"fork": ForkChild, "spawn": SpawnChild, "forkserver": ForkserverChild}


def main(endpoint: str, method: str, way: str) -> None:
    imitrace.configure(agent="desk", endpoint=endpoint)
    context: Any = multiprocessing.get_context(method)
    if way == "outside":
        with ProcessPoolExecutor(1, mp_context=context) as pool:
            with imitrace.trajectory(id="t1"):
                pool.submit(child, 0).result()
            pool.submit(child, 1).result()
        return
    with imitrace.trajectory(id="t1"):
        say("before")
        if way == "process":
            for number in range(2):
                process = context.Process(target=child, args=(number,))
                process.start()
                process.join()
        elif way == "subclass":
            for number in range(2):
                own = CHILDREN[method](number)
                own.start()
                own.join()
        elif way == "pool":
            with context.Pool(1) as pool:
                pool.map(child, range(2))
                pool.close()
                pool.join()
        else:
            with ProcessPoolExecutor(1, mp_context=context) as executor:
                list(executor.map(child, range(2)))
        say("after")


if __name__ == "__main__":
    main(*sys.argv[1:])
