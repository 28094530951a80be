import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

import imitrace
from imitrace import semconv
from imitrace.canonical import step_digest
from imitrace.testing import Captured


def runs(seen: Captured) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in seen.spans if span.name == semconv.SPAN_TOOL]


@imitrace.tool
def look(q: str, *, deep: bool = False) -> dict[str, str]:
    return {"found": q}


def decide(*calls: imitrace.Action) -> None:
    with imitrace.step("hi") as step:
        step.act(list(calls))


def call(q: str, call_id: str | None = None) -> imitrace.Action:
    return imitrace.Action("tool_call", "look", {"q": q}, call_id=call_id)


def test_a_tool_run_holds_name_arguments_and_result(seen: Captured) -> None:
    with imitrace.trajectory(id="t1"):
        assert look("x") == {"found": "x"}
    assert runs(seen) == [
        {
            semconv.OPERATION: "execute_tool",
            semconv.TRAJECTORY_ID: "t1",
            semconv.AGENT_NAME: "agent",
            semconv.TOOL_NAME: "look",
            semconv.TOOL_CALL_ARGUMENTS: '{"q":"x"}',
            semconv.TOOL_CALL_RESULT: '{"found":"x"}',
            semconv.STEP_DIGEST: step_digest(runs(seen)[0]),
        }
    ]


def test_runs_are_tied_to_the_last_decisions_calls_by_arguments(seen: Captured) -> None:
    with imitrace.trajectory():
        decide(call("x", "c0"))
        decide(call("x", "c1"), call("y", "c2"), call("x", "c3"))
        for q in ("y", "x", "x", "x", "z"):
            look(q)
    assert [run.get(semconv.TOOL_CALL_ID) for run in runs(seen)] == ["c2", "c1", "c3", None, None]


def test_a_call_without_an_id_gets_one_that_ties_its_run(seen: Captured) -> None:
    with imitrace.trajectory():
        decide(call("x"))
        look("x")
    (step,) = seen.steps
    assert (step.attributes or {})[semconv.TOOL_CALL_ID] == runs(seen)[0][semconv.TOOL_CALL_ID]


def test_a_tool_may_run_inside_its_step(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.step("hi") as step:
        step.act(call("x", "c1"))
        step.observe(look("x"))
    assert runs(seen)[0][semconv.TOOL_CALL_ID] == "c1"


def test_a_message_leaves_no_call_open(seen: Captured) -> None:
    with imitrace.trajectory():
        decide(call("x", "c1"))
        decide(imitrace.Action("message", message="ok"))
        look("x")
    assert semconv.TOOL_CALL_ID not in runs(seen)[0]


def test_an_exception_is_recorded_and_raised_on(seen: Captured) -> None:
    error = LookupError("nothing there")
    with pytest.raises(LookupError) as caught, imitrace.trajectory(), imitrace.tool("look"):
        raise error
    assert caught.value is error
    assert runs(seen)[0][semconv.ERROR_TYPE] == "LookupError"
    assert seen.spans[0].status.description == "LookupError: nothing there"
    assert semconv.TOOL_CALL_RESULT not in runs(seen)[0]


def test_the_with_form_takes_everything_by_hand(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.tool("look", call_id="c1", arguments='{"q": "x"}') as run:
        run.result("found")
    assert runs(seen)[0][semconv.TOOL_CALL_ARGUMENTS] == '{"q":"x"}'
    assert runs(seen)[0][semconv.TOOL_CALL_RESULT] == "found"


def test_async_tools_and_other_names(seen: Captured) -> None:
    @imitrace.tool(name="search")
    async def look_later(q: str) -> str:
        return q

    async def task() -> str:
        async with imitrace.trajectory(), imitrace.tool("outer"):
            return await look_later("x")

    assert asyncio.run(task()) == "x"
    assert [run[semconv.TOOL_NAME] for run in runs(seen)] == ["search", "outer"]


def test_a_tool_outside_of_a_trajectory_runs_and_is_counted(seen: Captured) -> None:
    assert look("x") == {"found": "x"}
    assert (seen.spans, seen.stats.faults) == ([], {"tool_outside": 1})


def test_a_result_that_json_cannot_hold_is_counted(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.tool("look") as run:
        run.result({1: "a", "b": 2})
    assert seen.stats.faults == {"tool.result": 1}


@dataclass
class Content:
    type: str
    text: str


@dataclass
class CallToolResult:
    """What MCP's client returns."""

    content: list[Content]
    is_error: bool = False


def test_of_an_mcp_result_what_the_model_is_shown_is_kept(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.tool("look") as run:
        run.result(CallToolResult([Content("text", "found"), Content("text", "it")]))
    assert runs(seen)[0][semconv.TOOL_CALL_RESULT] == "found\nit"


def test_a_result_that_only_has_content_stays_whole(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.tool("look") as run:
        run.result({"content": ["a"]})
    assert runs(seen)[0][semconv.TOOL_CALL_RESULT] == '{"content":["a"]}'


def test_what_a_generator_yields_is_its_result(seen: Captured) -> None:
    @imitrace.tool
    def words() -> Iterator[str]:
        yield from ("a", "b")

    @imitrace.tool
    def rows() -> Iterator[int]:
        yield from (1, 2)

    @imitrace.tool
    def endless() -> Iterator[str]:
        yield from ["x" * 2**20] * 20

    with imitrace.trajectory():
        assert [list(words()), list(rows()), len(list(endless()))] == [["a", "b"], [1, 2], 20]
    assert [run.get(semconv.TOOL_CALL_RESULT) for run in runs(seen)] == ["ab", "[1,2]", None]
    assert seen.stats.faults == {"tool_stream": 1}


def test_arguments_of_a_clients_own_class_match_the_call_they_answer(seen: Captured) -> None:
    class Query(BaseModel):
        q: str

    @imitrace.tool
    def search(query: Query) -> str:
        return query.q

    with imitrace.trajectory():
        decide(imitrace.Action("tool_call", "search", {"query": {"q": "x"}}, call_id="c1"))
        search(Query(q="x"))
    assert (runs(seen)[0][semconv.TOOL_CALL_ID], runs(seen)[0][semconv.TOOL_CALL_ARGUMENTS]) == (
        "c1",
        '{"query":{"q":"x"}}',
    )
