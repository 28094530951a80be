import json
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import imitrace
from imitrace import semconv
from imitrace.canonical import canonical_json, content_hash, step_digest
from imitrace.conformance import reassemble, step_problems
from imitrace.testing import Captured

WIRE = Path(__file__).parents[2] / "docs" / "wire.md"
TOOL = {"name": "get_order", "description": "", "parameters": {"type": "object", "properties": {}}}
NAMES = {value for name, value in vars(semconv).items() if name.isupper() and isinstance(value, str) and "." in value}

Attributes = dict[str, Any]  # attribute values


def signed(attributes: Mapping[str, object]) -> Attributes:
    return {**attributes, semconv.STEP_DIGEST: step_digest(attributes)}


def step(**attributes: Any) -> Attributes:
    """Return a conforming step with other attributes, named by their constant; None removes."""
    values: Attributes = {
        semconv.TRAJECTORY_ID: "t1",
        semconv.STEP_INDEX: 1,
        semconv.STEP_MESSAGES: '[{"role": "user", "parts": [{"type": "text", "content": "hi"}]}]',
        semconv.STEP_MESSAGES_OFFSET: 2,
        semconv.STEP_ACTION_KIND: "message",
        semconv.STEP_MESSAGE: "hello",
    }
    values |= {getattr(semconv, name): value for name, value in attributes.items()}
    return signed({name: value for name, value in values.items() if value is not None})


def test_every_step_that_our_sdk_emits_conforms(seen: Captured) -> None:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": "desk"},
        {"role": "user", "content": "Wo ist A-1? 🎁"},
    ]
    with imitrace.trajectory("refund", tags={"cohort": "common"}, agent="desk"):
        with imitrace.step(messages, [TOOL]) as decision:
            decision.tool_call("get_order", {"id": "A-1"}, "c1")
            decision.tool_call("get_order", '{"id": "A-2"}', "c2")
            decision.observe({"state": "shipped"}, "c2")
        with imitrace.tool("get_order", call_id="c1") as run:
            run.result("x" * 3_000_000)
        messages += [{"role": "tool", "tool_call_id": "c1", "content": "y" * 3_000_000}]
        with imitrace.step(messages, [TOOL, {**TOOL, "name": "cancel"}]) as decision:
            decision.policy(role="clone", name="desk", version="v3", confidence=0.9, reason="trusted", propensity=1)
            decision.message("")
        with imitrace.step("and now?") as decision:
            decision.act("fine")
    assert len(seen.steps) == 4
    chunks = [span for span in seen.spans if span.name == semconv.SPAN_CHUNK]
    for span in seen.steps:
        assert span.context is not None
        own = [
            chunk.attributes or {} for chunk in chunks if chunk.parent and chunk.parent.span_id == span.context.span_id
        ]
        whole, problem = reassemble(span.attributes or {}, own)
        assert (problem, step_problems(whole)) == (None, [])


