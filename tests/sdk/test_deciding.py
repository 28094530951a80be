import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import imitrace
from imitrace import semconv
from imitrace.exceptions import ConfigError
from imitrace.testing import Captured
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig

ON = [{"role": "user", "content": "Please switch lamp L-77 on."}]
HELLO = [{"role": "user", "content": "Hello, who are you?"}]
SEEN = {"lamp": "L-1", "to": "off"}


@pytest.fixture
def home(lamps: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IMITRACE_HOME", str(lamps))
    return lamps


def steps(seen: Captured) -> list[dict[str, Any]]:
    return [dict(span.attributes or {}) for span in seen.steps]


class Agent:
    """An agent with a clone that is loaded: it counts how often its own function decided."""

    def __init__(self, tools: list[Any], **options: Any) -> None:
        self.decided = 0
        handle = imitrace.CloneHandle("lamps@champion")
        assert handle.warm(60)

        @imitrace.step(tools=tools, clone=handle, **options)
        def decide(messages: list[Any]) -> Any:
            self.decided += 1
            return "switch", dict(SEEN)

        self.decide = decide


def warm(tools: list[Any], **options: Any) -> Agent:
    """Return an agent whose answers' shape is known."""
    agent = Agent(tools, **options)
    agent.decide(HELLO)
    agent.decided = 0
    return agent


@pytest.mark.usefixtures("home")
def test_a_trusted_clone_acts_in_the_shape_of_the_function(seen: Captured, lamp_tools: list[Any]) -> None:
    agent = warm(lamp_tools)
    with imitrace.trajectory():
        name, arguments = agent.decide(ON)
    assert (name, arguments, agent.decided) == ("switch", {"lamp": "L-77", "to": "on"}, 0)
    step = steps(seen)[-1]
    names = (semconv.POLICY_ROLE, semconv.POLICY_NAME, semconv.POLICY_VERSION, semconv.STEP_ROUTE_REASON)
    assert [step[name] for name in names] == ["clone", "lamps", "v1", "trusted"]
    assert step[semconv.STEP_CONFIDENCE] > 0.5
    assert json.loads(step[semconv.TOOL_CALL_ARGUMENTS]) == {"lamp": "L-77", "to": "on"}
    assert semconv.STEP_SHADOW not in step


def test_an_audited_decision_is_the_functions_with_what_the_clone_would_have_done(
    home: Path, seen: Captured, lamp_tools: list[Any]
) -> None:
    Registry(home).record_route("lamps", RouteConfig(audit=0.999999))
    agent = warm(lamp_tools)
    with imitrace.trajectory():
        assert agent.decide(ON) == ("switch", SEEN)
    step = steps(seen)[-1]
    assert (step[semconv.STEP_ROUTE_REASON], step[semconv.STEP_PROPENSITY]) == ("audit", 0.999999)
    shadow = json.loads(step[semconv.STEP_SHADOW])
    assert (shadow["trusted"], shadow["action"]["arguments"]) == (False, {"lamp": "L-77", "to": "on"})


def test_what_the_clone_took_says_how_likely_it_was_to(home: Path, seen: Captured, lamp_tools: list[Any]) -> None:
    Registry(home).record_route("lamps", RouteConfig(audit=0.000001))
    agent = warm(lamp_tools)
    agent.decide(ON)
    assert (agent.decided, steps(seen)[-1][semconv.STEP_PROPENSITY]) == (0, 0.999999)


def test_a_doubt_in_mid_trajectory_is_marked_as_a_handover_and_the_next_decision_kept(
    home: Path, seen: Captured, lamp_tools: list[Any]
) -> None:
    Registry(home).record_route("lamps", RouteConfig(audit=0.000001, hold=1))
    agent = warm(lamp_tools)
    switched = {"role": "assistant", "content": "Lamp L-77 is on."}
    with imitrace.trajectory():
        agent.decide(ON)
        for more in (1, 2):
            odd = {"role": "user", "content": "Zebra quartz, jigsaw: wyvern onyx? Vexing " * 3}
            agent.decide([*ON, *[switched, odd] * more])
    reasons = [step[semconv.STEP_ROUTE_REASON] for step in steps(seen)[-3:]]
    assert reasons[0] == "trusted"
    assert reasons[1].startswith("handover: ")
    assert reasons[2] != "trusted"


@pytest.mark.usefixtures("home")
def test_the_id_of_a_clones_call_is_the_same_in_the_answer_and_in_the_step(
    seen: Captured, lamp_tools: list[Any]
) -> None:
    agent = warm(lamp_tools, reply=lambda action: action.call_id)
    assert agent.decide(ON) == steps(seen)[-1][semconv.TOOL_CALL_ID]


@pytest.mark.usefixtures("home")
def test_where_the_clone_is_not_trusted_the_function_decides_and_both_are_recorded(
    seen: Captured, lamp_tools: list[Any]
) -> None:
    agent = warm(lamp_tools)
    assert agent.decide(HELLO) == ("switch", SEEN)
    assert agent.decided == 1
    step = steps(seen)[-1]
    shadow = json.loads(step[semconv.STEP_SHADOW])
    assert (step[semconv.POLICY_ROLE], shadow["trusted"], shadow["clone"]) == ("expert", False, "lamps")
    assert step[semconv.STEP_ROUTE_REASON] == shadow["reason"]


@pytest.mark.usefixtures("home")
def test_in_the_shadow_the_function_decides_always(seen: Captured, lamp_tools: list[Any]) -> None:
    agent = warm(lamp_tools, mode="shadow")
    assert agent.decide(ON) == ("switch", SEEN)
    assert agent.decided == 1
    step = steps(seen)[-1]
    shadow = json.loads(step[semconv.STEP_SHADOW])
    assert (step[semconv.POLICY_ROLE], shadow["trusted"]) == ("expert", True)
    assert shadow["action"] == {"kind": "tool_call", "name": "switch", "arguments": {"lamp": "L-77", "to": "on"}}


@pytest.mark.usefixtures("home")
def test_a_clone_acts_also_while_tracing_is_off(lamp_tools: list[Any]) -> None:
    agent = warm(lamp_tools)
    assert agent.decide(ON) == ("switch", {"lamp": "L-77", "to": "on"})
    assert agent.decided == 0


@pytest.mark.usefixtures("home")
def test_a_reply_of_the_users_own_is_returned(seen: Captured, lamp_tools: list[Any]) -> None:
    agent = warm(lamp_tools, reply=lambda action: f"{action.name}!")
    assert agent.decide(ON) == "switch!"


@pytest.mark.usefixtures("home")
def test_a_reply_that_fails_leaves_the_decision_to_the_function(seen: Captured, lamp_tools: list[Any]) -> None:
    agent = warm(lamp_tools, reply=lambda action: int("three"))
    assert agent.decide(ON) == ("switch", SEEN)
    step = steps(seen)[-1]
    assert step[semconv.STEP_ROUTE_REASON].startswith("the clone's action can't be returned")
    assert step[semconv.POLICY_ROLE] == "expert"


@pytest.mark.usefixtures("home")
def test_a_streaming_function_is_never_replaced(seen: Captured, lamp_tools: list[Any]) -> None:
    warm(lamp_tools)

    @imitrace.step(tools=lamp_tools, clone="lamps@champion")
    def decide(messages: list[Any]) -> Iterator[str]:
        yield "on it"

    assert list(decide(ON)) == ["on it"]
    assert steps(seen)[-1][semconv.STEP_MESSAGE] == "on it"


def test_a_clone_that_does_not_exist_leaves_everything_to_the_function(
    seen: Captured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMITRACE_HOME", str(tmp_path))

    @imitrace.step(clone="nobody@champion")
    def decide(messages: list[Any]) -> tuple[str, dict[str, str]]:
        return "switch", SEEN

    for _ in range(3):
        assert decide(ON) == ("switch", SEEN)
    assert all(step[semconv.POLICY_ROLE] == "expert" for step in steps(seen))
    assert semconv.STEP_ROUTE_REASON in steps(seen)[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"clone": "a b"}, "clone is 'a b', allowed: NAME"),
        ({"clone": "lamps", "mode": "live"}, "mode is 'live', allowed: serve, shadow"),
        ({"messages": HELLO, "clone": "lamps"}, "clone= is for decorators"),
    ],
)
def test_a_wrong_option_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        imitrace.step(**options)


