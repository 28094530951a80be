"""A clone's process that is slow, dies or never was: the proxy waits for none of them."""

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest

from imitrace.messages import Action
from imitrace.verdict import LOADING, Standing, Verdict
from imitrace_trainer.serving.asking import GONE, OVERLOADED, AskedClones
from imitrace_trainer.serving.clone_process import LATE
from imitrace_trainer.serving.config import ServeConfig
from imitrace_trainer.serving.questions import (
    Posed,
    Question,
    question_line,
    read_answer,
    read_question,
    standing_line,
    verdict_line,
)

STANDING = Standing(("all",), "", "lamps", "v1", "desk")
QUESTION = Question(['{"parts":[],"role":"user"}'], "[]", {"cohort": "common"}, "t1")
PROCESS = """
import os, socket, sys
from imitrace.verdict import Standing, Verdict
from imitrace_trainer.serving.questions import read_question, standing_line, verdict_line

connection = socket.socket(fileno=int(sys.argv[-1]))
connection.sendall(standing_line(Standing(("all",), "", "lamps", "v1", "desk")))
for line in connection.makefile("rb"):
    posed = read_question(line)
    if sys.argv[1] == "dies":
        break
    if sys.argv[1] == "answers":
        verdict = Verdict(None, False, posed.question.trajectory, version=str(os.getpid()))
        connection.sendall(verdict_line(posed.number, verdict))
"""


def with_clone(kind: str, work: Callable[[AskedClones], Awaitable[None]], **limits: float) -> None:
    async def run() -> None:
        config = ServeConfig(upstream="http://x/v1", clone="lamps", **{"ask_seconds": 20.0, **limits})  # type: ignore[arg-type]
        clone = AskedClones(config, (sys.executable, "-c", PROCESS, kind))
        assert (await clone.ask(QUESTION)).reason == LOADING
        clone.start()
        try:
            assert await clone.known(20)
            await work(clone)
        finally:
            await clone.stop()

    asyncio.run(run())


def test_what_travels_comes_back_the_same() -> None:
    posed = Posed(7, 1.5, QUESTION)
    verdict = Verdict(Action("tool_call", "switch", {"lamp": "é"}), True, "trusted", "lamps", "v1", 0.9, 0.1, 0.95)
    assert read_question(question_line(posed)) == posed
    assert read_answer(verdict_line(7, verdict)) == (7, verdict)
    assert read_answer(verdict_line(7, Verdict(None, False, LATE))) == (7, Verdict(None, False, LATE))
    assert read_answer(standing_line(STANDING)) == STANDING


def test_questions_are_answered_each_with_its_own() -> None:
    async def ask(clone: AskedClones) -> None:
        assert clone.standing == STANDING
        asked = [Question([], "[]", {}, f"t{number}") for number in range(10)]
        verdicts = await asyncio.gather(*map(clone.ask, asked))
        assert [verdict.reason for verdict in verdicts] == [f"t{number}" for number in range(10)]
        assert clone.pending == 0

    with_clone("answers", ask)


def test_the_questions_of_a_trajectory_go_to_one_of_several_processes() -> None:
    async def ask(clone: AskedClones) -> None:
        asked = [Question([], "[]", {}, f"t{number % 10}") for number in range(30)]
        verdicts = await asyncio.gather(*map(clone.ask, asked))
        assert len({verdict.version for verdict in verdicts}) == 3
        assert len({(verdict.reason, verdict.version) for verdict in verdicts}) == 10

    with_clone("answers", ask, processes=3)


def test_a_clone_that_does_not_answer_in_time_is_not_waited_for() -> None:
    async def ask(clone: AskedClones) -> None:
        assert await clone.ask(QUESTION) == Verdict(None, False, LATE)
        assert clone.pending == 0

    with_clone("silent", ask, ask_seconds=0.01)


def test_more_questions_than_may_wait_are_not_asked() -> None:
    async def ask(clone: AskedClones) -> None:
        waiting = [asyncio.ensure_future(clone.ask(QUESTION)) for _ in range(2)]
        await asyncio.sleep(0)
        assert await clone.ask(QUESTION) == Verdict(None, False, OVERLOADED)
        for task in waiting:
            task.cancel()
        await asyncio.wait(waiting)
        assert clone.pending == 0

    with_clone("silent", ask, pending=2)


def test_a_clone_whose_process_ends_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    async def ask(clone: AskedClones) -> None:
        assert await clone.ask(QUESTION) == Verdict(None, False, GONE)
        assert clone.standing.reason == GONE
        async with asyncio.timeout(20):
            while clone.standing != STANDING:
                await asyncio.sleep(0.01)

    with_clone("dies", ask)
    assert "it is started again in 1 s" in caplog.text
