"""Ask one detector, with its own defaults, about streams in a file: python -m drifting.peer_checks PEER FILE."""

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.float64]


def evidently(reference: Rows, recent: Rows) -> bool:
    """Tell by ``DataDriftPreset``: more than half of the columns drifted."""
    import pandas as pd  # type: ignore[import-untyped]
    from evidently import Report
    from evidently.presets import DataDriftPreset

    names = [f"c{place}" for place in range(reference.shape[1])]
    frames = [pd.DataFrame(rows, columns=names) for rows in (recent, reference)]
    told = Report([DataDriftPreset()]).run(*frames).dict()
    return bool(told["metrics"][0]["value"]["share"] >= 0.5)


def frouros(reference: Rows, recent: Rows) -> bool:
    """Tell by ``MMD`` with its permutation test at 5 %."""
    from frouros.callbacks import PermutationTestDistanceBased
    from frouros.detectors.data_drift import MMD

    test = PermutationTestDistanceBased(num_permutations=100, random_state=0, num_jobs=1, name="permutations")
    detector = MMD(callbacks=[test])
    detector.fit(X=reference)
    _, logs = detector.compare(X=recent)
    return bool(logs["permutations"]["p_value"] < 0.05)


def alibi_detect(reference: Rows, recent: Rows) -> bool:
    """Tell by ``MMDDrift`` with its permutation test at 5 %."""
    from alibi_detect.cd import MMDDrift

    detector = MMDDrift(reference.astype(np.float32), backend="pytorch", p_val=0.05)
    return bool(detector.predict(recent.astype(np.float32))["data"]["is_drift"])


DETECTORS: dict[str, Callable[[Rows, Rows], bool]] = {
    "evidently": evidently,
    "frouros": frouros,
    "alibi-detect": alibi_detect,
}


def main(peer: str, path: str) -> None:
    """Print how often the detector says drift on days without, and by shift how many streams it finds, and when."""
    detector, spent, checks = DETECTORS[peer], 0.0, 0
    usual: list[bool] = []
    found: dict[str, dict[str, int | None]] = {}
    with np.load(path) as arrays:
        for day in sorted({name.rsplit("|", 1)[0] for name in arrays.files}):
            kind, stream, number = day.split("|")
            if kind != "usual" and found.get(kind, {}).get(stream) is not None:
                continue
            both = arrays[f"{day}|reference"], arrays[f"{day}|recent"]
            began = time.monotonic()
            drifts = detector(*both)
            spent, checks = spent + time.monotonic() - began, checks + 1
            if kind == "usual":
                usual.append(drifts)
            else:
                found.setdefault(kind, {})[stream] = int(number) + 1 if drifts else None
    delays = {kind: sorted(day for day in of.values() if day is not None) for kind, of in found.items()}
    told = {
        "version": version(peer),
        "false_alarms_per_30_checks": round(30 * sum(usual) / len(usual), 2),
        "checks": len(usual),
        "power": {kind: {"value": len(delays[kind]) / len(of), "of": len(of)} for kind, of in found.items()},
        "delay_checks": delays,
        "seconds_a_check": round(spent / checks, 2),
    }
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
