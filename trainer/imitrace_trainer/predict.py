"""Write what a clone would do at every decision of recorded conversations, beside what was done there.

The state is the true history before a decision. What was done is compared as a person would: the first call of a
decision that made several. A reply that is left to the expert is right where it replied, a text where it is its text.
"""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from imitrace.exceptions import ConfigError, ImitraceError
from imitrace.messages import Action, Message, decisions, from_openai, tool_definition
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.policy import Decision, Policy, State, same_action
from imitrace_trainer.quality import Judged, judge_decisions
from imitrace_trainer.route import route
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.task_draws import Share, TaskDraws
from imitrace_trainer.thresholds import Thresholds


@dataclass
class Prediction:
    """How a run over a file went."""

    trajectories: int = 0
    decisions: int = 0
    broken: list[str] = field(default_factory=list)
    """What was wrong with each line that was left out, with its number."""
    judged: list[Judged] = field(default_factory=list, repr=False)
    """Each decision beside what was done."""
    successes: list[bool | None] = field(default_factory=list, repr=False)
    """Of each decision whether its trajectory succeeded; None where the line has no ``reward``."""


@dataclass(frozen=True)
class Agreement:
    """How often a clone's decisions are what was done, each share with its 95 % interval by task."""

    tasks: int
    decisions: int
    action: Share
    """The same tool, or both a reply."""
    exact: Share
    """The same action, arguments included."""
    call_exact: Share
    """All arguments, where both call the same tool."""
    acted: Share
    """Share that the clone would take where its gate had passed."""
    acted_right: Share
    """Of those, the share that is what was done."""

    def text(self) -> str:
        """Return this as text, a line a figure."""
        if not self.decisions:
            return "nothing to agree with"
        none = "none: too unsure, too strange, or it may never act"
        return "\n".join(
            [
                f"  action agreement    {self.action}, of {self.tasks} tasks",
                f"  exact agreement     {self.exact}",
                f"  argument exactness  {self.call_exact}",
                f"  would take          {self.acted if self.acted.value else none}",
                *([f"  of that right       {self.acted_right}"] if self.acted_right.decisions else []),
            ]
        )


def agreement(judged: Sequence[Judged]) -> Agreement:
    """Return how often decisions are what was done."""
    draws = TaskDraws([one.task for one in judged])
    exact = [one.exact for one in judged]
    called = [one.agrees and one.label != MESSAGE for one in judged]
    acts = [one.acts for one in judged]
    return Agreement(
        tasks=len({one.task for one in judged}),
        decisions=len(judged),
        action=draws.share([one.agrees for one in judged]),
        exact=draws.share(exact),
        call_exact=draws.share(exact, called),
        acted=draws.share(acts),
        acted_right=draws.share(exact, acts),
    )


def summary(done: Prediction) -> dict[str, Agreement]:
    """Return the agreement over all decisions and, where rewards are known, over those of successes."""
    found = {"all": agreement(done.judged)}
    if any(success is not None for success in done.successes):
        kept = [one for one, success in zip(done.judged, done.successes, strict=True) if success]
        found["successes"] = agreement(kept)
    return found


def summary_json(done: Prediction) -> dict[str, Any]:
    """Return the same as JSON values, with the counts and what was left out."""
    told = {name: asdict(one) for name, one in summary(done).items()}
    counts = {"trajectories": done.trajectories, "decisions": done.decisions, "broken": done.broken}
    return counts | {"agreement": told}


@dataclass(frozen=True)
class Predictor:
    """A clone, what is offered to it, and from when it would act."""

    policy: Policy
    tools: Sequence[Mapping[str, Any]]
    """Definitions offered at every decision, for lines that bring no ``tools`` of their own."""
    thresholds: Thresholds


