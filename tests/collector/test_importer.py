import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace_collector.client import CollectorClient
from imitrace_collector.importer import (
    CollectorSink,
    ImportReport,
    Sink,
    StoreSink,
    import_file,
    import_files,
    read_tools,
)
from imitrace_collector.imports.conversations import Given
from imitrace_collector.reads import trajectory_detail
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store

Json = dict[str, Any]  # a JSON object


def write(path: Path, *lines: Json | str) -> Path:
    path.write_text("".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines))
    return path


@pytest.fixture(params=["store", "collector"])
def sink(request: pytest.FixtureRequest) -> Iterator[Sink]:
    """Import into a store, and into a running collector."""
    if request.param == "store":
        yield StoreSink(request.getfixturevalue("store"))
    else:
        server: CollectorServer = request.getfixturevalue("collector")
        yield CollectorSink(CollectorClient(server.http))


def test_importing_twice_stores_once(sink: Sink, tmp_path: Path, line: Json) -> None:
    path = write(tmp_path / "a.jsonl", line, line | {"id": 2})
    assert import_file(path, sink, "desk") == ImportReport(new=2, steps=4, scores=2)
    assert import_file(path, sink, "desk") == ImportReport(stored=2)


def test_the_same_line_at_another_place_is_still_the_same(sink: Sink, tmp_path: Path, line: Json) -> None:
    import_file(write(tmp_path / "a.jsonl", line), sink, "desk")
    again = import_file(write(tmp_path / "b.jsonl", line | {"id": "new"}, "", line, line), sink, "desk")
    assert (again.new, again.stored, again.broken) == (1, 2, [])


@pytest.mark.parametrize("change", [{"reward": 0.0}, {"messages": [{"role": "user", "content": "hi"}]}, {"model": "m"}])
def test_other_content_under_a_known_id_is_refused(sink: Sink, tmp_path: Path, line: Json, change: Json) -> None:
    import_file(write(tmp_path / "a.jsonl", line), sink, "desk")
    report = import_file(write(tmp_path / "b.jsonl", line | change), sink, "desk")
    assert report.imported_nothing
    assert report.broken == [
        "line 1: trajectory 't1' is already stored with other content, nothing was changed; give it another id"
    ]


def test_spans_of_other_systems_are_stored_once(sink: Sink) -> None:
    files = [Path(__file__).parent / "imports" / "samples" / name for name in ("phoenix.jsonl", "mlflow.json")]
    first = import_files(files, sink, Given(agent="desk"))
    assert (first.foreign_traces, first.foreign_spans, first.stored, first.broken) == (2, 8, 0, [])
    again = import_files(files, sink, Given(agent="desk"))
    assert (again.foreign_traces, again.foreign_spans, again.stored, again.imported_nothing) == (0, 0, 2, False)


BROKEN = [
    ('{"id": "' + "x" * 1001 + '", "messages": [{"role": "user", "content": "hi"}]}', "more than 1000 characters"),
    ("{", "it is not JSON"),
    ("[]", "it is not a JSON object"),
    ('{"messages": [{"role": "user"}]}', "'id' is None, expected text"),
    ('{"id": "x"}', "'messages' is missing or empty"),
    ('{"id": "x", "messages": ["hi"]}', "message is 'hi', expected an object with 'role'"),
    ('{"id": "x", "messages": [{"role": "user", "content": 3}]}', "message content is 3"),
    ('{"id": "x", "messages": [{"role": "user"}], "reward": "good"}', "'reward' is 'good', expected a number"),
    ('{"id": "x", "messages": [{"role": "user"}], "reward": NaN}', "'reward' is nan, expected a number"),
    ('{"id": "x", "messages": [{"role": "user"}], "scores": [1]}', "'scores' is no object"),
    ('{"id": "x", "messages": [{"role": "user"}], "tags": {"a": 1}}', "'tags' is no object of texts"),
]


@pytest.mark.parametrize(("text", "reason"), BROKEN)
def test_a_broken_line_is_named_and_the_rest_imported(
    store: Store, tmp_path: Path, line: Json, text: str, reason: str
) -> None:
    report = import_file(write(tmp_path / "a.jsonl", line, text, line | {"id": "t2"}), StoreSink(store), "desk")
    assert report.new == 2
    (told,) = report.broken
    assert told.startswith("line 2: ")
    assert reason in told


def test_a_line_needs_an_agent_from_somewhere(store: Store, tmp_path: Path, line: Json) -> None:
    path = write(tmp_path / "a.jsonl", line, line | {"id": "t2", "agent": "own"})
    report = import_file(path, StoreSink(store), None)
    assert report.broken == ["line 1: no agent is named; give --agent, or 'agent' in the line"]
    assert trajectory_detail(store, "t2")["trajectory"]["agent"] == "own"


