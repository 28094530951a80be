"""A sealed clone: whichever byte changes, whatever comes or goes, the file is named; and by whom it must be signed."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from imitrace.exceptions import CloneError
from imitrace_trainer.keys import signing_key, trusted_keys
from imitrace_trainer.registry import CloneVersion, Registry
from imitrace_trainer.seal import Fault, check_seal, faults, read_signature, seal

FILES = ("card.md", "clone.json", "model.safetensors", "report.json", "signature.json")


def write(weights: bytes) -> Callable[[Path], None]:
    def files(folder: Path) -> None:
        (folder / "clone.json").write_text(json.dumps({"dataset_hash": "d1", "passport": {"seeds": {"train": 3}}}))
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "report.json").write_text('{"tasks": 4}\n')
        (folder / "card.md").write_text("# desk\n")

    return files


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a workspace with two versions of ``desk`` and one of ``till``."""
    home = tmp_path_factory.mktemp("made")
    for name, weights in (("desk", b"one" * 99), ("desk", b"two" * 99), ("till", b"six" * 99)):
        Registry(home).register(name, write(weights))
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def found(home: Path, reference: str = "desk:1") -> list[Fault]:
    registry = Registry(home)
    return registry.faults(registry.resolve(reference))


def said(text: str, **changed: object) -> str:
    return json.dumps(json.loads(text) | changed, indent=1) + "\n"


def test_what_was_registered_is_whole(home: Path) -> None:
    assert [found(home, reference) for reference in ("desk:1", "desk:2", "till:1")] == [[], [], []]
    folder = home / "clones/desk/v1"
    assert sorted(path.name for path in folder.iterdir()) == list(FILES)
    record = json.loads((folder / "clone.json").read_text())
    assert sorted(record["passport"]["files"]) == ["card.md", "model.safetensors", "report.json"]
    assert record["passport"]["seeds"] == {"train": 3}


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(name=st.sampled_from(FILES), at=st.integers(0, 10**6), change=st.integers(1, 255))
def test_any_byte_that_changes_names_its_file(made: Path, name: str, at: int, change: int) -> None:
    path = made / "clones/desk/v1" / name
    whole = path.read_bytes()
    content = bytearray(whole)
    content[at % len(content)] ^= change
    path.write_bytes(content)
    try:
        assert [fault.file for fault in found(made)] == [name]
    finally:
        path.write_bytes(whole)
    assert found(made) == []


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(path.read_bytes() + b"\n"),
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["longer", "shorter", "empty", "gone", "folder"],
)
def test_a_file_that_is_not_as_it_was_is_named(home: Path, name: str, change: Callable[[Path], object]) -> None:
    change(home / "clones/desk/v1" / name)
    assert [fault.file for fault in found(home)] == [name]


def test_a_file_that_was_replaced_by_a_link_to_the_same_bytes_is_named(home: Path) -> None:
    path = home / "clones/desk/v1/model.safetensors"
    moved = path.rename(home / "weights")
    path.symlink_to(moved)
    assert found(home) == [Fault("model.safetensors", "is no plain file")]


@pytest.mark.parametrize("name", ["extra.json", ".hidden", "clone.json.bak"])
def test_a_file_that_was_added_is_named(home: Path, name: str) -> None:
    (home / "clones/desk/v1" / name).touch()
    assert found(home) == [Fault(name, "was added since it was signed")]


def test_every_changed_file_is_named(home: Path) -> None:
    folder = home / "clones/desk/v1"
    (folder / "card.md").write_text("# better\n")
    (folder / "report.json").unlink()
    (folder / "notes.md").touch()
    assert [fault.file for fault in found(home)] == ["card.md", "report.json", "notes.md"]


def test_weights_swapped_between_two_clones_are_found_in_both(home: Path) -> None:
    one, other = home / "clones/desk/v1/model.safetensors", home / "clones/till/v1/model.safetensors"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    assert [[fault.file for fault in found(home, name)] for name in ("desk:1", "till:1")] == [["model.safetensors"]] * 2


