"""Behaviour cloning: the loss by hand, the same weights from the same seed, and a floor to beat on real traces."""

import gzip
import json
import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from imitrace.config import child_environment
from imitrace.exceptions import CloneError
from imitrace.messages import Action, decisions, from_openai, tool_definition
from imitrace_trainer.demonstrations import ChoiceRows, Demonstration, SlotRows, encode_choices, read_choices
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.evaluate import evaluate
from imitrace_trainer.features import GROUPS
from imitrace_trainer.fit import BCConfig, FitReport, argument_loss, choice_loss, fit, pick_device, tempered_losses
from imitrace_trainer.frequency import FrequencyTable
from imitrace_trainer.policy import State
from imitrace_trainer.reading import Reader

Play = Callable[[int, int], list[Demonstration]]

TWICE = """
import json, sys
from pathlib import Path
import torch
from imitrace.messages import Action
from imitrace_trainer.clone_files import CloneCard, write_clone
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.features import GROUPS
from imitrace_trainer.fit import BCConfig, fit
from imitrace_trainer.policy import State
from imitrace_trainer.reading import Reader

assert torch.get_num_threads() == int(sys.argv[2])
folder = Path(sys.argv[1])
shown = [
    Demonstration(State(row["messages"], row["tools"]), Action(**row["action"]), row["task"])
    for row in json.loads((folder.parent / "shown.json").read_text())
]
policy, report = fit(shown[:-12], shown[-12:], BCConfig(device="cpu", batch=8, epochs=2))
training = {"choice": report.choice_loss, "arguments": report.argument_loss}
write_clone(folder, policy, CloneCard("shop", "shop", 1, "", "", "", training, {}))
"""


def start_fit(folder: Path, hash_seed: str, threads: str) -> subprocess.Popen[str]:
    folder.mkdir()
    environment = child_environment({"PYTHONHASHSEED": hash_seed, "OMP_NUM_THREADS": threads})
    command = [sys.executable, "-c", TWICE, str(folder), threads]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_the_same_seed_gives_the_same_clone_in_another_process_with_other_threads(
    play_shop: Play, tmp_path: Path
) -> None:
    shown = [
        {"messages": d.state.messages, "tools": d.state.tools, "action": vars(d.action), "task": d.task}
        for d in play_shop(10, 4)
    ]
    (tmp_path / "shown.json").write_text(json.dumps(shown))
    folders = [tmp_path / "first", tmp_path / "second"]
    started = [start_fit(folder, number, number) for folder, number in zip(folders, ("1", "2"), strict=True)]
    assert [(process.communicate(timeout=180)[1], process.returncode) for process in started] == [("", 0), ("", 0)]
    first, second = (load_file(folder / "model.safetensors") for folder in folders)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert (folders[0] / "clone.json").read_bytes() == (folders[1] / "clone.json").read_bytes()


@pytest.mark.parametrize(("seed", "same"), [(0, True), (1, False)])
def test_weights_follow_the_seed_whatever_was_drawn_before(play_shop: Play, seed: int, same: bool) -> None:
    shown = play_shop(3, 4)
    first, _ = fit(shown, [], BCConfig(device="cpu", epochs=1))
    torch.rand(7)
    other, _ = fit(shown, [], BCConfig(device="cpu", epochs=1, seed=seed))
    assert torch.equal(first.choice.table.weight, other.choice.table.weight) is same


def encoded(policy: EmbeddedPolicy, shown: list[Demonstration]) -> list[ChoiceRows]:
    return encode_choices(
        read_choices(shown, policy.knowledge, GROUPS, Reader()), policy.features, policy.config.groups
    )


