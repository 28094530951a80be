"""What a prompt says beyond what all said: told apart, learnt where prompts vary, noticed where one changes."""

from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.messages import Action, Message
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import StateView, feature_id, view_state
from imitrace_trainer.families import FAMILIES
from imitrace_trainer.fit import BCConfig, fit, prepare
from imitrace_trainer.policy import State
from imitrace_trainer.prompts import PromptSurvey, prompt_features
from imitrace_trainer.reading import Reader
from imitrace_trainer.refits import Refitter

REFUND = {"name": "refund", "parameters": {"type": "object", "properties": {}}}
ASKED: Message = {"role": "user", "parts": [{"type": "text", "content": "I want my money back"}]}
CONFIG = BCConfig(device="cpu", batch=8, epochs=6)


def prompt(text: str) -> Message:
    return {"role": "system", "parts": [{"type": "text", "content": text}]}


def view(*messages: Message) -> StateView:
    return view_state(messages, [], Reader())


def common(told: Iterable[StateView]) -> list[int] | None:
    survey = PromptSurvey()
    for one in told:
        survey.add(one)
    return survey.common


def ids(*texts: str) -> set[int]:
    return {feature_id(f"system|{text}") for text in texts}


def test_what_all_prompts_say_is_not_told_of_any() -> None:
    told = [view(prompt(f"Be kind. The customer is {tier}."), ASKED) for tier in ("gold", "tin", "gold")]
    shared = frozenset(common(told) or [])
    assert shared == ids("be", "kind", "the", "customer", "is", "be kind", "kind the", "the customer", "customer is")
    assert [set(prompt_features(one, shared)) for one in told] == [
        ids(name, f"is {name}") for name in ("gold", "tin", "gold")
    ]


def test_what_a_changed_prompt_adds_and_lacks_is_told() -> None:
    shared = frozenset(common([view(prompt("Be kind."))]) or [])
    lacking = {f"lacks {feature}" for feature in ids("kind", "be kind")}
    assert set(prompt_features(view(prompt("Be rude.")), shared)) == ids("rude", "be rude", *lacking)


def test_numbers_do_not_count() -> None:
    shared = common([view(prompt("It is 2026-11-23, 10:15."))])
    assert prompt_features(view(prompt("It is 2027-01-02, 09:59.")), frozenset(shared or [])) == []


@pytest.mark.parametrize("trained", [None, "Be kind."])
def test_a_prompt_that_is_recorded_on_one_side_alone_tells_nothing(trained: str | None) -> None:
    shared = common([view(prompt(trained), ASKED) if trained else view(ASKED)])
    later = view(ASKED) if trained else view(prompt("Be kind."), ASKED)
    assert prompt_features(later, None if shared is None else frozenset(shared)) == []


@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_common_is_what_no_prompt_lacks(texts: list[str]) -> None:
    told = [view(prompt(text)) for text in texts]
    shared = frozenset(common(told) or [])
    beyond = [set(prompt_features(one, shared)) for one in told]
    assert all(part.isdisjoint(shared) for part in beyond)
    assert not set.intersection(*beyond)


def decisions(tiers: Iterable[str]) -> list[Demonstration]:
    """Return an expert's who refunds to customers whom the prompt calls gold."""
    return [
        Demonstration(
            State([prompt(f"Be kind. The customer is {tier}."), ASKED], [REFUND]),
            Action("tool_call", "refund", {}) if tier == "gold" else Action("message", message="no"),
            str(number),
        )
        for number, tier in enumerate(tiers)
    ]


@pytest.mark.parametrize("family", ["linear", "embedded"])
def test_an_expert_who_goes_by_the_prompt_is_cloned(family: str) -> None:
    lesson = prepare(decisions(["gold", "tin"] * 12), CONFIG)
    assert "system" in lesson.caller.config.groups
    clone = FAMILIES[family].fit(lesson, CONFIG, lambda *_: None)
    for shown in decisions(["gold", "tin"]):
        assert clone.score(shown.state)[0].action.kind == shown.action.kind


def test_one_prompt_for_all_has_no_weights_and_another_one_is_far_away() -> None:
    shown = [replace(one, state=replace(one.state, messages=[prompt("Be kind."), *one.state.messages[1:]]))
             for one in decisions(["gold", "tin"] * 8)]  # fmt: skip
    clone, _ = fit(shown, [], CONFIG)
    assert "system" not in clone.config.groups
    same, other = shown[0].state, replace(shown[0].state, messages=[prompt("Never refund anything."), ASKED])
    assert clone.score(other)[1] > clone.score(same)[1] + 0.1
    assert clone.score(other)[0] == clone.score(same)[0]


@pytest.mark.parametrize(("tiers", "ablated"), [(["gold", "tin"], True), (["gold", "gold"], False)])
def test_what_the_prompt_is_worth_is_asked_where_it_varies(tiers: list[str], ablated: bool) -> None:
    shown = decisions(tiers * 4)
    if not ablated:
        shown[::2] = [replace(one, action=Action("message", message="no")) for one in shown[::2]]
    config = replace(CONFIG, epochs=1, leave_out="users,assistant,observation,facts,history,subject,matches,reply")
    refits = Refitter("linear", config, shown, shown).run()
    left_out = {one.left_out for one in refits.ablation}
    assert left_out == {"last_user", "affordances", *(["system"] if ablated else [])}
