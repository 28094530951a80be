"""Write what a clone would do at every decision of recorded conversations, given the true history before it."""

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from imitrace.exceptions import ConfigError, ImitraceError
from imitrace.messages import decisions, from_openai, tool_definition
from imitrace_trainer.policy import Decision, Policy, State


@dataclass
class Prediction:
    """How a run over a file went."""

    trajectories: int = 0
    decisions: int = 0
    broken: list[str] = field(default_factory=list)
    """What was wrong with each line that was left out, with its number."""


def predict_file(policy: Policy, tools: Sequence[Mapping[str, Any]], source: Path, target: Path) -> Prediction:
    """Write one JSON line for every assistant decision in ``source``.

    Args:
        policy: the clone.
        tools: definitions offered at every decision, for lines that bring no ``tools`` of their own.
        source: chat JSONL in OpenAI form, plain or gz: ``id`` and ``messages`` a line.
        target: written aside and renamed when it is whole.

    Returns:
        Counts, and what was wrong with lines that could not be read; the others are written.

    Raises:
        ConfigError: the file is absent or damaged, or ``target`` can't be written.
    """
    result = Prediction()
    aside = target.with_name(f".{target.name}.part")
    try:
        with aside.open("w", encoding="utf-8", errors="backslashreplace") as out:  # halves of a pair stay JSON
            for number, line in enumerate(read_lines(source), start=1):
                if line.strip():
                    _predict_line(policy, tools, (number, line), out, result)
        aside.replace(target)
    except OSError as error:
        raise ConfigError(
            f"file {target} can't be written: {error.strerror}; name one in a folder that exists"
        ) from error
    finally:
        with suppress(OSError):
            aside.unlink()
    return result


def _predict_line(
    policy: Policy, tools: Sequence[Mapping[str, Any]], numbered: tuple[int, str], out: IO[str], result: Prediction
) -> None:
    number, line = numbered
    try:
        record = json.loads(line.rstrip("\n"))
        if not isinstance(record, dict) or not isinstance(record.get("messages"), list) or "id" not in record:
            raise ConfigError("expected an object with 'id' and 'messages'")
        messages = [from_openai(message) for message in record["messages"]]
        own = record.get("tools") or []
        if not isinstance(own, list):
            raise ConfigError(f"tools are {own!r}, expected a list of definitions")
        offered = [tool_definition(tool) for tool in own] or tools
        made_here = list(decisions(messages))
    except json.JSONDecodeError as error:
        result.broken.append(f"line {number}: no JSON: {error.msg} at column {error.colno}")
        return
    except (ValueError, RecursionError, ImitraceError) as error:
        result.broken.append(f"line {number}: {error}")
        return
    result.trajectories += 1
    step = 0
    for made in made_here:
        decision = policy.act(State(messages[: made.position], offered, record.get("tags") or {}))
        out.write(json.dumps(prediction_record(str(record["id"]), step, decision), ensure_ascii=False) + "\n")
        result.decisions += 1
        step += len(made.actions)


def prediction_record(trajectory: str, step: int, decision: Decision) -> dict[str, Any]:
    """Return a decision as JSON values; ``step`` is the index of the decision's first step."""
    action: dict[str, Any] = {"kind": decision.action.kind, "name": decision.action.name}
    action["arguments"] = decision.action.arguments
    return {
        "id": trajectory,
        "step": step,
        "action": action,
        "confidence": round(decision.confidence, 6),
        "ood": round(decision.ood, 6),
        "critic": None if decision.critic is None else round(decision.critic, 6),
        "veto": decision.veto,
        "tools": {name: round(share, 6) for name, share in decision.tools.items()},
    }


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