def test_smoothing_spreads_a_share_of_each_target_over_what_was_offered(
    shop_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    described = shop_clone.describe([shop_clone.knowledge.tools.get(name) for name in shop_clone.knowledge.actions])
    rows = encoded(shop_clone, play_shop(1, 5)[:1])
    plain, smooth = (choice_loss(shop_clone.choice, described, rows, 0.0, share).item() for share in (0.0, 0.2))
    logits = [math.log(share) for share in shop_clone.act(play_shop(1, 5)[0].state).tools.values()]
    assert smooth == pytest.approx(0.8 * plain - 0.2 * sum(logits) / len(logits), abs=1e-5)


def test_the_loss_is_the_mean_negative_log_likelihood_of_the_experts_actions(
    shop_clone: EmbeddedPolicy, play_shop: Play
) -> None:
    shown = play_shop(6, 5)
    described = shop_clone.describe([shop_clone.knowledge.tools.get(name) for name in shop_clone.knowledge.actions])
    loss = choice_loss(shop_clone.choice, described, encoded(shop_clone, shown), feature_dropout=0.0)
    shares = [shop_clone.act(d.state).tools["message" if d.label == MESSAGE else d.label] for d in shown]
    assert loss.item() == pytest.approx(-sum(map(math.log, shares)) / len(shown), abs=1e-6)


def test_an_action_that_was_not_offered_takes_no_share_of_the_loss(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    shown = play_shop(1, 5)[0]
    alone = Demonstration(State(shown.state.messages, []), Action("message", message="hi"), "1")
    described = shop_clone.describe([None] * len(shop_clone.knowledge.actions))
    assert choice_loss(shop_clone.choice, described, encoded(shop_clone, [alone]), 0.0).item() == 0.0


def test_the_argument_loss_is_that_of_plain_torch_slot_by_slot(shop_clone: EmbeddedPolicy) -> None:
    rng = np.random.default_rng(0)
    sizes = [rng.integers(0, 5, size=options) for options in (2, 7, 3)]
    slots = [SlotRows(rng.integers(0, 20, size=lengths.sum()), lengths, len(lengths) - 1) for lengths in sizes]
    plain = []
    for slot in slots:
        offsets = torch.from_numpy(np.cumsum([0, *slot.lengths])[:-1])
        scores = shop_clone.ranker(torch.from_numpy(slot.rows), offsets)
        plain.append(-torch.log_softmax(scores, dim=0)[slot.gold].item())
    loss = argument_loss(shop_clone.ranker, slots, torch.device("cpu"))
    assert loss.item() == pytest.approx(sum(plain) / 3, abs=1e-6)


def test_groups_of_features_can_be_left_out(play_shop: Play) -> None:
    shown = play_shop(3, 4)
    policy, _ = fit(shown, [], BCConfig(device="cpu", epochs=1, leave_out="subject, affordances"))
    assert set(GROUPS) - set(policy.config.groups) == {"system", "subject", "affordances"}  # no prompt, no segment
    assert policy.act(shown[0].state).tools


@pytest.mark.parametrize("names", ["subjects", "subject,,wide", ",".join(GROUPS)])
def test_what_is_left_out_must_be_some_of_the_groups(names: str) -> None:
    with pytest.raises(CloneError, match="allowed: some of last_user, users"):
        _ = BCConfig(leave_out=names).groups


def test_both_losses_fall(fitted: tuple[EmbeddedPolicy, FitReport]) -> None:
    report = fitted[1]
    assert report.choice_loss[-1] < 0.6 * report.choice_loss[0]  # smoothing keeps it above nothing
    assert report.argument_loss[-1] < 0.3 * report.argument_loss[0]
    assert len(report.argument_loss) == 18  # 138 arguments by eight are 18 steps: 18 passes make 320


def test_few_arguments_are_gone_over_more_often_but_not_for_ever(play_shop: Play) -> None:
    _, report = fit(play_shop(3, 4), [], BCConfig(device="cpu", epochs=2))
    steps = -(-report.slots // 128)
    assert len(report.argument_loss) == min(60, -(-80 // steps)) > 2


def test_every_epoch_is_judged_on_the_calibration_tasks(
    fitted: tuple[EmbeddedPolicy, FitReport], play_shop: Play
) -> None:
    policy, report = fitted
    assert len(report.choice_loss) == len(report.judged_loss) <= BCConfig().epochs
    assert min(report.judged_loss) < 0.5 * report.judged_loss[0]
    described = policy.describe([policy.knowledge.tools.get(name) for name in policy.knowledge.actions])
    loss = choice_loss(policy.choice, described, encoded(policy, play_shop(12, 2)), 0.0)
    assert 0 < report.judged_loss[report.kept_epoch - 1] <= loss.item()


def test_losses_are_judged_at_the_best_temperature() -> None:
    drawn = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 4, generator=drawn) * 2
    labels = logits.softmax(dim=1).multinomial(1, generator=drawn).squeeze(1)
    sure = tempered_losses(logits * 4, labels)
    assert sure.shape == (200,)
    assert sure == pytest.approx(tempered_losses(logits * 2, labels), rel=1e-5)
    assert sure.mean() < 0.7 * nn.functional.cross_entropy(logits * 4, labels).item()


def test_without_patience_the_last_epoch_is_kept(play_shop: Play) -> None:
    _, report = fit(play_shop(2, 4), play_shop(2, 5), BCConfig(device="cpu", epochs=2, patience=0))
    assert (report.judged_loss, report.kept_epoch) == ([], 2)


def test_products_of_half_precision_lose_next_to_nothing(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    rows = encoded(shop_clone, play_shop(6, 5))
    losses = []
    for half in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            described = shop_clone.describe([shop_clone.knowledge.tools.get(n) for n in shop_clone.knowledge.actions])
            losses.append(choice_loss(shop_clone.choice, described, rows, 0.0, 0.1).item())
            slots = [SlotRows(np.arange(9) % len(shop_clone.slots.ids), np.array([2, 3, 4]), 1)] * 4
            losses.append(argument_loss(shop_clone.ranker, slots, torch.device("cpu")).item())
    assert losses[2:] == pytest.approx(losses[:2], rel=0.03, abs=0.03)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA")
def test_cuda_reaches_what_the_cpu_reaches(play_shop: Play) -> None:
    shown, calibration = play_shop(24, 1), play_shop(12, 2)
    reports = [fit(shown, calibration, BCConfig(device=device, batch=4))[1] for device in ("cpu", "cuda")]
    best = [min(report.judged_loss) for report in reports]
    assert best[1] == pytest.approx(best[0], abs=0.1)
    assert reports[1].argument_loss[-1] == pytest.approx(reports[0].argument_loss[-1], abs=0.1)


def test_the_report_says_what_was_seen(fitted: tuple[EmbeddedPolicy, FitReport], play_shop: Play) -> None:
    policy, report = fitted
    assert (report.decisions, report.calibration_cases) == (len(play_shop(24, 1)), len(play_shop(12, 2)))
    assert report.coverage == 1.0
    assert len(policy.neighbours.reference) == report.decisions


def test_progress_is_told_to_the_end_of_every_stage(play_shop: Play) -> None:
    told: dict[str, list[float]] = {}
    fit(
        play_shop(2, 4),
        [],
        BCConfig(device="cpu", epochs=2),
        lambda stage, share: told.setdefault(stage, []).append(share),
    )
    assert all(shares == sorted(shares) for shares in told.values())
    assert (told["choose"][-1], told["arguments"][-1]) == (1.0, 1.0)


def test_without_calibration_decisions_the_clone_is_never_confident(play_shop: Play) -> None:
    shown = play_shop(2, 4)
    policy, report = fit(shown, [], BCConfig(device="cpu", epochs=1))
    assert report.calibration_cases == 0
    assert {policy.act(demonstration.state).confidence for demonstration in shown} == {0.0}


def test_an_expert_without_arguments_can_be_cloned() -> None:
    hello = {"role": "user", "parts": [{"type": "text", "content": "hello"}]}
    shown = [
        Demonstration(State([hello], []), Action("message"), "1"),
        Demonstration(State([], []), Action("t", "go"), "2"),
    ]
    policy, report = fit(shown, shown, BCConfig(device="cpu", epochs=1))
    assert (report.slots, report.argument_loss, report.coverage) == (0, [], 1.0)
    assert policy.act(State([hello], [{"name": "go"}])).tools.keys() == {"message", "go"}


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ([], "no decision to train on: .*curate"),
        ([Action("message", message="a"), Action("message", message="b")], "all 2 decisions are '<message>': .*widen"),
        ([Action("tool_call", "pay")] * 3, "all 3 decisions are 'pay': .*two kinds of action"),
    ],
)
def test_what_teaches_nothing_is_refused(shown: list[Action], told: str) -> None:
    with pytest.raises(CloneError, match=told) as refused:
        fit([Demonstration(State([], []), action, "1") for action in shown], [], BCConfig())
    assert "\n" not in str(refused.value)


def test_a_device_is_taken_or_refused_by_name() -> None:
    assert pick_device("cpu") == torch.device("cpu")
    assert pick_device("auto").type in ("cpu", "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there_is_refused() -> None:
    with pytest.raises(CloneError, match=r"'cuda' is not available .* allowed: auto, cpu"):
        pick_device("cuda")


def airline(folder: Path, tasks: range) -> list[Demonstration]:
    tools = [tool_definition(tool) for tool in json.loads((folder / "tau_airline_tools.json").read_text())]
    with gzip.open(folder / "tau_airline_gpt4o.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return [
        Demonstration(State(messages[: made.position], tools), made.actions[0], str(row["task_id"]))
        for row in rows
        if row["trial"] == 0 and row["task_id"] in tasks
        for messages in [[from_openai(message) for message in row["messages"]]]
        for made in decisions(messages)
    ]


def test_on_real_traces_a_quick_clone_beats_the_frequency_floor_on_other_tasks(recorded: Path) -> None:
    torch.set_num_threads(1)
    train = airline(recorded, range(20))
    policy, _ = fit(train, [], BCConfig(device="cpu", batch=32))
    report = evaluate(policy, airline(recorded, range(20, 32)), FrequencyTable(train))
    assert report.tasks == 12
    assert report.action_agreement.value > report.floor_agreement.value + 0.03
