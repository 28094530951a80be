"""Import trajectories from files of any known format: into a running collector, or else into the store itself."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import ConfigError, WireError
from imitrace.messages import tool_definition
from imitrace_collector import otlp
from imitrace_collector.client import CollectorClient
from imitrace_collector.imports.conversation_spans import ImportedTrajectory, conversation_spans
from imitrace_collector.imports.conversations import Broken, Conversation, ForeignTrace, Given, Row
from imitrace_collector.imports.files import rows
from imitrace_collector.imports.formats import Format, format_of, named_format
from imitrace_collector.imports.otlp_files import is_export, read_export
from imitrace_collector.ingest import ingest
from imitrace_collector.reads import known_traces, traces_of
from imitrace_collector.store import Store

_GROUP_BYTES = 4 * 1024 * 1024
_GROUP_ITEMS = 10_000
_ASKED_AT_ONCE = 500
_LONGEST_ID = 1000
"""Characters of a trajectory's id; the collector refuses longer ones."""


class Sink(Protocol):
    """Where imported spans go."""

    def traces_of(self, trajectory_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Return for each trajectory that is stored the trace ids of its spans."""

    def known_traces(self, trace_ids: Sequence[str]) -> set[str]:
        """Return which of these traces have spans that are stored."""

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Store an export request durably."""

    def send_as_is(self, signal: otlp.Signal, request: otlp.Proto) -> str:
        """Store a request of either signal, and return what of it was refused and why; empty when nothing was."""


@dataclass(frozen=True)
class StoreSink:
    """Write into a store that no collector holds."""

    store: Store

    def traces_of(self, trajectory_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Ask the store."""
        return traces_of(self.store, trajectory_ids)

    def known_traces(self, trace_ids: Sequence[str]) -> set[str]:
        """Ask the store."""
        return known_traces(self.store, trace_ids)

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Write in one transaction."""
        self.send_as_is(otlp.TRACES, request)

    def send_as_is(self, signal: otlp.Signal, request: otlp.Proto) -> str:
        """Write in one transaction."""
        reading = otlp.read(signal, request, time.time_ns())
        ingest(self.store, [reading.batch])
        return str(reading.response.partial_success.error_message)


@dataclass(frozen=True)
class CollectorSink:
    """Send to a running collector over OTLP/HTTP."""

    client: CollectorClient

    def traces_of(self, trajectory_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
        """Ask the collector."""
        found = self.client.post("/v1/trajectories/lookup", {"trajectories": list(trajectory_ids)})
        return cast("Mapping[str, Sequence[str]]", found["traces"])

    def known_traces(self, trace_ids: Sequence[str]) -> set[str]:
        """Ask the collector."""
        known: set[str] = set()
        for start in range(0, len(trace_ids), _ASKED_AT_ONCE):
            asked = list(trace_ids[start : start + _ASKED_AT_ONCE])
            marks = ", ".join("?" * len(asked))
            sql = f"SELECT DISTINCT trace_id FROM spans WHERE trace_id IN ({marks})"  # noqa: S608 - only marks
            known.update(row[0] for row in self.client.post("/v1/sql", {"sql": sql, "parameters": asked})["rows"])
        return known

    def send(self, request: ExportTraceServiceRequest) -> None:
        """Export, and return once it is acknowledged."""
        self.send_as_is(otlp.TRACES, request)

    def send_as_is(self, signal: otlp.Signal, request: otlp.Proto) -> str:
        """Export, and return once it is acknowledged."""
        path = "/v1/traces" if signal is otlp.TRACES else "/v1/logs"
        answer = signal.response().FromString(self.client.export(path, request.SerializeToString()))
        return str(answer.partial_success.error_message)


@dataclass
class ImportReport:
    """What an import did."""

    new: int = 0
    stored: int = 0
    steps: int = 0
    scores: int = 0
    foreign_traces: int = 0
    """Traces of other systems' spans that are new; their steps are derived, as of those that come by the wire."""
    foreign_spans: int = 0
    exports: int = 0
    """Files of export requests that were taken as they are."""
    formats: dict[str, str] = field(default_factory=dict, compare=False)
    """Each file's format."""
    broken: list[str] = field(default_factory=list)
    """What was not imported, each with its place and the reason."""

    @property
    def imported_nothing(self) -> bool:
        """Return whether nothing of the files is in the store."""
        return self.new + self.stored + self.foreign_traces + self.exports == 0


@dataclass
class _Group:
    """What is sent together."""

    trajectories: dict[str, tuple[str, ImportedTrajectory]] = field(default_factory=dict)
    """Place and spans by trajectory id."""
    traces: dict[str, list[ForeignTrace]] = field(default_factory=dict)
    size: int = 0
    items: int = 0

    def holds(self, size: int, items: int) -> bool:
        """Return whether so many bytes and spans more still go into it."""
        return not self.items or (self.size + size <= _GROUP_BYTES and self.items + items <= _GROUP_ITEMS)

    def add(self, size: int, items: int) -> None:
        """Count what was put into it."""
        self.size += size
        self.items += items


def read_tools(path: Path | None) -> list[dict[str, Any]]:
    """Return the tool definitions in a JSON file; none without a file.

    Raises:
        ConfigError: the file holds no list of tool definitions.
    """
    if path is None:
        return []
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, list):
            raise WireError("it is not a list")
        return [tool_definition(tool) for tool in found]
    except (OSError, ValueError, RecursionError, WireError) as error:
        raise ConfigError(f"tools file {path} can't be used: {error}; expected a JSON list of definitions") from error


def import_files(paths: Sequence[Path], sink: Sink, given: Given, format_name: str | None = None) -> ImportReport:
    """Import all that can be; importing files again stores nothing twice.

    Files of a format whose rows may be spread over several are read as one, in the order given.

    Args:
        paths: JSON Lines, JSON or Parquet, the first two also as gzip, or OTLP export requests.
        sink: where it goes.
        given: what holds for all of them, export requests apart.
        format_name: of all files; None to tell by each file's content.

    Raises:
        ConfigError: a file can't be opened or is of no known format, or there is no such format.
    """
    report = ImportReport()
    together: dict[tuple[str, Path | None], list[Path]] = {}
    for path in paths:
        if format_name is None and is_export(path):
            report.formats[str(path)] = "otlp"
            problem = _import_export(path, sink, report)
            report.broken += [f"{path}, {problem}" if len(paths) > 1 else problem] if problem else []
            continue
        found = format_of(path) if format_name is None else named_format(format_name)
        together.setdefault((found.name, None if found.joined else path), []).append(path)
        report.formats[str(path)] = found.name
    group = _Group()
    for (name, _), several in together.items():
        read_rows = _rows(several, len(paths) > 1, report)
        group = _import_format(named_format(name), read_rows, (sink, given), (group, report))
    _send(group, sink, report)
    return report


def _import_export(path: Path, sink: Sink, report: ImportReport) -> str:
    """Take an export request as it is, and return what of it was not taken, and why."""
    try:
        refused = sink.send_as_is(*read_export(path))
    except WireError as error:
        return str(error)
    report.exports += 1
    return refused


def import_file(path: Path, sink: Sink, agent: str | None, tools: Sequence[Mapping[str, Any]] = ()) -> ImportReport:
    """Import one file; see ``import_files``.

    Args:
        path: the file.
        sink: where it goes.
        agent: name that overrules the file's own.
        tools: definitions offered at every step.

    Raises:
        ConfigError: the file can't be opened, or is of no known format.
    """
    return import_files([path], sink, Given(agent=agent, tools=tools))


def _rows(paths: Sequence[Path], named: bool, report: ImportReport) -> Iterator[Row]:
    for path in paths:
        for row in rows(path):
            place = f"{path}, {row.place}" if named else row.place
            if isinstance(row, Broken):
                report.broken.append(str(row._replace(place=place)))
            else:
                yield row._replace(place=place)


def _import_format(
    read: Format, found_rows: Iterable[Row], reading: tuple[Sink, Given], filling: tuple[_Group, ImportReport]
) -> _Group:
    """Put what a format's reader finds into groups, and send those that are full; return the last one."""
    sink, given = reading
    group, report = filling
    for found in read.read(found_rows, given):
        if isinstance(found, Broken):
            report.broken.append(str(found))
            continue
        if isinstance(found, Conversation) and len(found.trajectory_id) > _LONGEST_ID:
            report.broken.append(f"{found.place}: its id has more than {_LONGEST_ID} characters")
            continue
        written = conversation_spans(found, read.name) if isinstance(found, Conversation) else found
        size, items = written.spans.ByteSize(), _count(written)
        same = group.trajectories.get(written.trajectory_id) if isinstance(written, ImportedTrajectory) else None
        if same is not None and isinstance(written, ImportedTrajectory):
            _count_again(report, found.place, written, [same[1].trace_id])
            continue
        if not group.holds(size, items):  # before it is added: one that is refused for its size stands alone
            _send(group, sink, report)
            group = _Group()
        group.add(size, items)
        if isinstance(written, ImportedTrajectory):
            group.trajectories[written.trajectory_id] = (found.place, written)
        else:
            group.traces.setdefault(written.trace_id, []).append(written)
    return group


def _count(written: ImportedTrajectory | ForeignTrace) -> int:
    return written.steps + 1 if isinstance(written, ImportedTrajectory) else written.count


def _send(group: _Group, sink: Sink, report: ImportReport) -> None:
    """Send what is not stored with other content; then count."""
    if group.trajectories:
        _send_trajectories(group.trajectories, sink, report)
    if group.traces:
        _send_traces(group.traces, sink, report)


def _send_trajectories(group: Mapping[str, tuple[str, ImportedTrajectory]], sink: Sink, report: ImportReport) -> None:
    stored = sink.traces_of(list(group))
    for trajectory_id, traces in stored.items():
        _count_again(report, *group[trajectory_id], traces)
    new = [(place, trajectory) for place, trajectory in group.values() if trajectory.trajectory_id not in stored]
    if not new:
        return
    try:
        sink.send(ExportTraceServiceRequest(resource_spans=[trajectory.spans for _, trajectory in new]))
    except WireError as error:
        report.broken += [f"{place}: {error}" for place, _ in new]
        return
    report.new += len(new)
    report.steps += sum(trajectory.steps for _, trajectory in new)
    report.scores += sum(trajectory.scores for _, trajectory in new)


def _send_traces(group: Mapping[str, Sequence[ForeignTrace]], sink: Sink, report: ImportReport) -> None:
    """Send foreign spans; the store keeps each once, so that what a known trace lacks comes to it."""
    known = sink.known_traces(list(group))
    found = [trace for traces in group.values() for trace in traces]
    try:
        sink.send(ExportTraceServiceRequest(resource_spans=[trace.spans for trace in found]))
    except WireError as error:
        report.broken += [f"{trace.place}: {error}" for trace in found]
        return
    report.stored += len(known)
    report.foreign_traces += len(group) - len(known)
    report.foreign_spans += sum(trace.count for trace in found if trace.trace_id not in known)


def _count_again(report: ImportReport, place: str, trajectory: ImportedTrajectory, traces: Sequence[str]) -> None:
    """Count a trajectory whose id is taken: by the same content, or by other."""
    if trajectory.trace_id in traces:
        report.stored += 1
    else:
        report.broken.append(
            f"{place}: trajectory {trajectory.trajectory_id!r} is already stored with other content, "
            "nothing was changed; give it another id"
        )
