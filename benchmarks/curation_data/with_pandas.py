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
    """Read a snapshot, judge, split and write; return how many trajectories and steps are kept."""
    trajectories, steps, messages, tools, scores = (
        pd.read_parquet(source / f"{table}.parquet")
        for table in ("trajectories", "steps", "messages", "tools", "scores")
    )
    trajectories = trajectories[trajectories["agent"] == "shop"]
    steps = steps[steps["trajectory_id"].isin(trajectories["trajectory_id"])].sort_values(
        ["trajectory_id", "step_index"]
    )
    steps["loss_mask"] = steps["policy_role"].isin(["expert", "human"]) & steps["error_type"].isna()
    uses = steps[["trajectory_id", "step_index", "state"]].explode("state")
    uses = uses.drop_duplicates(["trajectory_id", "state"])
    known = uses.merge(messages[["message_id", "role"]], left_on="state", right_on="message_id", how="left")
    gaps = pd.concat(
        [
            steps.loc[~steps["complete"], "trajectory_id"],
            known.loc[known["message_id"].isna(), "trajectory_id"],
            steps.loc[~steps["tools_hash"].isin(tools["tools_hash"]), "trajectory_id"],
        ]
    )
    facts = steps.groupby("trajectory_id").agg(found=("step_index", "size"), trainable=("loss_mask", "sum"))
    asked = known[known["role"] == "user"].drop_duplicates("trajectory_id").set_index("trajectory_id")["state"]
    newest = (
        scores[scores["step_index"].isna()]
        .sort_values("scored_at")
        .drop_duplicates(["trajectory_id", "name"], keep="last")
    )
    values = newest.pivot(index="trajectory_id", columns="name", values="value")
    judged = trajectories.merge(facts, left_on="trajectory_id", right_index=True, how="left")
    judged = judged.merge(values, left_on="trajectory_id", right_index=True, how="left")
    judged["task_key"] = judged["task"].fillna(judged["trajectory_id"].map(asked)).fillna(judged["trajectory_id"])
    judged["rule"] = None
    rules = {
        "complete": ~judged["complete"] | judged["ended_at"].isna() | judged["trajectory_id"].isin(gaps),
        "steps": judged["found"] != judged["step_count"],
        "roles": judged["trainable"] == 0,
        "scores": ~pd.concat([judged[name] >= least for name, least in CONDITIONS.items()], axis=1).all(axis=1),
        "min_steps": judged["found"] < MIN_STEPS,
    }
    for name, rejects in rules.items():
        judged.loc[rejects & judged["rule"].isna(), "rule"] = name
    kept = judged[judged["rule"].isna()].copy()
    keys = sorted(kept["task_key"].unique(), key=lambda key: hashlib.blake2b(f"0:{key}".encode()).hexdigest())
    share = round(0.2 * len(keys))
    splits = {
        key: "gate" if place < share else "calibration" if place < 2 * share else "train"
        for place, key in enumerate(keys)
    }
    kept["split"] = kept["task_key"].map(splits)
    mine = values.loc[kept["trajectory_id"]]
    kept["scores"] = [json.dumps(row) for row in mine.to_dict("records")]
    out = steps.merge(kept[["trajectory_id", "task_key", "tags", "outcome", "split"]], on="trajectory_id")
    named = set(uses.loc[uses["trajectory_id"].isin(kept["trajectory_id"]), "state"])
    said = messages[messages["message_id"].isin(named)]
    judged_s = round(time.perf_counter() - BEGAN, 2)
    kept.to_parquet(target / "trajectories.parquet", compression="zstd")
    judged[judged["rule"].notna()].to_parquet(target / "rejected.parquet", compression="zstd")
    out.to_parquet(target / "steps.parquet", compression="zstd")
    said.to_parquet(target / "messages.parquet", compression="zstd")
    tools[tools["tools_hash"].isin(out["tools_hash"])].to_parquet(target / "tools.parquet", compression="zstd")
    rejected = int(judged["rule"].notna().sum())
    counts = {"trajectories": len(kept), "steps": len(out), "messages": len(said), "rejected": rejected}
    peak = re.search(r"VmHWM:\s*(\d+)", Path("/proc/self/status").read_text(encoding="ascii"))
    return {"judged_s": judged_s, "kept": counts, "peak_mb": int(peak[1]) // 1024 if peak else 0}


if __name__ == "__main__":
    print(json.dumps(curate(Path(sys.argv[1]), Path(sys.argv[2]))))
