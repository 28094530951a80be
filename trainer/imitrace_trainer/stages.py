"""Do one stage of the loop at a time on a workspace: train, evaluate, gate, promote; each leaves its record."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from imitrace.canonical import text_hash
from imitrace.exceptions import CloneError, DatasetError
from imitrace.messages import tool_definition
from imitrace_trainer.card import measure_limits, render_card
from imitrace_trainer.checkpoints import Checkpoints, unfinished
from imitrace_trainer.clone_files import CloneCard, read_clone, write_clone
from imitrace_trainer.config import CloneConfig, RolloutConfig
from imitrace_trainer.critic_files import critic_tasks, criticised, train_critic, write_critic
from imitrace_trainer.datasets import Dataset, Example, check_licences, open_dataset
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.environment import Environment, Expert, load_object
from imitrace_trainer.evaluate import EvaluationReport, evaluate, evaluate_decisions
from imitrace_trainer.figures import CriticFigures
from imitrace_trainer.fit import FitReport
from imitrace_trainer.frequency import FrequencyTable
from imitrace_trainer.gate import PairedCase, judge
from imitrace_trainer.gate_report import GateReport
from imitrace_trainer.keys import signing_key
from imitrace_trainer.ladder import Climb, Rung, climb, compare
from imitrace_trainer.live_tools import Tools, dead_tool
from imitrace_trainer.mask_audit import audit_masks
from imitrace_trainer.measuring import Extras, Shown, measure
from imitrace_trainer.passport import passport, write_passport
from imitrace_trainer.policy import Policy, State, same_action
from imitrace_trainer.progress import Progress
from imitrace_trainer.quality_page import render as render_page
from imitrace_trainer.registry import CloneVersion, Promotion, Registry
from imitrace_trainer.reply_writer import ReplyConfig, Taught, reply_threshold, unsaid, with_replies
from imitrace_trainer.rollout import Episode, expert_actor, hybrid_actor, play
from imitrace_trainer.route import NO_COHORT, RouteConfig, RoutedClone, Thresholds, choose_threshold, cohort_of
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

    @property
    def thresholds(self) -> Thresholds:
        """The confidence from which it may act."""
        return Thresholds.from_json(self.card.route).with_irreversible(self.rules.irreversible)


def demonstrations(examples: Sequence[Example]) -> list[Demonstration]:
    """Return the examples that may be trained on, each as often as it weighs."""
    return [
        Demonstration(State(example.state, example.tools, example.tags), example.action, example.task)
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
    dataset = open_dataset(home, clone.cohort.name)
    check_licences(dataset, clone.cohort)
    signing_key(home)  # what would stop the clone from being registered is told before it is trained
    audit_masks(dataset.examples("train"), clone.cohort)
    train, calibration, held_out = (demonstrations(dataset.examples(part)) for part in ("train", "calibration", "gate"))
    climbed = climb((train, calibration), clone.family, clone.train, progress, kept)
    taught = Taught(climbed.clone, "they are off")
    if clone.train.replies:
        wanted = ReplyConfig(fit=clone.train, promise=clone.route)
        taught = with_replies(climbed.clone, (train, calibration), wanted, progress, kept.part("replies"))
    policy = taught.clone
    rules = read_ledger(home).rules(clone.cohort.agent)
    thresholds = choose_thresholds(policy, calibration, clone.route).with_irreversible(rules.irreversible)
    thresholds = replace(thresholds, replies=reply_threshold(policy))
    decisions = [policy.act(held.state) for held in held_out]
    evaluation = evaluate_decisions(decisions, held_out, FrequencyTable(train))
    rungs = compare(climbed, held_out, list(map(unsaid, decisions)))
    card = _card(clone, dataset, climbed, thresholds)
    limits = replace(measure_limits(train, held_out, dataset), silence=taught.lack)
    critic = train_critic(dataset, clone.critic, policy.reader, clone.train.seed)
    if critic is not None:
        limits = replace(limits, critic=critic.lines())
    shown = Shown(train, calibration, held_out)
    extras = Extras(critic=None if critic is None else CriticFigures.from_json(critic.to_json()))
    quality = measure(
        policy, card, shown, decisions=decisions, thresholds=thresholds, promised=clone.route, extras=extras
    )

    def write(folder: Path) -> None:
        write_clone(folder, policy, card)
        if critic is not None:
            write_critic(folder, critic)
        write_passport(folder, passport(dataset, clone, rules))
        told = {
            "ladder": [asdict(rung) for rung in rungs],
            "critic": None if critic is None else critic.to_json(),
            "quality": quality.to_json(),
        }
        report = json.dumps({**evaluation.to_json(), **told}, indent=1)
        (folder / "report.json").write_text(report + "\n", encoding="utf-8")
        (folder / "report.html").write_text(render_page(quality, rungs), encoding="utf-8")
        (folder / "card.md").write_text(render_card(card, evaluation, rungs, thresholds, limits), encoding="utf-8")

    registry = Registry(home)
    number = registry.register(clone.name, write)
    path = registry.resolve(f"{clone.name}:{number}").path
    return Trained(clone.name, number, path, climbed.fit, rungs, evaluation, thresholds)


def _card(clone: CloneConfig, dataset: Dataset, climbed: Climb, thresholds: Thresholds) -> CloneCard:
    return CloneCard(
        name=clone.name,
        dataset=dataset.name,
        dataset_version=dataset.version,
        dataset_hash=dataset.hash,
        created_at=now(),
        imitrace=installed_version("imitrace"),
        training={"config": asdict(clone.train), "fit": asdict(climbed.fit), "family": climbed.chosen},
        route=thresholds.to_json(),
        agent=clone.cohort.agent,
    )


def choose_thresholds(policy: Policy, calibration: Sequence[Demonstration], config: RouteConfig) -> Thresholds:
    """Choose from which confidence the clone may act, on tasks it was not trained on."""
    decisions = [policy.act(demonstration.state) for demonstration in calibration]
    judged = [
        (decision.confidence, same_action(decision.action, held.action), held.task)
        for decision, held in zip(decisions, calibration, strict=True)
        if decision.action.kind == "tool_call"
    ]
    confidences, right = [value for value, _, _ in judged], [hit for _, hit, _ in judged]
    tasks = [task for _, _, task in judged]
    loose = choose_threshold(confidences, right, config.error, config.confidence, tasks)
    strict = choose_threshold(confidences, right, config.irreversible_error, config.confidence, tasks)
    return Thresholds(loose, max(loose, strict), config.irreversible)


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
    return LoadedClone(version, rules.restrict(acting), card, tools, rules)


def evaluate_stage(home: Path, reference: str) -> EvaluationReport:
    """Compare a registered clone with the expert on the gate split of the dataset that it was trained on."""
    loaded = load_clone(home, reference)
    dataset = dataset_of(home, loaded)
    floor = FrequencyTable(demonstrations(dataset.examples("train")))
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


def gate_stage(home: Path, clone: CloneConfig, reference: str, progress: Progress) -> GateReport:
    """Judge a clone against the expert per cohort and keep the record.

    What is judged is what would act: the clone where it is sure, the expert elsewhere. With a ``rollout`` table both
    play fresh tasks; without, the clone answers the recorded states of the gate split, and a task counts as its success
    when every decision it was sure of was the expert's.
    """
    loaded = load_clone(home, reference)
    dataset = dataset_of(home, loaded)
    if clone.rollout is not None:
        cases, method = rollout_cases(clone, clone.rollout, loaded, dataset, progress), "rollout"
    else:
        cases, method = replay_cases(loaded, dataset.examples("gate"), progress), "replay"
    report = judge(
        cases,
        clone.gate,
        method=method,
        dataset_hash=dataset.hash,
        clone=loaded.version.name,
        version=loaded.version.version,
        created_at=now(),
    )
    Registry(home).record_gate(loaded.version.name, loaded.version.version, report)
    return report


def replay_cases(loaded: LoadedClone, examples: Sequence[Example], progress: Progress) -> list[PairedCase]:
    """Return one case a trajectory: a success where every decision that the clone is sure of was the expert's."""
    taken: dict[str, list[bool]] = {}
    total: Counter[str] = Counter()
    dead: Counter[str] = Counter()
    first: dict[str, Example] = {}
    for number, example in enumerate(examples):
        cohort = cohort_of(example.tags)
        first.setdefault(example.trajectory_id, example)
        hits = taken.setdefault(example.trajectory_id, [])
        if example.loss_mask:
            clone = RoutedClone(loaded.policy, loaded.thresholds, (cohort,))
            decision, routed = clone.decide(State(example.state, example.tools, example.tags))
            total[example.trajectory_id] += 1
            if routed.actor == "clone":
                hits.append(same_action(decision.action, example.action))
                dead[example.trajectory_id] += dead_tool(decision.action, example.tools, loaded.rules) is not None
        progress("replay", (number + 1) / len(examples))
    return [
        PairedCase(
            task=first[trajectory].task,
            cohort=cohort_of(first[trajectory].tags),
            expert_success=True,
            clone_success=all(hits),
            expert_steps=total[trajectory],
            clone_steps=total[trajectory],
            decisions=total[trajectory],
            clone_decisions=len(hits),
            dead_calls=dead[trajectory],
        )
        for trajectory, hits in taken.items()
    ]