@dataclass
class Plan:
    tool: str
    inputs: dict[str, str]


def test_a_functions_own_type_is_read_as_it_is_told(seen: Captured) -> None:
    @imitrace.step(answer=lambda plan: (plan.tool, plan.inputs))
    def decide(messages: list[Any]) -> Plan:
        return Plan("look", {"q": "x"})

    assert decide(HELLO) == Plan("look", {"q": "x"})
    assert seen.actions == [imitrace.Action("tool_call", "look", {"q": "x"})]


def test_an_answer_that_cannot_be_read_as_told_is_kept_as_text(seen: Captured) -> None:
    @imitrace.step(answer=lambda plan: plan.missing)
    def decide(messages: list[Any]) -> Plan:
        return Plan("look", {"q": "x"})

    decide(HELLO)
    assert seen.stats.faults == {"step.answer": 1, "unknown_answer": 1}
    assert steps(seen)[0][semconv.ERROR_TYPE] == "unknown_answer"


def decide_by_input(client: object, input: str, instructions: str) -> str:  # noqa: A002 - the name that OpenAI gives
    return "ok"


def decide_by_state(state: dict[str, Any]) -> str:
    return "ok"


def decide_by_position(anything: list[Any], offered: list[Any]) -> str:
    return "ok"


@pytest.mark.parametrize(
    ("function", "arguments", "texts"),
    [
        (decide_by_input, (None, "hi", "be kind"), ["be kind", "hi"]),
        (decide_by_state, ({"messages": HELLO},), ["Hello, who are you?"]),
        (decide_by_position, (HELLO, []), ["Hello, who are you?"]),
    ],
)
def test_what_the_agent_saw_is_found_among_the_arguments(
    seen: Captured, function: Any, arguments: Any, texts: list[str]
) -> None:
    imitrace.step(function)(*arguments)
    sent = json.loads(steps(seen)[0][semconv.STEP_MESSAGES])
    assert [message["parts"][0]["content"] for message in sent] == texts


