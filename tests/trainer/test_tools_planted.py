"""The planted case of ``benchmarks/tool_ledger.py``, small: real curation, real training, real decisions."""

from pathlib import Path

from imitrace_trainer.environment import load_object


def test_a_clone_makes_no_dead_call_after_a_rename_a_retirement_and_a_changed_argument() -> None:
    measure = load_object("tool_ledger:measure", Path(__file__).parents[2] / "benchmarks")
    report = measure(tasks=30, count=150)
    assert (report["undecided_before"], report["undecided_after"]) == (3, 0)
    assert (report["decisions"], report["dead_calls"], report["dead_calls_before_retraining"]) == (150, 0, 0)
    assert report["rows_with_a_map_kept"] == report["rows_with_a_map"] > 20
    assert report["rows_masked"] == report["rows_retired"] > 5
    assert report["dead_calls_without"] > 0
