"""Measure what the evaluators are worth: where two definitions disagree, agreement with labels, what scorers find.

python benchmarks/scores.py                          # tables
python benchmarks/scores.py --json                   # the same as JSON
python benchmarks/scores.py --data ../shared/data    # with the recorded trajectories in this folder
"""

import csv
import gzip
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imitrace.messages import Action
from imitrace_trainer.episodes import Episode
from imitrace_trainer.evaluators import (
    ReasoningQuality,
    Result,
    TaskCompletion,
    TerminalSigns,
    ToolSelectionAccuracy,
    TrajectoryScore,
    agreement,
    episode_of,
    futureagi,
)
from imitrace_trainer.evaluators.futureagi import FutureAgiTask
from imitrace_trainer.evaluators.injection import text_injection
from imitrace_trainer.evaluators.toxicity import text_toxicity
from imitrace_trainer.evaluators.wordings import FLAGGED
from imitrace_trainer.intervals import wilson
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, versions

PACKAGES = ("imitrace",)
FOLDER = Path(__file__).parent
SAMPLES = FOLDER / "score_samples"
SCORERS = {"toxicity": text_toxicity, "injection": text_injection}
PAIRS = {
    "TaskCompletion": (TaskCompletion(), futureagi.TaskCompletion()),
    "ToolSelectionAccuracy": (ToolSelectionAccuracy(), futureagi.ToolSelectionAccuracy()),
    "TrajectoryScore": (TrajectoryScore(), futureagi.TrajectoryScore()),
    "ReasoningQuality": (ReasoningQuality(), futureagi.ReasoningQuality()),
}

FIND: Json = {"name": "find_order", "arguments": {"order_id": "A1"}}
REFUND: Json = {"name": "refund", "arguments": {"order_id": "A1", "amount": 20}}
WRONG: Json = {"name": "refund", "arguments": {"order_id": "B7", "amount": 900}}
DELETE: Json = {"name": "delete_account", "arguments": {"user": "ann"}}
PADDING = "so but then if because therefore"
THOUGHT = "Order A1 arrived broken, and 20 was paid for it."
NAMES = ("find_order", "refund", "delete_account")
TOOLS = [{"name": name, "parameters": {"type": "object", "properties": {}}} for name in NAMES]


def chat(*turns: Any) -> Episode:
    """Return an episode: a text is the agent's message, a tuple a thought and a call."""
    told: list[Json] = [{"role": "user", "content": "My order A1 for 20 arrived broken, please refund it."}]
    for place, turn in enumerate(turns):
        if isinstance(turn, str):
            told.append({"role": "assistant", "content": turn})
            continue
        thought, call = turn
        function = {"name": call["name"], "arguments": json.dumps(call["arguments"])}
        call_id = f"c{place}"
        told.append({"role": "assistant", "content": thought, "tool_calls": [{"id": call_id, "function": function}]})
        told.append({"role": "tool", "tool_call_id": call_id, "content": f'{{"ok": {place + 1}}}'})
    return episode_of(told, TOOLS)


CASES: dict[str, Episode] = {
    "right: found, refunded, told": chat((None, FIND), (None, REFUND), "Refunded 20 for A1."),
    "right, with thoughts": chat((THOUGHT, FIND), ("Refund 20 for A1.", REFUND), "Refunded 20 for A1."),
    "right, thoughts are padding": chat((PADDING, FIND), (PADDING, REFUND), (PADDING, FIND), "Refunded 20 for A1."),
    "refuses, calls nothing": chat("I can't do that."),
    "deletes the account instead": chat((None, FIND), (None, DELETE), "Refunded 20 for A1."),
    "refunds another order": chat((None, FIND), (None, WRONG), "Refunded 20 for A1."),
    "never refunds": chat((None, FIND), "Refunded 20 for A1."),
}
REFERENCE = [(Action("tool_call", call["name"], call["arguments"]),) for call in (FIND, REFUND)]
KNOWN: dict[str, FutureAgiTask] = {
    "nothing": FutureAgiTask(),
    "reference": FutureAgiTask(reference=REFERENCE, required_tools=["find_order", "refund"], available_tools=NAMES),
}


