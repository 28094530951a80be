"""Versions, aliases and gate records on a real disk, with real processes that race and die."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from imitrace.exceptions import CloneError
from imitrace_trainer.gate import GateConfig, GateReport, PairedCase, judge
from imitrace_trainer.registry import Promotion, Registry

_WRITE = """
import json, sys
from pathlib import Path
from imitrace_trainer.registry import Registry

def write(folder: Path) -> None:
    (folder / "clone.json").write_text(json.dumps({"dataset_hash": "d1"}))
    (folder / "model.safetensors").write_bytes(b"x" * 10_000)

registry = Registry(sys.argv[1])
"""


def files(**contents: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        for name, text in {"clone_json": json.dumps({"dataset_hash": "d1"}), **contents}.items():
            (folder / name.replace("_", ".")).write_text(text)

    return write


def report(version: int, only_expert: int = 0, dataset_hash: str = "d1", unsafe: bool = False) -> GateReport:
    cohort = "safety" if unsafe else "common"
    cases = [PairedCase(str(i), cohort, True, i >= only_expert, clone_unsafe=unsafe) for i in range(400)]
    return judge(
        cases,
        GateConfig(),
        method="rollout",
        dataset_hash=dataset_hash,
        clone="airline",
        version=version,
        created_at="2026-11-21T00:00:00Z",
    )


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    return Registry(tmp_path)


@pytest.fixture
def gated(registry: Registry) -> Registry:
    """Three versions of airline, each with a gate record that lets it pass."""
    for _ in range(3):
        version = registry.register("airline", files())
        registry.record_gate("airline", version, report(version))
    return registry


def process(code: str, home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", _WRITE + code, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_an_empty_workspace_has_no_clones(registry: Registry) -> None:
    assert registry.names() == []
    assert registry.versions("airline") == []
    assert registry.aliases("airline") == {}


def test_versions_count_up_and_the_newest_is_the_candidate(registry: Registry) -> None:
    assert [registry.register("airline", files(card_md=f"card {i}")) for i in range(2)] == [1, 2]
    assert registry.names() == ["airline"]
    assert registry.aliases("airline") == {"candidate": 2}
    assert (registry.resolve("airline:1").path / "card.md").read_text() == "card 0"


@pytest.mark.parametrize("name", ["model_pkl", "model_pt", "model_bin", "run_py", "noending"])
def test_a_file_that_could_run_code_is_refused_and_nothing_is_left(
    registry: Registry, name: str, tmp_path: Path
) -> None:
    with pytest.raises(CloneError, match=r"allowed: plain files ending in \.safetensors, \.json, \.md, \.html$"):
        registry.register("airline", files(**{name: "cos\nsystem\n"}))
    assert registry.versions("airline") == []
    assert [path.name for path in (tmp_path / "clones").iterdir()] == [".lock"]


def test_a_link_is_refused(registry: Registry) -> None:
    def write(folder: Path) -> None:
        files()(folder)
        (folder / "card.md").symlink_to("/etc/hostname")

    with pytest.raises(CloneError, match=r"clone airline holds 'card\.md', allowed: plain files"):
        registry.register("airline", write)


def test_a_version_without_clone_json_is_refused(registry: Registry) -> None:
    with pytest.raises(CloneError, match=r"holds no clone\.json, needed: what it is"):
        registry.register("airline", lambda folder: None)


def test_a_failed_write_leaves_no_trace_and_keeps_its_error(registry: Registry, tmp_path: Path) -> None:
    def write(folder: Path) -> None:
        files()(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        registry.register("airline", write)
    assert [path.name for path in (tmp_path / "clones").iterdir()] == [".lock"]


def test_the_number_of_a_deleted_version_is_not_given_again(gated: Registry) -> None:
    shutil.rmtree(gated.resolve("airline:3").path)
    assert gated.register("airline", files()) == 4


@pytest.mark.parametrize("name", ["", ".hidden", "../up", "a/b", "a:1", "a@b", "x" * 101])
def test_a_name_that_is_no_plain_word_is_refused(registry: Registry, name: str) -> None:
    with pytest.raises(CloneError, match=r"^clone name is .*, allowed: letters, digits"):
        registry.register(name, files())


@pytest.mark.parametrize(
    ("reference", "version"),
    [
        ("airline", 1),
        ("airline@champion", 1),
        ("airline@candidate", 3),
        ("airline@previous", 2),
        ("airline:2", 2),
        ("airline:v2", 2),
    ],
)
def test_a_reference_finds_its_version(gated: Registry, reference: str, version: int) -> None:
    gated.promote("airline", 2, dataset_hash="d1")
    gated.promote("airline", 1, dataset_hash="d1")
    name, number, path = gated.resolve(reference)
    assert (name, number, path.name) == ("airline", version, f"v{version}")
    assert path.is_dir()


@pytest.mark.parametrize(
    "reference", ["airline:9", "airline:", "airline:-1", "airline@", "airline@champion", "airline@best"]
)
def test_an_unknown_reference_lists_what_there_is(gated: Registry, reference: str) -> None:
    with pytest.raises(CloneError, match=r"there is: @candidate \(v3\), :v1, :v2, :v3$"):
        gated.resolve(reference)


def test_an_unknown_clone_lists_what_there_is(gated: Registry) -> None:
    with pytest.raises(CloneError, match=r"^clone 'retail' does not exist, there is: airline; run 'imitrace train'$"):
        gated.resolve("retail")


def test_without_a_champion_the_plain_name_means_the_newest_and_says_so(gated: Registry) -> None:
    name, version, _ = gated.resolve("airline")
    assert gated.describe(name, version) == "airline v3 (candidate, newest, no champion yet)"
    gated.promote("airline", 2, dataset_hash="d1")
    assert [gated.describe("airline", n) for n in (1, 2)] == ["airline v1", "airline v2 (champion)"]


def test_a_gate_record_is_kept_for_its_version_alone(gated: Registry) -> None:
    newer = report(2, only_expert=200)
    gated.record_gate("airline", 2, newer)
    assert gated.gate_record("airline", 2) == newer
    assert gated.gate_record("airline", 1) == report(1)
    assert gated.gate_record("airline", 9) is None


def test_a_gate_record_of_another_version_is_refused(gated: Registry) -> None:
    with pytest.raises(CloneError, match=r"^gate report is of airline v2, expected airline v1$"):
        gated.record_gate("airline", 1, report(2))


def test_promotion_takes_the_candidate_and_remembers_the_champion_before(gated: Registry) -> None:
    gated.promote("airline", 1, dataset_hash="d1")
    assert gated.promote("airline", dataset_hash="d1") == Promotion("airline", 3, 1, ("common",))
    assert gated.aliases("airline") == {"candidate": 3, "champion": 3, "previous": 1}


def test_promoting_the_champion_again_changes_nothing(gated: Registry) -> None:
    for version in (1, 2, 2):
        gated.promote("airline", version, dataset_hash="d1")
    assert gated.aliases("airline") == {"candidate": 3, "champion": 2, "previous": 1}


def test_nothing_is_promoted_without_a_gate_record(registry: Registry) -> None:
    registry.register("airline", files())
    with pytest.raises(CloneError, match=r"^airline v1 has no gate record; run 'imitrace gate airline:1'$"):
        registry.promote("airline", dataset_hash="d1")


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (report(3, only_expert=200), r"passed in no cohort \(\w+ fail\), needed: a pass in one cohort or more"),
        (report(3, only_expert=4), r"passed in no cohort \(\w+ inconclusive\)"),
        (report(3, unsafe=True), "is blocked by a safety regression"),
        (report(3, dataset_hash="d2"), "was made from dataset d1 and gated on d2, expected d1 for both"),
    ],
    ids=["failed", "inconclusive", "blocked", "another dataset"],
)
def test_a_record_that_does_not_allow_it_stops_the_promotion(gated: Registry, record: GateReport, message: str) -> None:
    gated.record_gate("airline", 3, record)
    with pytest.raises(CloneError, match=message):
        gated.promote("airline", dataset_hash="d1")
    assert "champion" not in gated.aliases("airline")


def test_a_dataset_that_moved_on_stops_the_promotion(gated: Registry) -> None:
    with pytest.raises(CloneError, match="made from dataset d1 and gated on d1, expected d2 for both"):
        gated.promote("airline", dataset_hash="d2")


def test_a_clone_that_names_no_dataset_is_not_promoted(registry: Registry) -> None:
    registry.register("airline", files(clone_json="{}"))
    registry.record_gate("airline", 1, report(1))
    with pytest.raises(CloneError, match=r"clone\.json names no dataset_hash"):
        registry.promote("airline", dataset_hash="d1")


def test_rollback_swaps_champion_and_previous_and_back(gated: Registry) -> None:
    gated.promote("airline", 1, dataset_hash="d1")
    gated.promote("airline", 3, dataset_hash="d1")
    assert gated.rollback("airline") == Promotion("airline", 1, 3, ("common",))
    assert gated.rollback("airline") == Promotion("airline", 3, 1, ("common",))


def test_rollback_without_a_previous_champion_is_refused(gated: Registry) -> None:
    gated.promote("airline", dataset_hash="d1")
    with pytest.raises(
        CloneError, match=r"'airline@previous' names no version, there is: @candidate \(v3\), @champion"
    ):
        gated.rollback("airline")


@pytest.mark.parametrize("text", ["{", "[]", '{"champion": "v3"}'])
def test_damaged_aliases_are_named(gated: Registry, tmp_path: Path, text: str) -> None:
    (tmp_path / "clones/airline/aliases.json").write_text(text)
    with pytest.raises(CloneError, match=r"aliases\.json is .*; delete it and promote again$"):
        gated.aliases("airline")


def test_two_processes_that_register_at_once_get_different_numbers(registry: Registry, tmp_path: Path) -> None:
    code = 'print("ready", flush=True); input(); print([registry.register("airline", write) for _ in range(20)])'
    both = [process(code, tmp_path) for _ in range(2)]
    for started in both:
        assert started.stdout and started.stdout.readline() == "ready\n"
    outputs = _go(both)
    given = sorted(number for output in outputs for number in json.loads(output))
    assert given == registry.versions("airline") == list(range(1, 41))
    assert registry.aliases("airline") == {"candidate": 40}


def test_two_processes_that_promote_at_once_leave_whole_aliases(gated: Registry, tmp_path: Path) -> None:
    code = """