@pytest.mark.parametrize(
    ("attributes", "problem"),
    [
        ({"TRAJECTORY_ID": None}, "agent.trajectory.id is missing"),
        ({"TRAJECTORY_ID": ""}, "agent.trajectory.id is missing"),
        ({"STEP_INDEX": None}, "agent.trajectory.step.index is missing"),
        ({"STEP_INDEX": -1}, "agent.trajectory.step.index is -1, expected a whole number from 0"),
        ({"STEP_INDEX": True}, "agent.trajectory.step.index is True, expected a whole number from 0"),
        ({"INPUT_TOKENS": "9"}, "gen_ai.usage.input_tokens is '9', expected a whole number from 0"),
        ({"AGENT_NAME": 3}, "gen_ai.agent.name is 3, expected text"),
        ({"STEP_CONFIDENCE": 1.5}, "agent.trajectory.step.confidence is 1.5, expected a number from 0 to 1"),
        ({"STEP_PROPENSITY": float("nan")}, "agent.trajectory.step.propensity is nan, expected a number from 0 to 1"),
        ({"STEP_MESSAGES_OFFSET": None}, "agent.trajectory.step.messages.offset is missing, and only step 0"),
        ({"STEP_MESSAGES": "[{"}, "messages: not JSON"),
        ({"STEP_MESSAGES": None}, "messages: not JSON text"),
        ({"STEP_MESSAGES": "[" * 200 + "]" * 200}, "messages: nested deeper than 100"),
        ({"TOOL_DEFINITIONS": '[{"function": {}}]'}, "tool definitions: tool definition is"),
        ({"TOOL_DEFINITIONS": "[]", "STEP_TOOLS_HASH": "beef"}, "tools_hash is 'beef', the definitions sent with it"),
        ({"POLICY_ROLE": "boss"}, "policy role is 'boss', allowed: expert, clone, human, synthetic"),
        ({"STEP_ACTION_KIND": None}, "action kind is '', allowed: tool_call, message"),
        ({"STEP_ACTION_KIND": "tool_call"}, "action is a tool call without a tool's name"),
        ({"STEP_ACTION_KIND": "tool_call", "TOOL_NAME": "t", "TOOL_CALL_ARGUMENTS": "[]"}, "arguments: not a JSON obj"),
        ({"STEP_MESSAGE": None}, "action is a message without text"),
        ({"STEP_SHADOW": "[]"}, "shadow: not a JSON object"),
        ({"TRAJECTORY_TAGS": '{"a": 1}'}, "tags: not a JSON object of strings"),
        ({"STEP_INCOMPLETE": "too large", "STEP_MESSAGES": None}, "agent.trajectory.step.incomplete says 'too large'"),
    ],
)
def test_what_does_not_conform_is_said_in_words(attributes: Attributes, problem: str) -> None:
    assert step_problems(step()) == []
    (found,) = step_problems(step(**attributes))
    assert found.startswith(problem)


def test_a_payload_that_its_digest_does_not_fit_is_said() -> None:
    assert step_problems(step() | {semconv.STEP_MESSAGE: "hell"})[0].startswith("digest is ")
    assert step_problems({name: value for name, value in step().items() if name != semconv.STEP_DIGEST}) == [
        "no digest, so nothing proves that the payload is whole"
    ]


def test_tools_that_fit_their_hash_and_a_first_step_without_offset_conform() -> None:
    tools = {"TOOL_DEFINITIONS": json.dumps([TOOL]), "STEP_TOOLS_HASH": content_hash([TOOL])}
    assert step_problems(step(STEP_INDEX=0, STEP_MESSAGES_OFFSET=None, **tools)) == []


@given(attributes=st.dictionaries(st.sampled_from(sorted(NAMES)), st.none() | st.integers() | st.floats() | st.text()))
def test_any_attributes_get_an_answer(attributes: Attributes) -> None:
    assert all(isinstance(problem, str) for problem in step_problems(step() | attributes))
    assert reassemble(step(), [attributes])[1]


def chunks_of(attributes: Attributes, width: int) -> tuple[Attributes, list[Attributes]]:
    """Return a span's attributes without any payload, and the payloads in pieces."""
    chunks: list[Attributes] = []
    for name in semconv.DIGEST_PAYLOADS:
        text = attributes.get(name, "")
        pieces = [text[start : start + width] for start in range(0, len(text), width)]
        chunks += [
            {
                semconv.CHUNK_ATTRIBUTE: name,
                semconv.CHUNK_INDEX: index,
                semconv.CHUNK_COUNT: len(pieces),
                semconv.CHUNK_TEXT: piece,
            }
            for index, piece in enumerate(pieces)
        ]
    kept = {name: value for name, value in attributes.items() if name not in semconv.DIGEST_PAYLOADS}
    return kept | {semconv.STEP_CHUNKS: len(chunks)}, chunks


