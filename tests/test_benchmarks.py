import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"
PROGRAMS = sorted(path for path in FOLDER.glob("*.py") if "\ndef main(" in path.read_text(encoding="utf-8"))
PEERS = {
    "sdk_overhead": {name: name for name in ("logfire", "traceloop", "langfuse", "openinference")},
    "ingest": {"vs_mlflow": "mlflow", "vs_phoenix": "phoenix"},
    "curation": {"vs_pandas": "pandas"},
    "proxy": {"vs_litellm": "litellm"},
    "clone_speed": {"fit_vs_linear": "scikit-learn", "vs_imitation_steps_per_s": "imitation"},
}
"""By benchmark: the key of each ratio to a peer, and that peer's name."""
KEYS = {
    "sdk_overhead": {
        *("enabled_vs_bare_span", "disabled_vs_noop_span", "skipped", "memory", "versions"),
        *PEERS["sdk_overhead"],
    },
    "ingest": {
        *("spans_per_s", "cpu_s_per_10k_spans", "steps_cpu_s_per_10k_spans", "derived_cpu_s_per_10k_spans"),
        *("bytes_per_span", "ack_p99_ms"),
        *("idle_mb", "ready_s", "skipped", "versions"),
        *PEERS["ingest"],
    },
    "curation": {"rows", "peak_mb", "exponent", "curated", "vs_pandas", "skipped", "versions"},
    "histories": {"bytes_per_step", "growth", "steps", "lengths", "versions"},
    "faults": {"kills", "acknowledged", "lost", "duplicated", "overload_peak_mb", "broken_promises", "skipped"},
    "scores": {"disagreement", "scorers", "recorded", "skipped"},
    "tool_ledger": {
        *("decisions", "dead_calls", "dead_calls_before_retraining", "dead_calls_without"),
        *("rows_with_a_map", "rows_with_a_map_kept", "rows_retired", "rows_masked", "versions"),
    },
    "filtering": {"sets", "skipped"},
    "queue_labels": {"sets", "harmless", "skipped"},
    "critic": {"sets", "planted", "budget", "skipped"},
    "scan": {"sets", "label_errors", "skipped"},
    "clone_quality": {"sets", "skipped", "versions"},
    "promise": {"sets", "skipped", "versions"},
    "on_policy": {"desk_fallible", "chain", "size", "versions"},
    "clone_speed": {
        *(
            "p50_ms",
            "p95_ms",
            "batch_speedup",
            "growth_exponent",
            "load_s",
            "model_bytes",
            "fit",
            "skipped",
            "versions",
        ),
        *PEERS["clone_speed"],
    },
    "replies": {"sets", "skipped"},
    "gate_power": {"false_pass_rate", "aa_no_difference_rate", "power", "at_the_margin", "the_same_twice", "planted"},
    "proxy": {"p50_ms", "p99_ms", "overhead", "direct", "skipped", "versions", *PEERS["proxy"]},
    "drift": {
        *("sets", "false_alarms_per_30_checks", "power", "delay_checks", "peers", "check_of_100000_steps"),
        *("skipped", "versions"),
    },
    "quarantine": {"poisoned", "skipped", "size", "versions"},
    "redaction": {"rules", "linkage", "microseconds_per_2000_characters"},
}
DESCRIBED = {"date", "machine", "command"}

Json = dict[str, Any]  # a JSON object


def printed(path: Path, *options: str) -> Json:
    command = [sys.executable, str(path), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    found: Json = json.loads(done.stdout)
    return found


def numbers(value: Any) -> Iterator[float]:  # any JSON value
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from numbers(inner)
    elif isinstance(value, int | float):
        yield value


def incomplete(name: str, report: Json) -> Iterator[str]:
    missing = sorted(key for key in KEYS[name] | DESCRIBED if key not in report)
    yield from (f"{key} is missing" for key in missing)
    yield from (f"{number} is not finite" for number in numbers(report) if not math.isfinite(number))
    for key, peer in PEERS.get(name, {}).items():
        if report.get(key) is None and not report.get("skipped", {}).get(peer):
            yield f"{peer} has neither a ratio nor a reason"


def test_there_are_benchmarks() -> None:
    assert [path.stem for path in PROGRAMS] == sorted(KEYS)


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_quick_run_prints_finite_numbers_under_the_promised_keys(path: Path) -> None:
    report = printed(path, "--quick", "--json")
    assert list(incomplete(path.stem, report)) == []
    assert "imitrace" in report["versions"]


@pytest.mark.parametrize("path", PROGRAMS, ids=lambda path: path.stem)
def test_a_published_result_is_whole_and_from_a_full_run(path: Path) -> None:
    report = json.loads((FOLDER / "results" / f"{path.stem}.json").read_text(encoding="utf-8"))
    assert list(incomplete(path.stem, report)) == []
    assert not report.get("quick")


def test_the_index_names_every_benchmark_and_its_result() -> None:
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    names = [f"`{path.name}`" for path in PROGRAMS] + [f"`results/{path.stem}.json`" for path in PROGRAMS]
    assert [name for name in names if name not in index] == []


@pytest.mark.parametrize(
    ("report", "problem"),
    [
        ({"enabled_vs_bare_span": math.nan}, "nan is not finite"),
        ({"memory": {"samples": [[1, math.inf]]}}, "inf is not finite"),
        ({"logfire": None, "skipped": {}}, "logfire has neither a ratio nor a reason"),
        ({}, "enabled_vs_bare_span is missing"),
    ],
)
def test_a_report_that_is_not_whole_is_found_out(report: Json, problem: str) -> None:
    assert problem in list(incomplete("sdk_overhead", report))
