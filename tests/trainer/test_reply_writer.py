"""A clone says what its expert says again and again, where that is sure, and leaves every other message to it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from imitrace.canonical import canonical_json
from imitrace.messages import Action, message_text
from imitrace_trainer.champion import open_clone
from imitrace_trainer.checkpoints import NOTHING_KEPT, Checkpoints
from imitrace_trainer.clone_files import CloneCard, read_clone, write_clone
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.gate import GateConfig, PairedCase, judge
from imitrace_trainer.measuring import Shown, measure
from imitrace_trainer.phrases import PhraseReader
from imitrace_trainer.policy import State, same_action
from imitrace_trainer.progress import silent
from imitrace_trainer.registry import Registry
from imitrace_trainer.reply_templates import mine
from imitrace_trainer.reply_writer import (
    ReplyConfig,
    Replying,
    Taught,
    fit_writer,
    reply_threshold,
    unsaid,
    with_replies,
)
from imitrace_trainer.route import RoutedClone
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.stages import now
from imitrace_trainer.thresholds import NEVER, Thresholds

CONFIG = ReplyConfig(fit=BCConfig(device="cpu", batch=4), promise=RouteConfig(irreversible_error=0.2, confidence=0.8))
QUICK = BCConfig(device="cpu", batch=16, epochs=2)
CARD = CloneCard("shop", "shop", 1, "abc", "2026-03-01", "0.1.0", {"family": "embedded"}, {})
Play = Callable[[int, int], list[Demonstration]]


def spoken(shown: list[Demonstration]) -> list[Demonstration]:
    """Let the toy shop's expert name the order when it is done."""
    return [
        replace(one, action=Action("message", message=f"Order {number(one.state)} is done, have a nice day."))
        if one.action.message == "It is done."
        else one
        for one in shown
    ]


def number(state: State) -> str:
    words = message_text([one for one in state.messages if one["role"] == "user"][-1]).replace(".", "").split()
    return next(word for word in words if word.startswith("W"))


@pytest.fixture(scope="module")
def replying(shop_clone: EmbeddedPolicy, play_shop: Play) -> Replying:
    taught = with_replies(shop_clone, (spoken(play_shop(24, 1)), spoken(play_shop(12, 2))), CONFIG)
    assert isinstance(taught.clone, Replying)
    assert taught.lack is None
    return taught.clone


@pytest.fixture(scope="module")
def unseen(play_shop: Play) -> list[Demonstration]:
    return spoken(play_shop(10, 3))


def test_replies_are_said_with_the_values_of_this_conversation(replying: Replying, unseen: list[Demonstration]) -> None:
    said = [(replying.act(one.state).action.message, one.action.message) for one in unseen if one.action.message]
    assert sum(made == wanted for made, wanted in said) >= 0.8 * len(said)
    assert {made for made, _ in said if made} > {"Is it this one?"}


def test_calls_are_decided_as_without_replies(
    replying: Replying, shop_clone: EmbeddedPolicy, unseen: list[Demonstration]
) -> None:
    calls = [one for one in unseen if shop_clone.act(one.state).action.kind == "tool_call"]
    assert [replying.act(one.state) for one in calls] == [shop_clone.act(one.state) for one in calls]
    assert replying.score(calls[0].state)[0] == shop_clone.score(calls[0].state)[0]


def test_what_is_not_sure_is_left_to_the_expert(replying: Replying, unseen: list[Demonstration]) -> None:
    shy = Replying(replying.clone, replace(replying.writer, threshold=NEVER))
    assert not any(shy.act(one.state).action.message for one in unseen)


def test_no_value_of_another_conversation_is_kept(replying: Replying) -> None:
    assert replying.writer.policy.knowledge.vocabulary == {}


def test_an_expert_that_never_repeats_itself_gets_no_replies(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    shown = [
        replace(one, action=Action("message", message=" ".join([f"word{place}"] * 9))) if one.action.message else one
        for place, one in enumerate(play_shop(6, 1))
    ]
    taught = with_replies(shop_clone, (shown, play_shop(12, 2)), CONFIG)
    assert taught == Taught(shop_clone, "the expert gives no reply again and again")
    assert reply_threshold(shop_clone) == NEVER


def test_a_clone_replies_the_same_after_it_was_written_and_read(
    replying: Replying, unseen: list[Demonstration], tmp_path: Path
) -> None:
    write_clone(tmp_path, replying, CARD)
    again, _ = read_clone(tmp_path)
    assert [again.act(one.state) for one in unseen] == [replying.act(one.state) for one in unseen]
    assert reply_threshold(again) == reply_threshold(replying) <= 1


def test_a_reply_needs_its_own_threshold_to_be_let_through(replying: Replying, unseen: list[Demonstration]) -> None:
    state = next(one.state for one in unseen if replying.act(one.state).action.message)
    loose = Thresholds(reversible=0.0, irreversible=0.0, replies=reply_threshold(replying))
    allowed = [RoutedClone(replying, one, ("all",)).decide(state)[1] for one in (loose, replace(loose, replies=NEVER))]
    assert [one.actor for one in allowed] == ["clone", "expert"]


def test_a_batch_says_what_one_by_one_says(replying: Replying, unseen: list[Demonstration]) -> None:
    states = [one.state for one in unseen]
    made = [(one.action, one.ood) for one in replying.act_batch(states)]
    alone = [(one.action, one.ood) for one in map(replying.act, states)]
    assert [action for action, _ in made] == [action for action, _ in alone]
    assert [ood for _, ood in made] == pytest.approx([ood for _, ood in alone], abs=1e-5)


def test_threads_are_told_the_same(replying: Replying, unseen: list[Demonstration]) -> None:
    states = [one.state for one in unseen]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(replying.act, states))
    assert together == list(map(replying.act, states))


