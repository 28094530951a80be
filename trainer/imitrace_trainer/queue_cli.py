"""Offer the commands of the queue: decisions that a person should judge, and what becomes of the verdicts."""

import getpass
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imitrace.config import read_config, workspace_home
from imitrace.exceptions import ConfigError
from imitrace_trainer.progress import progress_bar

if TYPE_CHECKING:
    from imitrace_trainer.queue_desk import Queue
    from imitrace_trainer.queue_items import Item
    from imitrace_trainer.queue_ranking import Ranked
    from imitrace_trainer.queue_verdicts import Judgement

_Command = Callable[..., None]

_HOME = click.option("--home", type=click.Path(path_type=Path), help="Workspace folder [default: ./.imitrace].")
_SOURCE = click.option(
    "--source", help="Where the traces are: a snapshot folder, a .duckdb file, or a collector's http:// address."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
_REVIEWER = click.option("--reviewer", help="Who judges [default: the user who runs this].")
_KEYS = {
    "e": "expert_right",
    "c": "clone_right",
    "f": "both_fine",
    "w": "both_wrong",
    "u": "unsafe",
}
_PROMPT = "[e]xpert right, [c]lone right, both [f]ine, both [w]rong, [u]nsafe, [m]ore, [s]kip, [q]uit"


def _opening(command: _Command) -> _Command:
    for option in (
        click.option("--agent", help="Only this agent's decisions."),
        click.option("--low", default=0.5, show_default=True, help="A clone is unsure below this confidence."),
        _SOURCE,
        _HOME,
        _JSON,
    ):
        command = option(command)
    return command


def _ordering(command: _Command) -> _Command:
    for option in (
        click.option("--seed", default=0, show_default=True, help="Draws the order of random."),
        click.option("--by", default="rank", show_default=True, help="rank, uncertainty, risk or random."),
        click.option("--equivalent", is_flag=True, help="The harmless ones too, where both actions come to the same."),
        click.option("--cohort", help="Only what this cohort's dataset could learn: of tasks that judge no clone."),
    ):
        command = option(command)
    return command


@click.group()
def queue() -> None:
    """Judge decisions where clone and expert differ; verdicts become rows that the next clone learns from.

    \b
    Examples:
      imitrace queue list
      imitrace queue next
      imitrace queue judge 3f2a both_wrong --correction '{"name": "refund", "arguments": {"order": "A1"}}'
      imitrace queue stats
      imitrace queue rows airline
    """


@queue.command("list")
@click.option("--limit", default=20, show_default=True, help="How many are shown.")
@click.option("--judged", is_flag=True, help="What was judged, instead of what waits.")
@_ordering
@_opening
def list_(limit: int, judged: bool, as_json: bool, **options: Any) -> None:
    """List what waits to be judged, the most urgent first.

    \b
    Examples:
      imitrace queue list --agent airline
      imitrace queue list --by uncertainty --limit 50 --json
      imitrace queue list --equivalent
    """
    from imitrace_trainer.queue_pages import listing

    with _opened(options) as desk:
        open_items = desk.open()
        asked = [desk.items[name] for name in desk.standing if name in desk.items] if judged else open_items
        asked = _of_cohort(asked, options)
        shown = [item for item in asked if options["equivalent"] or judged or item.equivalent is None]
        found = desk.ranked(shown, options["by"], options["seed"])
        if as_json:
            _print({"items": [one.to_json() for one in found[:limit]], "set_apart": len(asked) - len(shown)})
        else:
            click.echo(listing(found, len(asked) - len(shown), limit))


@queue.command("next")
@click.option("--limit", type=int, help="Stop after so many [default: all].")
@click.option("--again", is_flag=True, help="What others judged already, to see how far you agree.")
@_REVIEWER
@_ordering
@_opening
def next_(limit: int | None, again: bool, reviewer: str | None, as_json: bool, **options: Any) -> None:
    """Judge one decision after the other by the keyboard; with --json print the next one and ask nothing.

    \b
    Examples:
      imitrace queue next
      imitrace queue next --again --reviewer ben --limit 20
      imitrace queue next --json
    """
    home, who = workspace_home(options["home"]), reviewer or getpass.getuser()
    with _opened(options) as desk:
        asked = _of_cohort(desk.open(who, again), options)
        shown = [item for item in asked if options["equivalent"] or item.equivalent is None]
        found = desk.ranked(shown, options["by"], options["seed"])[:limit]
    if as_json:
        _print({"item": found[0].to_json() if found else None, "waiting": len(found)})
        return
    done = _review(home, found, who)
    click.echo(f"{done} judged, {len(found) - done} left of {len(found)}")


@queue.command()
@click.argument("item")
@click.option("--messages", default=20, show_default=True, help="How many of the last messages.")
@_opening
def show(item: str, messages: int, as_json: bool, **options: Any) -> None:
    """Show ITEM whole, with what was said of it. The first letters of its id suffice.

    \b
    Examples:
      imitrace queue show 3f2a
      imitrace queue show 3f2a --json
    """
    from imitrace_trainer.queue_pages import page

    with _opened(options) as desk:
        found = desk.find(item)
        ranked, made = desk.ranked([found])[0], desk.standing.get(found.id, {})
    if as_json:
        _print({**ranked.to_json(), "verdicts": [one.to_json() for one in made.values()]})
        return
    click.echo("\n".join([page(ranked, last=messages), *(f"{who}: {_said(one)}" for who, one in made.items())]))


@queue.command()
@click.argument("item")
@click.argument("verdict")
@click.option("--correction", help='What is right: {"name": ..., "arguments": {...}} or {"message": ...}.')
@click.option("--note", default="", help="Why, for those who read it later.")
@click.option("--seconds", type=float, help="How long it took, for the savings.")
@_REVIEWER
@_opening
def judge(item: str, verdict: str, correction: str | None, as_json: bool, **options: Any) -> None:
    """Say of ITEM: expert_right, clone_right, both_fine, both_wrong or unsafe.

    \b
    Examples:
      imitrace queue judge 3f2a expert_right --note "the order was already paid back"
      imitrace queue judge 3f2a both_wrong --correction '{"message": "Which of the two orders?"}'
      imitrace queue judge 3f2a unsafe --reviewer ann --json
    """
    from imitrace_trainer.queue_verdicts import VERDICTS, Judgement, parse_correction, record_judgement

    if verdict not in VERDICTS:
        raise ConfigError(f"verdict is {verdict!r}, allowed: {', '.join(VERDICTS)}")
    with _opened(options) as desk:
        found = desk.find(item)
    made = record_judgement(
        workspace_home(options["home"]),
        found,
        Judgement(
            item=found.id,
            verdict=verdict,
            reviewer=options["reviewer"] or getpass.getuser(),
            correction=None if correction is None else parse_correction(correction),
            note=options["note"],
            seconds=options["seconds"],
        ),
    )
    if as_json:
        _print(made.to_json())
    else:
        click.echo(f"{found.id}: {_said(made)}")


@queue.command()
@_opening
def stats(as_json: bool, **options: Any) -> None:
    """Say what waits, what was judged by whom, how far reviewers agree, and where they do not.

    \b
    Examples:
      imitrace queue stats
      imitrace queue stats --agent airline --json
    """
    from imitrace_trainer.queue_pages import stats_text

    with _opened(options) as desk:
        if as_json:
            _print(desk.stats())
        else:
            click.echo(stats_text(desk))


@queue.command()
@click.argument("cohort")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration [default: ./imitrace.toml].")
@_SOURCE
@_HOME
@_JSON
def rows(cohort: str, config: Path | None, source: str | None, home: Path | None, as_json: bool) -> None:
    """Make the next version of COHORT's dataset with what was judged, as 'imitrace curate' and 'refresh' do too.

    \b
    Examples:
      imitrace queue rows airline
      imitrace queue rows airline --source http://127.0.0.1:4318 --json
    """
    from imitrace_trainer.cohort import cohort_from_config
    from imitrace_trainer.curation import curate_stage

    asked = cohort_from_config(read_config(config), cohort)
    if not asked.reviewed:
        raise ConfigError(f"cohort.{cohort}.reviewed is false, so no verdict becomes a row; set it to true")
    with progress_bar() as progress:
        dataset = curate_stage(workspace_home(home), asked, source, progress)
    told = dataset.manifest.get("judged", {})
    if as_json:
        _print({"dataset": dataset.name, "version": dataset.version, "created": dataset.created, **told})
        return
    made = "" if dataset.created else " (unchanged)"
    lines = [
        f"{dataset.name} v{dataset.version}{made}: {told.get('rows', 0)} judged rows, {told.get('learnt', 0)} learnt"
    ]
    lines += [f"  verdict {name}: {count}" for name, count in told.get("verdicts", {}).items()]
    lines += [f"  context only: {count} {why}" for why, count in told.get("context", {}).items()]
    lines += [f"  left out: {count} {why}" for why, count in told.get("left_out", {}).items()]
    click.echo("\n".join(lines))


@contextmanager
def _opened(options: dict[str, Any]) -> Iterator["Queue"]:
    from imitrace_trainer.queue_desk import open_queue
    from imitrace_trainer.source_copies import at_hand
    from imitrace_trainer.sources import open_source

    home = workspace_home(options["home"])
    with progress_bar() as progress, at_hand(open_source(options["source"], home), home, progress) as opened:
        desk = open_queue(home, opened.frames(), options["agent"], options["low"])
    yield desk


def _of_cohort(items: "list[Item]", options: dict[str, Any]) -> "list[Item]":
    """Return the items that could become rows of a cohort's dataset: none whose task judges clones there."""
    if options["cohort"] is None:
        return items
    from imitrace_trainer.datasets import open_dataset

    dataset = open_dataset(workspace_home(options["home"]), options["cohort"])
    judging, agent = dataset.tasks("calibration") | dataset.tasks("gate"), dataset.manifest["cohort"]["agent"]
    return [item for item in items if item.agent == agent and not judging & set(item.tasks)]


def _review(home: Path, found: "list[Ranked]", who: str) -> int:
    """Ask about one item after the other; return how many were judged."""
    from imitrace_trainer.queue_pages import page
    from imitrace_trainer.queue_verdicts import record_judgement

    done = 0
    for number, ranked in enumerate(found, start=1):
        click.echo(f"\n[{number} of {len(found)}] {page(ranked)}")
        started = time.monotonic()
        made = _asked(ranked, who)
        if made is None:
            break
        if made is not _SKIPPED:
            record_judgement(home, ranked.item, _timed(made, time.monotonic() - started))
            done += 1
    return done


_SKIPPED: Any = object()


def _timed(made: "Judgement", seconds: float) -> "Judgement":
    from dataclasses import replace

    return replace(made, seconds=round(seconds, 1))


def _asked(ranked: "Ranked", who: str) -> "Judgement | None":
    """Return the verdict, ``_SKIPPED``, or None to stop; what makes no sense is asked again."""
    from imitrace_trainer.queue_pages import page
    from imitrace_trainer.queue_verdicts import CORRECTED, Judgement, check_judgement

    item = ranked.item
    while True:
        key = str(click.prompt(_PROMPT, prompt_suffix=": ")).strip().lower()[:1]
        if key == "q":
            return None
        if key == "s":
            return _SKIPPED  # type: ignore[no-any-return]  # a mark of our own
        if key == "m":
            click.echo(page(ranked, last=len(item.state)))
        if key not in _KEYS:
            continue
        verdict = _KEYS[key]
        try:
            check_judgement(item, Judgement(item=item.id, verdict=verdict, reviewer=who))
        except ConfigError as error:
            click.echo(str(error))
            continue
        correction = _corrected(item) if verdict in CORRECTED else None
        note = str(click.prompt("note", default="", show_default=False))
        return Judgement(item=item.id, verdict=verdict, reviewer=who, correction=correction, note=note)


def _corrected(item: "Item") -> Any:  # Action or None
    from imitrace_trainer.queue_verdicts import check_correction, parse_correction

    click.echo(f"tools: {', '.join(str(tool['name']) for tool in item.tools) or 'none'}")
    while True:
        text = str(click.prompt("what is right, as JSON (empty: unsaid)", default="", show_default=False)).strip()
        if not text:
            return None
        try:
            action = parse_correction(text)
            check_correction(item, action)
        except ConfigError as error:
            click.echo(str(error))
            continue
        return action


def _said(made: "Judgement") -> str:
    from imitrace_trainer.queue_pages import call_lines

    right = "" if made.correction is None else f"; right is {' '.join(' '.join(call_lines(made.correction)).split())}"
    return f"{made.verdict} by {made.reviewer}{right}" + (f" ({made.note})" if made.note else "")


def _print(record: Any) -> None:  # JSON
    click.echo(json.dumps(record, indent=1, ensure_ascii=False))
