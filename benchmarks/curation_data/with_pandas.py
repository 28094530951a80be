"""Curate by the same rules in pandas, all in memory at once: python -m curation_data.with_pandas SNAPSHOT FOLDER.

It runs in an environment of its own, so it imports nothing of ours, and prints what it kept as JSON.
"""

import hashlib
import importlib
import json
import re
import sys
import time
from pathlib import Path
from typing import Any

BEGAN = time.perf_counter()

pd: Any = importlib.import_module("pandas")

CONDITIONS = {"TaskCompletion": 0.8, "ToolSelectionAccuracy": 0.7}
MIN_STEPS = 2


def curate(source: Path, target: Path) -> dict[str, object]:
    """Read a snapshot, judge, split and write; return how many trajectories and steps are kept, and the seconds."""
    parts = {"imports": time.perf_counter() - BEGAN}
    began = time.perf_counter()
    check(source)
    trajectories, steps, messages, tools, scores = (
        pd.read_parquet(source / f"{table}.parquet")
        for table in ("trajectories", "steps", "messages", "tools", "scores")
    )
    parts["read"], began = time.perf_counter() - began, time.perf_counter()
    steps = marked(trajectories, steps)
    uses, judged = judge(trajectories, steps, messages, tools, scores)
    kept = with_splits(judged[judged["rule"].isna()])
    of_trajectory = kept[["trajectory_id", "task_key", "tags", "outcome", "split"]].rename(columns={"task_key": "task"})
    out = steps.merge(of_trajectory, on="trajectory_id").assign(weight=1.0, tool_change=None)
    named = uses.loc[uses["trajectory_id"].isin(kept["trajectory_id"]), "state"].unique()
    said = messages[messages["message_id"].isin(named)]
    parts["judge"], began = time.perf_counter() - began, time.perf_counter()
    judged_s = round(time.perf_counter() - BEGAN, 2)
    rejected = judged.loc[judged["rule"].notna(), ["trajectory_id", "task", "rule", "reason"]]
    tables = {
        "trajectories": kept.drop(columns=["rule", "reason", "found", "trainable", "gap", *CONDITIONS]),
        "steps": out,
        "rejected": rejected,
        "messages": said,
        "tools": tools[tools["tools_hash"].isin(out["tools_hash"])],
    }
    counts = write(tables, target)
    parts["write"] = time.perf_counter() - began
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    return {
        "judged_s": judged_s,
        "parts": {name: round(seconds, 2) for name, seconds in parts.items()},
        "kept": {name: counts[name] for name in ("trajectories", "steps", "messages", "rejected")},
        "peak_mb": int(peak[1]) // 1024 if peak else 0,
    }


def check(source: Path) -> None:
    """Compare the snapshot's files with the hashes in its manifest."""
    for name, said in json.loads((source / "manifest.json").read_text(encoding="utf-8"))["files"].items():
        assert sha256(source / name) == said["sha256"], f"{name} is not what the manifest says"


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def marked(trajectories: Any, steps: Any) -> Any:  # pandas frames
    """Return the agent's steps by trajectory, with which may be trained on and why the others may not."""
    steps = steps[steps["trajectory_id"].isin(trajectories.loc[trajectories["agent"] == "shop", "trajectory_id"])]
    steps = steps.sort_values(["trajectory_id", "step_index"])
    why = ("by " + steps["policy_role"]).where(~steps["policy_role"].isin(["expert", "human"]))
    why = why.mask(steps["policy_role"] == "clone", "by a clone, not confirmed")
    why = why.mask(steps["error_type"].notna(), "error " + steps["error_type"].astype("str"))
    return steps.assign(loss_mask=why.isna(), mask_reason=why)


