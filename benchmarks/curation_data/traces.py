"""Write snapshots of made-up traces of any length: seeded, in the store's order, with real content hashes."""

import json
import random
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from typing import Any

import duckdb
import numpy
import polars as pl
import pyarrow.parquet

from imitrace.canonical import canonical_json, content_hash, text_hash
from imitrace.schema import SCHEMA_VERSION, SCORES, STEPS, TABLES, TRAJECTORIES

_IDS_AT_ONCE = 2_000_000
_ROW_GROUP = 8_192
_FRAGMENTS = 4_000
_TYPES = {"string": pl.String, "int64": pl.Int64, "float64": pl.Float64, "bool": pl.Boolean}
_WORDS = (
    "order refund parcel address payment invoice courier window account balance product warranty return label booking "
    "flight seat upgrade voucher delay receipt customer agent confirm cancel change lookup status shipped pending paid "
    "blue small large monday friday morning evening london paris tokyo berlin madrid please thanks sorry checked found"
)
TOOLS = tuple(
    {"name": name, "description": f"{name} something.", "parameters": {"type": "object", "properties": {}}}
    for name in ("lookup_order", "refund_order", "change_address", "cancel_order", "send_label")
)


def write_traces(folder: Path, trajectories: int, steps: int = 10, step_bytes: int = 2_000, seed: int = 0) -> int:
    """Write a snapshot and return its number of steps; a step brings two messages of together ``step_bytes``."""
    folder.mkdir(parents=True)
    draw = numpy.random.default_rng(seed)
    fragments = _fragments(seed, step_bytes // 8)
    aside = folder / "messages-unsorted.parquet"
    with (
        Writer(folder / "trajectories.parquet") as whole,
        Writer(folder / "steps.parquet") as parts,
        Writer(folder / "scores.parquet") as rated,
        Writer(aside) as said,
    ):
        few = max(1, min(5_000, _IDS_AT_ONCE // steps**2))
        for start in range(0, trajectories, few):
            numbers = numpy.arange(start, min(start + few, trajectories))
            messages = _messages(numbers, steps, fragments, draw)
            said.write(messages)
            parts.write(_steps(numbers, steps, messages["message_id"], draw))
            whole.write(_trajectories(numbers, steps, draw))
            rated.write(_scores(numbers, draw))
    order = f"SELECT DISTINCT ON (message_id) * FROM '{aside}' ORDER BY message_id"  # noqa: S608 - a path of our own
    target = f"'{folder / 'messages.parquet'}' (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
    with duckdb.connect(config={"memory_limit": "1GB", "temp_directory": str(folder / ".spill")}) as connection:
        connection.execute(f"COPY ({order}) TO {target}")
    aside.unlink()
    _tools().write_parquet(folder / "tools.parquet")
    _write_manifest(folder)
    return trajectories * steps


class Writer:
    """Write frames one after the other into one Parquet file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: pyarrow.parquet.ParquetWriter | None = None

    def __enter__(self) -> "Writer":
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def write(self, frame: pl.DataFrame) -> None:
        """Append a frame; the first one settles the columns."""
        table = frame.to_arrow(compat_level=pl.CompatLevel.oldest())
        if self._writer is None:
            self._writer = pyarrow.parquet.ParquetWriter(self._path, table.schema, compression="zstd")
        self._writer.write_table(table, row_group_size=_ROW_GROUP)


def _fragments(seed: int, length: int) -> list[str]:
    draw, words = random.Random(seed), _WORDS.split()
    return [" ".join(draw.choices(words, k=length // 6))[:length] for _ in range(_FRAGMENTS)]


def _messages(numbers: numpy.ndarray, steps: int, fragments: list[str], draw: numpy.random.Generator) -> pl.DataFrame:
    """Return two messages a step: what the user or a tool said, and the assistant's call before it."""
    picks = draw.integers(0, len(fragments), (len(numbers), steps, 2, 4)).tolist()
    rows: list[tuple[str, str, str]] = []
    for number, of_trajectory in zip(numbers.tolist(), picks, strict=True):
        for step, (before, after) in enumerate(of_trajectory):
            texts = [" ".join(fragments[pick] for pick in each) for each in (before, after)]
            for role, text in zip(("user" if step == 0 else "tool", "assistant"), texts, strict=True):
                message = {"role": role, "parts": [{"type": "text", "content": f"{text} {number}-{step}"}]}
                content = canonical_json(message)
                rows.append((text_hash(content), role, content))
    return pl.DataFrame(rows, schema=list(TABLES["messages"]), orient="row")


def _steps(numbers: numpy.ndarray, steps: int, ids: pl.Series, draw: numpy.random.Generator) -> pl.DataFrame:
    own = ids.to_list()
    states = []
    for place in range(len(numbers)):
        of_trajectory = own[place * steps * 2 : (place + 1) * steps * 2]
        states += [of_trajectory[: 2 * step + 1] for step in range(steps)]
    count = len(numbers) * steps
    names = [f"t{number:08d}" for number in numbers.tolist() for _ in range(steps)]
    index = list(range(steps)) * len(numbers)
    role = numpy.where(draw.random(count) < 0.05, "clone", "expert")
    tool = draw.integers(0, len(TOOLS), count)
    columns = {
        "trajectory_id": names,
        "step_index": index,
        "decision": [f"{name}-{step}" for name, step in zip(names, index, strict=True)],
        "agent": ["shop"] * count,
        "policy_role": role.tolist(),
        "state": states,
        "tools_hash": [content_hash(list(TOOLS))] * count,
        "action_kind": ["tool_call"] * count,
        "action_name": [TOOLS[choice]["name"] for choice in tool.tolist()],
        "action_arguments": [
            canonical_json({"order": name, "line": step}) for name, step in zip(names, index, strict=True)
        ],
        "call_id": [f"call_{step}" for step in index],
        "observation": ["done"] * count,
        "started_at": [1_790_000_000_000_000_000 + step for step in index],
        "ended_at": [1_790_000_000_000_000_001 + step for step in index],
        "trace_id": names,
        "span_id": [str(step) for step in index],
        "complete": [True] * count,
    }
    return _table(STEPS, columns, count)


def _trajectories(numbers: numpy.ndarray, steps: int, draw: numpy.random.Generator) -> pl.DataFrame:
    count = len(numbers)
    intents = draw.choice(["refund", "change", "cancel", "track"], count, p=[0.4, 0.3, 0.2, 0.1])
    whole = draw.random(count) >= 0.02
    columns = {
        "trajectory_id": [f"t{number:08d}" for number in numbers.tolist()],
        "agent": ["shop"] * count,
        "task": [f"task-{number // 4}" if number % 3 else None for number in numbers.tolist()],
        "tags": [canonical_json({"intent": intent, "queue": "web"}) for intent in intents.tolist()],
        "source": ["made"] * count,
        "step_count": [steps] * count,
        "started_at": (1_790_000_000_000_000_000 + numbers * 10**9).tolist(),
        "ended_at": (1_790_000_000_500_000_000 + numbers * 10**9).tolist(),
        "complete": whole.tolist(),
        "incomplete_reason": [None if good else "digest mismatch" for good in whole.tolist()],
    }
    return _table(TRAJECTORIES, columns, count)


def _scores(numbers: numpy.ndarray, draw: numpy.random.Generator) -> pl.DataFrame:
    names = ("TaskCompletion", "ToolSelectionAccuracy")
    count = len(numbers) * len(names)
    columns = {
        "trajectory_id": [f"t{number:08d}" for number in numbers.tolist() for _ in names],
        "name": list(names) * len(numbers),
        "value": numpy.round(draw.beta(8, 1, count), 3).tolist(),
        "scored_at": [1_790_000_000_000_000_000] * count,
    }
    return _table(SCORES, columns, count)


def _table(columns: dict[str, str], values: dict[str, list[Any]], count: int) -> pl.DataFrame:
    kinds = {name: kind.removesuffix("?") for name, kind in columns.items()}
    schema = {name: _TYPES.get(kind, pl.List(pl.String)) for name, kind in kinds.items()}
    return pl.DataFrame({name: values.get(name, [None] * count) for name in columns}, schema=schema)


def _tools() -> pl.DataFrame:
    rows = [
        (content_hash(list(TOOLS)), place, str(tool["name"]), content_hash(tool), canonical_json(tool))
        for place, tool in enumerate(TOOLS)
    ]
    return pl.DataFrame(rows, schema=list(TABLES["tools"]), orient="row")


def _write_manifest(folder: Path) -> None:
    files = {}
    for table in TABLES:
        path = folder / f"{table}.parquet"
        with path.open("rb") as file:
            digest = file_digest(file, "sha256").hexdigest()
        files[path.name] = {"sha256": digest, "rows": pyarrow.parquet.read_metadata(path).num_rows}
    manifest = {
        "schema_version": SCHEMA_VERSION,
        "created_at": datetime.now(UTC).isoformat(),
        "counts": {name.removesuffix(".parquet"): file["rows"] for name, file in files.items()},
        "files": files,
    }
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