def test_a_line_becomes_the_spans_that_our_sdk_would_send(store: Store, tmp_path: Path, line: Json) -> None:
    told = {"reward": 0.5, "scores": {"Politeness": 0.9}, "tags": {"cohort": "common"}}
    import_file(write(tmp_path / "a.jsonl", line | told), StoreSink(store), "desk")
    detail = trajectory_detail(store, "t1")
    trajectory = detail["trajectory"]
    assert (trajectory["outcome"], trajectory["tags"], trajectory["task"]) == ("failure", {"cohort": "common"}, "7")
    assert (trajectory["source"], trajectory["complete"]) == ("chat-jsonl", True)
    scores = {score["name"]: (score["value"], score["evaluator"], score["step_index"]) for score in detail["scores"]}
    assert scores == {
        "TaskCompletion": (0.5, "import:reward", None),
        "Politeness": (0.9, "import:scores", None),
    }


def test_parallel_calls_and_the_last_result_are_kept(store: Store, tmp_path: Path) -> None:
    calls = [{"id": name, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in ("a", "b")]
    results = [{"role": "tool", "tool_call_id": name, "content": f"got {name}"} for name in ("b", "a")]
    messages = [{"role": "user", "content": "go"}, {"role": "assistant", "tool_calls": calls}, *results]
    import_file(write(tmp_path / "a.jsonl", {"id": "t1", "messages": messages}), StoreSink(store), "desk")
    steps = trajectory_detail(store, "t1")["steps"]
    assert [(step["action_name"], step["observation"]) for step in steps] == [("a", "got a"), ("b", "got b")]
    assert steps[0]["decision"] == steps[1]["decision"]
    assert steps[0]["state"] == steps[1]["state"]
    assert all(step["complete"] for step in steps)


def test_a_conversation_without_an_answer_is_a_trajectory_of_no_steps(store: Store, tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"id": "t1", "messages": [{"role": "user", "content": "anyone?"}]})
    assert import_file(path, StoreSink(store), "desk") == ImportReport(new=1)
    assert trajectory_detail(store, "t1")["trajectory"]["complete"]


@pytest.mark.parametrize("name", ["a.jsonl.gz", "packed under any name"])
def test_gzip_is_told_by_its_content(store: Store, tmp_path: Path, line: Json, name: str) -> None:
    (tmp_path / name).write_bytes(gzip.compress(json.dumps(line).encode()))
    assert import_file(tmp_path / name, StoreSink(store), "desk").new == 1


def test_a_file_that_breaks_off_is_imported_up_to_there(store: Store, tmp_path: Path, line: Json) -> None:
    whole = gzip.compress("".join(json.dumps(line | {"id": number}) + "\n" for number in range(2000)).encode())
    (tmp_path / "a.gz").write_bytes(whole[: len(whole) // 2])
    report = import_file(tmp_path / "a.gz", StoreSink(store), "desk")
    assert 0 < report.new < 2000
    assert "the file can't be read further" in report.broken[-1]


def test_a_line_that_the_collector_refuses_is_named(tmp_path: Path, collector: CollectorServer, line: Json) -> None:
    big = {"id": "big", "messages": [{"role": "user", "content": "x" * 17_000_000}, *line["messages"]]}
    sink = CollectorSink(CollectorClient(collector.http))
    report = import_file(write(tmp_path / "a.jsonl", line, big, line | {"id": "t2"}), sink, "desk")
    assert report.new == 2
    assert [told.partition(":")[0] for told in report.broken] == ["line 2"]
    assert "413" in report.broken[0]


def test_text_that_is_no_unicode_is_imported(store: Store, tmp_path: Path, line: Json) -> None:
    odd = line | {"messages": [{"role": "user", "content": "\ud83d"}, {"role": "assistant", "content": "\ude00 ok"}]}
    assert import_file(write(tmp_path / "a.jsonl", odd), StoreSink(store), "desk").new == 1
    assert trajectory_detail(store, "t1")["trajectory"]["complete"]


@pytest.mark.parametrize("text", ["{", "{}", "[1]", "[{}]"])
def test_a_tools_file_of_another_form_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "tools.json").write_text(text)
    with pytest.raises(ConfigError, match=r"tools file .*tools.json can't be used: .*expected a JSON list"):
        read_tools(tmp_path / "tools.json")


def test_a_file_that_is_not_there_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none.jsonl can't be read: No such file"):
        import_file(tmp_path / "none.jsonl", StoreSink(store), "desk")
