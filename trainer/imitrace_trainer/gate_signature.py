"""Sign a gate's record inside its own file, and say whether it is still what was signed.

Whose it is and the 64 bytes stand under ``signature``, the rest of the record is what they are over. Records of before
have none: they are unsigned, not broken.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from imitrace_trainer.keys import PublicKey, SigningKey
from imitrace_trainer.seal import Fault

_CONTEXT: Final = b"imitrace gate record\n"  # so that nothing else that the key ever signs can stand for a record


def sign_record(text: str, key: SigningKey) -> str:
    """Return a record, as ``GateReport.to_json`` writes it, with its signature."""
    record = json.loads(text)
    return _written({**record, "signature": {"key": key.public.id, "bytes": key.sign(_signed(record)).hex()}})


def record_signer(path: Path, keys: Mapping[str, PublicKey], due: tuple[str, int]) -> str | Fault | None:
    """Return the id of the key that signed a record, what is wrong with it, or None where it is not signed.

    Args:
        path: the record's file.
        keys: whose signature counts, by id.
        due: the clone and version that it must be of.
    """
    name = f"../gates/{path.name}"  # beside the version that it is of
    try:
        text = path.read_bytes().decode("utf-8")
        record = dict(json.loads(text))
        if "signature" not in record:
            return None
        told = record.pop("signature")
        signer, signature = str(told["key"]), bytes.fromhex(told["bytes"])
        whole = _written({**record, "signature": {"key": signer, "bytes": signature.hex()}})
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        return Fault(name, f"can't be read ({type(error).__name__})")
    key = keys.get(signer)
    if key is None:
        return Fault(name, f"is by key {signer[:16]}, trusted: {', '.join(one[:16] for one in keys) or 'none'}")
    if whole != text or not key.signed(_signed(record), signature):  # one spelling: no byte is free to change
        return Fault(name, "changed since it was signed")
    if (record.get("clone"), record.get("version")) != due:
        return Fault(name, f"is of {record.get('clone')} v{record.get('version')}, expected {due[0]} v{due[1]}")
    return signer


def _signed(record: Mapping[str, Any]) -> bytes:  # JSON
    return _CONTEXT + json.dumps(record, separators=(",", ":")).encode()


def _written(record: Mapping[str, Any]) -> str:  # JSON
    return json.dumps(record, indent=2) + "\n"