def predict_file(predictor: Predictor, source: Path, target: Path) -> Prediction:
    """Write one JSON line for every assistant decision in ``source``.

    Args:
        predictor: the clone.
        source: chat JSONL in OpenAI form, plain or gz: ``id`` and ``messages`` a line; ``task_id``, ``tools``,
            ``tags`` and ``reward`` count where they are there.
        target: written aside and renamed when it is whole.

    Returns:
        Counts, decisions beside what was done, and what was wrong with lines that could not be read; the others are
        written.

    Raises:
        ConfigError: the file is absent or damaged, or ``target`` can't be written.
    """
    result = Prediction()
    aside = target.with_name(f".{target.name}.part")
    try:
        with aside.open("w", encoding="utf-8", errors="backslashreplace") as out:  # halves of a pair stay JSON
            for number, line in enumerate(read_lines(source), start=1):
                if line.strip():
                    _predict_line(predictor, (number, line), out, result)
        aside.replace(target)
    except OSError as error:
        raise ConfigError(
            f"file {target} can't be written: {error.strerror}; name one in a folder that exists"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink()
    return result


def _predict_line(predictor: Predictor, numbered: tuple[int, str], out: IO[str], result: Prediction) -> None:
    number, line = numbered
    try:
        record = json.loads(line.rstrip("\n"))
        shown = _shown(record, predictor.tools)
    except json.JSONDecodeError as error:
        result.broken.append(f"line {number}: no JSON: {error.msg} at column {error.colno}")
        return
    except (ValueError, RecursionError, ImitraceError) as error:
        result.broken.append(f"line {number}: {error}")
        return
    result.trajectories += 1
    success = _success(record)
    for step, one in shown:
        decision = predictor.policy.act(one.state)
        told = prediction_record(str(record["id"]), step, decision) | _beside(decision, one, predictor.thresholds)
        out.write(json.dumps(told, ensure_ascii=False) + "\n")
        result.decisions += 1
        result.judged += judge_decisions([decision], [one], predictor.thresholds)
        result.successes.append(success)


def _shown(record: Any, tools: Sequence[Mapping[str, Any]]) -> list[tuple[int, Demonstration]]:  # any JSON value
    """Return the decisions of a line, each with the index of its first step.

    Raises:
        ConfigError: it is no conversation.
    """
    if not isinstance(record, dict) or not isinstance(record.get("messages"), list) or "id" not in record:
        raise ConfigError("expected an object with 'id' and 'messages'")
    messages: list[Message] = [from_openai(message) for message in record["messages"]]
    own, tags = record.get("tools") or [], record.get("tags") or {}
    if not isinstance(own, list):
        raise ConfigError(f"tools are {own!r}, expected a list of definitions")
    if not isinstance(tags, dict):
        raise ConfigError(f"tags are {tags!r}, expected an object of texts")
    offered = [tool_definition(tool) for tool in own] or tools
    task = str(record.get("task_id", record["id"]))
    shown, step = [], 0
    for made in decisions(messages):
        state = State(messages[: made.position], offered, tags)
        shown.append((step, Demonstration(state, made.actions[0], task)))
        step += len(made.actions)
    return shown


def _success(record: Mapping[str, Any]) -> bool | None:
    reward = record.get("reward")
    return reward >= 1 if isinstance(reward, (int, float)) else None


def prediction_record(trajectory: str, step: int, decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON values; ``step`` is the index of the decision's first step."""
    return {
        "id": trajectory,
        "step": step,
        "action": _action_record(decision.action),
        "confidence": round(decision.confidence, 6),
        "ood": round(decision.ood, 6),
        "critic": None if decision.critic is None else round(decision.critic, 6),
        "veto": decision.veto,
        "tools": {name: round(share, 6) for name, share in decision.tools.items()},
    }


def _beside(decision: Decision, shown: Demonstration, thresholds: Thresholds) -> dict[str, Any]:
    """Return whether the clone would act where its gate had passed and why not, and what was done."""
    routed = route(decision, shown.state, thresholds, (cohort_of(shown.state.tags),))
    return {
        "acts": routed.actor == "clone",
        "reason": routed.reason,
        "expert": _action_record(shown.action),
        "agrees": (decision.action.name or MESSAGE) == shown.label,
        "exact": same_action(decision.action, shown.action),
    }


def _action_record(action: Action) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": action.kind, "name": action.name, "arguments": action.arguments}
    return told | {"message": action.message} if action.message else told


def read_lines(source: Path) -> Iterator[str]:
    """Yield a file's lines, plain or gzipped; broken UTF-8 is replaced, so that only its line suffers.

    Raises:
        ConfigError: the file is absent or damaged.
    """
    try:
        if source.name.endswith(".gz"):
            with gzip.open(source, "rt", encoding="utf-8", errors="replace") as lines:
                yield from lines
        else:
            with source.open(encoding="utf-8", errors="replace") as lines:
                yield from lines
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"file {source} can't be read: {reason}; name chat JSONL, plain or .gz") from error
