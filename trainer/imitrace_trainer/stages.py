"""Do one stage of the loop at a time on a workspace: train, evaluate, promote; each leaves its record."""

import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from inspect import signature
from pathlib import Path
from typing import Any

from imitrace.canonical import text_hash
from imitrace.exceptions import DatasetError
from imitrace.messages import Action
from imitrace_trainer.card import measure_limits, render_card
from imitrace_trainer.checkpoints import Checkpoints, unfinished
from imitrace_trainer.clone_files import CloneCard, read_clone, read_second, write_clone
from imitrace_trainer.config import CloneConfig, RolloutConfig
from imitrace_trainer.critic import Critic
from imitrace_trainer.critic_files import criticised, train_critic, write_critic
from imitrace_trainer.datasets import Dataset, Example, check_licences, open_dataset
from imitrace_trainer.demonstrations import Demonstration, well_ended, well_ended_rows
from imitrace_trainer.environment import Environment, Expert, check_environment, load_object
from imitrace_trainer.evaluate import EvaluationReport, evaluate, evaluate_decisions
from imitrace_trainer.failures import OUTCOMES as ENDED_BADLY
from imitrace_trainer.family import Clone, Scored, sureness
from imitrace_trainer.figures import CriticFigures, Quality
from imitrace_trainer.fit import BCConfig, FitReport
from imitrace_trainer.frequency import FrequencyTable
from imitrace_trainer.keys import signing_key
from imitrace_trainer.ladder import Climb, Rung, climb, compare
from imitrace_trainer.mask_audit import audit_masks
from imitrace_trainer.measuring import Extras, Foretold, Shown, foretell, measure
from imitrace_trainer.passport import passport, write_passport
from imitrace_trainer.policy import Policy, State, same_action
from imitrace_trainer.progress import Progress
from imitrace_trainer.quality_page import render as render_page
from imitrace_trainer.registry import CloneVersion, Promotion, Registry
from imitrace_trainer.relied_tools import ReliedTools
from imitrace_trainer.reply_writer import ReplyConfig, Taught, reply_threshold, unsaid, with_replies
from imitrace_trainer.route import RoutedClone, Serving
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.spending import spends
from imitrace_trainer.thresholds import Call, Thresholds, thresholds_for
from imitrace_trainer.tool_ledger import ToolRules, read_ledger


@dataclass(frozen=True)
class Trained:
    """What training made."""

    name: str
    version: int
    path: Path
    fit: FitReport
    rungs: list[Rung]
    """How each family that was fitted did, the one that ships first."""
    evaluation: EvaluationReport
    thresholds: Thresholds


@dataclass(frozen=True)
class LoadedClone:
    """A clone ready to act, with what its record says."""

    version: CloneVersion
    policy: Policy
    """It calls no tool that is retired."""
    card: CloneCard
    tools: list[dict[str, Any]]
    """The newest definition of every tool that was offered in training."""
    rules: ToolRules
    """What is decided about its agent's tools."""
    second: Policy | None = None
    """Its second key to what can't be undone."""

    @property
    def thresholds(self) -> Thresholds:
        """The confidence from which it may act."""
        return Thresholds.from_json(self.card.route).with_irreversible(self.rules.irreversible)

    def routed(self, passed: Collection[str], config: RouteConfig, *, played: bool = False) -> RoutedClone:
        """Return this clone with its route, where its gate passed in some cohorts.

        Args:
            passed: the cohorts.
            config: by which settings.
            played: whether its decisions are carried out, so that handovers in a trajectory are remembered; the audit
                slice and rules by tags are not the clone's own and left out.
        """
        named = (self.version.name, str(self.version.version))
        serving = Serving.by(replace(config, rules=(), audit=0, unaudited=True)) if played else None
        relied = ReliedTools(**self.card.relied)
        keys = self.second, config.second_key
        return RoutedClone(self.policy, self.thresholds, passed, named, *keys, serving, relied=relied)


def demonstrations(examples: Sequence[Example]) -> list[Demonstration]:
    """Return the examples that may be trained on, each as often as it weighs."""
    return [
        Demonstration(
            State(example.state, example.tools, example.tags),
            example.action,
            example.task,
            example.outcome in ENDED_BADLY,
        )
        for example in examples
        if example.loss_mask
        for _ in range(_times(example))
    ]


def _times(example: Example) -> int:
    """Return the weight as a whole number: of 1.5, half of the examples have 1 and half have 2."""
    rest = example.weight % 1
    if not rest:
        return int(example.weight)
    draw = int(text_hash(f"{example.trajectory_id}:{example.step_index}")[:8], 16) / 2**32
    return int(example.weight) + (draw < rest)


