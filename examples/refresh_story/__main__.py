"""Tell the story and draw it: ``PYTHONPATH=examples python -m refresh_story --home story``."""

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from refresh_story.page import render
from refresh_story.story import StoryConfig, tell, to_json


def main(arguments: Sequence[str] | None = None) -> int:
    """Play the story; write ``story.json`` and ``story.html`` into its folder."""
    parser = argparse.ArgumentParser(prog="refresh_story", description="Tell how a clone meets a shop that changes.")
    parser.add_argument("--home", type=Path, required=True, help="an empty folder for the workspace")
    parser.add_argument("--first", type=int, default=900, help="tickets by the expert alone at first")
    parser.add_argument("--tickets", type=int, default=240, help="tickets of each further day")
    parser.add_argument("--days", type=int, default=6)
    parser.add_argument("--gate", type=int, default=160, help="fresh tickets a cohort that each gate plays")
    parser.add_argument("--margin", type=float, default=0.06, help="how much worse than the expert a clone may be")
    parser.add_argument("--error", type=float, default=0.015, help="share of its decisions that may be wrong")
    options = parser.parse_args(arguments)
    if options.home.exists() and any(options.home.iterdir()):
        parser.error(f"--home {options.home} is not empty: name another folder")
    started = time.monotonic()
    told = tell(StoryConfig(**vars(options)), print)
    (options.home / "story.json").write_text(json.dumps(to_json(told), indent=1) + "\n", encoding="utf-8")
    (options.home / "story.html").write_text(render(told), encoding="utf-8")
    print(f"{time.monotonic() - started:.0f} s; {options.home / 'story.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
