"""Read the recorded sets as the decisions of an expert, and divide their tasks: held out, calibration, training."""

import gzip
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.curate import curate
from imitrace_trainer.datasets import Example, write_dataset
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.sources import open_source
from imitrace_trainer.stages import demonstrations

SETS = {"airline": "tau_airline_gpt4o.jsonl.gz", "retail": "tau_retail_oracle.jsonl.gz"}
FOLDS = {"airline": (0, 1, 2, 3, 4), "retail": (0,)}
"""Of each set the folds that are measured: a fold holds out the tasks whose number leaves it when divided by five."""
FREE_TEXT = {
    "airline": ("think", "transfer_to_human_agents", "calculate"),
    "retail": ("think", "transfer_to_human_agents", "calculate"),
}
"""Tools with an argument in the agent's own words: a thought, a summary, a sum written out."""
THOUGHTFUL = ("airline",)
"""Sets whose expert thinks aloud; retail's is a script."""


@dataclass(frozen=True)
class Division:
    """The decisions of a fold; no two parts share a task."""

    train: list[Demonstration]
    calibration: list[Demonstration]
    held_out: list[Demonstration]
    """Of trajectories that succeeded; the other parts are of all, those that failed marked."""


def imported(name: str, data: Path, home: Path, lines: int | None) -> None:
    """Import a set's trajectories, or its first few, and make a dataset of all of them."""
    with gzip.open(data / SETS[name], "rt", encoding="utf-8") as file:
        chosen = [line for number, line in enumerate(file) if lines is None or number < lines]
    home.mkdir(parents=True)
    source = home / f"{name}.jsonl"
    source.write_text("".join(chosen), encoding="utf-8")
    tools = data / f"tau_{name}_tools.json"
    options = [str(source), "--agent", name, "--tools", str(tools), "--home", str(home)]
    subprocess.run([sys.executable, "-m", "imitrace", "import", *options], check=True, stdout=sys.stderr)
    cohort = CohortConfig(name=name, agent=name)
    write_dataset(home, cohort, curate(open_source(None, home).frames(), cohort), "a benchmark")


def divided(examples: list[Example], fold: int) -> Division:
    """Divide a set: a fifth of the tasks held out, of the others a fifth to calibrate on."""
    others = sorted({example.task for example in examples if int(example.task) % 5 != fold}, key=int)
    calibration = set(others[fold % 5 :: 5])
    parts: dict[str, list[Example]] = {"train": [], "calibration": [], "held_out": []}
    for example in examples:
        if int(example.task) % 5 == fold:
            if example.outcome == "success":
                parts["held_out"].append(example)
        else:
            parts["calibration" if example.task in calibration else "train"].append(example)
    return Division(**{part: demonstrations(some) for part, some in parts.items()})


def texts(demonstration: Demonstration) -> dict[str, str]:
    """Return a state as texts for rivals that read words: the last message, the user's last and all, the calls made."""
    messages = demonstration.state.messages
    said: list[tuple[str, str]] = []
    calls = ["^", "^", "^"]
    for message in messages:
        parts = message["parts"]
        calls += [str(part["name"]) for part in parts if part.get("type") == "tool_call"] or (
            ["message"] if message["role"] == "assistant" else []
        )
        words = " ".join(str(part.get("content") or part.get("response") or part.get("result") or "") for part in parts)
        said.append((str(message["role"]), words.lower()))
    users = [words for role, words in said if role == "user"]
    return {
        "last": " ".join(said[-1][1].split()[:400]) if said else "",
        "user": users[-1] if users else "",
        "users": " ".join(users),
        "calls": " ".join([*calls, f"{calls[-2]}>{calls[-1]}", f"from:{said[-1][0] if said else '^'}>{calls[-1]}"]),
    }
