import asyncio
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import pytest

import imitrace
from imitrace import semconv
from imitrace.testing import Captured
from imitrace.workers import carry_into_workers
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

PROGRAM = Path(__file__).parent / "programs" / "child_processes.py"


@pytest.fixture(autouse=True)
def carried() -> None:
    carry_into_workers()


def name(_: object = None) -> str | None:
    return imitrace.current_trajectory_id()


def in_thread() -> str | None:
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(name()))
    thread.start()
    thread.join()
    return found[0]


def in_timer() -> str | None:
    found: list[str | None] = []
    timer = threading.Timer(0, lambda: found.append(name()))
    timer.start()
    timer.join()
    return found[0]


def in_pool() -> str | None:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(name).result()


def in_pool_map() -> str | None:
    with ThreadPoolExecutor(1) as pool:
        return next(pool.map(name, [1]))


def in_multiprocessings_thread_pool() -> str | None:
    with ThreadPool(1) as pool:
        return pool.map(name, [1])[0]


def in_asyncios_executor() -> str | None:
    async def main() -> str | None:
        return await asyncio.get_running_loop().run_in_executor(None, name)

    return asyncio.run(main())


WAYS = [in_thread, in_timer, in_pool, in_pool_map, in_multiprocessings_thread_pool, in_asyncios_executor]


@pytest.mark.parametrize("way", WAYS)
def test_work_started_inside_a_trajectory_belongs_to_it(seen: Captured, way: Callable[[], str | None]) -> None:
    with imitrace.trajectory(id="t1"):
        assert way() == "t1"
    assert way() is None


def test_a_pools_worker_keeps_no_trajectory_for_the_next_task(seen: Captured) -> None:
    with ThreadPoolExecutor(1) as pool:
        with imitrace.trajectory(id="t1"):
            assert pool.submit(name).result() == "t1"
        assert pool.submit(name).result() is None
        with imitrace.trajectory(id="t2"):
            assert pool.submit(name).result() == "t2"


def test_a_threads_own_trajectory_leaves_the_starters_alone(seen: Captured) -> None:
    def work() -> None:
        with imitrace.trajectory(id="inner"):
            pass

    with imitrace.trajectory(id="outer"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert name() == "outer"
    inner, outer = seen.spans
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id


def test_nothing_changes_while_tracing_is_off() -> None:
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: 3).result() == 3
    assert in_thread() is None


@pytest.fixture
def collector(tmp_path: Path) -> Iterator[CollectorServer]:
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as server:
        yield server


@pytest.mark.parametrize("way", ["process", "subclass", "pool", "executor"])
@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_trajectory_goes_on_in_child_processes(collector: CollectorServer, way: str, method: str) -> None:
    subprocess.run([sys.executable, PROGRAM, collector.http, method, way], check=True, timeout=120)
    shown = CollectorClient(collector.http).get("/v1/trajectories/t1")
    assert (shown["trajectory"]["complete"], shown["trajectory"]["step_count"]) == (True, 4)
    says = [step["action_message"] for step in shown["steps"]]
    assert says[0] == "before"
    assert says[-1] == "after"
    assert sorted(says[1:-1]) == ["child 0", "child 1"]


def test_what_a_pool_does_outside_of_a_trajectory_is_one_of_its_own(collector: CollectorServer) -> None:
    subprocess.run([sys.executable, PROGRAM, collector.http, "fork", "outside"], check=True, timeout=120)
    ids = {row["trajectory_id"] for row in CollectorClient(collector.http).get("/v1/trajectories")["trajectories"]}
    assert len(ids) == 2
    assert CollectorClient(collector.http).get("/v1/trajectories/t1")["trajectory"]["step_count"] == 1


def attributes(seen: Captured) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in seen.spans]


def test_our_own_threads_hold_no_trajectory(seen: Captured) -> None:
    found: list[str | None] = []
    with imitrace.trajectory(id="t1"):
        thread = threading.Thread(target=lambda: found.append(name()), name="imitrace-something")
        thread.start()
        thread.join()
    assert found == [None]
    assert json.dumps(attributes(seen)[0]).count(semconv.TRAJECTORY_ID) == 1


def test_a_pools_keyword_form_still_works(seen: Captured) -> None:
    with imitrace.trajectory(id="t1"), ThreadPool(1) as pool:
        assert pool.apply_async(func=name).get() == "t1"
        assert list(pool.imap(func=name, iterable=[1])) == ["t1"]
