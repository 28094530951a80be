"""Open a registered clone to act beside an agent, with the evidence that says where it may."""

import json
import re
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from imitrace.clones import Verdict
from imitrace.exceptions import CloneError, ConfigError
from imitrace.messages import Message
from imitrace_trainer.clone_files import CloneCard, read_clone
from imitrace_trainer.critic_files import criticised
from imitrace_trainer.keys import FOLDER as KEYS
from imitrace_trainer.policy import State
from imitrace_trainer.registry import CloneVersion, Registry
from imitrace_trainer.route import RoutedClone, Thresholds
from imitrace_trainer.tool_ledger import FILE as TOOL_LEDGER
from imitrace_trainer.tool_ledger import ToolRules, read_ledger

_READ_MESSAGES = 1_000
"""How many messages of running conversations are kept as they were read."""


@dataclass(frozen=True)
class OpenClone:
    """A registered version that answers; safe to be asked from several threads at once."""

    version: CloneVersion
    card: CloneCard
    clone: RoutedClone
    lack: str | None
    """Why it may act nowhere, None when it may."""
    problem: str | None = None
    """Why this is not the version that the reference means now, None when it is."""

    def decide(self, messages: Sequence[str], tools: Sequence[Mapping[str, Any]], tags: Mapping[str, str]) -> Verdict:
        """Return what the clone would do in a state, and whether the route lets it.

        Args:
            messages: each the JSON text of a message in parts form, oldest first.
            tools: definitions ``{name, description, parameters}`` of the tools offered.
            tags: the trajectory's.
        """
        decision, routed = self.clone.decide(State([_message(messages[0], text) for text in messages], tools, tags))
        trusted = routed.actor == "clone"
        return Verdict(
            action=decision.action,
            trusted=trusted,
            reason=routed.reason if trusted else self.lack or routed.reason,
            clone=self.version.name,
            version=f"v{self.version.version}",
            confidence=decision.confidence,
            ood=decision.ood,
        )

    def judged(self, home: Path, problem: str | None = None) -> "OpenClone":
        """Return this clone with what its gate's record and the tool ledger say now."""
        passed, lack = _evidence(Registry(home), self.version, self.card)
        try:
            rules = read_ledger(home).rules(self.card.agent)
        except ConfigError as error:
            rules, passed, lack = ToolRules(), (), str(error)
        thresholds = Thresholds.from_json(self.card.route).with_irreversible(rules.irreversible)
        clone = RoutedClone(rules.restrict(self.clone.policy), thresholds, passed)
        return replace(self, clone=clone, lack=lack, problem=problem)


def open_clone(home: Path, reference: str, before: OpenClone | None = None) -> OpenClone:
    """Return the version that a reference means; a bare ``NAME`` is its champion and nothing else.

    Args:
        home: the workspace.
        reference: as ``Registry.resolve`` takes it.
        before: what was open so far. Its weights serve on when it is still meant. When a newer version is meant that
            can't be read, it stays, with its own evidence read again and the ``problem``; when an older one is meant
            (a rollback), it does not.

    Raises:
        CloneError: the reference names no version, or the version can't be read or is not what was signed.
        ConfigError: a trusted key can't be read.
    """
    version = Registry(home).resolve(_marked(reference))
    if before is not None and before.version == version:
        return before.judged(home)
    try:
        Registry(home).check(version)
        return _read(version).judged(home)
    except (CloneError, ConfigError) as error:
        if before is None or before.version.version > version.version:
            raise
        return before.judged(home, f"{version.name} v{version.version} can't be read: {error}")


def _read(version: CloneVersion) -> OpenClone:
    policy, card = read_clone(version.path)
    policy.reader.limit = _READ_MESSAGES
    try:
        thresholds = Thresholds.from_json(card.route)
    except (LookupError, TypeError) as error:
        raise CloneError(f"{version.name} v{version.version} has no thresholds ({error!r}); train it again") from error
    acting = criticised(policy, version.path, policy.reader)
    return OpenClone(version, card, RoutedClone(acting, thresholds, ()), None)


def stamp(home: Path, reference: str) -> Hashable:
    """Return a value that changes with what the registry, the tool ledger and the keys say; it reads no weights."""
    folder = home / "clones" / re.split("[:@]", reference, maxsplit=1)[0]
    watched = [folder, folder / "aliases.json", folder / "gates", home / TOOL_LEDGER, home / KEYS]
    with suppress(CloneError, OSError):  # what is watched already changes when this is mended
        watched.append(folder / "gates" / f"v{Registry(home).resolve(_marked(reference)).version}.json")
    return tuple(_file_stamp(path) for path in watched)


def calm_torch() -> None:
    """Give torch one thread: where it serves nothing but a clone, and in a forked child.

    A clone's matrices are so small that a second thread costs more than it gives, and OpenMP's threads don't survive a
    fork: the first computation that looks for them waits for ever.
    """
    torch.set_num_threads(1)


def _marked(reference: str) -> str:
    return reference if re.search("[:@]", reference) else f"{reference}@champion"


def _file_stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _evidence(registry: Registry, version: CloneVersion, card: CloneCard) -> tuple[tuple[str, ...], str | None]:
    """Return the cohorts where a version may act by its gate's record, or why there is none."""
    label = f"{version.name} v{version.version}"
    try:
        report = registry.gate_record(version.name, version.version)
    except CloneError as error:
        return (), f"{label}: {error}"
    if report is None or (report.clone, report.version) != (version.name, version.version):
        return (), f"{label} has no gate record"
    if report.dataset_hash != card.dataset_hash:
        return (), f"{label} was gated on another dataset than it was made from"
    passed = report.passed_cohorts()
    return passed, None if passed else f"{label} passed its gate in no cohort"


@lru_cache(maxsize=_READ_MESSAGES)
def _message(_first: str, text: str) -> Message:
    """Return a message as one object each time, so that the policy reads it once.

    The conversation's first message is part of the key, since its date says how the others' dates are to be read.
    """
    message: Message = json.loads(text)
    return message
