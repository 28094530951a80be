"""Train a network: epochs that can be taken up again after a kill, and stop where it does other tasks harm.

Every epoch draws its order and its dropout from a seed of its own, so the epochs before it need not have run in the
same process: a fit that was taken up again ends with the very weights of one that was never interrupted.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from imitrace_trainer.checkpoints import Checkpoint, Checkpoints, fingerprint
from imitrace_trainer.progress import Progress, Stage

Weights = dict[str, Tensor]
FloatArray = npt.NDArray[np.float64]

_LEAST = "least"
_LEAST_TASKS = 10
_LITTLE = 0.01
"""Nats a decision: what is next to nothing may grow many times over and still be next to nothing."""
_TELL_EVERY = 0.2
"""Seconds."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """What a network is trained on, and how."""

    name: str
    network: nn.Module
    size: int
    """Examples."""
    loss: Callable[[list[int]], Tensor]
    """Mean loss of the examples of these numbers, a scalar with a gradient."""
    judge: Callable[[], FloatArray] | None = None
    """Loss of each task that is not trained on, without dropout, shape (tasks,); none: the last weights are kept."""
    arrays: Callable[[], Iterable[npt.NDArray[Any]]] = tuple
    """All that the losses are made of: a checkpoint of other arrays is not taken up."""
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int = 0
    """Epochs in a row, each proven worse than the best, after which it stops; 0: never."""
    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))


@dataclass(frozen=True)
class Learnt:
    """What training reached."""

    losses: list[float]
    """Mean loss of each epoch, dropout on."""
    judged: list[float]
    """Mean loss of the other tasks after each epoch; none where nothing judges."""
    worse: list[bool]
    """Whether an epoch is proven worse, by the other tasks, than the best before it."""
    epochs: int
    """How many were allowed."""

    @property
    def kept(self) -> int:
        """The epoch whose weights are kept, from 1: the last that is not proven worse; 0 where there was none."""
        return max((number for number, worse in enumerate(self.worse, 1) if not worse), default=len(self.losses))

    def stops(self, patience: int) -> bool:
        """Tell whether enough epochs in a row did harm."""
        return bool(patience) and len(self.worse) - self.kept >= patience


@contextmanager
def one_thread() -> Iterator[None]:
    """Keep torch to one thread meanwhile: so small a network only waits for more, and sums in one order only."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def train(course: Course, kept: Checkpoints, progress: Progress) -> Learnt:
    """Train a course's network by AdamW along a cosine; it ends on the CPU.

    An earlier epoch is kept only where the judge proves the later ones worse: a few tasks' luck must not end a fit
    whose learning rate is still high. On CUDA, products are of bfloat16 and everything else of float32.
    """
    key = _key(course) if kept.folder is not None else ""
    network = course.network.to(course.device).train()
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=course.learning_rate, weight_decay=course.weight_decay, fused=True
    )
    learnt, weights, least = _taken_up(kept.read(course.name, key), course, optimiser)
    while len(learnt.losses) < course.epochs and not learnt.stops(course.patience):
        learnt.losses.append(_epoch(course, optimiser, learnt, progress))
        if course.judge is not None:
            losses = _judged(course, course.judge)
            learnt.judged.append(float(losses.mean()))
            learnt.worse.append(least is not None and proven_worse(losses, least))
            least = losses if least is None or losses.mean() < least.mean() else least
        if learnt.kept == len(learnt.losses):
            weights = _copied(network)
        kept.write(course.name, key, _checkpoint(learnt, network, optimiser, weights, least))
    if weights:
        network.load_state_dict(weights)
    network.to("cpu")
    progress(Stage(course.name, _note(learnt)), 1.0)
    return learnt


