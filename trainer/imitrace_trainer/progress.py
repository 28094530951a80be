"""Show how far long work is, on a terminal's standard error only."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

_WIDTH = 30

Progress = Callable[[str, float], None]
"""Is told a stage's name and the share of it that is done."""


def silent(stage: str, share: float) -> None:
    """Show nothing."""


def tell(line: str) -> None:
    """Say a line on standard error, wherever that goes."""
    click.echo(f"imitrace: {line}", err=True)


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Give a function that is told a stage's name and the share done; a file or a pipe sees nothing."""
    shown = [""]

    def show(stage: str, share: float) -> None:
        filled = int(_WIDTH * share)
        line = f"{stage:<10} [{'#' * filled}{'.' * (_WIDTH - filled)}] {share:4.0%}"
        if line != shown[0]:
            shown[0] = line
            click.echo(f"\r{line}", nl=False, err=True)

    if not sys.stderr.isatty():
        yield silent
        return
    try:
        yield show
    finally:
        click.echo("\r" + " " * (_WIDTH + 20) + "\r", nl=False, err=True)
