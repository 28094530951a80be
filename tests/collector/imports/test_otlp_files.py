import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.cli import main
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

MakeExport = Callable[..., ExportTraceServiceRequest]


def run(*arguments: str | Path) -> tuple[int, list[str], str]:
    done = CliRunner().invoke(main, list(map(str, arguments)))
    return done.exit_code, done.stdout.splitlines(), done.stderr


def steps(home: Path) -> list[str]:
    code, lines, _ = run("steps", "--jsonl", "--home", home)
    assert code == 0
    return [json.loads(line)["trajectory_id"] for line in lines]


@pytest.fixture
def files(tmp_path: Path, export: MakeExport) -> list[Path]:
    """Return the same kind of request in every form; the last one's name does not say its signal."""
    contents = {
        "0.traces.otlp.pb": export("t0").SerializeToString(),
        "1.traces.otlp.pb.gz": gzip.compress(export("t1").SerializeToString()),
        "2.traces.otlp.json": hexed(export("t2")),
        "3.otlp.pb": export("t3").SerializeToString(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return [tmp_path / name for name in contents]


def hexed(request: ExportTraceServiceRequest) -> bytes:
    """Return a request as OTLP's JSON has it, with ids in hexadecimal."""
    found = json_format.MessageToDict(request)
    for group in found["resourceSpans"]:
        for scope, sent in zip(group["scopeSpans"], request.resource_spans[0].scope_spans, strict=True):
            for told, span in zip(scope["spans"], sent.spans, strict=True):
                told |= {"traceId": span.trace_id.hex(), "spanId": span.span_id.hex()}
                if span.parent_span_id:
                    told["parentSpanId"] = span.parent_span_id.hex()
    return json.dumps(found).encode()


def test_requests_are_taken_from_files(tmp_path: Path, files: list[Path]) -> None:
    home = tmp_path / "home"
    code, told, problems = run("import", *files, "--home", home)
    assert (code, problems) == (0, "")
    assert "4 export requests" in told[0]
    assert steps(home) == sorted(["t0", "t1", "t2", "t3"] * 2)
    assert run("import", *files, "--home", home)[0] == 0
    assert len(steps(home)) == 8


def test_a_running_collector_takes_them(files: list[Path], config: CollectorConfig) -> None:
    with CollectorServer(config):
        assert run("import", *files, "--home", config.home)[0] == 0
        assert len(steps(config.home)) == 8


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.traces.otlp.pb", b"\xff\xff", "request is not an OTLP spans export"),
        ("a.otlp.pb", b"", "it holds neither spans nor log records"),
        ("a.logs.otlp.json", b"[1]", "it is no JSON object"),
        ("a.traces.otlp.pb.gz", b"plain", "it is no whole gzip file"),
        ("a.traces.otlp.json.gz", gzip.compress(b"{}" * 1000, mtime=0)[:-9], "it is no whole gzip file"),
    ],
)
def test_what_is_none_is_named_and_left_out(
    tmp_path: Path, files: list[Path], name: str, content: bytes, why: str
) -> None:
    home, broken = tmp_path / "home", tmp_path / name
    broken.write_bytes(content)
    code, _, problems = run("import", broken, "--home", home)
    assert code == 2
    assert problems.startswith(f"imitrace: {broken}, ") and why in problems
    code, _, problems = run("import", broken, files[0], "--home", home)
    assert code == 0 and why in problems
    assert steps(home) == ["t0", "t0"]
