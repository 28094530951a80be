"""Hand a benchmark's report over: printed for people or as JSON, and written to a file where one is named."""

import argparse
import json
from collections.abc import Callable

from overhead.timing import Json


def deliver(report: Json, options: argparse.Namespace, table: Callable[[Json], str]) -> None:
    """Write and print a report as ``options.output`` and ``options.json`` say; ``table`` makes it text for people."""
    text = json.dumps(report, indent=1)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    print(text if options.json else table(report))