def disagreement() -> Json:
    """Return both definitions' scores of each case, with nothing known and with an expert's trajectory."""
    return {
        known: {
            case: {name: [_score(one, task, episode) for one in pair] for name, pair in PAIRS.items()}
            for case, episode in CASES.items()
        }
        for known, task in KNOWN.items()
    }


def found(name: str, score: Callable[[str], tuple[float, list[str]]]) -> Json:
    """Return precision and recall on the part that the wordings were written on, and on the part held out."""
    parts: dict[str, list[tuple[bool, bool]]] = {}
    for line in (SAMPLES / f"{name}.tsv").read_text(encoding="utf-8").splitlines():
        part, label, text = line.split("\t")
        parts.setdefault(part, []).append((label == "1", score(text)[0] >= FLAGGED))
    return {part: _rates(pairs) for part, pairs in parts.items()}


def public(folder: Path) -> Json:
    """Return what holds on the half of public labelled texts that no wording was written on; halves go by a hash."""
    with (folder / "toxicity_en.csv").open(encoding="utf-8", newline="") as file:
        toxic = [(row["text"], row["is_toxic"] == "Toxic") for row in csv.DictReader(file)]
    valid = json.loads((folder / "valid.json").read_text(encoding="utf-8"))
    orders = [(row["prompt"], bool(row["label"])) for row in valid if row["source"].startswith(("PINT", "WildGuard"))]
    harmless = [
        (row["prompt"], False)
        for part in ("one", "two", "three")
        for row in json.loads((folder / f"NotInject_{part}.json").read_text(encoding="utf-8"))
        if row["category"] != "Multilingual"
    ]
    sets = {
        "toxicity": ("toxicity", toxic),
        "injection": ("injection", orders),
        "trigger words": ("injection", harmless),
    }
    return {name: _judged(SCORERS[scorer], texts) for name, (scorer, texts) in sets.items()}


def recorded(folder: Path) -> Json:
    """Return what holds on the recorded trajectories: agreement with rewards, good ones that pass, false alarms."""
    airline, retail = (
        list(_lines(folder / name)) for name in ("tau_airline_gpt4o.jsonl.gz", "tau_retail_oracle.jsonl.gz")
    )
    scores, labels, tasks = [], [], []
    for line, episode in airline:
        result = TerminalSigns().evaluate(None, episode)
        if result.score is not None:
            scores.append(result.score)
            labels.append(float(line["reward"]))
            tasks.append(str(line["task_id"]))
    theirs = [_score(futureagi.TaskCompletion(), FutureAgiTask(), episode) or 0.0 for _, episode in airline]
    oracle = [
        (
            TerminalSigns().evaluate(None, episode),
            futureagi.TaskCompletion().evaluate(None, episode),
            ToolSelectionAccuracy().evaluate(None, episode),
        )
        for _, episode in retail
    ]
    return {
        "airline": {
            "completion_without_expected_result": agreement(scores, labels, tasks).to_json(),
            "futureagi_completion": agreement(theirs, labels, [str(line["task_id"]) for line, _ in airline]).to_json(),
        },
        "retail_oracle": {
            "trajectories": len(retail),
            "completion_at_least_0.8": _share(sum(_good(ours, 0.8) for ours, _, _ in oracle), len(retail)),
            "futureagi_completion_at_least_0.8": _share(sum(_good(other, 0.8) for _, other, _ in oracle), len(retail)),
            "tool_selection_at_least_0.9": _share(sum(_good(tools, 0.9) for *_, tools in oracle), len(retail)),
        },
        "false_alarms": {name: _alarms(score, airline + retail) for name, score in SCORERS.items()},
    }


def measure(data: Path | None, quick: bool, texts: Path | None = None) -> Json:
    """Return everything that was measured."""
    there = data is not None and (data / "tau_airline_gpt4o.jsonl.gz").is_file()
    return {
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python benchmarks/scores.py --json"
        + (" --quick" if quick else " --data ../shared/data" + (" --public FOLDER" if texts else "")),
        "machine": machine(),
        "quick": quick,
        "disagreement": disagreement(),
        "scorers": {name: found(name, score) for name, score in SCORERS.items()},
        "public": public(texts) if texts is not None else None,
        "recorded": recorded(data) if there and data is not None and not quick else None,
        "skipped": {} if there and not quick else {"recorded": "no recorded trajectories were named, see --data"},
    }


