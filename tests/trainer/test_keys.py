"""A workspace's key: made once, for its owner's eyes only, and whose signatures count."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from imitrace.exceptions import ConfigError
from imitrace_trainer.keys import read_public, signing_key, trusted_keys


def test_the_key_is_made_at_first_use_and_kept(tmp_path: Path) -> None:
    assert trusted_keys(tmp_path) == {}
    made, again = signing_key(tmp_path), signing_key(tmp_path)
    assert made.public.id == again.public.id == read_public(tmp_path / "keys" / "clone.pub").id
    assert list(trusted_keys(tmp_path)) == [made.public.id]
    assert again.public.signed(b"yes", made.sign(b"yes"))
    assert not again.public.signed(b"no", made.sign(b"yes"))


def test_only_its_owner_can_read_the_key_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        signing_key(tmp_path)
    finally:
        os.umask(old)
    assert (tmp_path / "keys" / "clone.key").stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == [".lock", "clone.key", "clone.pub"]


def test_a_key_that_others_can_read_is_not_used(tmp_path: Path) -> None:
    signing_key(tmp_path)
    (tmp_path / "keys" / "clone.key").chmod(0o640)
    with pytest.raises(ConfigError, match=r"clone\.key has mode 0640, allowed: 0600; run 'chmod 600 "):
        signing_key(tmp_path)


def test_two_workspaces_have_two_keys_and_may_trust_each_other(tmp_path: Path) -> None:
    one, other = signing_key(tmp_path / "one"), signing_key(tmp_path / "other")
    assert one.public.id != other.public.id
    shutil.copy(tmp_path / "other/keys/clone.pub", tmp_path / "one/keys/other.pub")
    assert set(trusted_keys(tmp_path / "one")) == {one.public.id, other.public.id}


def test_a_public_key_without_its_private_half_is_not_replaced(tmp_path: Path) -> None:
    old = signing_key(tmp_path).public.id
    (tmp_path / "keys" / "clone.key").unlink()
    with pytest.raises(
        ConfigError, match=r"clone\.pub is there but not its clone\.key: put clone\.key back, or rename"
    ):
        signing_key(tmp_path)
    (tmp_path / "keys" / "clone.pub").rename(tmp_path / "keys" / "old.pub")
    new = signing_key(tmp_path).public.id
    assert set(trusted_keys(tmp_path)) == {old, new}


def test_a_public_key_of_another_key_is_refused(tmp_path: Path) -> None:
    signing_key(tmp_path / "one")
    signing_key(tmp_path / "other")
    shutil.copy(tmp_path / "other/keys/clone.pub", tmp_path / "one/keys/clone.pub")
    with pytest.raises(ConfigError, match=r"clone\.pub is not of clone\.key beside it; rename it"):
        signing_key(tmp_path / "one")


def test_a_missing_public_key_is_written_again(tmp_path: Path) -> None:
    own = signing_key(tmp_path).public.id
    (tmp_path / "keys" / "clone.pub").unlink()
    assert signing_key(tmp_path).public.id == own
    assert list(trusted_keys(tmp_path)) == [own]


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_damaged_key_is_named(tmp_path: Path, content: bytes) -> None:
    signing_key(tmp_path)
    for name, message in (("clone.key", "put its backup back"), ("clone.pub", "holds no public key")):
        kept = (tmp_path / "keys" / name).read_bytes()
        (tmp_path / "keys" / name).write_bytes(content)
        with pytest.raises(ConfigError, match=rf"{name} .*{message}"):
            signing_key(tmp_path)
        (tmp_path / "keys" / name).write_bytes(kept)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    signing_key(tmp_path)
    key = generate_private_key(SECP256R1())
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "keys" / "ec.pub").write_bytes(public)
    with pytest.raises(ConfigError, match=r"ec\.pub holds ECPublicKey, allowed: an Ed25519 public key"):
        trusted_keys(tmp_path)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "keys" / "clone.key").write_bytes(private)
    with pytest.raises(ConfigError, match="allowed: an Ed25519 key"):
        signing_key(tmp_path)


def test_processes_that_make_the_key_at_once_get_the_same_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from imitrace_trainer.keys import signing_key;"
        "print('ready', flush=True); input(); print(signing_key(Path(sys.argv[1])).public.id)"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    ready = [process.stdout.readline() for process in started if process.stdout]
    for process in started:
        assert process.stdin
        process.stdin.write("\n")
        process.stdin.flush()
    told = {process.communicate(timeout=60)[0] for process in started}
    assert (ready, told) == (["ready\n"] * 3, {f"{signing_key(tmp_path).public.id}\n"})