@spends("train")
def train_stage(home: Path, clone: CloneConfig, progress: Progress) -> Trained:
    """Fit a clone on its cohort's newest dataset, evaluate it on the gate split, and register it as candidate.

    A fit that was killed is taken up again after its last whole epoch; one that fails leaves nothing.

    Raises:
        DatasetError: the cohort was never curated, or the dataset has steps that the cohort's licences now forbid.
        CloneError: there is nothing to learn, or steps would be learnt from that must not be.
        ConfigError: the workspace's key can't be used.
    """
    Registry(home).versions(clone.name)  # refuses a name that is not allowed
    with unfinished(home / "fits" / clone.name) as kept:
        return _train(home, clone, kept, progress)


def _train(home: Path, clone: CloneConfig, kept: Checkpoints, progress: Progress) -> Trained:
    dataset = _learnable(home, clone)
    train, calibration, held_out = (demonstrations(dataset.examples(part)) for part in ("train", "calibration", "gate"))
    judged = well_ended(held_out)
    rules = read_ledger(home).rules(clone.cohort.agent)
    keyed = clone.route.second_key and bool(clone.route.irreversible or rules.irreversible)
    climbed = climb((train, calibration), clone.family, _fitting(clone), progress, kept, keyed=keyed)
    learnt = [*train, *calibration] if climbed.refitted else train
    taught = Taught(climbed.rehearsal, "they are off")
    if clone.train.replies:
        wanted = ReplyConfig(fit=clone.train, promise=clone.route)
        taught = with_replies(climbed.rehearsal, (train, calibration), wanted, progress, kept.part("replies"))
    policy = taught.by(climbed.clone)
    thresholds = _thresholds(policy, climbed.scored, calibration, clone.route)
    thresholds = replace(thresholds.with_irreversible(rules.irreversible), replies=reply_threshold(policy))
    decisions = [policy.act(held.state) for held in judged]
    evaluation = evaluate_decisions(decisions, judged, FrequencyTable(learnt), len(held_out) - len(judged))
    rungs = compare(climbed, judged, list(map(unsaid, decisions)))
    relied = ReliedTools.of([*train, *calibration, *held_out], policy.tools)
    card = _card(clone, dataset, climbed, thresholds, relied)
    limits = replace(measure_limits(learnt, judged, dataset, card.fitted), silence=taught.lack)
    critic = train_critic(dataset, clone.critic, policy.reader, clone.train.seed)
    if critic is not None:
        limits = replace(limits, critic=critic.lines())
    foretold = foretell(policy, climbed.scored, calibration)
    quality = measure(
        policy,
        card,
        Shown(learnt, calibration, foretold, judged),
        decisions=decisions,
        thresholds=thresholds,
        promised=clone.route,
        extras=Extras(critic=None if critic is None else CriticFigures.from_json(critic.to_json())),
    )

    def write(folder: Path) -> None:
        write_clone(folder, policy, card, climbed.second if keyed else None)
        if critic is not None:
            write_critic(folder, critic)
        write_passport(folder, passport(dataset, clone, rules, card.fitted))
        (folder / "report.json").write_text(_report(evaluation, rungs, critic, quality, foretold), encoding="utf-8")
        (folder / "report.html").write_text(render_page(quality, rungs), encoding="utf-8")
        (folder / "card.md").write_text(render_card(card, evaluation, rungs, thresholds, limits), encoding="utf-8")

    registry = Registry(home)
    number = registry.register(clone.name, write)
    path = registry.resolve(f"{clone.name}:{number}").path
    return Trained(clone.name, number, path, climbed.fit, rungs, evaluation, thresholds)


def _learnable(home: Path, clone: CloneConfig) -> Dataset:
    """Return the newest dataset; what would stop the clone from being registered is told before it is trained."""
    dataset = open_dataset(home, clone.cohort.name)
    check_licences(dataset, clone.cohort)
    signing_key(home)
    audit_masks(dataset.examples("train"), clone.cohort)
    if _fitting(clone).refit:
        audit_masks(dataset.examples("calibration"), clone.cohort, "calibration")
    return dataset


def _fitting(clone: CloneConfig) -> BCConfig:
    """Return how a clone is fitted: never to calibration steps that rules would keep it from in the train split."""
    return replace(clone.train, refit=clone.train.refit and not clone.cohort.trims_training)


def _report(
    evaluation: EvaluationReport,
    rungs: Sequence[Rung],
    critic: Critic | None,
    quality: Quality,
    foretold: Sequence[Foretold],
) -> str:
    told = {
        "ladder": [asdict(rung) for rung in rungs],
        "critic": None if critic is None else critic.to_json(),
        "quality": quality.to_json(),
        "foretold": [asdict(one) for one in foretold],
    }
    return json.dumps({**evaluation.to_json(), **told}, indent=1) + "\n"