@pytest.mark.parametrize("other", ["desk/v2", "till/v1"])
def test_a_whole_folder_in_another_ones_place_is_found(home: Path, other: str) -> None:
    shutil.rmtree(home / "clones/desk/v1")
    shutil.copytree(home / "clones" / other, home / "clones/desk/v1")
    assert found(home) == [Fault("signature.json", f"is of {other.replace('/', ' ')}, expected desk v1")]


def test_a_record_and_signature_of_another_version_do_not_fit_the_weights(home: Path) -> None:
    for name in ("clone.json", "signature.json"):
        shutil.copy(home / "clones/till/v1" / name, home / "clones/desk/v1" / name)
    folder = home / "clones/desk/v1"
    assert [fault.file for fault in faults(folder, trusted_keys(home))] == ["model.safetensors"]


def test_an_unsigned_clone_is_not_whole(home: Path) -> None:
    (home / "clones/desk/v1/signature.json").unlink()
    assert found(home) == [Fault("signature.json", "is missing: the clone is not signed")]


def test_who_signs_again_with_another_key_is_found_out(home: Path, tmp_path: Path) -> None:
    folder, forger = home / "clones/desk/v1", signing_key(tmp_path / "forger")
    (folder / "model.safetensors").write_bytes(b"worse")
    seal(folder, "desk", 1, forger)
    (fault,) = found(home)
    assert (fault.file, fault.problem.split(",")[0]) == ("signature.json", f"is by key {forger.public.id[:16]}")
    assert faults(folder, trusted_keys(tmp_path / "forger")) == []


def test_who_claims_to_be_another_key_is_found_out(home: Path, tmp_path: Path) -> None:
    folder, own = home / "clones/desk/v1", signing_key(home).public.id
    forger = signing_key(tmp_path / "forger")
    seal(folder, "desk", 1, forger)
    path = folder / "signature.json"
    path.write_text(path.read_text().replace(forger.public.id, own))
    assert found(home) == [Fault("signature.json", f"is not what key {own[:16]} signed")]


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(" ", ""),
        lambda text: text.replace("\n", "\r\n"),
        lambda text: said(text, format=2),
        lambda text: said(text, key=["a"]),
        lambda text: said(text, clone="\ud800"),
        lambda text: said(text, signature=json.loads(text)["signature"].upper()),
        lambda text: said(text, signature=7),
        lambda text: said(text, more=7),
        lambda text: "[" * 100_000,
        lambda text: "null",
    ],
)
def test_a_signature_has_one_spelling(home: Path, change: Callable[[str], str]) -> None:
    path = home / "clones/desk/v1/signature.json"
    path.write_text(change(path.read_text()), newline="")
    assert [fault.file for fault in found(home)] == ["signature.json"]


def test_a_changed_clone_is_neither_promoted_nor_checked_as_whole(home: Path) -> None:
    (home / "clones/desk/v1/card.md").write_text("# better\n")
    with pytest.raises(CloneError, match=r"clone .*v1 can't be read \(card\.md changed since it was signed\): copy it"):
        Registry(home).promote("desk", 1, dataset_hash="d1")
    with pytest.raises(CloneError, match=r"card\.md changed"):
        check_seal(home / "clones/desk/v1", trusted_keys(home), ("desk", 1))
    Registry(home).check(CloneVersion("desk", 2, home / "clones/desk/v2"))


def test_a_folder_that_is_not_there_is_not_whole(tmp_path: Path) -> None:
    fault = read_signature(tmp_path / "nowhere")
    assert isinstance(fault, Fault) and fault.file == "signature.json"


@pytest.mark.parametrize("text", ["[]", "{", "null"])
def test_a_record_that_is_no_object_is_not_sealed(tmp_path: Path, text: str) -> None:
    def damaged(folder: Path) -> None:
        (folder / "clone.json").write_text(text)

    with pytest.raises(CloneError, match=r"clone\.json is no JSON object"):
        Registry(tmp_path).register("desk", damaged)
