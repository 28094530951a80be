"""Seal a clone's folder: ``clone.json`` names every other file's hash, ``signature.json`` signs ``clone.json``."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from imitrace.exceptions import CloneError
from imitrace_trainer.keys import PublicKey, SigningKey

RECORD: Final = "clone.json"
SIGNATURE: Final = "signature.json"
FORMAT: Final = 1
_CONTEXT: Final = b"imitrace clone\n"  # so that nothing else that the key ever signs can stand for a clone


class Fault(NamedTuple):
    """A file that is not what was signed, and how."""

    file: str
    problem: str


@dataclass(frozen=True)
class Signature:
    """What ``signature.json`` says."""

    format: int
    clone: str
    version: int
    record: str
    """SHA-256 of ``clone.json``."""
    key: str
    """Whose signature it is: an id as ``PublicKey.id``."""
    signature: str = ""
    """64 bytes in hexadecimal, over ``signed``."""

    @property
    def signed(self) -> bytes:
        """What the signature is over: the rest as JSON, keys sorted, no spaces, after words that say for what."""
        said = {name: value for name, value in asdict(self).items() if name != "signature"}
        return _CONTEXT + json.dumps(said, sort_keys=True, separators=(",", ":")).encode()

    @property
    def text(self) -> str:
        """The file's content."""
        return json.dumps(asdict(self), indent=1) + "\n"


def seal(folder: Path, clone: str, version: int, key: SigningKey) -> None:
    """Name every file's hash in ``clone.json`` and sign that, as this version of this clone.

    Raises:
        CloneError: ``clone.json`` can't be read or is no JSON object.
    """
    path = folder / RECORD
    record = read_record(folder)
    named = sorted(entry for entry in folder.iterdir() if entry.name not in (RECORD, SIGNATURE))
    passport = record.get("passport")
    record["passport"] = {
        **(passport if isinstance(passport, dict) else {}),
        "files": {entry.name: file_hash(entry) for entry in named},
    }
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    unsigned = Signature(FORMAT, clone, version, file_hash(path), key.public.id)
    signed = Signature(**{**asdict(unsigned), "signature": key.sign(unsigned.signed).hex()})
    (folder / SIGNATURE).write_text(signed.text, encoding="utf-8")


def read_record(folder: Path) -> dict[str, Any]:  # JSON
    """Return a clone's ``clone.json``.

    Raises:
        CloneError: it can't be read or is no JSON object.
    """
    try:
        record = _record((folder / RECORD).read_bytes())
    except OSError as error:
        raise CloneError(f"{folder / RECORD} can't be read ({error.strerror}); train the clone again") from error
    if record is None:
        raise CloneError(f"{folder / RECORD} is no JSON object; train the clone again")
    return record


def read_signature(folder: Path) -> Signature | Fault:
    """Return what a clone's signature says, nothing of which is checked, or why it says nothing."""
    try:
        text = (folder / SIGNATURE).read_bytes().decode("utf-8")
        found = Signature(**json.loads(text))
        told = found.text == text and isinstance(found.key, str)
        if told and bytes.fromhex(found.signature).hex() == found.signature:  # one spelling: no byte is free to change
            return found
    except FileNotFoundError:
        return Fault(SIGNATURE, "is missing: the clone is not signed")
    except (OSError, ValueError, TypeError, RecursionError) as error:
        return Fault(SIGNATURE, f"can't be read ({type(error).__name__})")
    return Fault(SIGNATURE, "is not as imitrace writes it")


def faults(folder: Path, keys: Mapping[str, PublicKey], due: tuple[str, int] | None = None) -> list[Fault]:
    """Return every file that is not what was signed; none for a clone that is whole.

    Args:
        folder: a clone version's.
        keys: whose signature counts, by id.
        due: the clone and version that it must be; None where any will do.
    """
    found = read_signature(folder)
    if isinstance(found, Fault):
        return [found]
    if fault := _signature_fault(found, keys, due):
        return [fault]
    try:
        content = (folder / RECORD).read_bytes()
    except OSError as error:
        return [Fault(RECORD, f"can't be read ({error.strerror})")]
    record = _record(content)
    if hashlib.sha256(content).hexdigest() != found.record or record is None:
        return [Fault(RECORD, "changed since it was signed")]
    named = {**record["passport"]["files"], RECORD: found.record, SIGNATURE: None}
    present = {entry.name: entry for entry in folder.iterdir()}
    changed = [_file_fault(name, present.get(name), hashed) for name, hashed in sorted(named.items()) if hashed]
    added = [Fault(name, "was added since it was signed") for name in sorted(present.keys() - named.keys())]
    return [*filter(None, changed), *added]


def check_seal(folder: Path, keys: Mapping[str, PublicKey], due: tuple[str, int]) -> None:
    """Refuse a clone whose files are not what was signed.

    Raises:
        CloneError: names the first such file.
    """
    found = faults(folder, keys, due)
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise CloneError(
            f"clone {folder} can't be read ({found[0].file} {found[0].problem}{more}): "
            f"copy it again from where it was made, or train it again"
        )


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _signature_fault(found: Signature, keys: Mapping[str, PublicKey], due: tuple[str, int] | None) -> Fault | None:
    if found.format != FORMAT:
        return Fault(SIGNATURE, f"has format {found.format}, this imitrace reads {FORMAT}")
    key = keys.get(found.key)
    if key is None:
        known = ", ".join(name[:16] for name in keys) or "none"
        return Fault(SIGNATURE, f"is by key {found.key[:16]}, trusted: {known}")
    if not key.signed(found.signed, bytes.fromhex(found.signature)):
        return Fault(SIGNATURE, f"is not what key {found.key[:16]} signed")
    if due is not None and (found.clone, found.version) != due:
        return Fault(SIGNATURE, f"is of {found.clone} v{found.version}, expected {due[0]} v{due[1]}")
    return None


def _file_fault(name: str, path: Path | None, hashed: str) -> Fault | None:
    if path is None:
        return Fault(name, "is missing")
    if path.is_symlink() or not path.is_file():
        return Fault(name, "is no plain file")
    try:
        return None if file_hash(path) == hashed else Fault(name, "changed since it was signed")
    except OSError as error:
        return Fault(name, f"can't be read ({error.strerror})")


def _record(content: bytes) -> dict[str, Any] | None:  # JSON
    try:
        record = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
