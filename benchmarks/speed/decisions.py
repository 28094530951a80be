"""Time a clone that was just loaded, in a process of its own: how long it takes to load, and to decide.

python -m speed.decisions CLONE WORKSPACE SET FOLD MOST

Decides at most MOST held-out states in the order of their conversations, one by one and 64 at once, each from a clone
read anew, so that no message was read before its conversation came to it. Prints one JSON object.
"""

import json
import statistics
import sys
import time
from pathlib import Path

import torch

from imitrace_trainer.clone_files import read_clone
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.encoding import feature_id
from imitrace_trainer.policy import State
from overhead.timing import Json
from quality.recorded import divided

AT_ONCE = 64
_LOADS = 5


def loaded(folder: Path) -> EmbeddedPolicy:
    clone, _ = read_clone(folder)
    if not isinstance(clone, EmbeddedPolicy):
        raise TypeError(f"{folder} is {clone.family}, expected embedded")
    return clone


def timed(folder: Path, states: list[State]) -> Json:
    """Return what loading and deciding takes."""
    loads = []
    for _ in range(_LOADS):
        began = time.perf_counter()
        clone = loaded(folder)
        loads.append(time.perf_counter() - began)
    clone.act(states[-1])  # torch makes ready what it uses when it is first used
    one_by_one, each, of_cpu = loaded(folder), [], []
    for state in states:
        began, cpu = time.perf_counter_ns(), time.process_time_ns()
        one_by_one.act(state)
        of_cpu.append((time.process_time_ns() - cpu) / 1e6)
        each.append((time.perf_counter_ns() - began) / 1e6)
    at_once, cpu = loaded(folder), time.process_time_ns()
    for start in range(0, len(states), AT_ONCE):
        at_once.act_batch(states[start : start + AT_ONCE])
    batched = (time.process_time_ns() - cpu) / 1e6
    found = {f"p{share}_ms": _percentile(each, share) for share in (50, 95, 99)}
    found |= {f"p{share}_cpu_ms": _percentile(of_cpu, share) for share in (50, 95, 99)}
    single_per_s, batch_per_s = (len(states) / one * 1e3 for one in (sum(of_cpu), batched))
    return {
        **found,
        "batch_speedup": round(batch_per_s / single_per_s, 2),
        "single_per_cpu_s": round(single_per_s, 1),
        "batch_per_cpu_s": round(batch_per_s, 1),
        "states": len(states),
        "messages_a_state": round(statistics.fmean(len(state.messages) for state in states), 1),
        "load_s": round(statistics.median(loads), 4),
        "model_bytes": sum(path.stat().st_size for path in folder.iterdir()),
        "features_kept": feature_id.cache_info().currsize,
    }


def _percentile(values: list[float], share: int) -> float:
    return round(statistics.quantiles(values, n=100, method="inclusive")[share - 1], 3)


def main() -> None:
    """Time the clone that the arguments name."""
    folder, home, name, fold, most = sys.argv[1:]
    torch.set_num_threads(1)
    held_out = divided(open_dataset(Path(home), name).examples(), int(fold)).held_out
    print(json.dumps(timed(Path(folder), [one.state for one in held_out[: int(most)]])))


if __name__ == "__main__":
    main()
