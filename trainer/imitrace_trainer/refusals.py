"""Tell whether an action refuses what was asked for: by what the user says a refusal is, else by telling names."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from imitrace.messages import Action

_NAMES = re.compile(
    r"(?<![a-z])(?:refus|reject|declin|den(?:y|ied|ies)(?![a-z])|forbid|escalat|unauthori[sz]ed|not_allowed|"
    r"transfer_to_human|hand_?over|hand_?off)",
    re.IGNORECASE,
)
_VALUE = re.compile(r"[\w.-]{1,60}")
_REPLY = re.compile(
    r"\b(?:can(?:no|')t|cannot|unable to|not able to|not (?:allowed|permitted) to|must (?:refuse|decline))\b"
    r".{0,40}\b(?:help|assist|do (?:that|this|so)|share|provide|disclose|comply|fulfil|process|refund|give|discuss)",
    re.IGNORECASE | re.DOTALL,
)


@dataclass(frozen=True)
class Refusals:
    """What counts as one."""

    patterns: tuple[str, ...] = ()
    """``tool``, ``tool argument=value``, or ``/pattern/`` of a reply; none: tools and values whose names tell, and
    replies that say that something can't be done."""

    def holds(self, action: Action) -> bool:
        """Tell whether an action is a refusal."""
        if not self.patterns:
            return _telling(action)
        return any(_fits(pattern, action) for pattern in self.patterns)

    def any(self, actions: Sequence[Action]) -> bool:
        """Tell whether one of several actions is a refusal."""
        return any(map(self.holds, actions))


def _fits(pattern: str, action: Action) -> bool:
    if pattern.startswith("/"):
        return re.search(pattern.strip("/"), action.message or "", re.IGNORECASE) is not None
    name, *wanted = pattern.split()
    values = dict(part.partition("=")[::2] for part in wanted)
    return action.name == name and all(str(action.arguments.get(key)) == value for key, value in values.items())


def _telling(action: Action) -> bool:
    if action.kind == "message":
        return _REPLY.search((action.message or "").replace("\u2019", "'")) is not None
    values = [value for value in action.arguments.values() if isinstance(value, str) and _VALUE.fullmatch(value)]
    return any(_NAMES.search(text) for text in (action.name or "", *values))
