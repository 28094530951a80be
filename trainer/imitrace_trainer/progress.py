"""Show how far long work is, on a terminal's standard error only."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_WIDTH = 30

Progress = Callable[[str, float], None]
"""Is told a stage's name, maybe a ``Stage``, and the share of it that is done."""


class Stage(str):
    """A stage's name with what else there is to say of it, such as a loss and the time left."""

    note: str

    def __new__(cls, name: str, note: str = "") -> "Stage":
        """Name a stage."""
        stage = super().__new__(cls, name)
        stage.note = note
        return stage


def silent(stage: str, share: float) -> None:
    """Show nothing."""


def tell(line: str) -> None:
    """Say a line on standard error, wherever that goes."""
    click.echo(f"imitrace: {line}", err=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a function that is told a stage's name and the share done; a file or a pipe sees nothing."""
    shown, widest = [""], [0]

    def show(stage: str, share: float) -> None:
        filled = int(_WIDTH * share)
        note = f" {stage.note}" if isinstance(stage, Stage) and stage.note else ""
        line = f"{stage:<10} [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}{note}"
        if line != shown[0]:
            shown[0] = line
            line = line[: shutil.get_terminal_size().columns - 1]  # what wraps could not be wiped
            widest[0] = max(widest[0], len(line))
            click.echo(f"\r{line:<{widest[0]}}", nl=False, err=True)

    if not sys.stderr.isatty():
        yield silent
        return
    try:
        yield show
    finally:
        click.echo("\r" + " " * max(_WIDTH + 20, widest[0]) + "\r", nl=False, err=True)
