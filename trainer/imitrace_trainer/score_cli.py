"""Offer the command that scores: what is stored, by evaluators, or one trajectory, by a value from outside."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from imitrace.config import read_config, workspace_home
from imitrace.exceptions import ConfigError
from imitrace_trainer.progress import progress_bar

if TYPE_CHECKING:
    from imitrace_trainer.evaluators.scoring import Plan
    from imitrace_trainer.evaluators.selection import Reference

_LATE = ("trajectory", "name", "value", "step", "label", "explanation", "evaluator")


@click.command()
@click.argument("cohort", required=False)
@click.option("--agent", help="Score this agent's trajectories, without a cohort.")
@click.option("--evaluators", help="Names with commas between them, or all  [default: those of [score]]")
@click.option("--futureagi-compat", is_flag=True, help="Also by another package's definitions, as FutureAGI.NAME.")
@click.option("--judge", is_flag=True, help="Also ask the model of [score.judge]: sends the trajectories to it.")
@click.option("--reference", help="Source of an expert's trajectories to compare tool calls with.")
@click.option("--labels", help="Score from outside that all are compared with: accuracy and kappa.")
@click.option(
    "--threshold", type=float, default=0.8, show_default=True, help="From which on a value is good, for that."
)
@click.option("--source", help="A snapshot folder, a .duckdb file, or a collector's address  [default: the workspace]")
@click.option("--dry-run", is_flag=True, help="Compute, but store nothing.")
@click.option("--trajectory", help="Give one score from outside to this trajectory.")
@click.option("--name", help="Its name.")
@click.option("--value", type=float, help="Its value.")
@click.option("--step", type=click.IntRange(0), help="The step that it is about  [default: the whole trajectory]")
@click.option("--label", help="The score in words.")
@click.option("--explanation", help="Why.")
@click.option("--evaluator", help="Who scored  [default: human]")
@click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration  [default: ./imitrace.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def score(cohort: str | None, home: Path | None, config: Path | None, as_json: bool, **given: Any) -> None:  # by name
    """Score the trajectories of COHORT or of an agent, or give one trajectory a score from outside.

    Scores go to the collector that runs on the workspace, else into its store. What is there already is not given
    again, and what somebody else scored is left as it is. Nothing is sent elsewhere without --judge.

    \b
    Examples:
      imitrace score airline
      imitrace score --agent airline --evaluators all --dry-run --json
      imitrace score airline --evaluators TerminalSigns --labels TaskCompletion
      imitrace score --trajectory airline-0-0 --name reward --value 0.8
    """
    folder = workspace_home(home)
    late = given["trajectory"] is not None
    report = give(folder, cohort, given) if late else compute(folder, read_config(config), cohort, given)
    click.echo(json.dumps(report, indent=1) if as_json else (_given_text if late else describe_scores)(report))


def give(folder: Path, cohort: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Store one score from outside, and return it.

    Raises:
        ConfigError: it is no score.
    """
    import time

    from imitrace_trainer.evaluators.sending import send_scores

    computed = [name for name in ("agent", "evaluators", "reference", "labels") if given[name]]
    computed += (
        ["futureagi-compat"] * given["futureagi_compat"] + ["judge"] * given["judge"] + ["cohort"] * bool(cohort)
    )
    if computed:
        raise ConfigError(f"--trajectory gives one score and {computed[0]} computes many, name one of them")
    if not given["trajectory"] or not given["name"] or (given["value"] is None and given["label"] is None):
        raise ConfigError("a score needs --trajectory, --name, and --value or --label")
    value = given["value"]
    if value is not None and not math.isfinite(value):
        raise ConfigError(f"--value is {value}, allowed: a finite number")
    row = {
        "trajectory_id": given["trajectory"],
        "step_index": given["step"],
        "name": given["name"],
        "value": value,
        "label": given["label"],
        "explanation": given["explanation"],
        "evaluator": given["evaluator"] or "human",
        "scored_at": time.time_ns(),
    }
    if not given["dry_run"]:
        send_scores([row], *_target(folder, given["source"]))
    return row


def compute(folder: Path, config: dict[str, Any], cohort: str | None, given: dict[str, Any]) -> dict[str, Any]:
    """Score by evaluators, and return what was found.

    Raises:
        ConfigError: the options don't go together.
    """
    from imitrace_trainer.evaluators.scoring import Scored, score_source
    from imitrace_trainer.evaluators.sending import send_scores
    from imitrace_trainer.source_copies import at_hand
    from imitrace_trainer.sources import open_source

    for name in _LATE[1:]:
        if given[name] is not None:
            raise ConfigError(f"--{name} belongs to a score from outside: name its --trajectory, too")
    if (cohort is None) == (given["agent"] is None):
        raise ConfigError("name a cohort or --agent, and not both: whose trajectories are to be scored")
    target = (folder, None) if given["dry_run"] else _target(folder, given["source"])
    plan, spent = _plan(folder, config, cohort, given)
    scored = Scored()
    try:
        with progress_bar() as progress, at_hand(open_source(given["source"], folder), folder, progress) as source:
            rows = score_source(source, plan, scored, progress)
            sent = sum(1 for _ in rows) if given["dry_run"] else send_scores(rows, *target)
    finally:
        if given["judge"]:
            _keep_spent(folder, str(plan.agent), spent())
    report = scored.to_json() | {"dry_run": given["dry_run"], "sent": 0 if given["dry_run"] else sent, "rows": sent}
    return report | ({"judge": spent()} if given["judge"] else {})