def _epoch(course: Course, optimiser: torch.optim.Optimizer, learnt: Learnt, progress: Progress) -> float:
    epoch, began, told, done = len(learnt.losses), time.monotonic(), 0.0, 0
    rng = np.random.default_rng([course.seed, epoch])
    torch.manual_seed(int(rng.integers(2**62)))
    for group in optimiser.param_groups:
        group["lr"] = rate(course, epoch)
    parameters = list(course.network.parameters())
    autocast = torch.autocast("cuda", torch.bfloat16) if course.device.type == "cuda" else nullcontext()
    total = torch.zeros((), dtype=torch.float64, device=course.device)
    order = rng.permutation(course.size).tolist()
    for start in range(0, course.size, course.batch):
        batch = order[start : start + course.batch]
        with autocast:
            loss = course.loss(batch)
        for parameter in parameters:  # zero_grad asks for a profiler first, a fifteenth of so small a step
            parameter.grad = None
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it unannotated
        optimiser.step()
        total += loss.detach() * len(batch)
        done += len(batch)
        seconds = time.monotonic() - began
        if seconds - told > _TELL_EVERY:
            told = seconds
            left = (course.size * (course.epochs - epoch) - done) * seconds / done
            share = (epoch + done / course.size) / course.epochs
            progress(Stage(course.name, _note(learnt, done / seconds, left)), share)
    mean = float(total) / course.size
    progress(Stage(course.name, _note(learnt, done / max(time.monotonic() - began, 1e-9))), (epoch + 1) / course.epochs)
    return mean


def rate(course: Course, epoch: int) -> float:
    """Return an epoch's learning rate: a cosine from the peak to a tenth of it (Loshchilov & Hutter 2017)."""
    share = epoch / max(1, course.epochs - 1)
    return course.learning_rate * (0.1 + 0.45 * (1 + float(np.cos(np.pi * share))))


def _judged(course: Course, judge: Callable[[], FloatArray]) -> FloatArray:
    course.network.eval()
    with torch.inference_mode():
        losses = judge()
    course.network.train()
    return losses


def proven_worse(losses: FloatArray, least: FloatArray) -> bool:
    """Tell whether losses are higher than others of the same tasks, by two standard errors and a little.

    Of less than ten tasks nothing is proven. Both are of shape (tasks,).
    """
    gained = losses - least
    if len(gained) < _LEAST_TASKS:
        return False
    return bool(gained.mean() - 2 * gained.std(ddof=1) / len(gained) ** 0.5 > _LITTLE)


def _note(learnt: Learnt, speed: float | None = None, left: float | None = None) -> str:
    parts = [f"loss {learnt.losses[-1]:.3f}"] if learnt.losses else []
    parts += [f"other tasks {learnt.judged[-1]:.3f}"] if learnt.judged else []
    parts += [f"{speed:,.0f}/s"] if speed is not None else []
    return ", ".join([*parts, *([f"{left:.0f} s left"] if left is not None else [])])


def _copied(network: nn.Module) -> Weights:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def _key(course: Course) -> str:
    settings = {
        **{name: getattr(course, name) for name in ("name", "size", "epochs", "batch", "learning_rate")},
        **{name: getattr(course, name) for name in ("weight_decay", "patience", "seed")},
        "judged": course.judge is not None,
        "device": course.device.type,
        "torch": str(torch.__version__),
    }
    weights = (value.detach().cpu().numpy() for value in course.network.state_dict().values())
    return fingerprint(settings, chain(weights, course.arrays()))


def _checkpoint(
    learnt: Learnt, network: nn.Module, optimiser: torch.optim.Optimizer, kept: Weights, least: FloatArray | None
) -> Checkpoint:
    tensors = {f"weights.{name}": value for name, value in network.state_dict().items()}
    for number, moments in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": value for name, value in moments.items()}
    if learnt.kept != len(learnt.losses):
        tensors |= {f"kept.{name}": value for name, value in kept.items()}
    if least is not None:
        tensors[_LEAST] = torch.from_numpy(least)
    return Checkpoint(tensors, {"losses": learnt.losses, "judged": learnt.judged, "worse": learnt.worse})


def _taken_up(
    found: Checkpoint | None, course: Course, optimiser: torch.optim.Optimizer
) -> tuple[Learnt, Weights, FloatArray | None]:
    """Return what was learnt before, the weights to keep and the lowest losses; puts all else where it stood."""
    if found is None:
        return Learnt([], [], [], course.epochs), {}, None
    weights, kept, state = _part(found, "weights."), _part(found, "kept."), dict[int, dict[str, Tensor]]()
    for name, value in _part(found, "optimiser.").items():
        number, _, moment = name.partition(".")
        state.setdefault(int(number), {})[moment] = value
    course.network.load_state_dict(weights)
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})
    learnt = Learnt(found.record["losses"], found.record["judged"], found.record["worse"], course.epochs)
    least = found.tensors.get(_LEAST)
    return learnt, kept or _copied(course.network), None if least is None else least.numpy()


def _part(checkpoint: Checkpoint, prefix: str) -> Weights:
    return {n.removeprefix(prefix): value for n, value in checkpoint.tensors.items() if n.startswith(prefix)}
