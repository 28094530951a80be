from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random

import numpy as np
import pytest

from imitrace.messages import Action, Message, action_message, from_openai
from imitrace_trainer.calibration import Calibration
from imitrace_trainer.correcting.students import GuardedPolicy, RerankedPolicy, SampledPolicy, repeated
from imitrace_trainer.critic import Critic, CriticisedPolicy
from imitrace_trainer.encoding import Vocabulary, feature_id
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.reading import Reader

TOOLS: list[dict[str, object]] = [
    {"name": name, "description": "", "parameters": {}} for name in ("north", "south", "wait")
]
SHARES = {"north": 0.6, "south": 0.3, "wait": 0.1}


@dataclass(frozen=True)
class Walker:
    """Go north, where it is offered."""

    def act(self, state: State) -> Decision:
        offered = {tool["name"]: SHARES[tool["name"]] for tool in state.tools}
        best = max(offered, key=lambda name: offered[name])
        return Decision(Action("tool_call", best), 0.8, 0.0, offered)


def walked(*names: str) -> list[Message]:
    """Return a conversation in which the same room is seen after each step."""
    messages = [from_openai({"role": "user", "content": "Walk."})]
    for number, name in enumerate(names):
        messages.append(action_message(Action("tool_call", name, call_id=f"c{number}")))
        messages.append(from_openai({"role": "tool", "tool_call_id": f"c{number}", "content": "A wall."}))
    return messages


def test_a_guarded_clone_does_nothing_twice_in_the_same_state() -> None:
    guarded = GuardedPolicy(Walker())
    taken = [guarded.act(State(walked(*names), TOOLS)).action.name for names in ([], ["north"], ["north", "north"])]
    assert taken == ["north", "north", "south"]  # after the first step it has not gone north from the wall yet
    assert guarded.act(State(walked("wait", "north", "south"), TOOLS)).action.name == "wait"
    everything = walked("wait", "north", "south", "wait")
    assert guarded.act(State(everything, TOOLS)).action.name == "north"


def test_ids_of_calls_make_no_other_state() -> None:
    state = State(walked("south", "north"), TOOLS)
    assert repeated(state, Action("tool_call", "north", call_id="c9"))
    assert not repeated(state, Action("tool_call", "south"))


def test_a_sampled_clone_draws_by_its_probabilities_and_keeps_them() -> None:
    sampled = SampledPolicy(Walker(), Random(3))
    decisions = [sampled.act(State(walked(), TOOLS)) for _ in range(2000)]
    counts = Counter(decision.action.name for decision in decisions)
    assert all(abs(counts[name] / 2000 - share) < 0.04 for name, share in SHARES.items())
    assert {tuple(decision.tools.items()) for decision in decisions} == {tuple(SHARES.items())}


def reranked(said: Mapping[str, float], off: str | None = None) -> RerankedPolicy:
    """Return the walker with a critic that says this probability of success of these tools, a half of the others."""
    odds = {feature_id(tool): np.log(chance / (1 - chance)) for tool, chance in said.items()}
    ids = np.array(sorted(odds), dtype=np.int64)
    weights = np.array([*(odds[one] for one in ids), 0.0], dtype=np.float32)
    plain = Calibration([1.0], 0.0, [0.0], [1.0], cases=10_000)
    critic = Critic(Vocabulary(ids, np.ones(len(ids), dtype=np.float32)), weights, plain, off)
    return RerankedPolicy(CriticisedPolicy(Walker(), critic, Reader()))


@pytest.mark.parametrize(
    ("said", "taken"),
    [
        ({}, "north"),
        ({"north": 0.4}, "north"),  # .6 * .4 / .6 is still more than .3
        ({"north": 0.3}, "south"),  # .6 * .3 / .7 is less than .3
        ({"wait": 0.8}, "north"),  # .1 * .8 / .2 is less than .6
        ({"wait": 0.9}, "wait"),
        ({"north": 0.1, "south": 0.1, "wait": 0.1}, "north"),
    ],
)
def test_a_critic_and_the_clone_together_choose_among_the_likeliest_calls(said: dict[str, float], taken: str) -> None:
    decision = reranked(said).act(State(walked(), TOOLS))
    assert decision.action.name == taken
    assert decision.critic == pytest.approx(said.get(taken, 0.5), abs=1e-6)
    assert decision.tools == SHARES


def test_what_the_clone_hardly_does_is_not_looked_at_however_good_a_critic_says_it_is() -> None:
    policy, state = reranked({"wait": 0.999}), State(walked(), TOOLS)
    assert policy.act(state).action.name == "wait"
    assert replace(policy, most=2).act(state).action.name == "north"
    assert replace(policy, least=0.2).act(state).action.name == "north"


def test_a_critic_that_is_off_chooses_nothing() -> None:
    assert reranked({"wait": 0.999}, "too few failures").act(State(walked(), TOOLS)).action.name == "north"