def rollout_cases(
    clone: CloneConfig, config: RolloutConfig, loaded: LoadedClone, dataset: Dataset, progress: Progress
) -> list[PairedCase]:
    """Return one case a fresh task: played by the expert, and by the clone with the expert where it is not sure.

    Raises:
        CloneError: a drawn task was trained on, or no cohort is known.
    """
    environment, make_expert = make_world(clone, config)
    cohorts = sorted({cohort_of(example.tags) for example in dataset.examples()})
    known, tools = dataset.tasks() | critic_tasks(dataset), [tool_definition(tool) for tool in environment.tools]
    cases = []
    for number, cohort in enumerate(cohorts):
        count = config.tasks_in.get(cohort, config.tasks)
        tasks = environment.tasks(count, config.seed, None if cohort == NO_COHORT else cohort)
        leaked = sorted(known & {task.id for task in tasks})
        if leaked:
            raise CloneError(
                f"task {leaked[0]!r} of the gate is in the dataset: set another clone.{clone.name}.rollout.seed"
            )
        routed = RoutedClone(loaded.policy, loaded.thresholds, (cohort,))
        expert, hybrid = expert_actor(make_expert()), hybrid_actor(routed, make_expert())
        for done, task in enumerate(tasks):
            played = play(environment, task, hybrid)
            cases.append(paired(play(environment, task, expert), played, dead_calls(played, tools, loaded.rules)))
            progress("rollout", (number + (done + 1) / len(tasks)) / len(cohorts))
    return cases


