"""Keep the key that a workspace signs its clones with, and the public keys that it trusts.

keys/clone.key    Ed25519 (RFC 8032), PKCS 8 in PEM; made with the first clone, for its owner's eyes only
keys/clone.pub    its public half, PEM
keys/*.pub        each is trusted: put another workspace's here to use its clones
"""

import os
import secrets
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from imitrace.exceptions import ConfigError
from imitrace_trainer.drafts import locked

FOLDER: Final = "keys"
PRIVATE: Final = "clone.key"
PUBLIC: Final = "clone.pub"


class PublicKey:
    """Say whether a signature is by one key."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.id: str = key.public_bytes(Encoding.Raw, PublicFormat.Raw).hex()
        """The key's 32 bytes in hexadecimal."""

    def signed(self, content: bytes, signature: bytes) -> bool:
        """Return whether the signature is this key's, over this content."""
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True

    @property
    def pem(self) -> str:
        """The key as a file holds it."""
        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


class SigningKey:
    """Sign with a workspace's own key."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def sign(self, content: bytes) -> bytes:
        """Return the signature, 64 bytes; the same content has the same one each time."""
        return self._key.sign(content)


def signing_key(home: Path) -> SigningKey:
    """Return the workspace's key; the first call makes it.

    Raises:
        ConfigError: the key can't be read or written, others may read it, or ``clone.pub`` is another key's.
    """
    folder = home / FOLDER
    path = folder / PRIVATE
    try:
        if not path.exists():
            _make(folder)
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            raise ConfigError(f"{path} has mode {mode:04o}, allowed: 0600; run 'chmod 600 {path}'")
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} can't be read or made ({error}); put its backup back, or move it away") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds {type(key).__name__}, allowed: an Ed25519 key; move it away")
    own = SigningKey(key)
    _check_public(folder / PUBLIC, own.public)
    return own


def read_public(path: Path) -> PublicKey:
    """Return the public key in a PEM file.

    Raises:
        ConfigError: there is none, or it is of another kind.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, UnsupportedAlgorithm) as error:
        raise ConfigError(f"{path} holds no public key ({error}); get it with 'imitrace keys' where it is") from error
    if not isinstance(key, Ed25519PublicKey):
        raise ConfigError(f"{path} holds {type(key).__name__}, allowed: an Ed25519 public key")
    return PublicKey(key)


def trusted_keys(home: Path) -> Mapping[str, PublicKey]:
    """Return the workspace's own public key and the others in its folder, by id; none where there is no key yet.

    Raises:
        ConfigError: one of the files holds no public key.
    """
    keys = [read_public(path) for path in sorted((home / FOLDER).glob("*.pub"))]
    return {key.id: key for key in keys}


def _make(folder: Path) -> None:
    """Make a key, unless another process was faster."""
    with locked(folder):
        if (folder / PRIVATE).exists():
            return
        if (folder / PUBLIC).exists():
            raise ConfigError(
                f"{folder / PUBLIC} is there but not its {PRIVATE}: put {PRIVATE} back, "
                f"or rename {PUBLIC} so that it stays trusted and a new key is made"
            )
        key = Ed25519PrivateKey.generate()
        content = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        _put(folder / PRIVATE, content, 0o600)


def _check_public(path: Path, own: PublicKey) -> None:
    """Put the public half beside the key where it is missing; refuse another's."""
    if not path.exists():
        _put(path, own.pem.encode(), 0o644)
    elif read_public(path).id != own.id:
        raise ConfigError(f"{path} is not of {PRIVATE} beside it; rename it so that both are trusted")


def _put(path: Path, content: bytes, mode: int) -> None:
    """Write a file that appears whole, was never readable by more than ``mode`` allows, and outlives a power cut."""
    aside = path.with_name(f".{secrets.token_hex(8)}")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