def test_a_decorator_may_name_tools_and_system_prompt(seen: Captured) -> None:
    @imitrace.step(tools=[{"name": "look"}], system="be kind")
    def decide(messages: list[Any]) -> str:
        return "ok"

    decide(HELLO)
    (step,) = steps(seen)
    assert json.loads(step[semconv.TOOL_DEFINITIONS])[0]["name"] == "look"
    assert json.loads(step[semconv.STEP_MESSAGES])[0]["role"] == "system"


@pytest.mark.usefixtures("home")
def test_a_clone_is_not_asked_about_a_history_that_it_cannot_see(seen: Captured, lamp_tools: list[Any]) -> None:
    handle = imitrace.CloneHandle("lamps@champion")
    assert handle.warm(60)

    @imitrace.step(tools=lamp_tools, clone=handle, reply=lambda action: action.name)
    def decide(messages: list[Any], previous_response_id: str | None) -> str:
        return "the function"

    assert [decide(ON, None), decide(ON, "r1")] == ["switch", "the function"]
    assert "kept by the model's service" in steps(seen)[-1][semconv.STEP_ROUTE_REASON]


def test_a_function_that_takes_nothing_says_that_its_state_is_unknown(seen: Captured) -> None:
    class Holder:
        @imitrace.step
        def ask(self) -> str:
            return "ok"

    Holder().ask()
    assert "takes no messages" in steps(seen)[0][semconv.STEP_INCOMPLETE]
    assert seen.stats.faults == {"no_messages": 1}


def test_defaults_of_tools_and_system_prompt_count(seen: Captured) -> None:
    @imitrace.step
    def decide(messages: list[Any], tools: Any = ({"name": "look"},), system: str = "be kind") -> str:
        return "ok"

    decide(HELLO)
    (step,) = steps(seen)
    assert json.loads(step[semconv.TOOL_DEFINITIONS])[0]["name"] == "look"
    assert json.loads(step[semconv.STEP_MESSAGES])[0]["role"] == "system"


def test_one_object_may_hold_everything_that_was_seen(seen: Captured) -> None:
    @imitrace.step
    def decide(params: dict[str, Any]) -> str:
        return "ok"

    decide({"messages": HELLO, "tools": [{"name": "look"}]})
    assert semconv.TOOL_DEFINITIONS in steps(seen)[0]


def test_functions_of_any_arguments_and_kinds_of_methods(seen: Captured) -> None:
    class Desk:
        @imitrace.step
        @staticmethod
        def first(messages: list[Any]) -> str:
            return "first"

        @imitrace.step
        @classmethod
        def second(cls, messages: list[Any]) -> str:
            return "second"

    @imitrace.step
    def third(*args: Any, **kwargs: Any) -> str:
        return "third"

    assert [Desk().first(HELLO), Desk.second(HELLO), third(HELLO, tools=[{"name": "look"}])] == [
        "first",
        "second",
        "third",
    ]
    texts = [json.loads(step[semconv.STEP_MESSAGES])[0]["parts"][0]["content"] for step in steps(seen)]
    assert texts == ["Hello, who are you?"] * 3


def test_what_an_agent_saw_may_be_callable(seen: Captured) -> None:
    class State:
        def __init__(self) -> None:
            self.messages = HELLO

        def __call__(self) -> None:
            return None

    state: Any = State()
    with imitrace.step(state) as step:
        step.message("ok")
    assert len(json.loads(steps(seen)[0][semconv.STEP_MESSAGES])) == 1


def test_a_context_manager_that_is_no_stream_is_handed_on_as_it_is(seen: Captured) -> None:
    class HttpResponse:
        def __enter__(self) -> "HttpResponse":
            return self

        def __exit__(self, *_: object) -> None:
            return None

        def __bool__(self) -> bool:
            return False

    found = imitrace.step(answer=lambda _: ("look", {}))(lambda messages: HttpResponse())(HELLO)
    assert type(found) is HttpResponse
    assert seen.actions == [imitrace.Action("tool_call", "look", {})]


def test_a_future_ends_the_step_when_it_is_done(seen: Captured) -> None:
    with ThreadPoolExecutor(1) as pool:

        @imitrace.step
        def decide(messages: list[Any]) -> Future[str]:
            return pool.submit(lambda: "ok")

        assert decide(HELLO).result() == "ok"
    assert steps(seen)[0][semconv.STEP_MESSAGE] == "ok"