def _judged(score: Callable[[str], tuple[float, list[str]]], texts: list[tuple[str, bool]]) -> Json:
    held = [(text, label) for text, label in texts if hashlib.sha256(text.encode()).digest()[3] % 2]
    pairs = [(label, score(text)[0] >= FLAGGED) for text, label in held]
    alarms = sum(flagged and not label for label, flagged in pairs)
    return _rates(pairs) | {"false_alarms": _share(alarms, sum(not label for label, _ in pairs))}


def table(report: Json) -> str:
    """Return the report as tables in Markdown."""
    lines = []
    for known, cases in report["disagreement"].items():
        lines += [f"Known: {known}", "", f"| ours / theirs | {' | '.join(PAIRS)} |", f"|---|{'---|' * len(PAIRS)}"]
        for case, pairs in cases.items():
            lines.append(
                f"| {case} | {' | '.join(f'{_cell(one)} / {_cell(other)}' for one, other in pairs.values())} |"
            )
        lines.append("")
    lines += ["| scorer | part | precision | recall | toxic or injected, harmless |", "|---|---|---|---|---|"]
    for name, parts in report["scorers"].items():
        for part, rates in parts.items():
            shares = [f"{one:.2f} [{low:.2f}, {high:.2f}]" for one, low, high in (rates["precision"], rates["recall"])]
            lines.append(f"| {name} | {part} | {' | '.join(shares)} | {rates['positive']}, {rates['negative']} |")
    if report["public"] is not None:
        lines += ["", json.dumps(report["public"], indent=1)]
    if report["recorded"] is not None:
        lines += ["", json.dumps(report["recorded"], indent=1)]
    return "\n".join(lines)


def _score(evaluator: Any, task: FutureAgiTask, episode: Episode) -> float | None:
    result: Result = evaluator.evaluate(task, episode)
    return None if result.score is None else round(result.score, 4)


def _good(result: Result, least: float) -> bool:
    return result.score is not None and result.score >= least


def _lines(path: Path) -> Iterator[tuple[Json, Episode]]:
    tools = json.loads((path.parent / f"{'_'.join(path.name.split('_')[:2])}_tools.json").read_text(encoding="utf-8"))
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for text in file:
            line = json.loads(text)
            yield line, episode_of(line["messages"], tools)


def _alarms(score: Callable[[str], tuple[float, list[str]]], lines: list[tuple[Json, Episode]]) -> Json:
    texts = {
        str(message.get("content") or "")
        for line, _ in lines
        for message in line["messages"]
        if message["role"] != "system"
    }
    texts.discard("")
    begun = time.perf_counter()
    alarms = sum(score(text)[0] >= FLAGGED for text in texts)
    taken = time.perf_counter() - begun
    return {
        "texts": len(texts),
        "flagged": _share(alarms, len(texts)),
        "ms_a_text": round(1000 * taken / len(texts), 2),
    }


def _rates(pairs: list[tuple[bool, bool]]) -> Json:
    hits = sum(label and flagged for label, flagged in pairs)
    flagged, positive = sum(flagged for _, flagged in pairs), sum(label for label, _ in pairs)
    return {
        "positive": positive,
        "negative": len(pairs) - positive,
        "precision": _share(hits, flagged),
        "recall": _share(hits, positive),
    }


def _share(count: int, total: int) -> list[float]:
    """Return a share with its 95 % Wilson interval."""
    low, high = wilson(count, total) if total else (0.0, 1.0)
    return [round(count / total, 4) if total else 0.0, round(low, 4), round(high, 4)]


def _cell(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"


def main() -> None:
    """Measure as the options say, and print it."""
    parser = asking(__doc__, "without the recorded trajectories")
    parser.add_argument("--data", type=Path, help="folder with the recorded trajectories of tau-bench")
    parser.add_argument("--public", type=Path, help="folder with public labelled texts, see README.md")
    options = parser.parse_args()
    deliver(measure(options.data, options.quick, options.public), options, table)


if __name__ == "__main__":
    main()
