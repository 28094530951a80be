"""The commands about clones and keys, as a shell sees them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace_trainer.keys import signing_key

Fork = Callable[[Path], Path]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def read(result: Result) -> Any:  # JSON
    return json.loads(result.stdout)


def test_a_whole_clone_is_verified_by_name_and_by_folder(promoted_home: Path) -> None:
    folder = promoted_home / "clones/counter/v1"
    own = signing_key(promoted_home).public.id
    whole, gated = f"{folder} is whole: counter v1, signed by {own}\n", f"its gate's record is signed by {own}\n"
    for clone, said in {"counter": whole + gated, "counter:1": whole + gated, folder: whole}.items():
        told = run("clones", "verify", clone, "--home", promoted_home)
        assert (told.exit_code, told.stdout) == (0, said)
    assert read(run("clones", "verify", "counter", "--home", promoted_home, "--json")) == {
        "whole": True,
        "path": str(folder),
        "faults": [],
        "signed": {"clone": "counter", "version": 1, "key": own},
        "gate": {"signed": own},
    }


def test_a_changed_clone_fails_and_every_changed_file_is_named(promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    folder = home / "clones/counter/v1"
    (folder / "report.json").write_bytes((folder / "report.json").read_bytes().replace(b"0", b"1", 1))
    (folder / "more.md").touch()
    told = run("clones", "verify", "counter", "--home", home)
    assert (told.exit_code, told.stdout.splitlines()) == (
        1,
        [f"{folder}: report.json changed since it was signed", f"{folder}: more.md was added since it was signed"],
    )
    asked = run("clones", "verify", folder, "--home", home, "--json")
    assert (asked.exit_code, [fault["file"] for fault in read(asked)["faults"]]) == (1, ["report.json", "more.md"])
    shown = run("clones", "show", "counter", "--home", home)
    assert shown.stdout.startswith("! report.json changed since it was signed\n")


def test_a_changed_gate_record_fails_and_an_unsigned_one_is_told(promoted_home: Path, fork: Fork) -> None:
    home = fork(promoted_home)
    path = home / "clones/counter/gates/v1.json"
    record = json.loads(path.read_text())
    path.write_text(path.read_text().replace('"method": "', '"method": "not '))
    told = run("clones", "verify", "counter", "--home", home)
    assert (told.exit_code, told.stdout.split(": ")[1]) == (1, "../gates/v1.json changed since it was signed\n")
    del record["signature"]
    path.write_text(json.dumps(record, indent=2) + "\n")
    told = run("clones", "verify", "counter", "--home", home)
    assert (told.exit_code, told.stdout.splitlines()[1]) == (0, "its gate's record is not signed: gate it again")
    assert read(run("clones", "verify", "counter", "--home", home, "--json"))["gate"] == {"signed": None}


def test_a_clone_that_travels_is_verified_by_the_public_key_that_travels_with_it(
    promoted_home: Path, tmp_path: Path
) -> None:
    shutil.copytree(promoted_home / "clones/counter/v1", tmp_path / "counter-v1")
    (tmp_path / "clone.pub").write_text(run("keys", "show", "--home", promoted_home).stdout)
    clone, empty = tmp_path / "counter-v1", ("--home", tmp_path / "empty")
    assert run("clones", "verify", clone, "--key", tmp_path / "clone.pub", *empty).exit_code == 0
    nobody = run("clones", "verify", clone, *empty)
    assert (nobody.exit_code, nobody.stdout.rstrip()[-13:]) == (1, "trusted: none")
    signing_key(tmp_path / "other")
    other = run("clones", "verify", clone, "--key", tmp_path / "other/keys/clone.pub", *empty)
    assert (other.exit_code, "signature.json is by key" in other.stdout) == (1, True)
    assert not (tmp_path / "empty").exists()


def test_what_can_not_be_asked_is_a_users_error(promoted_home: Path, tmp_path: Path) -> None:
    assert run("clones", "verify", "nobody", "--home", promoted_home).exit_code == 2
    assert run("clones", "verify", "counter", "--key", tmp_path / "no.pub", "--home", promoted_home).exit_code == 2
    assert run("clones", "verify", tmp_path / "nowhere", "--home", promoted_home).exit_code == 1


@pytest.mark.parametrize("given", [["clones"], ["clones", "list"]])
def test_clones_are_listed(promoted_home: Path, given: list[str]) -> None:
    text = run(*given, "--home", promoted_home).stdout
    assert text.startswith("counter v1 (candidate, champion)  gate pass  acts in common, safety until 20")
    (row,) = read(run(*given, "--home", promoted_home, "--json"))
    assert (row["name"], row["version"], row["gate"]) == ("counter", 1, "pass")


def test_a_clone_is_shown_with_its_card_its_gate_and_its_passport(trained_home: Path, promoted_home: Path) -> None:
    text = run("clones", "show", "counter", "--home", promoted_home).stdout
    assert text.startswith("counter v1 (champion, candidate)\n\n# counter\n")
    assert "Passed: common, safety." in text
    assert "steps by expert" in text and "licence: nobody decided" in text
    assert "Never asked: it may act nowhere." in run("clones", "show", "counter", "--home", trained_home).stdout
    told = read(run("clones", "show", "counter:1", "--home", promoted_home, "--json"))
    assert (told["name"], told["version"], told["faults"], told["gate"]["verdict"]) == ("counter", 1, [], "pass")
    files = {"card.md", "critic.json", "critic.safetensors", "model.safetensors", "report.html", "report.json"}
    files |= {"second.json", "second.safetensors"}
    assert told["passport"]["files"].keys() == files


def test_keys_tell_which_signs_here_and_which_are_trusted(tmp_path: Path) -> None:
    home = ("--home", tmp_path)
    assert run("keys", *home).stdout == "no key yet: the first 'imitrace train' makes one\n"
    pem = run("keys", "show", *home).stdout
    own, other = signing_key(tmp_path).public, signing_key(tmp_path / "other").public
    assert pem == own.pem
    (tmp_path / "keys" / "other.pub").write_text(other.pem)
    assert run("keys", *home).stdout == f"{own.id}  signs here\n{other.id}  trusted\n"
    assert [row["signs_here"] for row in read(run("keys", *home, "--json"))] == [True, False]
    assert read(run("keys", "show", *home, "--json")) == {"key": own.id, "pem": own.pem}
