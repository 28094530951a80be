"""Ask the clone about a request, where it may answer at all, and say in a word why it does not."""

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imitrace.exceptions import WireError
from imitrace.messages import Action
from imitrace.provider import faults
from imitrace.verdict import Verdict
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.serving.asked import Form, Lack
from imitrace_trainer.serving.asking import GONE, OVERLOADED, AskedClones
from imitrace_trainer.serving.clone_process import LATE
from imitrace_trainer.serving.config import ServeConfig
from imitrace_trainer.serving.metrics import Metrics
from imitrace_trainer.serving.questions import Question
from imitrace_trainer.serving.recording import Reader, Seen

_OUTCOMES = {OVERLOADED: "overloaded", LATE: "late", GONE: "gone"}


@dataclass(frozen=True)
class Consulted:
    """What came of asking the clone about a request."""

    verdict: Verdict
    seen: Seen | None = None
    """The request, where it was read."""
    action: Action | None = None
    """What the clone does; None: the model decides."""


class Consultant:
    """Asks a clone about requests; whatever goes wrong, the model decides."""

    def __init__(self, config: ServeConfig, clone: AskedClones, reader: Reader, metrics: Metrics) -> None:
        self._config = config
        self._clone = clone
        self._reader = reader
        self._metrics = metrics

    async def consult(self, form: Form, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> Consulted:
        """Return who answers a request; where the clone may act nowhere this costs nothing."""
        shadow = self._config.shadow
        standing = self._clone.standing
        if not standing.cohorts and not (shadow and standing.version):
            return self._left(Lack("no_gate", standing.reason))
        if len(body) > self._config.ask_bytes:
            return self._left(Lack("too_large", "the request is too large for the clone"))
        try:
            seen = self._reader.read(form, headers, body)
        except WireError as error:
            return self._left(Lack("unreadable", str(error)))
        except Exception as error:  # whatever a body holds, the model is its judge
            faults().count("serve.read", f"{type(error).__name__}: {error}")
            return self._left(Lack("unreadable", "the request can't be read"))
        cohort = cohort_of(seen.conversation.tags)
        lack = seen.asked.lack
        if lack is None and cohort not in standing.cohorts and not shadow:
            refused = standing.stepped_back.get(cohort, f"cohort {cohort!r} has no passing gate")
            lack = Lack("cohort", refused)
        return await self._ask(form, seen) if lack is None else self._left(lack, seen)

    async def _ask(self, form: Form, seen: Seen) -> Consulted:
        started = time.perf_counter()
        verdict = await self._clone.ask(
            Question(
                seen.texts,
                "[]" if seen.tools is None else seen.tools.sent,
                seen.conversation.tags,
                seen.conversation.trajectory.id,
            )
        )
        seconds = time.perf_counter() - started
        action = verdict.action
        if not verdict.trusted or action is None:
            outcome = _OUTCOMES.get(verdict.reason, "failed" if action is None else "declined")
            self._metrics.asked(outcome, seconds)
            return Consulted(verdict, seen)
        lack = form.misfit(seen.asked, action)
        if lack is not None and not self._config.shadow:
            self._metrics.asked(lack.word, seconds)
            return Consulted(replace(verdict, trusted=False, reason=lack.reason), seen)
        self._metrics.asked("trusted", seconds)
        if action.kind == "tool_call" and not action.call_id:
            action = replace(action, call_id=f"call_{secrets.token_hex(12)}")
        return Consulted(verdict, seen, None if self._config.shadow else action)

    def _left(self, lack: Lack, seen: Seen | None = None) -> Consulted:
        self._metrics.asked(lack.word)
        return Consulted(Verdict(None, False, lack.reason), seen)
