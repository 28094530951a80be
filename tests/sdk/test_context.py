import asyncio
import contextvars
import gc
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import imitrace
from imitrace import semconv
from imitrace.testing import Captured


def spans(seen: Captured, name: str) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in seen.spans if span.name == name]


def test_a_trajectory_carries_who_what_and_how_it_ended(seen: Captured) -> None:
    with imitrace.trajectory("task-1", id="t1", tags={"cohort": "common"}, agent="desk"):
        imitrace.outcome("success")
    (span,) = spans(seen, semconv.SPAN_TRAJECTORY)
    assert span == {
        semconv.OPERATION: "invoke_agent",
        semconv.TRAJECTORY_ID: "t1",
        semconv.TRAJECTORY_TASK: "task-1",
        semconv.TRAJECTORY_TAGS: '{"cohort":"common"}',
        semconv.TRAJECTORY_OUTCOME: "success",
        semconv.TRAJECTORY_STEP_COUNT: 0,
        semconv.AGENT_NAME: "desk",
        semconv.POLICY_ROLE: "expert",
    }


def test_the_current_trajectory_is_known_inside_and_gone_outside(seen: Captured) -> None:
    with imitrace.trajectory(id="outer"):
        with imitrace.trajectory(id="inner"):
            assert imitrace.current_trajectory_id() == "inner"
        assert imitrace.current_trajectory_id() == "outer"
    assert imitrace.current_trajectory_id() is None


def test_a_trajectory_inside_another_is_its_child(seen: Captured) -> None:
    with imitrace.trajectory(id="outer"), imitrace.trajectory(id="inner"):
        pass
    inner, outer = seen.spans
    assert inner.parent is not None
    assert inner.parent.span_id == outer.context.span_id


@pytest.mark.parametrize(("error", "outcome"), [(ValueError, "failure"), (KeyboardInterrupt, "abandoned")])
def test_an_exception_passes_through_and_is_recorded(seen: Captured, error: type[BaseException], outcome: str) -> None:
    with pytest.raises(error), imitrace.trajectory():
        raise error
    (span,) = spans(seen, semconv.SPAN_TRAJECTORY)
    assert (span[semconv.ERROR_TYPE], span[semconv.TRAJECTORY_OUTCOME]) == (error.__name__, outcome)


def test_an_outcome_said_before_an_exception_stays(seen: Captured) -> None:
    with pytest.raises(ValueError), imitrace.trajectory():
        imitrace.outcome("success")
        raise ValueError
    assert spans(seen, semconv.SPAN_TRAJECTORY)[0][semconv.TRAJECTORY_OUTCOME] == "success"


def test_tasks_of_asyncio_keep_their_trajectories_apart(seen: Captured) -> None:
    async def task(name: str) -> None:
        async with imitrace.trajectory(id=name):
            await asyncio.gather(*(think(f"{name} {n}") for n in range(3)))

    async def think(text: str) -> None:
        async with imitrace.step([{"role": "user", "content": text}]) as step:
            await asyncio.sleep(0)
            step.message(text)

    async def both() -> None:
        await asyncio.gather(task("a"), task("b"))

    asyncio.run(both())
    found = sorted((s[semconv.TRAJECTORY_ID], s[semconv.STEP_INDEX]) for s in spans(seen, semconv.SPAN_STEP))
    assert found == [(name, index) for name in "ab" for index in range(3)]
    assert all(s[semconv.STEP_MESSAGE].startswith(s[semconv.TRAJECTORY_ID]) for s in spans(seen, semconv.SPAN_STEP))


def test_a_thread_with_a_copied_context_keeps_the_trajectory(seen: Captured) -> None:
    with imitrace.trajectory(id="t1"):
        context = contextvars.copy_context()
        found: list[str | None] = []
        thread = threading.Thread(target=context.run, args=(lambda: found.append(imitrace.current_trajectory_id()),))
        thread.start()
        thread.join()
    assert found == ["t1"]