def describe_scores(report: dict[str, Any]) -> str:
    """Return what was scored in a few lines."""
    skipped = ", ".join(f"{count} {reason}" for reason, count in report["skipped"].items() if count)
    told = [f"{report['trajectories']} trajectories" + (f", skipped: {skipped}" if skipped else "")]
    for name, tally in report["scores"].items():
        mean = "none" if tally["mean"] is None else f"mean {tally['mean']:.3f}"
        told.append(f"  {name:28} {mean:12} {tally['new']} new, {tally['stored']} stored, {tally['given']} by others")
        told += [f"    no score: {count} {reason}" for reason, count in tally["none"].items()]
    for name, found in report["agreement"].items():
        low, high = found["kappa_interval"] or (math.nan, math.nan)
        kappa = "kappa undefined" if found["kappa"] is None else f"kappa {found['kappa']:.2f} [{low:.2f}, {high:.2f}]"
        told.append(f"  {name} agrees with labels in {found['accuracy']:.1%} of {found['n']}, {kappa}")
    if "judge" in report:
        told.append(f"  judge: {report['judge']['requests']} requests, {report['judge']['tokens']} tokens")
    stored = f"{report['rows']} scores computed, none stored (--dry-run)" if report["dry_run"] else ""
    return "\n".join([*told, stored or f"{report['sent']} scores stored"])


def _given_text(row: dict[str, Any]) -> str:
    where = "" if row["step_index"] is None else f", step {row['step_index']}"
    return f"{row['name']} {row['label'] if row['value'] is None else row['value']} for {row['trajectory_id']}{where}"


def _plan(folder: Path, config: dict[str, Any], cohort: str | None, given: dict[str, Any]) -> "tuple[Plan, Any]":
    from imitrace_trainer.cohort import cohort_from_config
    from imitrace_trainer.evaluators.scoring import Plan
    from imitrace_trainer.evaluators.settings import make_evaluators, make_futureagi, make_judge, score_from_config

    settings = score_from_config(config)
    whose = None if cohort is None else cohort_from_config(config, cohort)
    agent = given["agent"] if whose is None else whose.agent
    tags = {} if whose is None else whose.tags
    names = settings.evaluators if given["evaluators"] is None else given["evaluators"].split(",")
    evaluators = make_evaluators([name.strip() for name in names], settings, _reference(folder, agent, given))
    evaluators += make_futureagi() if given["futureagi_compat"] else []
    spent: Any = dict
    if given["judge"]:
        judge, client = make_judge(settings)
        evaluators.append(judge)
        spent = lambda: vars(client.spent) | {"model": client.model}  # noqa: E731 - read when all is done
    plan = Plan(
        evaluators=evaluators,
        agent=agent,
        tags=tags,
        step_scores=settings.step_scores,
        labels=given["labels"],
        threshold=given["threshold"],
    )
    return plan, spent


def _keep_spent(folder: Path, agent: str, spent: dict[str, Any]) -> None:
    """Write down what the judge took, for the savings."""
    import time

    from imitrace_trainer.spending import Spending, record_spending

    if not spent["requests"]:
        return
    tokens = {"input_tokens": spent["tokens"] - spent["output_tokens"], "output_tokens": spent["output_tokens"]}
    told = {"agent": agent, "model": str(spent["model"]), "requests": int(spent["requests"]), **tokens}
    record_spending(folder, Spending(kind="judge", at=time.time_ns(), **told))


def _reference(folder: Path, agent: str | None, given: dict[str, Any]) -> "Reference":
    from imitrace_trainer.evaluators.scoring import Plan, learn_reference
    from imitrace_trainer.evaluators.selection import Reference
    from imitrace_trainer.source_copies import at_hand
    from imitrace_trainer.sources import open_source

    if given["reference"] is None:
        return Reference()
    with at_hand(open_source(given["reference"], folder), folder) as source:
        return learn_reference(source, Plan(evaluators=(), agent=agent))


def _target(folder: Path, source: str | None) -> tuple[Path, str | None]:
    """Return the workspace whose store or collector takes the scores, or the collector's address."""
    from imitrace_trainer.evaluators.sending import STORE_FILE

    if source is None or Path(source).is_dir():
        return folder, None
    if source.startswith(("http://", "https://")):
        return folder, source
    if Path(source).name != STORE_FILE:
        raise ConfigError(f"scores can't be stored in {source}, allowed: a file named {STORE_FILE}; or use --dry-run")
    return Path(source).resolve().parent, None