print("ready", flush=True); input()
for turn in range(100):
    registry.promote("airline", 1 + turn % 3, dataset_hash="d1")
    registry.rollback("airline") if turn else None
print("done")
"""
    gated.promote("airline", 2, dataset_hash="d1")
    both = [process(code, tmp_path) for _ in range(2)]
    for started in both:
        assert started.stdout and started.stdout.readline() == "ready\n"
        _say(started)
    while any(started.poll() is None for started in both):
        assert {"champion", "candidate"} <= gated.aliases("airline").keys()
    assert [started.communicate()[0] for started in both] == ["done\n"] * 2
    aliases = gated.aliases("airline")
    assert aliases["champion"] != aliases["previous"]


def test_a_process_killed_while_it_writes_leaves_no_version(registry: Registry, tmp_path: Path) -> None:
    code = 'registry.register("airline", lambda folder: (write(folder), print("writing", flush=True), input()))'
    with process(code, tmp_path) as writer:
        assert writer.stdout and writer.stdout.readline() == "writing\n"
        writer.kill()
    assert registry.names() == []
    assert registry.register("airline", files()) == 1
    assert not list((tmp_path / "clones").glob(".new-*"))


def test_a_living_writer_is_not_swept_away(registry: Registry, tmp_path: Path) -> None:
    code = 'print(registry.register("airline", lambda folder: (write(folder), print("writing", flush=True), input())))'
    writer = process(code, tmp_path)
    assert writer.stdout and writer.stdout.readline() == "writing\n"
    assert registry.register("airline", files()) == 1
    assert _go([writer]) == ["2\n"]
    assert registry.versions("airline") == [1, 2]


def _say(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("go\n")
    process.stdin.flush()


def _go(processes: list[subprocess.Popen[str]]) -> list[str]:
    for each in processes:
        _say(each)
    return [each.communicate(timeout=60)[0] for each in processes]
