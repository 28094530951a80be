"""Training: bit for bit the same after a break, the epoch that the judge leaves, and what the onlooker is told."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from imitrace_trainer.checkpoints import NOTHING_KEPT, Checkpoints
from imitrace_trainer.progress import Stage, silent
from imitrace_trainer.training import Course, FloatArray, Learnt, one_thread, proven_worse, rate, train

POINTS = torch.linspace(-1, 1, 32).unsqueeze(1)


def course(judgements: list[float] | None = None, tasks: int = 10, **changed: int) -> Course:
    """Return a course that fits a wave with dropout; the judge, where there is one, says what it is told to."""
    torch.manual_seed(3)
    network = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
    calls = iter(judgements or ())

    def loss(batch: list[int]) -> Tensor:
        points = POINTS[batch]
        return nn.functional.mse_loss(network(points), points.sin())

    return Course(
        name="wave",
        network=network,
        size=len(POINTS),
        loss=loss,
        judge=None if judgements is None else lambda: np.full(tasks, next(calls)),
        arrays=lambda: [POINTS.numpy()],
        epochs=changed.get("epochs", 6),
        batch=changed.get("batch", 5),
        learning_rate=0.05,
        weight_decay=0.1,
        patience=changed.get("patience", 0),
        seed=changed.get("seed", 0),
    )


def weights(course: Course) -> list[float]:
    return [float(value) for part in course.network.state_dict().values() for value in part.flatten()]


def stopping_at(share: float) -> Callable[[str, float], None]:
    def progress(stage: str, done: float) -> None:
        if done >= share:
            raise InterruptedError

    return progress


@pytest.mark.parametrize("share", [1 / 6, 0.5, 1.0])
def test_a_fit_taken_up_again_ends_with_the_very_weights(tmp_path: Path, share: float) -> None:
    whole, broken, again = course(), course(), course()
    learnt = train(whole, NOTHING_KEPT, silent)
    with pytest.raises(InterruptedError):
        train(broken, Checkpoints(tmp_path), stopping_at(share))
    torch.rand(5)  # another process would stand elsewhere
    assert train(again, Checkpoints(tmp_path), silent) == learnt
    assert weights(again) == weights(whole)
    assert (weights(broken) == weights(whole)) is (share == 1)


def test_the_best_weights_survive_a_break_too(tmp_path: Path) -> None:
    judged = [0.875, 0.25, 0.5, 0.625, 0.75, 0.875]
    whole, broken, again = course(judged), course(judged), course(judged[3:])
    assert train(whole, NOTHING_KEPT, silent).kept == 2
    with pytest.raises(InterruptedError):
        train(broken, Checkpoints(tmp_path), stopping_at(4 / 6))
    assert train(again, Checkpoints(tmp_path), silent) == Learnt(train_losses(), judged, [False, False, *[True] * 4], 6)
    assert weights(again) == weights(whole)


def train_losses() -> list[float]:
    return train(course(), NOTHING_KEPT, silent).losses


@pytest.mark.parametrize(
    ("judged", "patience", "epochs", "kept"),
    [
        ([0.9, 0.5, 0.6, 0.7, 0.1, 0.1], 2, 4, 2),
        ([0.9, 0.5, 0.6, 0.4, 0.5, 0.6], 2, 6, 4),
        ([0.9, 0.5, 0.6, 0.7, 0.8, 0.9], 0, 6, 2),
        ([0.5] * 6, 3, 6, 6),
    ],
)
def test_it_stops_where_it_does_other_tasks_harm_and_keeps_what_was_before(
    judged: list[float], patience: int, epochs: int, kept: int
) -> None:
    stopped = course(judged, patience=patience)
    learnt = train(stopped, NOTHING_KEPT, silent)
    assert (len(learnt.losses), learnt.kept) == (epochs, kept)
    assert learnt.judged[kept - 1] == min(learnt.judged)


def test_the_weights_of_the_kept_epoch_are_kept() -> None:
    seen: list[list[float]] = []

    def judge() -> FloatArray:
        seen.append(weights(watched))
        return np.full(10, [0.9, 0.5, 0.6, 0.7, 0.8, 0.9][len(seen) - 1])

    watched = replace(course(), judge=judge)
    assert train(watched, NOTHING_KEPT, silent).kept == 2
    assert weights(watched) == seen[1] != seen[5]


def test_a_few_tasks_luck_proves_nothing() -> None:
    rng = np.random.default_rng(0)
    least = rng.random(40)
    assert proven_worse(least + 0.2 + 0.1 * rng.random(40), least)
    assert not proven_worse(least[:9] + 0.2, least[:9])
    assert not proven_worse(least + 0.009, least)
    assert not proven_worse(least + 0.01 * rng.standard_normal(40), least)
    assert not proven_worse(np.where(np.arange(40) == 0, 5.0, least), least)
    assert train(course([0.9, 0.5, 0.6, 0.7, 0.8, 0.9], tasks=9, patience=1), NOTHING_KEPT, silent).kept == 6


def test_nothing_to_learn_leaves_the_network_as_it_is() -> None:
    empty = course(epochs=0)
    before = weights(empty)
    assert train(empty, NOTHING_KEPT, silent) == Learnt([], [], [], 0)
    assert weights(empty) == before


@pytest.mark.parametrize("other", [{"seed": 1}, {"batch": 6}, {"epochs": 7}, {"patience": 1}])
def test_what_another_fit_left_is_not_taken_up(tmp_path: Path, other: dict[str, int]) -> None:
    train(course(), Checkpoints(tmp_path), silent)
    fresh, kept = course(None, **other), course(None, **other)
    train(fresh, NOTHING_KEPT, silent)
    train(kept, Checkpoints(tmp_path), silent)
    assert weights(kept) == weights(fresh)


def test_the_rate_falls_along_a_cosine_to_a_tenth() -> None:
    rates = [rate(course(), epoch) for epoch in range(6)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == 0.05
    assert rates[-1] == pytest.approx(0.005)


def test_an_onlooker_hears_loss_speed_and_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Iterator[float] = iter(np.arange(0, 1_000, 0.5).tolist())
    monkeypatch.setattr("imitrace_trainer.training.time.monotonic", lambda: next(ticks))
    told: list[tuple[str, str, float]] = []

    def listen(stage: str, share: float) -> None:
        assert isinstance(stage, Stage)
        told.append((stage, stage.note, share))

    train(course([0.5] * 6), NOTHING_KEPT, listen)
    assert {stage for stage, _, _ in told} == {"wave"}
    assert [share for _, _, share in told] == sorted(share for _, _, share in told)
    assert told[0][1] == "10/s, 19 s left"
    assert told[0][2] == pytest.approx(5 / 32 / 6)
    assert "loss " in told[-1][1] and "other tasks 0.500" in told[-1][1] and told[-1][2] == 1.0


def test_threads_are_as_before_afterwards() -> None:
    before = torch.get_num_threads()
    with one_thread():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before
