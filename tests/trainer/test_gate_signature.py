"""A signed gate record: whichever byte changes it is found; records of before are unsigned, not broken."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imitrace_trainer.gate import GateConfig, judge
from imitrace_trainer.gate_signature import record_signer, sign_record
from imitrace_trainer.keys import signing_key, trusted_keys
from imitrace_trainer.paired_cases import PairedCase
from imitrace_trainer.registry import Registry
from imitrace_trainer.seal import Fault

RECORD = "clones/desk/gates/v1.json"


def gate(home: Path) -> None:
    cases = [PairedCase(str(number), "common", True, True) for number in range(20)]
    named = {
        "method": "rollout",
        "dataset_hash": "d1",
        "clone": "desk",
        "version": 1,
        "created_at": "2026-11-21T00:00Z",
    }
    Registry(home).record_gate("desk", 1, judge(cases, GateConfig(), **named))  # type: ignore[arg-type]  # a table


def write(folder: Path) -> None:
    (folder / "clone.json").write_text('{"dataset_hash": "d1"}')


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("made")
    Registry(home).register("desk", write)
    gate(home)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def told(home: Path, due: tuple[str, int] = ("desk", 1)) -> str | Fault | None:
    return record_signer(home / RECORD, trusted_keys(home), due)


def test_what_a_gate_said_is_signed_and_read_as_before(home: Path) -> None:
    assert told(home) == signing_key(home).public.id
    kept = Registry(home).gate_record("desk", 1)
    assert kept is not None and (kept.clone, kept.version, kept.cohorts[0].tasks) == ("desk", 1, 20)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(at=st.integers(0, 10**6), change=st.integers(1, 255))
def test_any_byte_that_changes_is_found(made: Path, at: int, change: int) -> None:
    path = made / RECORD
    whole = path.read_bytes()
    content = bytearray(whole)
    content[at % len(content)] ^= change
    path.write_bytes(content)
    try:
        assert told(made) != signing_key(made).public.id
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda text: text.replace('"verdict": "inconclusive"', '"verdict": "pass"'), "changed since it was signed"),
        (lambda text: text.replace("\n", "\r\n"), "changed since it was signed"),
        (lambda text: json.dumps(dict(reversed(json.loads(text).items())), indent=2) + "\n", "changed since"),
        (lambda text: "[" * 100_000, "can't be read (RecursionError)"),
        (lambda text: "7", "can't be read (TypeError)"),
        (lambda text: json.dumps({**json.loads(text), "signature": {"key": [], "bytes": ""}}), "is by key []"),
    ],
)
def test_what_is_wrong_with_a_record_is_said(home: Path, change: Callable[[str], str], problem: str) -> None:
    (home / RECORD).write_text(change((home / RECORD).read_text()), newline="")
    found = told(home)
    assert isinstance(found, Fault) and found.file == "../gates/v1.json" and found.problem.startswith(problem)


def test_a_record_of_another_version_or_by_another_key_is_found(home: Path, tmp_path: Path) -> None:
    assert told(home, ("desk", 2)) == Fault("../gates/v1.json", "is of desk v1, expected desk v2")
    forger = signing_key(tmp_path / "forger")
    record = json.loads((home / RECORD).read_text())
    del record["signature"]
    (home / RECORD).write_text(sign_record(json.dumps(record), forger))
    found = told(home)
    assert isinstance(found, Fault) and found.problem.startswith(f"is by key {forger.public.id[:16]}, trusted:")


def test_without_a_key_a_gate_is_kept_unsigned(home: Path) -> None:
    (home / "keys/clone.key").unlink()  # as on a machine that only runs clones
    gate(home)
    assert told(home) is None
    assert Registry(home).gate_record("desk", 1) is not None
