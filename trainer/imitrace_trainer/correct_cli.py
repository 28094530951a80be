"""Offer the command that corrects a clone: it parses, calls one function, prints."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import click

from imitrace.config import read_config, workspace_home
from imitrace_trainer.correcting.config import METHODS, SWITCHES
from imitrace_trainer.progress import progress_bar


@click.command()
@click.argument("clone")
@click.option("--budget", type=click.IntRange(min=1), help="Calls of the expert at most  [default: the clone's, 500]")
@click.option("--steps", type=click.IntRange(min=1), help="Steps in the environment at most  [default: the clone's]")
@click.option("--tokens", type=click.IntRange(min=1), help="Tokens of the expert at most  [default: the clone's]")
@click.option("--env", help="package.module:name of the environment  [default: the clone's rollout]")
@click.option("--expert", help="package.module:name of what makes the expert  [default: the clone's rollout]")
@click.option("--method", type=click.Choice(METHODS), help="How  [default: the clone's, oec]")
@click.option("--switch", type=click.Choice(SWITCHES), help="Where the expert takes over  [default: random]")
@click.option("--rounds", type=click.IntRange(min=1), help="Rounds, fitted in between  [default: 1]")
@click.option("--tries", type=click.IntRange(min=1), help="Tries at a task until it succeeds  [default: 1]")
@click.option("--cohort", help="Correct on tasks of this cohort alone.")
@click.option("--seed", type=int, help="Draws tasks and switches  [default: the clone's, 2000]")
@click.option("--home", type=click.Path(path_type=Path), help="Workspace folder  [default: ./.imitrace]")
@click.option("--config", type=click.Path(path_type=Path), help="Configuration  [default: ./imitrace.toml]")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def correct(  # noqa: PLR0913 - a command has the parameters of its options
    clone: str,
    budget: int | None,
    steps: int | None,
    tokens: int | None,
    env: str | None,
    expert: str | None,
    method: str | None,
    switch: str | None,
    rounds: int | None,
    tries: int | None,
    cohort: str | None,
    seed: int | None,
    home: Path | None,
    config: Path | None,
    as_json: bool,
) -> None:
    """Let CLONE play in its environment, let the expert correct it, and make a dataset version of that.

    oec: the clone begins and the expert finishes, from a drawn step on; what succeeds is learnt, the clone's own steps
    are context. dagger: the expert says at every step what it would do. handover: the clone acts where it is sure, the
    expert elsewhere, step by step; of what succeeds both are learnt. own: the clone plays alone and learns from its
    successes, at no call of the expert. Then go on with 'imitrace train' and 'imitrace gate'. Exits 1 when there is
    nothing to learn.

    \b
    Examples:
      imitrace correct airline --budget 500
      imitrace correct airline --method dagger --rounds 3 --budget 1500
      imitrace correct airline --method handover --rounds 3 --budget 1500
      imitrace correct airline --method own --rounds 3 --tries 3
      imitrace correct airline:2 --cohort tool_heavy --env my_world:World --expert my_world:make_expert --json
    """
    from imitrace_trainer.config import clone_from_config
    from imitrace_trainer.correcting.expert_budget import Budget
    from imitrace_trainer.correction_stage import correct_stage, with_world

    name = clone.split("@")[0].split(":")[0]
    path = config or Path("imitrace.toml")
    known = with_world(clone_from_config(read_config(config), name, path.absolute().parent), env, expert)
    asked = {
        "method": method,
        "switch": switch,
        "rounds": rounds,
        "tries": tries,
        "seed": seed,
        "cohort": cohort,
        "budget": budget,
        "steps": steps,
        "tokens": tokens,
    }
    changes = {key: value for key, value in asked.items() if value is not None}
    known = replace(known, correct=replace(known.correct, **changes))  # type: ignore[arg-type]  # of the fields' types
    with progress_bar() as progress:
        made = correct_stage(workspace_home(home), known, clone, Budget.of(known.correct), progress)
    click.echo(json.dumps(made.to_json(), indent=1) if as_json else made.render())
    if not any(one.rejected is None for one in made.corrections.episodes):
        sys.exit(1)
