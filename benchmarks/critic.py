"""Measure what a critic adds to a clone: on recorded experts, and where catastrophes are planted.

python benchmarks/critic.py --data ../shared/data    # some minutes
python benchmarks/critic.py --quick                  # few tasks, 2 epochs: checks that it runs
python benchmarks/critic.py --json                   # the same as JSON

Recorded: the area under the ROC curve on tasks held out in turn, beside that of the number of steps so far.

Planted: an expert of the support desk that in some tasks refunds without asking and grants what it must refuse. Clones
learn from all that it did, or from its successes alone; each plays the same fresh tasks alone, and under its critic,
where a right expert acts on what is vetoed. What a clone would write as text the expert does in every arm.

Budget: as many decisions of perfect tasks alone, or half of them with as many of failed ones for the critic.
"""

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from imitrace.messages import Action
from imitrace_trainer.critic import Critic, CriticisedPolicy
from imitrace_trainer.critic_files import critic_cases
from imitrace_trainer.critic_fit import CriticCase, CriticConfig, fit_critic
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.fit import BCConfig, fit
from imitrace_trainer.intervals import clopper_pearson
from imitrace_trainer.policy import Policy, State
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, tell, versions
from planted.reckless import Desk, Played, Reckless, Task, make_expert, same, work
from quality.recorded import SETS, imported

PACKAGES = ("imitrace", "numpy", "torch")
SEEDS = {"train": 1, "calibration": 1_001, "fresh": 2_001}
SHARE = 0.6
"""Of the tasks in which the expert is reckless where it is tempted."""


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    train: int
    calibration: int
    fresh: int
    epochs: int
    lines: int | None
    """Recorded trajectories read of each set; None: all."""


FULL, QUICK = Sizes(600, 200, 300, 6, None), Sizes(24, 12, 4, 1, 20)


def measure(options: argparse.Namespace) -> Json:
    """Return the whole report."""
    torch.set_num_threads(1)
    sizes, skipped = QUICK if options.quick else FULL, {}
    sets: Json = {}
    for name in SETS:
        if (options.data / SETS[name]).exists():
            sets[name] = recorded(name, options.data, sizes)
        else:
            skipped[name] = f"{options.data / SETS[name]} is not there; name the folder with --data"
    return {
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "command": " ".join(["python", *sys.argv]),
        "sets": sets,
        "planted": planted(sizes),
        "budget": budget(sizes),
        "skipped": skipped,
    }


def recorded(name: str, data: Path, sizes: Sizes) -> Json:
    """Return what a critic of a recorded set reaches, fitted to all but every fifth task, calibrated on those."""
    tell(f"{name}: critic")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / name
        imported(name, data, home, sizes.lines)
        dataset = open_dataset(home, name)
        cases = [case for split in ("train", "calibration", "gate") for case in critic_cases(dataset, split)]
    kept = [case for case in cases if int(case.task) % 5 == 1]
    critic = fit_critic([case for case in cases if int(case.task) % 5 != 1], kept, CriticConfig())
    return described(critic)


def described(critic: Critic) -> Json:
    """Return what a critic was measured to be."""
    told = critic.report
    return {
        "on": critic.refused is None,
        "refused": critic.refused,
        "auroc": told.get("auroc"),
        "auroc_by_length": told.get("by_length"),
        "calls": {part: told[part] for part in ("train", "calibration")},
        "calibration_vetoed": told.get("calibration_vetoed"),
        "threshold": critic.threshold,
        "rules": [str(rule) for rule in critic.rules],
    }


def planted(sizes: Sizes) -> Json:
    """Return what clones do on fresh tasks, alone and under a critic."""
    desk = Desk()
    reckless = Reckless(make_expert(desk), SHARE)
    tell("planted: playing")
    drawn = {part: desk.tasks(getattr(sizes, part), seed) for part, seed in SEEDS.items()}
    shown, kept = (work(desk, drawn[part], lambda _, chat: reckless.act(chat)) for part in ("train", "calibration"))
    critic = fit_critic(shown.cases(), kept.cases(), CriticConfig())
    arms: Json = {}
    for learnt, only in (("everything", False), ("successes alone", True)):
        tell(f"planted: a clone of {learnt}")
        clone, _ = fit(shown.demonstrations(only), kept.demonstrations(only), BCConfig(epochs=sizes.epochs))
        rules = replace(critic, refused=critic.refused or "left out here")
        watched = {"alone": None, "under the rules": rules, "under the critic": critic}
        for how, judge in watched.items():
            policy = clone if judge is None else CriticisedPolicy(clone, judge, clone.reader)
            arms[f"{learnt}, {how}"] = acted(desk, drawn["fresh"], policy)
    return {
        "expert": {"tasks": shown.tasks, "success": shown.success, "unsafe": shown.unsafe},
        "critic": described(critic),
        "arms": arms,
    }


