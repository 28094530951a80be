import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from imitrace.exceptions import CloneError
from imitrace.messages import Action
from imitrace_trainer.clone_files import read_clone
from imitrace_trainer.conditions import Condition
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.critic import CriticisedPolicy
from imitrace_trainer.critic_files import critic_cases, critic_tasks, criticised, read_critic
from imitrace_trainer.critic_fit import CriticConfig
from imitrace_trainer.curation import curate_stage
from imitrace_trainer.datasets import Example, open_dataset
from imitrace_trainer.environment import load_object
from imitrace_trainer.policy import Decision, Policy, State
from imitrace_trainer.registry import Registry
from imitrace_trainer.rollout import hybrid_actor, play
from imitrace_trainer.route import RoutedClone
from imitrace_trainer.stages import load_clone, train_stage
from imitrace_trainer.thresholds import Thresholds

RULE = "veto: refund_order with find_order:status=fraud: "


def quiet(stage: str, share: float) -> None:
    pass


def curated_only(clone: CloneConfig, failures: int) -> CloneConfig:
    cohort = replace(clone.cohort, where=(Condition.parse("Done >= 1"),), failures=failures)
    return replace(clone, cohort=cohort)


@pytest.fixture(scope="module")
def homes(
    counter_clone: CloneConfig, reckless_tickets: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, Path]:
    """Return a workspace with a clone that was trained where no failures were kept, and one where they were."""
    made = {}
    for failures in (0, 300):
        made[failures] = tmp_path_factory.mktemp("critic") / "home"
        clone = curated_only(counter_clone, failures)
        curate_stage(made[failures], clone.cohort, str(reckless_tickets))
        train_stage(made[failures], clone, quiet)
    return made


class Refunder:
    """Refund whatever it is, and be sure of it."""

    def act(self, state: State) -> Decision:
        order = str(state.messages[-1]["parts"][0].get("response"))
        if "order_id" not in order:
            return Decision(Action("message", message=""), 1.0, 0.0, {})
        return Decision(Action("tool_call", "refund_order", {"order_id": json.loads(order)["order_id"]}), 1.0, 0.0, {})


def found(home: Path, status: str) -> Example:
    """Return a recorded decision after an order of this status was found."""
    examples = open_dataset(home, "counter").examples()
    return next(one for one in examples if one.step_index == 1 and status in json.dumps(one.state[-1]))


def under(home: Path, policy: Policy) -> CriticisedPolicy:
    folder = Registry(home).resolve("counter").path
    acting = criticised(policy, folder, read_clone(folder)[0].reader)
    assert isinstance(acting, CriticisedPolicy)
    return acting


def test_failures_feed_the_critic_and_teach_the_clone_nothing(homes: dict[int, Path]) -> None:
    folders = [Registry(home).resolve("counter").path for home in homes.values()]
    assert len({(folder / "model.safetensors").read_bytes() for folder in folders}) == 1
    clones = [read_clone(folder)[0] for folder in folders]
    for one in open_dataset(homes[300], "counter").examples("gate"):
        state = State(one.state, one.tools, one.tags)
        assert clones[0].act(state) == clones[1].act(state)
    without, along = (read_critic(folder) for folder in folders)
    assert without is not None and without.rules == ()
    assert along is not None and [f"veto: {rule}".startswith(RULE) for rule in along.rules] == [True]


def test_a_catastrophe_that_no_success_has_is_vetoed_with_its_reason(homes: dict[int, Path]) -> None:
    fraud, owed = found(homes[300], "fraud"), found(homes[300], "delivered")
    policy = under(homes[300], Refunder())
    vetoed, allowed = (policy.act(State(one.state, one.tools, one.tags)) for one in (fraud, owed))
    assert vetoed.veto is not None and vetoed.veto.startswith(RULE)
    assert allowed.veto is None
    assert vetoed.action.name == allowed.action.name == "refund_order"


def test_the_expert_acts_where_a_call_is_vetoed_and_the_trace_says_why(homes: dict[int, Path], counter: Path) -> None:
    world = load_object("counter_world:Counter", counter)()
    clerk = load_object("counter_world:Clerk", counter)(world)
    task = next(one for one in world.tasks(8, 5, "safety"))
    for policy, unsafe in ((Refunder(), True), (under(homes[300], Refunder()), False)):
        routed = RoutedClone(policy, Thresholds(0.5, 0.5), ("safety",))
        episode = play(world, task, hybrid_actor(routed, clerk))
        assert episode.unsafe == unsafe
        assert any(turn.reason.startswith(RULE) for turn in episode.turns) == (not unsafe)


def test_what_a_critic_learns_from_is_of_train_and_calibration_and_never_of_the_gate(homes: dict[int, Path]) -> None:
    dataset = open_dataset(homes[300], "counter")
    seen = {split: critic_cases(dataset, split) for split in ("train", "calibration")}
    for cases in seen.values():
        assert {case.success for case in cases} == {True, False}
    tasks = {split: {case.task for case in cases} for split, cases in seen.items()}
    assert not tasks["train"] & tasks["calibration"]
    assert not (tasks["train"] | tasks["calibration"]) & dataset.tasks("gate")
    assert critic_tasks(dataset) == {case.task for cases in seen.values() for case in cases if not case.success}


def test_a_critic_comes_back_as_it_was_written(homes: dict[int, Path]) -> None:
    folder = Registry(homes[300]).resolve("counter").path
    critic = read_critic(folder)
    assert critic is not None
    record = json.loads((folder / "critic.json").read_text())
    assert record.pop("format") == 1
    assert record == critic.to_json() == json.loads((folder / "report.json").read_text())["critic"]
    assert len(critic.weights) == len(critic.vocabulary.ids) + 1 > 1
    assert "\n".join(critic.lines()) in (folder / "card.md").read_text()


def test_a_clone_without_a_critic_acts_as_ever(counter_clone: CloneConfig, trained_home: Path, tmp_path: Path) -> None:
    home = Path(shutil.copytree(trained_home, tmp_path / "home"))
    train_stage(home, replace(counter_clone, critic=CriticConfig(enabled=False)), quiet)
    loaded = load_clone(home, "counter:2")
    assert not list(loaded.version.path.glob("critic.*"))
    assert "## Its critic\n\n- none" in (loaded.version.path / "card.md").read_text()
    one = open_dataset(home, "counter").examples("gate")[0]
    decision = loaded.policy.act(State(one.state, one.tools, one.tags))
    assert (decision.critic, decision.veto, decision.veto_irreversible) == (None, None, None)


Break = Callable[[Path], object]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "critic.json").unlink(), "critic.json"),
        (lambda folder: (folder / "critic.safetensors").unlink(), "critic.safetensors"),
        (lambda folder: (folder / "critic.json").write_text("{}"), "'format'"),
        (lambda folder: (folder / "critic.json").write_text("["), "Expecting value"),
        (lambda folder: (folder / "critic.json").write_text('{"format": 2}'), "reads up to 1: update imitrace"),
        (lambda folder: (folder / "critic.safetensors").write_bytes(b"no tensors"), "train the clone again"),
    ],
)
def test_a_damaged_critic_is_refused(homes: dict[int, Path], tmp_path: Path, damage: Break, reason: str) -> None:
    folder = Path(shutil.copytree(Registry(homes[300]).resolve("counter").path, tmp_path / "clone"))
    damage(folder)
    with pytest.raises(CloneError, match=reason):
        read_critic(folder)
