"""Open a registered clone to act beside an agent, with the evidence that says where it may."""

import json
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from imitrace.exceptions import CloneError, ConfigError
from imitrace.messages import Message
from imitrace.verdict import Standing, Verdict
from imitrace_trainer.canary import CanaryFile
from imitrace_trainer.clone_files import CloneCard, read_clone, read_second
from imitrace_trainer.critic_files import criticised
from imitrace_trainer.evidence import Evidence
from imitrace_trainer.keys import FOLDER as KEYS
from imitrace_trainer.policy import State
from imitrace_trainer.registry import CloneVersion, Registry
from imitrace_trainer.relied_tools import ReliedTools
from imitrace_trainer.route import RoutedClone, Serving
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.thresholds import Thresholds
from imitrace_trainer.tool_ledger import FILE as TOOL_LEDGER
from imitrace_trainer.tool_ledger import ToolRules, read_ledger

_RECORDS = ("aliases.json", "gates", "route.json", "checks.json", "stepped_back.json", "canary.json")
_READ_MESSAGES = 1_000
"""How many messages of running conversations are kept as they were read."""


@dataclass(frozen=True)
class OpenClone:
    """A registered version that answers; safe to be asked from several threads at once."""

    version: CloneVersion
    card: CloneCard
    clone: RoutedClone
    evidence: Evidence
    """Where it may act, and until when."""
    problem: str | None = None
    """Why this is not the version that the reference means now, None when it is."""
    clock: Callable[[], float] = time.time
    """Seconds since 1970."""

    @property
    def standing(self) -> Standing:
        """Where the clone may act."""
        counts = self.evidence.at(self.clock())
        named = self.version.name, f"v{self.version.version}"
        back = counts.stepped_back
        reason = counts.lack or ("" if counts.cohorts else "; ".join(back.values()))
        return Standing(counts.cohorts, reason, *named, self.card.agent, back)

    def decide(
        self,
        messages: Sequence[str],
        tools: Sequence[Mapping[str, Any]],
        tags: Mapping[str, str],
        trajectory: str | None = None,
    ) -> Verdict:
        """Return what the clone would do in a state, and whether the route lets it.

        Args:
            messages: each the JSON text of a message in parts form, oldest first.
            tools: definitions ``{name, description, parameters}`` of the tools offered.
            tags: the trajectory's.
            trajectory: its id, by which handovers in it are remembered; None: they are not.
        """
        counts = self.evidence.at(self.clock())
        state = State([_message(messages[0], text) for text in messages], tools, tags, trajectory)
        decision, routed = replace(self.clone, passed=counts.cohorts, stepped_back=counts.stepped_back).decide(state)
        trusted = routed.actor == "clone"
        return Verdict(
            action=decision.action,
            trusted=trusted,
            reason=routed.reason if trusted else counts.lack or routed.reason,
            clone=self.version.name,
            version=f"v{self.version.version}",
            confidence=decision.confidence,
            ood=decision.ood,
            propensity=routed.propensity,
        )

    def judged(self, home: Path, problem: str | None = None) -> "OpenClone":
        """Return this clone with what its records and the tool ledger say now; what it remembers it keeps."""
        registry, rules, config, tried = Registry(home), ToolRules(), None, False
        try:
            evidence = registry.evidence(self.version)
            config = registry.route_config(self.version.name)
            tried = CanaryFile(home, self.version.name).read().runs(self.version.version)
            rules = read_ledger(home).rules(self.card.agent)
        except (CloneError, ConfigError) as error:
            evidence = Evidence(lack=f"{self.version.name} v{self.version.version}: {error}")
        serving = self.clone.serving
        if serving is None or (config is not None and serving.config != config):
            serving = Serving.by(config or RouteConfig())
        clone = replace(
            self.clone,
            policy=rules.restrict(self.clone.policy),
            thresholds=Thresholds.from_json(self.card.route).with_irreversible(rules.irreversible),
            serving=serving,
            second_key=serving.config.second_key,
            named=(self.version.name, str(self.version.version)),
            canary=serving.config.canary if tried else 0.0,
        )
        return replace(self, clone=clone, evidence=evidence, problem=problem)


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
        thresholds, relied = Thresholds.from_json(card.route), ReliedTools(**card.relied)
    except (LookupError, TypeError) as error:
        raise CloneError(f"{version.name} v{version.version} has no thresholds ({error!r}); train it again") from error
    acting = criticised(policy, version.path, policy.reader)
    clone = RoutedClone(acting, thresholds, (), second=read_second(version.path), relied=relied)
    return OpenClone(version, card, clone, Evidence())


def stamp(home: Path, reference: str) -> Hashable:
    """Return a value that changes with what the registry, the tool ledger and the keys say; it reads no weights."""
    folder = home / "clones" / re.split("[:@]", reference, maxsplit=1)[0]
    records = [folder / name for name in _RECORDS]
    watched = [folder, *records, home / TOOL_LEDGER, home / KEYS]
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


@lru_cache(maxsize=_READ_MESSAGES)
def _message(_first: str, text: str) -> Message:
    """Return a message as one object each time, so that the policy reads it once.

    The conversation's first message is part of the key, since its date says how the others' dates are to be read.
    """
    message: Message = json.loads(text)
    return message