def test_a_reply_that_is_left_to_the_expert_is_no_text(replying: Replying, unseen: list[Demonstration]) -> None:
    for one in unseen:
        left = unsaid(replying.act(one.state))
        assert left.action == replying.clone.act(one.state).action


@pytest.mark.parametrize(
    ("told", "few"),
    [
        (lambda shown: [], "0 calibration replies are"),
        (lambda shown: shown[:20], "7 calibration replies are"),
        (
            lambda shown: [replace(one, action=Action("message", message=one.task)) for one in shown],
            "0 calibration replies that fit a template are",
        ),
    ],
)
def test_nothing_is_fitted_where_not_even_a_faultless_writer_could_be_proven(
    shop_clone: EmbeddedPolicy,
    play_shop: Play,
    told: Callable[[list[Demonstration]], list[Demonstration]],
    few: str,
) -> None:
    stages: list[str] = []
    strict = replace(CONFIG, promise=RouteConfig(irreversible_error=0.05))
    shown = (spoken(play_shop(24, 1)), told(spoken(play_shop(30, 2))))
    taught = with_replies(shop_clone, shown, strict, lambda stage, _: stages.append(stage))
    assert (taught.clone, stages) == (shop_clone, [])
    assert taught.lack is not None and taught.lack.startswith(few)
    assert taught.lack.endswith("are too few to prove at most 5% wrong")


def test_a_writer_that_is_proven_of_no_use_is_left_out(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    moody = [
        replace(one, action=replace(one.action, message=f"{'Yes' if place % 2 else 'Well'}, it is done."))
        if one.action.message
        else one
        for place, one in enumerate(play_shop(24, 1))
    ]
    config = replace(CONFIG, fit=QUICK)
    taught = with_replies(shop_clone, (moody, [replace(one, task=f"other {one.task}") for one in moody]), config)
    assert taught.clone is shop_clone
    assert taught.lack == "what it would say could not be proven good enough on the calibration tasks"


@pytest.mark.parametrize("where", ["replies: arguments", "replies: choose"])
def test_a_fit_that_was_killed_writes_the_very_same(play_shop: Play, tmp_path: Path, where: str) -> None:
    shown = (spoken(play_shop(12, 1)), spoken(play_shop(12, 2)))
    mined = mine(shown[0], PhraseReader())

    def killed(stage: str, share: float) -> None:
        if stage == where and share >= 0.5:
            raise KeyboardInterrupt

    kept = Checkpoints(tmp_path).part("replies")
    with pytest.raises(KeyboardInterrupt):
        fit_writer(mined, shown, replace(QUICK, epochs=4), killed, kept)
    assert list(tmp_path.glob("replies/*.safetensors"))
    again, whole = (
        fit_writer(mined, shown, replace(QUICK, epochs=4), silent, one).parts() for one in (kept, NOTHING_KEPT)
    )
    assert again.record == whole.record
    assert all(torch.equal(again.tensors[name], tensor) for name, tensor in whole.tensors.items())


def test_an_agent_is_told_what_to_say(replying: Replying, unseen: list[Demonstration], tmp_path: Path) -> None:
    card = replace(CARD, route=Thresholds(NEVER, NEVER, replies=reply_threshold(replying)).to_json())
    Registry(tmp_path).register("shop", lambda folder: write_clone(folder, replying, card))
    cases = [PairedCase(str(number), "all", True, True) for number in range(400)]
    report = judge(cases, GateConfig(), method="rollout", dataset_hash="abc", clone="shop", version=1, created_at=now())
    Registry(tmp_path).record_gate("shop", 1, report)
    Registry(tmp_path).promote("shop", dataset_hash="abc")
    opened, told = open_clone(tmp_path, "shop"), 0
    for one in unseen:
        verdict = opened.decide([canonical_json(message) for message in one.state.messages], one.state.tools, {})
        assert verdict.action is not None and verdict.ood is not None
        assert verdict.trusted == (bool(verdict.action.message) and verdict.ood <= 1)
        told += verdict.trusted and same_action(verdict.action, one.action)
    assert told >= 0.5 * sum(bool(one.action.message) for one in unseen)


def test_the_quality_of_what_is_said_stands_apart(replying: Replying, unseen: list[Demonstration]) -> None:
    thresholds = Thresholds(NEVER, NEVER, replies=reply_threshold(replying))
    decisions = replying.act_batch([one.state for one in unseen])
    shown = Shown((), (), (), unseen)
    found, mute = (
        measure(replying, CARD, shown, decisions=decisions, thresholds=one, promised=CONFIG.promise)
        for one in (thresholds, replace(thresholds, replies=NEVER))
    )
    assert found.said is not None and found.said_right is not None
    assert found.said == found.acted
    assert found.said.value > 0.2
    assert found.said_right.value >= 0.8
    assert (mute.said, mute.acted.value) == (None, 0.0)
