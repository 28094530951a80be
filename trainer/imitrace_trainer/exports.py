"""Write episodes into one file: whole or not at all, with counts of what is in it and of what it can't hold."""

import gzip
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final, cast

from imitrace.canonical import canonical_json
from imitrace.exceptions import ConfigError
from imitrace_trainer.chat_exports import WRITERS
from imitrace_trainer.episodes import Decided, Episode, Taken

MINARI: Final = "minari"
FORMATS: Final = (*WRITERS, MINARI)

_MINARI_COLUMNS: Final = {
    "episode_id": "int64",  # from 0, by the trajectory's start
    "step": "int64",  # from 0
    "observation": "string",  # JSON list: the messages that are new since the step before
    "offset": "int64",  # how many of the step before's messages come before them
    "action": "string",  # JSON: kind, and name, arguments and call_id, or message
    "reward": "float64",  # the score, on the last step; 0 before; null without a score
    "terminated": "bool",  # the task ended here
    "truncated": "bool",  # the trajectory ended here, the task did not
    "result": "string",  # what the action brought
    "decision": "int64",  # shared by parallel calls
    "tools": "string",  # JSON list of definitions
    "trained": "bool",  # false: context only
    "trajectory_id": "string",
    "agent": "string",
    "task": "string",
}
_BATCH = 5_000


@dataclass
class Exported:
    """What an export wrote."""

    path: str
    format: str
    trajectories: int = 0
    steps: int = 0
    rows: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    """Trajectories that were not written, by reason."""
    lost: Counter[str] = field(default_factory=Counter)
    """What the format can't hold, by name."""


def export(episodes: Iterable[Episode], form: str, target: Path) -> Exported:
    """Write episodes as ``form`` into ``target``; JSON lines are packed where its name ends in ``.gz``.

    Args:
        episodes: those that are incomplete are left out and counted: nobody may learn from them.
        form: one of ``FORMATS``.
        target: written aside, then renamed.

    Raises:
        ConfigError: there is no such format, or the file can't be written.
    """
    if form not in FORMATS:
        raise ConfigError(f"format is {form!r}, expected one of {', '.join(FORMATS)}")
    report = Exported(str(target), form)
    aside = target.with_name(f".{target.name}.part")
    try:
        if form == MINARI:
            _write_table(_usable(episodes, report), aside, report)
        else:
            _write_lines(_usable(episodes, report), (form, target.suffix == ".gz"), aside, report)
        aside.replace(target)
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"file {target} can't be written: {reason}; name one in a folder that exists") from error
    finally:
        with suppress(OSError):
            aside.unlink()
    report.lost = +report.lost
    return report


def _usable(episodes: Iterable[Episode], report: Exported) -> Iterator[Episode]:
    for episode in episodes:
        reason = "incomplete" if not episode.complete else "without a step" if not episode.decisions else None
        if reason is not None:
            report.left_out[reason] += 1
            continue
        report.trajectories += 1
        report.steps += episode.steps
        yield episode


def _write_lines(episodes: Iterable[Episode], how: tuple[str, bool], aside: Path, report: Exported) -> None:
    form, packed = how
    with _opened(aside, packed) as file:
        for episode in episodes:
            for line in WRITERS[form](episode, report.lost):
                text = json.dumps(line, ensure_ascii=False) + "\n"
                file.write(text.encode(errors="backslashreplace"))  # halves of a pair stay JSON
                report.rows += 1


@contextmanager
def _opened(path: Path, packed: bool) -> Iterator[IO[bytes]]:
    with path.open("wb") as file:
        if not packed:
            yield file
            return
        with gzip.GzipFile(
            filename="", fileobj=file, mode="wb", mtime=0
        ) as unpacked:  # the same content, the same bytes
            yield cast("IO[bytes]", unpacked)


def _write_table(episodes: Iterable[Episode], aside: Path, report: Exported) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    types = {"string": pa.string(), "int64": pa.int64(), "float64": pa.float64(), "bool": pa.bool_()}
    schema = pa.schema([(name, types[kind]) for name, kind in _MINARI_COLUMNS.items()])
    with parquet.ParquetWriter(aside, schema, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []
        for number, episode in enumerate(episodes):
            rows += _rows(number, episode)
            if len(rows) >= _BATCH:
                report.rows += len(rows)
                writer.write_table(pa.Table.from_pylist(rows, schema))
                rows = []
        report.rows += len(rows)
        writer.write_table(pa.Table.from_pylist(rows, schema))


def _rows(number: int, episode: Episode) -> Iterator[dict[str, Any]]:
    """Yield an episode's steps; each says only what is new, so that a file grows as its trajectories do."""
    before: Decided | None = None
    step = 0
    for place, decided in enumerate(episode.decisions):
        same = 0 if before is None else _common(before, decided)
        for which, taken in enumerate(decided.taken):
            last = step == episode.steps - 1
            yield {
                "episode_id": number,
                "step": step,
                "observation": _storable(canonical_json([] if which else list(decided.state[same:]))),
                "offset": len(decided.state) if which else same,
                "action": _storable(canonical_json(_action(taken))),
                "reward": None if episode.reward is None else episode.reward if last else 0.0,
                "terminated": last and episode.outcome in ("success", "failure"),
                "truncated": last and episode.outcome not in ("success", "failure"),
                "result": taken.observation,
                "decision": place,
                "tools": _storable(canonical_json(list(decided.tools))),
                "trained": decided.trained,
                "trajectory_id": episode.trajectory_id,
                "agent": episode.agent,
                "task": episode.task,
            }
            step += 1
        before = decided


def _common(before: Decided, decided: Decided) -> int:
    """Return how many messages two states begin with alike."""
    pairs = zip(before.state, decided.state, strict=False)
    return next(
        (place for place, (one, other) in enumerate(pairs) if one is not other and one != other),
        min(len(before.state), len(decided.state)),
    )


def _action(taken: Taken) -> dict[str, Any]:
    action = taken.action
    if action.kind == "message":
        return {"kind": "message", "message": action.message or ""}
    return {"kind": action.kind, "name": action.name, "arguments": action.arguments, "call_id": action.call_id}


def _storable(text: str) -> str:
    return text if text.isascii() else text.encode("utf-8", "backslashreplace").decode("utf-8")
