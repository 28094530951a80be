"""What a request asks, and the answers that OpenAI's own models of them accept."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response

from imitrace.exceptions import WireError
from imitrace.faults import Faults
from imitrace.messages import Action
from imitrace.shapes.answers import read_answer
from imitrace.shapes.streams import Joiner
from imitrace_trainer.serving.asked import Asked, Form
from imitrace_trainer.serving.chat_form import ChatForm
from imitrace_trainer.serving.responses_form import ResponsesForm

SAID = Action("message", message="It is on.")
CALLED = Action("tool_call", "switch", {"lamp": "L-é", "to": "on"}, call_id="call_1")
SWITCH = {"name": "switch", "parameters": {"type": "object", "properties": {}}}
CHAT = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "tools": [{"type": "function", "function": SWITCH}],
}
RESPONSES = {"model": "m", "input": "x", "tools": [{"type": "function", **SWITCH}, {"type": "web_search"}]}
FORMS: list[tuple[Form, dict[str, Any]]] = [(ChatForm(), CHAT), (ResponsesForm(), RESPONSES)]
both = pytest.mark.parametrize(("form", "body"), FORMS)


def asked(form: Form, body: dict[str, Any], **more: Any) -> Asked:
    return form.read({**body, **more})


@both
@pytest.mark.parametrize("action", [SAID, CALLED])
def test_an_answer_is_read_back_whole_and_streamed(form: Form, body: dict[str, Any], action: Action) -> None:
    request = asked(form, body)
    whole = form.whole(request, action, "lamps:v1")
    joiner = Joiner()
    for _, event in form.events(request, whole):
        if event != "[DONE]":
            joiner.add(event)
    assert joiner.finished
    for answer in (whole, joiner.answer()):
        assert read_answer(answer, Faults()).actions == (action,)
    assert len(form.said(whole)) == 1


@pytest.mark.parametrize("action", [SAID, CALLED])
def test_openais_own_models_take_the_answers(action: Action) -> None:
    form = ChatForm()
    request = asked(form, CHAT, stream_options={"include_usage": True})
    whole = form.whole(request, action, "lamps:v1")
    ChatCompletion.model_validate(whole, strict=True)
    for _, event in form.events(request, whole):
        if event != "[DONE]":
            ChatCompletionChunk.model_validate(event, strict=True)
    told = ResponsesForm().whole(asked(ResponsesForm(), RESPONSES), action, "lamps:v1")
    Response.model_validate_json(json.dumps(told))


@both
@pytest.mark.parametrize(
    ("choice", "acts", "speaks"),
    [("auto", True, True), ("none", False, True), ("required", True, False), (None, True, True)],
)
def test_a_tool_choice_in_a_word_is_followed(
    form: Form, body: dict[str, Any], choice: Any, acts: bool, speaks: bool
) -> None:
    request = asked(form, body, tool_choice=choice)
    assert [form.misfit(request, action) is None for action in (CALLED, SAID)] == [acts, speaks]


@pytest.mark.parametrize(
    ("form", "choice", "acts"),
    [
        (FORMS[0], {"type": "function", "function": {"name": "switch"}}, True),
        (FORMS[0], {"type": "function", "function": {"name": "wait"}}, False),
        (FORMS[1], {"type": "function", "name": "switch"}, True),
        (FORMS[1], {"type": "function", "name": "wait"}, False),
        (FORMS[1], {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "switch"}]}, True),
        (FORMS[1], {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "wait"}]}, False),
    ],
)
def test_a_tool_choice_by_name_is_followed(form: Any, choice: Any, acts: bool) -> None:
    request = asked(*form, tool_choice=choice)
    assert (request.lack, form[0].misfit(request, CALLED) is None) == (None, acts)


@both
@pytest.mark.parametrize("choice", [{"type": "custom", "custom": {"name": "x"}}, {"type": "web_search"}, 7, {}])
def test_any_other_tool_choice_is_the_models(form: Form, body: dict[str, Any], choice: Any) -> None:
    assert asked(form, body, tool_choice=choice).lack is not None


@pytest.mark.parametrize(
    ("form", "more"),
    [
        (FORMS[0], {"response_format": {"type": "json_object"}}),
        (FORMS[0], {"stop": ["END"]}),
        (FORMS[1], {"text": {"format": {"type": "json_schema"}}}),
        (FORMS[1], {"max_output_tokens": 3}),
    ],
)
def test_a_text_of_another_shape_is_the_models(form: Any, more: Any) -> None:
    assert form[0].misfit(asked(*form, **more), SAID) is not None


@pytest.mark.parametrize(
    "more",
    [
        {"background": True},
        {"prompt": {"id": "p"}},
        {"previous_response_id": "resp_1"},
        {"conversation": {"id": "conv_1"}},
        {"include": ["message.output_text.logprobs"]},
        {"input": [{"type": "item_reference", "id": "x"}]},
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]},
        {"input": [{"type": "computer_call_output", "output": {}}]},
        {"context_management": []},
    ],
)
def test_what_a_response_may_need_of_the_models_service_is_left_to_it(more: Any) -> None:
    assert asked(ResponsesForm(), RESPONSES, **more).lack is not None


def test_a_built_in_tool_is_no_function_that_a_clone_may_call() -> None:
    request = asked(*FORMS[1])
    assert request.functions == {"switch"}
    search = Action("tool_call", "web_search", {})
    assert ResponsesForm().misfit(request, search) is not None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
)


@given(
    st.dictionaries(
        st.sampled_from(["messages", "input", "tools", "tool_choice", "include", "conversation", "n", "stream"]), JSON
    )
)
def test_any_body_is_read_or_refused(body: dict[str, Any]) -> None:
    for form, _ in FORMS:
        try:
            form.read(body)
        except WireError:
            continue
