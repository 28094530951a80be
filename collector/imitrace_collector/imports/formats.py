"""Know the formats that can be imported, and tell by its content which of them a file is."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from imitrace.exceptions import ConfigError
from imitrace.shapes.plain import short
from imitrace_collector import chat_jsonl
from imitrace_collector.imports import (
    atif,
    chat_datasets,
    claude_code,
    codex,
    gemini_cli,
    langfuse,
    minari,
    mlflow,
    phoenix,
    request_logs,
    tensorzero,
)
from imitrace_collector.imports.conversations import Json, Reader, Row
from imitrace_collector.imports.files import OTLP_SUFFIXES, rows

_SAMPLE = 50


@dataclass(frozen=True)
class Format:
    """A format: its name, how its rows are known, and its reader."""

    name: str
    claims: Callable[[Json], bool]
    """Whether a row, a JSON object, is of this format."""
    read: Reader
    joined: bool = False
    """Whether what belongs together may stand in several files."""


def _has(*keys: str) -> Callable[[Json], bool]:
    return lambda row: all(key in row for key in keys)


def _lists(*keys: str) -> Callable[[Json], bool]:
    return lambda row: all(isinstance(row.get(key), list) for key in keys)


def _is_atif(row: Json) -> bool:
    return isinstance(row.get("steps"), list) and str(row.get("schema_version")).startswith("ATIF")


def _is_pair(row: Json) -> bool:
    return request_logs.pair_of(row) is not None


def _is_flywheel(row: Json) -> bool:
    return _is_pair(row) and ("workload_id" in row or "client_id" in row)


FORMATS: Mapping[str, Format] = {
    found.name: found
    for found in (
        Format("phoenix", phoenix.is_span, phoenix.read, joined=True),
        Format("mlflow", mlflow.is_trace, mlflow.read),
        Format("langfuse", langfuse.is_row, langfuse.read, joined=True),
        Format("minari", minari.is_step, minari.read),
        Format("atif", _is_atif, atif.read),
        Format("claude-code", claude_code.is_entry, claude_code.read, joined=True),
        Format("codex", codex.is_entry, codex.read),
        Format("gemini-cli", gemini_cli.is_entry, gemini_cli.read),
        Format("tensorzero", _has("episode_id", "input", "output"), tensorzero.read, joined=True),
        Format("nvidia-flywheel", _is_flywheel, request_logs.read_pairs, joined=True),
        Format("anthropic", request_logs.is_anthropic, request_logs.read_anthropic, joined=True),
        Format("request-log", _is_pair, request_logs.read_pairs, joined=True),
        Format("trl-prompt-completion", _lists("prompt", "completion"), chat_datasets.read_pairs),
        Format("sharegpt", _lists("conversations"), chat_datasets.read_sharegpt),
        Format("chat-jsonl", _has("id", "messages"), chat_jsonl.read),
        Format("openai-fine-tune", _lists("messages"), chat_datasets.read_fine_tune),
    )
}
"""By name; where a row is of several, the first counts."""


def format_of(path: Path) -> Format:
    """Return the format of which most of a file's first rows are; chat JSONL for a file without a readable one.

    Raises:
        ConfigError: it is of none, or the file can't be opened.
    """
    if path.name.endswith(OTLP_SUFFIXES):
        raise ConfigError(f"file {path} holds OTLP export requests, which are no rows; send them to a collector")
    sample = [row.value for row in islice(rows(path), _SAMPLE) if isinstance(row, Row)]
    found = Counter(filter(None, map(_claimed, sample)))
    if found:
        return FORMATS[max(FORMATS, key=lambda name: found[name])]
    if sample:
        raise ConfigError(f"file {path} holds {_shown(sample[0])}, which no format begins with; known: {_known()}")
    return FORMATS["chat-jsonl"]


def named_format(name: str) -> Format:
    """Return a format by its name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in FORMATS:
        raise ConfigError(f"format is {name!r}, expected one of {_known()}")
    return FORMATS[name]


def _claimed(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    return next((name for name, found in FORMATS.items() if found.claims(value)), None)


def _shown(value: Any) -> str:
    if not isinstance(value, dict):
        return short(value)
    keys = ", ".join(map(short, list(value)[:12]))
    return f"objects with the keys {keys}" + (", ..." if len(value) > 12 else "")


def _known() -> str:
    return ", ".join(FORMATS)
