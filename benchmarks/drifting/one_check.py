"""Print what one check of so many recent steps takes: ``python -m drifting.one_check HOME STEPS``."""

import json
import resource
import sys
import time
from pathlib import Path

import polars as pl

from imitrace.schema import SCHEMA_VERSION, TABLES
from imitrace_trainer.cohort import CohortConfig
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.critic_fit import CriticConfig
from imitrace_trainer.drift_stage import drift_stage
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.progress import silent
from imitrace_trainer.sources import open_source
from imitrace_trainer.stages import train_stage
from overhead.timing import Json

_DAY = 86_400 * 10**9


def champion(home: Path) -> CloneConfig:
    """Train a clone of the workspace's set, and make it the champion without a gate."""
    name = home.name
    fit = BCConfig(epochs=3, device="cpu", replies=False)
    cohort = CohortConfig(name=name, agent=name)
    clone = CloneConfig(
        name=name, cohort=cohort, folder=home, family="linear", train=fit, critic=CriticConfig(enabled=False)
    )
    train_stage(home, clone, silent)
    (home / "clones" / name / "aliases.json").write_text(json.dumps({"champion": 1}), encoding="utf-8")
    return clone


def multiplied(home: Path, folder: Path, steps: int) -> int:
    """Write the workspace's traces as a snapshot, over and over under other ids, all of today; return the steps."""
    frames = {name: frame.collect() for name, frame in open_source(None, home).frames().items()}
    copies = -(-steps // len(frames["steps"]))
    folder.mkdir()
    counts = {}
    for table in TABLES:
        whole = frames[table]
        if "trajectory_id" in whole.columns:
            named = (pl.format("{}-{}", "trajectory_id", pl.lit(one)).alias("trajectory_id") for one in range(copies))
            whole = pl.concat([whole.with_columns(name) for name in named])
        if table == "trajectories":
            whole = whole.with_columns(pl.lit(_DAY - 1).alias("ended_at"))
        whole.select(list(TABLES[table])).write_parquet(folder / f"{table}.parquet")
        counts[table] = len(whole)
    (folder / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "counts": counts}))
    return counts["steps"]


def cost(home: Path, steps: int) -> Json:
    """Return what a check costs, the training of its clone left out of the time."""
    clone = champion(home)
    found = multiplied(home, home / "multiplied", steps)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.monotonic()
    report = drift_stage(home, clone, str(home / "multiplied"), now=_DAY, since=0)
    return {
        "steps": found,
        "trajectories": report.counts["recent"],
        "seconds": round(time.monotonic() - began, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "peak_mb_before": round(before / 1024),
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(cost(Path(sys.argv[1]), int(sys.argv[2]))))
