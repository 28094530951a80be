"""Prepare the proxy's process to record: as which agent, and so that recording keeps nobody waiting."""

import gc
import json
import re
import sys

from imitrace.exceptions import CloneError
from imitrace_trainer.registry import Registry
from imitrace_trainer.serving.config import ServeConfig

_TURN_SECONDS = 0.0005
_COLLECTED_AFTER = (20_000, 20, 50)


def agent_of(config: ServeConfig) -> str | None:
    """Return the agent that the served clone was made from, or else the clone's name; None where none is served."""
    if config.clone is None:
        return None
    reference = config.clone if re.search("[:@]", config.clone) else f"{config.clone}@champion"
    try:
        card = json.loads((Registry(config.home).resolve(reference).path / "clone.json").read_text(encoding="utf-8"))
        agent = card["agent"]
    except (CloneError, OSError, ValueError, LookupError, TypeError):
        agent = None
    return agent if isinstance(agent, str) else re.split("[:@]", config.clone)[0]


def keep_pace() -> None:
    """Keep this process from holding requests up for milliseconds.

    Threads take turns ten times as often as they do, for the one that records; and garbage is looked for seldom, and
    not among what was there from the start.
    """
    sys.setswitchinterval(_TURN_SECONDS)
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECTED_AFTER)
