import os
from collections.abc import Callable
from contextlib import redirect_stderr, suppress

import pytest

from imitrace_trainer.progress import progress_bar

Work = Callable[[Callable[[str, float], None]], None]


def on_a_terminal(work: Work) -> list[str]:
    """Return what a terminal at standard error shows while the work is done, line over line."""
    screen, inside = os.openpty()
    with os.fdopen(inside, "w", encoding="utf-8") as errors:
        with redirect_stderr(errors), suppress(ZeroDivisionError), progress_bar() as progress:
            work(progress)
        print("\rend", end="", file=errors, flush=True)  # so that there is something to read in any case
        shown = ""
        while "\rend" not in shown:  # a terminal may hand over what was written in pieces
            shown += os.read(screen, 10_000).decode()
        *lines, _ = shown.split("\r")
    os.close(screen)
    return [line for line in lines if line]


def test_a_file_or_pipe_sees_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with progress_bar() as progress:
        progress("train", 0.5)
    assert capfd.readouterr() == ("", "")


def test_a_terminal_sees_the_stage_and_the_share() -> None:
    def work(progress: Callable[[str, float], None]) -> None:
        progress("choose", 0.0)
        progress("choose", 0.5)
        progress("gate", 1.0)

    first, half, whole, wiped = on_a_terminal(work)
    assert (first, half) == (f"choose     [{'.' * 30}]   0%", f"choose     [{'#' * 15}{'.' * 15}]  50%")
    assert whole == f"gate       [{'#' * 30}] 100%"
    assert wiped.isspace() and len(wiped) >= len(whole)


def test_a_line_that_would_look_the_same_is_not_written_again() -> None:
    def work(progress: Callable[[str, float], None]) -> None:
        for number in range(1_000):
            progress("choose", 0.5 + number / 1_000_000)

    assert len(on_a_terminal(work)) == 2


def test_the_line_is_wiped_when_the_work_fails() -> None:
    def work(progress: Callable[[str, float], None]) -> None:
        progress("choose", 0.5)
        raise ZeroDivisionError

    shown, wiped = on_a_terminal(work)
    assert shown.startswith("choose") and wiped.isspace()
