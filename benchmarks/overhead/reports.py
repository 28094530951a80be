"""Ask how a benchmark is to run, and hand its report over: for people or as JSON, and to a file where one is named."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from overhead.timing import Json


def asking(about: str | None, quick: str, *, data: bool = False) -> argparse.ArgumentParser:
    """Return the options that benchmarks share, to which each adds its own.

    Args:
        about: the program's docstring, shown as it stands.
        quick: what a quick run does.
        data: whether recorded sets are read.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=quick)
    if data:
        parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the recorded sets")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--output", type=Path, help="write the JSON object to this file as well")
    return parser


def deliver(report: Json, options: argparse.Namespace, table: Callable[[Json], str]) -> None:
    """Write and print a report as ``options.output`` and ``options.json`` say; ``table`` makes it text for people."""
    text = json.dumps(report, indent=1)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    print(text if options.json else table(report))
