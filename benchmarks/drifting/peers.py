"""Give the same streams to other detectors as they come, each in a virtual environment of its own."""

import json
import subprocess
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from drifting.populations import Population, rows
from drifting.streams import SHIFTS, Size, days, shifted_seed, shifts
from overhead import peer_venvs
from overhead.config import clean_environment
from overhead.peer_venvs import python_of
from overhead.timing import Json, tell

PEERS: Final = {
    "evidently": ("evidently", "pandas<3"),
    "frouros": ("frouros",),
    "alibi-detect": ("alibi-detect", f"torch=={version('torch').partition('+')[0]}"),
}
STREAMS: Final = 3
"""Streams without drift that peers are given."""
CHECKS: Final = 10
"""Checks of each: they take seconds each."""
SHIFTED: Final = 2
"""Streams of each shift."""
WEEK: Final = 7
"""Checks after a shift."""
_HERE: Final = Path(__file__).parents[1]
_LAST: Final = 300


def against_peers(found: Population, size: Size, skipped: dict[str, str], *, install: bool, quick: bool) -> Json:
    """Return by peer how often it says drift, with a shift and without; why one is left out goes to ``skipped``."""
    told: Json = {}
    wanted = {}
    for peer, packages in PEERS.items():
        if install:
            peer_venvs.install(peer, packages)
        if not python_of(peer).exists():
            skipped[peer] = "not installed: run benchmarks/drift.py with --peers once"
        elif quick and not install:
            skipped[peer] = "left out of a quick run; add --peers"
        else:
            wanted[peer] = python_of(peer)
    if not wanted:
        return told
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "streams.npz"
        np.savez(path, **_arrays(found, size, quick))
        for peer, python in wanted.items():
            tell(f"{peer}: the same streams")
            command = [str(python), "-m", "drifting.peer_checks", peer, str(path)]
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, cwd=_HERE, env=clean_environment()
            )
            if done.returncode:
                skipped[peer] = f"failed: {done.stderr.strip()[-_LAST:]}"
            else:
                told[peer] = json.loads(done.stdout.splitlines()[-1])
    return told


def _arrays(found: Population, size: Size, quick: bool) -> dict[str, Any]:  # arrays
    """Return by stream and day the rows of reference and window, of the first streams that imitrace checks."""
    arrays = {}
    kinds = [("usual", seed, min(CHECKS, size.checks)) for seed in range(min(STREAMS, size.streams))]
    for name in shifts(quick=quick):
        seeds = map(shifted_seed, range(min(SHIFTED, size.shifted)))
        kinds += [(name, seed, min(WEEK, size.after)) for seed in seeds]
    for kind, number, checks in kinds:
        for day, one in enumerate(days(found, size, number, SHIFTS.get(kind), checks)):
            arrays[f"{kind}|{number}|{day:02}|reference"] = rows(one.reference[1])
            arrays[f"{kind}|{number}|{day:02}|recent"] = rows(one.recent[1])
    return arrays
