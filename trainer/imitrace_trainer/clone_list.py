"""List the versions of clones with what they are called, what their gates said, and where they may act until when."""

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imitrace.exceptions import CloneError
from imitrace_trainer.evidence import Evidence
from imitrace_trainer.registry import Registry


def list_clones(home: Path, now: float | None = None) -> list[dict[str, Any]]:
    """Return one record a registered version: its aliases, what its gate said, where it may act and until when."""
    registry = Registry(home)
    rows: list[dict[str, Any]] = []
    moment = time.time() if now is None else now
    for name in registry.names():
        aliases = registry.aliases(name)
        for number in registry.versions(name):
            version, verdict = registry.resolve(f"{name}:{number}"), "unreadable"
            try:
                record, evidence = registry.gate_record(name, number), registry.evidence(version)
                verdict = record.verdict if record else "not run"
            except CloneError as error:  # one damaged record hides no other
                evidence = Evidence(until=0.0, lapse=str(error))
            counts = evidence.at(moment)
            rows.append(
                {
                    "name": name,
                    "version": number,
                    "aliases": [alias for alias, target in aliases.items() if target == number],
                    "gate": verdict,
                    "cohorts": [*counts.cohorts],
                    "until": None if counts.until is None else _day(counts.until),
                    "lapsed": counts.lack if evidence.lack is None else None,
                    "stepped_back": dict(counts.stepped_back),
                    "path": str(version.path),
                }
            )
    return rows


def _day(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
