"""Play the story day by day: each day tickets, then the refresh as a scheduler would call it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import imitrace
from imitrace_trainer.demo import collector, command, example_folder
from imitrace_trainer.step_backs import StepBacks
from refresh_story.service import Day, Service
from refresh_story.shop import COHORTS, RENAMED, RETIRED, SUCCESSOR, After, Before

CONFIG: Final = """# Written by the refresh story.
[cohort.shop]
agent = "shop"
where = ["TaskCompletion >= 1"]
split = {{ by = "task", calibration = 0.25, gate = 0.15, seed = 7 }}

[clone.shop]
family = "linear"
[clone.shop.train]
device = "cpu"
replies = false
[clone.shop.critic]
enabled = false
[clone.shop.gate]
default_margin = {margin}
noise_tasks = 0
waive = {{ long_tail = "two cohorts tell the story" }}
[clone.shop.route]
error = {error}
irreversible_error = {error}
[clone.shop.drift]
draws = 500
decisions = 4
[clone.shop.schedule]
new_rows = {rows}
[clone.shop.rollout]
path = {examples}
environment = "refresh_story.shop:{shop}"
expert = "refresh_story.shop:make_shop_expert"
tasks = {gate}
"""
_OUTCOMES: Final = (0, 1, 3, 5, 6)
_CHANGE: Final = 3
"""On this day the shop changes."""


@dataclass(frozen=True, kw_only=True)
class StoryConfig:
    """How large the story is."""

    home: Path
    """A workspace of its own."""
    first: int = 900
    """Tickets that the expert works alone at first."""
    tickets: int = 240
    """Of each further day."""
    days: int = 6
    gate: int = 160
    """Fresh tickets a cohort that each gate plays."""
    margin: float = 0.06
    """How much worse than the expert a clone may be: so few tickets prove no less."""
    error: float = 0.015
    """Share of its decisions that may be wrong."""


@dataclass
class Told:
    """A day of the story."""

    number: int
    day: Day
    refresh: dict[str, Any]
    """The record of the day's refresh."""
    stepped_back: list[str]
    """Cohorts that are with the expert after it."""
    events: list[str] = field(default_factory=list)


def tell(config: StoryConfig, say: Callable[[str], None]) -> list[Told]:
    """Play the story, and return its days.

    Raises:
        ImitraceError: a command failed.
    """
    home = config.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    told: list[Told] = []
    with collector(home) as endpoint:
        imitrace.configure(agent="shop", endpoint=endpoint, policy_name="scripted-expert")
        service = Service("shop@champion", str(home))
        for number in range(1, config.days + 1):
            changed = number >= _CHANGE
            _write_config(config, home, changed)
            desk: Before = After() if changed else Before()
            count = config.first if number == 1 else config.tickets
            day = service.work(desk, desk.tasks(count, 50 + number))
            told.append(_refreshed(home, number, day))
            say(line(told[-1]))
            if told[-1].refresh["outcome"] == "undecided":
                _decide(home)
                told[-1].events.append(f"the shop says that {SUCCESSOR} follows {RETIRED}")
        imitrace.shutdown()
    return told


def _refreshed(home: Path, number: int, day: Day) -> Told:
    run = command(home, "refresh", "shop", "--json", allowed=_OUTCOMES)
    champion = (run.get("champion") or {}).get("after") or (run.get("champion") or {}).get("before")
    back = sorted(StepBacks(home, "shop").of(champion or 0).cohorts)
    one = Told(number, day, run, back)
    if number == _CHANGE:
        one.events.append(f"the shop retires {RETIRED}; customers ask to change their email")
    if (run.get("drift") or {}).get("verdict") == "drift":
        one.events.append(f"drift: {run['drift']['why'][0]}")
    if back:
        one.events.append(f"with the expert: {', '.join(back)}")
    if run["outcome"] == "promoted":
        one.events.append(f"v{run['version']} passed its gate and takes over")
    return one


def _decide(home: Path) -> None:
    arguments = [word for old, new in RENAMED.items() for word in ("--argument", f"{old}={new}")]
    named = ["tools", "rename", RETIRED, SUCCESSOR, *arguments, "--agent", "shop", "--why", "the shop's notice"]
    command(home, *named)


def _write_config(config: StoryConfig, home: Path, changed: bool) -> None:
    shop, examples = "After" if changed else "Before", json.dumps(str(example_folder()))
    rows = 10**9  # nothing but drift, tools and evidence make it due
    sizes = {"margin": config.margin, "error": config.error, "gate": config.gate, "rows": rows}
    text = CONFIG.format(**sizes, shop=shop, examples=examples)
    (home / "imitrace.toml").write_text(text, encoding="utf-8")


def share(day: Day, cohort: str) -> float:
    """Return the share of a cohort's decisions that the clone took."""
    return day.by_clone[cohort] / max(1, day.decisions[cohort])


def line(told: Told) -> str:
    """Return a day in one line."""
    day = told.day
    shares = ", ".join(f"{name} {share(day, name):.0%} by the clone" for name in COHORTS)
    solved, alone, count = (sum(some.values()) for some in (day.solved, day.by_expert, day.tickets))
    found = f"day {told.number}: {shares}; solved {solved / count:.1%}, expert alone {alone / count:.1%}"
    return f"{found}, dead calls {day.dead}; refresh: {told.refresh['outcome']} ({'; '.join(told.events) or 'nothing'})"


def to_json(told: list[Told]) -> list[dict[str, Any]]:
    """Return days as JSON values."""
    return [asdict(one) for one in told]
