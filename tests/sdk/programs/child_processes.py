"""An agent whose steps are taken in child processes: ENDPOINT METHOD WAY."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import imitrace


def say(text: str) -> None:
    with imitrace.step([{"role": "user", "content": "hi"}]) as step:
        step.message(text)


def child(number: int) -> None:
    say(f"child {number}")


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