def judge(trajectories: Any, steps: Any, messages: Any, tools: Any, scores: Any) -> tuple[Any, Any]:  # pandas frames
    """Return which messages each trajectory's steps see, and the trajectories with ``rule`` and ``reason``."""
    uses = steps[["trajectory_id", "step_index", "state"]].explode("state")
    uses = uses.drop_duplicates(["trajectory_id", "state"]).dropna(subset="state")
    known = uses.merge(messages[["message_id", "role"]], left_on="state", right_on="message_id", how="left")
    judged = trajectories[trajectories["agent"] == "shop"].sort_values(["started_at", "trajectory_id"])
    facts = steps.groupby("trajectory_id").agg(found=("step_index", "size"), trainable=("loss_mask", "sum"))
    facts["gap"] = gaps(steps, known, tools)
    judged = judged.merge(facts, left_on="trajectory_id", right_index=True, how="left")
    judged = judged.fillna({"found": 0, "trainable": 0}).astype({"found": "int64", "trainable": "int64"})
    whole = scores[scores["step_index"].isna()].sort_values("scored_at")
    newest = whole.drop_duplicates(["trajectory_id", "name"], keep="last")
    values = newest.pivot(index="trajectory_id", columns="name", values="value")
    judged = judged.merge(values, left_on="trajectory_id", right_index=True, how="left")
    asked = known[known["role"] == "user"].drop_duplicates("trajectory_id").set_index("trajectory_id")["state"]
    judged["task_key"] = judged["task"].fillna(judged["trajectory_id"].map(asked)).fillna(judged["trajectory_id"])
    judged["scores"] = [json.dumps(row) for row in judged[[*CONDITIONS]].to_dict("records")]
    judged["rule"], judged["reason"] = None, None
    for name, why in reasons(judged).items():
        first = judged["rule"].isna() & why.notna()
        judged.loc[first, "rule"] = name
        judged.loc[first, "reason"] = why[first]
    return uses, judged


def reasons(judged: Any) -> dict[str, Any]:  # pandas frames
    """Return by rule why each trajectory is rejected, null where it is not."""
    nothing = pd.Series(None, index=judged.index, dtype="object")
    running = judged["ended_at"].isna()
    marked = judged["incomplete_reason"].fillna("marked incomplete")
    found, count = judged["found"].astype("str"), judged["step_count"].astype("str")
    missed = nothing
    for name, least in CONDITIONS.items():
        value = judged[name]
        low = (f"{name} " + value.astype("str") + f", wanted >= {least}").where(value < least)
        missed = missed.fillna(low.astype("object").mask(value.isna(), f"{name} missing"))
    return {
        "complete": nothing.mask(running, "still running").mask(~judged["complete"], marked).fillna(judged["gap"]),
        "steps": nothing.mask(
            judged["found"] != judged["step_count"], found + " of " + count + " steps are in the source"
        ),
        "roles": nothing.mask(judged["trainable"] == 0, "no step by expert or human"),
        "scores": missed,
        "min_steps": nothing.mask(judged["found"] < MIN_STEPS, found + f" steps, wanted at least {MIN_STEPS}"),
    }


def gaps(steps: Any, known: Any, tools: Any) -> Any:  # pandas frames
    """Return by trajectory the first step that is incomplete or names what the source lacks, and what that is."""
    cut = steps[~steps["complete"]]
    lost = steps[steps["tools_hash"].notna() & ~steps["tools_hash"].isin(tools["tools_hash"])]
    unsaid = known[known["message_id"].isna()]
    found = pd.concat(
        [
            cut[["trajectory_id", "step_index"]].assign(why=cut["incomplete_reason"].fillna("marked incomplete")),
            lost[["trajectory_id", "step_index"]].assign(why="tools " + lost["tools_hash"] + " are not in the source"),
            unsaid[["trajectory_id", "step_index"]].assign(why="message " + unsaid["state"] + " is not in the source"),
        ]
    )
    first = found.sort_values(["trajectory_id", "step_index", "why"]).drop_duplicates("trajectory_id")
    return ("step " + first["step_index"].astype("str") + ": " + first["why"]).set_axis(first["trajectory_id"])


def with_splits(kept: Any) -> Any:  # a pandas frame
    """Deal the tasks out by a seed: to gate, calibration and train."""
    keys = sorted(kept["task_key"].unique(), key=lambda key: hashlib.blake2b(f"0:{key}".encode()).hexdigest())
    share = round(0.2 * len(keys))
    splits = ["gate"] * share + ["calibration"] * share + ["train"] * (len(keys) - 2 * share)
    return kept.assign(split=kept["task_key"].map(dict(zip(keys, splits, strict=True))))


def write(tables: dict[str, Any], target: Path) -> dict[str, int]:  # pandas frames
    """Write the files and a manifest that names them by hash; return how many rows each has."""
    for name, frame in tables.items():
        frame.to_parquet(target / f"{name}.parquet", compression="zstd", index=False)
    counts = {name: len(frame) for name, frame in tables.items()}
    files = {name: sha256(target / f"{name}.parquet") for name in tables}
    rejected = tables["rejected"]["rule"].value_counts().to_dict()
    splits = tables["steps"].groupby("split")["loss_mask"].agg(["size", "sum"]).to_dict("index")
    manifest = {"counts": counts, "files": files, "rejected": rejected, "splits": splits}
    (target / "manifest.json").write_text(json.dumps(manifest, indent=2, default=int), encoding="utf-8")
    return counts


if __name__ == "__main__":
    print(json.dumps(curate(Path(sys.argv[1]), Path(sys.argv[2]))))