def _card(
    clone: CloneConfig, dataset: Dataset, climbed: Climb, thresholds: Thresholds, relied: ReliedTools
) -> CloneCard:
    return CloneCard(
        name=clone.name,
        dataset=dataset.name,
        dataset_version=dataset.version,
        dataset_hash=dataset.hash,
        created_at=now(),
        imitrace=installed_version("imitrace"),
        training={
            "config": asdict(clone.train),
            "fit": asdict(climbed.fit),
            "family": climbed.chosen,
            "refit": climbed.refitted,
        },
        route=thresholds.to_json(),
        agent=clone.cohort.agent,
        relied=relied.to_json(),
    )


def _thresholds(
    clone: Clone, scored: Sequence[Scored], calibration: Sequence[Demonstration], config: RouteConfig
) -> Thresholds:
    """Return from which confidence the clone may act, by what it decides on tasks that it was not trained on."""
    proposed = [(one.action, sureness(clone, one)) for one in scored]
    return thresholds_for(calls_of(proposed, calibration), config)


def calls_of(proposed: Sequence[tuple[Action, float]], calibration: Sequence[Demonstration]) -> list[Call]:
    """Return the calls among what a clone proposes on calibration tasks, each beside what the expert did.

    Decisions of failures are left out, unless there are no others.

    Args:
        proposed: for each decision the action, and how sure the clone is of it.
        calibration: the decisions.
    """
    pairs = list(zip(proposed, calibration, strict=True))
    return [
        Call(confidence, same_action(action, held.action), held.task, cohort_of(held.state.tags))
        for (action, confidence), held in (pairs[row] for row in well_ended_rows(calibration))
        if action.kind == "tool_call"
    ]


def load_clone(home: Path, reference: str) -> LoadedClone:
    """Return the clone that a reference such as ``airline``, ``airline@champion`` or ``airline:3`` means.

    Raises:
        CloneError: there is none, or it is not what was signed.
    """
    registry = Registry(home)
    version = registry.resolve(reference)
    registry.check(version)
    policy, card = read_clone(version.path)
    rules = read_ledger(home).rules(card.agent)
    tools = list(policy.tools)
    acting = criticised(policy, version.path, policy.reader)
    return LoadedClone(version, rules.restrict(acting), card, tools, rules, read_second(version.path))


def evaluate_stage(home: Path, reference: str) -> EvaluationReport:
    """Compare a registered clone with the expert on the gate split of the dataset that it was trained on."""
    loaded = load_clone(home, reference)
    dataset = dataset_of(home, loaded)
    floor = FrequencyTable(demonstrations(dataset.examples_of(loaded.card.fitted)))
    return evaluate(loaded.policy, demonstrations(dataset.examples("gate")), floor)


def dataset_of(home: Path, loaded: LoadedClone) -> Dataset:
    """Return the dataset version that a clone was trained on.

    Raises:
        DatasetError: it is gone, or is not the same any more.
    """
    dataset = open_dataset(home, loaded.card.dataset, loaded.card.dataset_version)
    if dataset.hash != loaded.card.dataset_hash:
        raise DatasetError(
            f"dataset {dataset.name} v{dataset.version} is not what {loaded.card.name} was trained on; train again"
        )
    return dataset


def make_world(clone: CloneConfig, config: RolloutConfig) -> tuple[Environment, Callable[..., Expert]]:
    """Return the environment and a maker of experts that a clone's ``rollout`` table names.

    The maker may be given a number: with another than 0 the expert draws otherwise, where its own maker takes a
    ``seed``; experts that need none differ by themselves.

    Raises:
        CloneError: nothing may be tried in the environment.
        ConfigError: what is named is not there.
    """
    folder = clone.folder / config.path
    environment: Environment = load_object(config.environment, folder)()
    check_environment(environment)
    make = load_object(config.expert, folder)
    seed = config.expert_options.get("seed", 0)
    seeded = isinstance(seed, int) and _takes_seed(make)

    def expert(number: int = 0) -> Expert:
        options = dict(config.expert_options)
        if number and seeded:
            options["seed"] = seed + number
        made: Expert = make(environment, **options)
        return made

    return environment, expert


def _takes_seed(make: Callable[..., Any]) -> bool:
    try:
        return "seed" in signature(make).parameters
    except (TypeError, ValueError):  # it does not say
        return False


def promote_stage(home: Path, name: str, version: int | None = None, config: RouteConfig | None = None) -> Promotion:
    """Make a gated version the champion; the registry refuses one without a passing record on its own dataset.

    Args:
        home: the workspace.
        name: the clone.
        version: which version; None: the candidate.
        config: by which settings it is routed from now on; None: by those that are recorded.
    """
    registry = Registry(home)
    if config is not None:
        registry.record_route(name, config)
    number = registry.aliases(name).get("candidate") if version is None else version
    chosen = registry.resolve(name if number is None else f"{name}:{number}")
    _, card = read_clone(chosen.path)
    return registry.promote(name, chosen.version, dataset_hash=card.dataset_hash)


def now() -> str:
    """Return the time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
