import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError
from imitrace_collector.importer import StoreSink, import_files
from imitrace_collector.imports.conversation_spans import conversation_spans
from imitrace_collector.imports.conversations import Broken, Conversation, Given, Row
from imitrace_collector.imports.files import rows
from imitrace_collector.imports.formats import FORMATS, format_of, named_format
from imitrace_collector.reads import list_trajectories, trajectory_detail
from imitrace_collector.store import Store

Json = dict[str, Any]  # a JSON object

SAMPLES = {path.name.partition(".")[0]: path for path in sorted((Path(__file__).parent / "samples").iterdir())}
FOREIGN = {"phoenix", "langfuse", "mlflow"}  # spans, of which the store makes steps
WITHOUT_PROMPT = {"claude-code", "codex", "gemini-cli"}  # neither the system prompt nor the tools are in their files
OWN = sorted(set(SAMPLES) - FOREIGN)


def sample_rows(name: str) -> list[Row]:
    return [row for row in rows(SAMPLES[name]) if isinstance(row, Row)]


def test_there_is_a_sample_of_every_format() -> None:
    assert set(SAMPLES) == set(FORMATS)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_format_is_told_by_what_the_file_holds(tmp_path: Path, name: str) -> None:
    assert format_of(SAMPLES[name]).name == name
    packed = tmp_path / "any name"
    packed.write_bytes(gzip.compress(SAMPLES[name].read_bytes()))
    assert format_of(packed).name == name


@pytest.mark.parametrize("name", OWN)
def test_the_same_conversation_is_found_in_every_format(store: Store, name: str) -> None:
    report = import_files([SAMPLES[name]], StoreSink(store), Given(agent="desk"))
    assert (report.new, report.steps, report.broken) == (1, 2, [])
    (listed,) = list_trajectories(store, None, 10)
    detail = trajectory_detail(store, listed["trajectory_id"])
    assert (listed["agent"], listed["source"], listed["complete"]) == ("desk", name, True), listed["incomplete_reason"]
    lookup, answer = detail["steps"]
    assert (lookup["action_name"], json.loads(lookup["action_arguments"])) == ("get_order", {"order_id": "A-1"})
    assert lookup["observation"] == "shipped"
    assert (answer["action_kind"], answer["action_message"]) == ("message", "It is on its way.")
    assert lookup["decision"] != answer["decision"]
    told = [detail["messages"][message]["role"] for message in answer["state"]]
    prompt = [] if name in WITHOUT_PROMPT else ["system"]
    assert told == [*prompt, "user", "assistant", "tool"]
    assert [lookup["state"], answer["state"][: len(lookup["state"])]] == [answer["state"][: len(prompt) + 1]] * 2
    assert list(detail["tools"].values()) == ([] if name in WITHOUT_PROMPT else [["get_order"]])


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_importing_again_stores_nothing_twice(store: Store, name: str) -> None:
    sink = StoreSink(store)
    first = import_files([SAMPLES[name]], sink, Given(agent="desk"))
    again = import_files([SAMPLES[name]], sink, Given(agent="desk"))
    assert (first.new + first.foreign_traces, first.stored, again.stored) == (1, 0, 1)
    assert (again.new, again.foreign_traces, again.steps, again.foreign_spans, again.broken) == (0, 0, 0, 0, [])


@pytest.mark.parametrize("name", sorted(name for name, path in SAMPLES.items() if path.suffix == ".jsonl"))
def test_a_broken_row_is_named_and_nothing_else_is_lost(store: Store, tmp_path: Path, name: str) -> None:
    head, *tail = SAMPLES[name].read_text().splitlines()
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([head, '{"broken', *tail, "[]"]))
    report = import_files([path], StoreSink(store), Given(agent="desk"))
    assert [told.partition(":")[0] for told in report.broken] == ["line 2", f"line {len(tail) + 3}"]
    assert report.new + report.foreign_traces == 1


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ('{"a": 1, "b": 2}\n{"a": 2}', "objects with the keys 'a', 'b', which no format begins with"),
        ("[1, 2]", "1, which no format begins with"),
        ('"text"', "'text'"),
    ],
)
def test_a_file_of_no_known_format_says_what_was_seen_and_what_is_known(tmp_path: Path, text: str, seen: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigError) as error:
        format_of(tmp_path / "a.json")
    assert seen in str(error.value)
    assert all(name in str(error.value) for name in FORMATS)


def test_a_format_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="format is 'xml', expected one of phoenix"):
        named_format("xml")


def test_requests_of_otlp_are_no_rows(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="OTLP export requests"):
        format_of(tmp_path / "001.traces.otlp.pb")


HOSTILE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def twisted(draw: st.DrawFn, name: str) -> list[Row]:
    """A sample's rows, some with a value somewhere in them replaced by anything."""
    found = [json.loads(json.dumps(row.value)) for row in sample_rows(name)]
    for _ in range(draw(st.integers(1, 4))):
        at: Any = found
        for _ in range(draw(st.integers(1, 9))):
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys)) if keys else None
            if key is None or not isinstance(at[key], dict | list) or not at[key]:
                break
            at = at[key]
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        if keys:
            at[draw(st.sampled_from(keys))] = draw(HOSTILE)
    return [Row(f"line {number + 1}", number, value) for number, value in enumerate(found)]


@pytest.mark.parametrize("name", sorted(SAMPLES))
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_no_row_makes_a_reader_raise(name: str, data: st.DataObject) -> None:
    hostile = data.draw(twisted(name))
    for found in FORMATS[name].read(hostile, Given(agent="desk")):
        if isinstance(found, Conversation):
            assert conversation_spans(found, name).spans.SerializeToString()
        elif not isinstance(found, Broken):
            assert found.spans.SerializeToString()


@pytest.mark.parametrize("name", sorted(SAMPLES))
@settings(max_examples=8, deadline=None)
@given(hostile=st.lists(HOSTILE, max_size=4), data=st.data())
def test_rows_of_anything_are_named_each(name: str, hostile: list[Any], data: st.DataObject) -> None:
    given_rows = [Row(f"line {number + 1}", number, value) for number, value in enumerate(hostile)]
    found = list(FORMATS[name].read([*sample_rows(name), *given_rows], Given(agent="desk")))
    places = Counter(told.place for told in found if isinstance(told, Broken))
    assert places.total() <= len(hostile)
    assert sum(not isinstance(told, Broken) for told in found) >= 1