@settings(deadline=None)
@given(
    text=st.text(st.characters(codec="utf-8"), min_size=1),
    width=st.integers(1, 30),
    shuffle=st.randoms(use_true_random=False),
    twice=st.booleans(),
)
def test_chunks_in_any_order_give_the_payloads_back(text: str, width: int, shuffle: random.Random, twice: bool) -> None:
    sent = step(STEP_MESSAGE=text)
    kept, chunks = chunks_of(sent, width)
    arriving = chunks * (1 + twice)
    shuffle.shuffle(arriving)
    whole, problem = reassemble(kept, arriving)
    assert problem is None
    assert whole == sent | {semconv.STEP_CHUNKS: len(chunks)}
    assert step_problems(whole) == []


def tamper(**attributes: Any) -> Callable[[list[Attributes]], list[Attributes]]:
    """Return a function that adds the second chunk again, with other attributes."""
    return lambda chunks: [*chunks, chunks[1] | {getattr(semconv, name): value for name, value in attributes.items()}]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda chunks: chunks[:-1], "4 of 5 chunks arrived"),
        (lambda chunks: [], "0 of 5 chunks arrived"),
        (lambda chunks: [*chunks[1:], chunks[0] | {semconv.CHUNK_INDEX: 9, semconv.CHUNK_COUNT: 10}], "don't agree"),
        (tamper(CHUNK_TEXT="other"), "chunk 1 of agent.trajectory.step.messages came twice, with different text"),
        (tamper(CHUNK_INDEX=4), "can't be"),
        (tamper(CHUNK_ATTRIBUTE="gen_ai.tool.name"), "number 1 of 4 of 'gen_ai.tool.name', which can't be"),
        (tamper(CHUNK_ATTRIBUTE="gen_ai.tool.call.result"), "6 of 5 chunks arrived"),
        (tamper(CHUNK_TEXT=None), "lacks"),
        (tamper(CHUNK_COUNT=5), "chunks of agent.trajectory.step.messages don't agree how many there are"),
    ],
)
def test_chunks_that_do_not_fit_are_said_the_same_in_any_order(
    change: Callable[[list[Attributes]], list[Attributes]], told: str
) -> None:
    kept, chunks = chunks_of(step(), 17)
    assert len(chunks) == 5
    arriving = change(chunks)
    answers = {canonical_json(reassemble(kept, found)) for found in (arriving, arriving[::-1])}
    assert len(answers) == 1
    assert told in str(reassemble(kept, arriving)[1])


def test_a_payload_that_lacks_a_chunk_is_said_where_the_sum_fits() -> None:
    kept, chunks = chunks_of(step(), 17)
    stranger = chunks[0] | {semconv.CHUNK_ATTRIBUTE: semconv.TOOL_CALL_RESULT, semconv.CHUNK_COUNT: 2}
    found = reassemble(kept, [*chunks[1:], stranger])[1]
    assert found == (
        "1 of 2 chunks of gen_ai.tool.call.result arrived; 3 of 4 chunks of agent.trajectory.step.messages arrived"
    )


def test_a_payload_that_came_whole_and_in_chunks_is_said() -> None:
    kept, chunks = chunks_of(step(), 1000)
    assert "can't be" in str(reassemble(kept | {semconv.STEP_MESSAGE: "hello"}, chunks)[1])
    assert reassemble(kept | {semconv.STEP_CHUNKS: "2"}, chunks)[1] == (
        "agent.trajectory.step.chunks is '2', expected a whole number from 0"
    )


def test_the_document_names_every_attribute_and_no_other() -> None:
    text = WIRE.read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:agent\.trajectory|gen_ai|error|exception)\.[a-z_.]+)`", text))
    assert named == NAMES
    words = {word for listed in (semconv.ACTION_KINDS, semconv.POLICY_ROLES, semconv.OUTCOMES) for word in listed}
    assert {word for word in words | {semconv.SPAN_TRAJECTORY, semconv.SPAN_TOOL} if f"`{word}`" not in text} == set()
