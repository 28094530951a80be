import json
from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import imitrace
from imitrace import semconv
from imitrace.canonical import step_digest
from imitrace.chunks import CHUNK_BYTES, MAX_CHUNKS, cut
from imitrace.testing import Captured
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(st.dictionaries(st.sampled_from(semconv.DIGEST_PAYLOADS), TEXT), st.integers(4, 40))
def test_a_payload_is_whole_again_when_its_chunks_are_joined(payloads: dict[str, Any], limit: int) -> None:
    attributes = {**payloads, semconv.TRAJECTORY_ID: "t1"}
    kept, chunks = cut(attributes, limit)
    pieces: dict[str, list[str]] = defaultdict(list)
    for chunk in chunks:
        assert chunk[semconv.CHUNK_INDEX] == len(pieces[str(chunk[semconv.CHUNK_ATTRIBUTE])])
        pieces[str(chunk[semconv.CHUNK_ATTRIBUTE])].append(str(chunk[semconv.CHUNK_TEXT]))
    assert {**kept, **{name: "".join(texts) for name, texts in pieces.items()}} == {
        **attributes,
        **({semconv.STEP_CHUNKS: len(chunks)} if chunks else {}),
    }
    assert all(len(str(chunk[semconv.CHUNK_TEXT]).encode()) <= max(limit, 4) for chunk in chunks)
    assert all(chunk[semconv.CHUNK_COUNT] == len(pieces[str(chunk[semconv.CHUNK_ATTRIBUTE])]) for chunk in chunks)


def test_what_needs_too_many_chunks_is_left_off_and_says_so() -> None:
    kept, chunks = cut({semconv.STEP_MESSAGES: "x" * (MAX_CHUNKS + 1), semconv.STEP_INDEX: 0}, 1)
    assert (chunks, kept[semconv.STEP_INDEX]) == ([], 0)
    assert str(kept[semconv.STEP_INCOMPLETE]).startswith(f"payload of {MAX_CHUNKS + 1} characters needs")


def test_a_large_state_travels_beside_its_step_and_keeps_its_digest(seen: Captured) -> None:
    with imitrace.trajectory(), imitrace.step("x" * 3 * CHUNK_BYTES) as step:
        step.message("ok")
    sent = dict(seen.steps[0].attributes or {})
    chunks = [span for span in seen.spans if span.name == semconv.SPAN_CHUNK]
    assert len(chunks) == sent[semconv.STEP_CHUNKS] == 4
    assert all(chunk.parent is not None and chunk.parent.span_id == seen.steps[0].context.span_id for chunk in chunks)
    whole = "".join(str((chunk.attributes or {})[semconv.CHUNK_TEXT]) for chunk in chunks)
    assert step_digest({**sent, semconv.STEP_MESSAGES: whole}) == sent[semconv.STEP_DIGEST]


@pytest.mark.usefixtures("untraced")
@pytest.mark.parametrize("protocol", ["http", "grpc"])
@pytest.mark.parametrize("letter", ["x", "é", "字"])
def test_a_state_of_three_megabytes_arrives_whole(tmp_path: Any, protocol: str, letter: str) -> None:
    text = letter * (3_000_000 // len(letter.encode()))
    with CollectorServer(CollectorConfig(home=tmp_path, http_port=0, grpc_port=0)) as collector:
        endpoint = collector.http if protocol == "http" else f"http://{collector.grpc}"
        imitrace.configure(agent="desk", endpoint=endpoint, protocol=protocol)
        with imitrace.trajectory(id="t1"), imitrace.step([{"role": "user", "content": text}]) as step:
            step.tool_call("store", {"text": text})
            step.observe(text)
        assert imitrace.flush()
        found = CollectorClient(collector.http).get("/v1/trajectories/t1")
    assert found["trajectory"]["complete"], found["trajectory"]["incomplete_reason"]
    (row,) = found["steps"]
    assert found["messages"][row["state"][0]]["parts"][0]["content"] == text
    assert json.loads(row["action_arguments"]) == {"text": text}
    assert row["observation"] == text
