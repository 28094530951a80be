from collections import Counter
from dataclasses import dataclass
from random import Random

from imitrace.messages import Action, Message, action_message, from_openai
from imitrace_trainer.correcting.students import GuardedPolicy, SampledPolicy, repeated
from imitrace_trainer.policy import Decision, State

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