def make_world(clone: CloneConfig, config: RolloutConfig) -> tuple[Environment, Callable[[], Expert]]:
    """Return the environment and a maker of experts that a clone's ``rollout`` table names."""
    folder = clone.folder / config.path
    environment: Environment = load_object(config.environment, folder)()
    make = load_object(config.expert, folder)
    return environment, lambda: make(environment, **config.expert_options)


def dead_calls(episode: Episode, tools: Tools, rules: ToolRules) -> int:
    """Return how many of a clone's decisions in an episode called a tool that is not there."""
    made = (turn.action for turn in episode.turns if turn.role == "clone" and turn.action is not None)
    return sum(dead_tool(action, tools, rules) is not None for action in made)


def paired(expert: Episode, clone: Episode, dead: int = 0) -> PairedCase:
    """Return two episodes of one task as a case, in which the clone made so many dead calls."""
    return PairedCase(
        task=expert.task,
        cohort=expert.cohort,
        expert_success=expert.success,
        clone_success=clone.success,
        expert_unsafe=expert.unsafe,
        clone_unsafe=clone.unsafe_by == "clone",
        expert_steps=len(expert.turns),
        clone_steps=len(clone.turns),
        decisions=len(clone.turns),
        clone_decisions=clone.count("clone"),
        dead_calls=dead,
    )


def promote_stage(home: Path, name: str, version: int | None = None) -> Promotion:
    """Make a gated version the champion; the registry refuses one without a passing record on its own dataset."""
    registry = Registry(home)
    number = registry.aliases(name).get("candidate") if version is None else version
    chosen = registry.resolve(name if number is None else f"{name}:{number}")
    _, card = read_clone(chosen.path)
    return registry.promote(name, chosen.version, dataset_hash=card.dataset_hash)


def now() -> str:
    """Return the time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