@dataclass
class Vetoes:
    """How often a critic stepped in."""

    calls: int = 0
    vetoed: int = 0
    vetoed_right: int = 0
    """Of these, calls that the expert would have made too."""


def acted(desk: Desk, tasks: Sequence[Task], policy: Policy) -> Json:
    """Return how a policy does on tasks, where an expert without fault acts on text and on what is vetoed."""
    expert, counted = make_expert(desk), Vetoes()

    def act(state: State, chat: Sequence[Mapping[str, Any]]) -> Action | None:
        decision, right = policy.act(state), expert.act(chat)
        if decision.action.kind == "message":
            return right
        counted.calls += 1
        if decision.veto is None:
            return replace(decision.action, call_id=f"call_{len(chat)}")
        counted.vetoed += 1
        counted.vetoed_right += same(decision.action, right)
        return right

    return outcome(work(desk, tasks, act)) | asdict(counted)


def outcome(played: Played) -> Json:
    """Return the shares of tasks that succeeded and that were unsafe, with exact 95 % intervals."""
    told: Json = {"tasks": played.tasks}
    for name in ("success", "unsafe"):
        count = getattr(played, name)
        low, high = clopper_pearson(count, played.tasks)
        told[name] = {"count": count, "low": round(low, 4), "high": round(high, 4)}
    return told


def budget(sizes: Sizes) -> Json:
    """Return what the same number of recorded tasks brings: perfect ones alone, or half of them failed ones."""
    desk = Desk()
    right, reckless = make_expert(desk), Reckless(make_expert(desk, error_rate=0.1), 1.0)
    tell("budget: playing")
    tasks = desk.tasks(2 * sizes.train, SEEDS["train"])
    perfect = work(desk, tasks, lambda _, chat: right.act(chat))
    failing = work(desk, tasks, lambda _, chat: reckless.act(chat))
    half = max(1, sizes.train // 2)
    kept = work(desk, desk.tasks(sizes.calibration, SEEDS["calibration"]), lambda _, chat: right.act(chat))
    spoilt = work(desk, desk.tasks(sizes.calibration, 1_500), lambda _, chat: reckless.act(chat))
    lost, lost_kept = failures(failing)[:half], failures(spoilt)
    fresh = desk.tasks(sizes.fresh, SEEDS["fresh"])
    arms: Json = {}
    for name, good, bad in (("perfect alone", 2 * half, []), ("half perfect, half failed", half, lost)):
        tell(f"budget: {name}")
        chosen = {task.id for task in tasks[:good]}
        clone, _ = fit(
            [one for one in perfect.demonstrations(successes_only=True) if one.task in chosen],
            kept.demonstrations(successes_only=True),
            BCConfig(epochs=sizes.epochs),
        )
        policy: Policy = clone
        found: Json = {}
        if bad:
            cases = [case for case in perfect.cases() if case.task in chosen] + flat(bad)
            critic = fit_critic(cases, kept.cases() + flat(lost_kept), CriticConfig())
            policy, found = CriticisedPolicy(clone, critic, clone.reader), {"critic": described(critic)}
        arms[name] = acted(desk, fresh, policy) | found | {"recorded_tasks": good + len(bad)}
    return arms


def failures(played: Played) -> list[list[CriticCase]]:
    """Return the calls of the tasks that failed, by task."""
    found: dict[str, list[CriticCase]] = {}
    for case in played.cases():
        if not case.success:
            found.setdefault(case.task, []).append(case)
    return list(found.values())


def flat(cases: Sequence[Sequence[CriticCase]]) -> list[CriticCase]:
    """Return calls in one list."""
    return [case for some in cases for case in some]


def table(report: Json) -> str:
    """Return the report for people."""
    lines = []
    for name, found in report["sets"].items():
        lines.append(f"{name}: {'on' if found['on'] else 'off: ' + found['refused']}")
        lines += map("  never {}".format, found["rules"])
    for part, arms in (("planted", report["planted"]["arms"]), ("budget", report["budget"])):
        for arm, found in arms.items():
            shares = "  ".join(f"{name} {told(found[name], found['tasks'])}" for name in ("success", "unsafe"))
            vetoed = f"vetoed {found['vetoed']} of {found['calls']}, {found['vetoed_right']} of them right"
            lines.append(f"{part}: {arm:<36}{shares}  {vetoed}")
    lines += map("never {}".format, report["planted"]["critic"]["rules"])
    lines += [f"{name}: {why}" for name, why in report["skipped"].items()]
    return "\n".join([*lines, f"{report['machine']}, {report['date']}"])


def told(share: Any, tasks: int) -> str:  # a JSON object
    """Return a share with its interval."""
    return f"{share['count'] / tasks:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def main() -> None:
    """Measure as the options say, and print it."""
    options = asking(__doc__, "few tasks, 2 epochs: checks that it runs", data=True).parse_args()
    deliver(measure(options), options, table)


if __name__ == "__main__":
    main()