def test_a_step_after_the_end_is_emitted_and_counted(seen: Captured) -> None:
    with imitrace.trajectory():
        late = imitrace.step("hi").__enter__()
    late.message("x")
    late.__exit__(None, None, None)
    assert (seen.stats.steps, seen.stats.faults) == (1, {"late_span": 1})


def test_tags_that_are_no_object_are_counted_and_cost_nothing_else(seen: Captured) -> None:
    with imitrace.trajectory(tags=["common"]):  # type: ignore[arg-type]  # a caller without types
        pass
    assert seen.stats.faults == {"tags": 1}
    assert semconv.TRAJECTORY_TAGS not in spans(seen, semconv.SPAN_TRAJECTORY)[0]


def test_ids_and_times_are_counted_in_tests(seen: Captured) -> None:
    with imitrace.trajectory():
        imitrace.score("reward", 1)
    assert json.loads(seen.spans[0].to_json())["context"]["span_id"] == "0x0000000000000001"
    assert seen.spans[0].attributes is not None
    assert seen.spans[0].attributes[semconv.TRAJECTORY_ID] == "trajectory-1"


def say(text: str) -> None:
    with imitrace.step(text) as step:
        step.message(text)


def test_a_step_that_ends_while_another_is_recorded_is_recorded_after_it(seen: Captured) -> None:
    with imitrace.trajectory() as trajectory:
        order: list[str] = []

        def work() -> None:
            order.append("first")
            say("second")  # as a finaliser or a signal handler does in the middle of anything
            order.append("first's end")

        trajectory.commit(work)
        say("third")
    assert order == ["first", "first's end"]
    sent = spans(seen, semconv.SPAN_STEP)
    assert [(step[semconv.STEP_INDEX], step[semconv.STEP_MESSAGE]) for step in sent] == [(0, "second"), (1, "third")]


def test_steps_that_the_garbage_collector_ends_never_wait_for_each_other(seen: Captured) -> None:
    def speak() -> Iterator[str]:
        yield "a"
        yield "b"

    with imitrace.trajectory():
        for number in range(300):
            chunks = imitrace.step(lambda messages: speak())(str(number))
            cycle: list[Any] = [next(chunks)]
            cycle += [cycle, chunks]
            del chunks, cycle
            say(str(number))
        gc.collect()
    assert len(spans(seen, semconv.SPAN_STEP)) == 600


def test_a_trajectory_that_has_ended_is_no_longer_current(seen: Captured) -> None:
    contexts = []
    with imitrace.trajectory(id="t1"):
        contexts.append(contextvars.copy_context())
    contexts[0].run(say, "later")
    assert contexts[0].run(imitrace.current_trajectory_id) is None
    found = {step[semconv.TRAJECTORY_ID] for step in spans(seen, semconv.SPAN_STEP)}
    assert found == {"trajectory-1"}


def test_a_trajectory_opened_again_after_its_end_goes_on_as_another_part(seen: Captured) -> None:
    trajectory = imitrace.trajectory(id="t1")
    for text in ("one", "two"):
        with trajectory:
            say(text)
    assert [span[semconv.TRAJECTORY_STEP_COUNT] for span in spans(seen, semconv.SPAN_TRAJECTORY)] == [1, 1]


def test_a_trajectory_entered_twice_ends_once(seen: Captured) -> None:
    trajectory = imitrace.trajectory(id="t1")
    with trajectory, trajectory:
        say("one")
    assert [span[semconv.TRAJECTORY_STEP_COUNT] for span in spans(seen, semconv.SPAN_TRAJECTORY)] == [1]


def test_a_trajectory_that_generators_mix_up_is_marked(seen: Captured) -> None:
    def conversation(name: str) -> Iterator[None]:
        with imitrace.trajectory(id=name):
            yield
            say(name)
            yield

    for _ in zip(conversation("a"), conversation("b"), strict=True):
        pass
    gc.collect()
    assert any(semconv.STEP_INCOMPLETE in span for span in spans(seen, semconv.SPAN_TRAJECTORY))
    assert seen.stats.faults["context_crossed"] >= 1
