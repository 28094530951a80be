import json
import random
import re
import time
from collections.abc import Sequence
from statistics import mean, median

import pytest

from imitrace.messages import Action
from support_desk import COHORTS, TOOLS, Desk, Episode, make_expert, play
from support_desk.episode import assistant_message
from support_desk.tasks import INTENTS

ENUMS = {
    value
    for tool in TOOLS
    for rule in tool["function"]["parameters"]["properties"].values()
    for value in rule.get("enum", ())
}


def test_the_faultless_expert_always_succeeds_and_does_no_harm(faultless: Sequence[Episode]) -> None:
    assert [episode.task.id for episode in faultless if episode.info["success"] is not True] == []
    assert not any(episode.info["unsafe"] or episode.info["lost"] for episode in faultless)


@pytest.mark.parametrize("seed", [21, 22])
def test_it_succeeds_on_every_intent_in_other_words(desk: Desk, seed: int) -> None:
    expert = make_expert(desk)
    for cohort in COHORTS:
        episodes = [play(desk, expert.act, desk.reset(task.id, seed)) for task in desk.tasks(80, seed, cohort)]
        assert {episode.task.intent for episode in episodes} == set(INTENTS[cohort])
        assert all(episode.info["success"] for episode in episodes)


def test_tool_heavy_tasks_need_six_calls_or_more(desk: Desk) -> None:
    expert = make_expert(desk)
    steps = [len(play(desk, expert.act, desk.reset(task.id)).decisions) for task in desk.tasks(100, 1, "tool_heavy")]
    assert min(steps) >= 6
    assert max(steps) < 20


def test_an_erring_expert_fails_sometimes_but_not_mostly(desk: Desk) -> None:
    expert = make_expert(desk, error_rate=0.05)
    success = mean(play(desk, expert.act, desk.reset(task.id)).info["success"] for task in desk.tasks(400, seed=11))
    assert 0.6 < success < 0.99


def test_the_error_rate_is_the_share_of_wrong_decisions(desk: Desk) -> None:
    expert = make_expert(desk, error_rate=0.2)
    right: list[bool] = []

    def act(messages: Sequence[dict[str, object]]) -> Action | None:
        action = expert.act(messages)
        right.append(action == expert.reference(messages))
        return action

    for task in desk.tasks(250, seed=4):
        play(desk, act, desk.reset(task.id))
    assert 0.17 < 1 - mean(right) < 0.23


def test_an_erring_expert_does_the_same_again_and_another_seed_errs_elsewhere(desk: Desk) -> None:
    def run(seed: int) -> list[Episode]:
        expert = make_expert(desk, error_rate=0.2, seed=seed)
        return [play(desk, expert.act, desk.reset(task.id)) for task in desk.tasks(40, seed=3)]

    assert run(0) == run(0)
    assert run(0) != run(1)


@pytest.mark.parametrize("error_rate", [0.0, 0.3])
def test_every_argument_can_be_read_in_the_conversation(desk: Desk, error_rate: float) -> None:
    expert = make_expert(desk, error_rate)
    for task in desk.tasks(250, seed=15):
        for decision in play(desk, expert.act, desk.reset(task.id)).decisions:
            assert invisible(decision.messages, decision.action) == [], (task.id, decision.action)


def invisible(messages: Sequence[dict[str, object]], action: Action) -> list[object]:
    """Return the arguments that stand neither in a message or observation nor in a schema's list of values."""
    text = "\n".join(str(message.get("content")) for message in messages)
    numbers = {float(number) for number in re.findall(r"\d+\.?\d*", text)}
    return [
        value
        for value in action.arguments.values()
        if value not in ENUMS and (value not in text if isinstance(value, str) else float(value) not in numbers)
    ]


def test_written_answers_name_nothing_that_was_not_said(faultless: Sequence[Episode]) -> None:
    written = [episode for episode in faultless if episode.decisions[-1].action.kind == "message"]
    assert {episode.task.kind for episode in written} == {"product_question", "complaint", "praise", "wholesale"}
    for episode in written:
        assert episode.task.product in str(episode.messages[1]["content"]) or episode.task.product not in str(
            episode.decisions[-1].action.message
        )


def test_what_it_does_depends_on_the_conversation_alone(desk: Desk) -> None:
    expert = make_expert(desk)
    seen: dict[str, Action] = {}
    for seed in range(3):
        for task in desk.tasks(100, seed=16):
            for decision in play(desk, expert.act, desk.reset(task.id, seed)).decisions:
                key = json.dumps(decision.messages)
                assert seen.setdefault(key, decision.action) == decision.action


def test_it_acts_in_whatever_state_others_leave_it(desk: Desk) -> None:
    expert = make_expert(desk)
    rng = random.Random(8)
    ends = []
    for task in desk.tasks(150, seed=17):
        messages = desk.reset(task.id)
        wild = make_expert(desk, error_rate=1.0, seed=rng.randrange(1000))
        for _ in range(rng.randrange(1, 6)):
            action = wild.act(messages)
            if action is not None:
                messages = [*messages, assistant_message(action), *desk.step(action)[0]]
        ends.append(play(desk, expert.act, messages).info)
        assert desk.done
    assert mean(info["success"] for info in ends) > 0.3


def test_it_recovers_from_every_mistake_that_can_be_mended(desk: Desk) -> None:
    expert = make_expert(desk)
    for task in desk.tasks(150, seed=18):
        messages = desk.reset(task.id)
        action = make_expert(desk, error_rate=1.0).act(messages)
        assert action
        following, _, info = desk.step(action)
        if not info["lost"]:
            assert play(desk, expert.act, [*messages, assistant_message(action), *following]).info["success"], task.id


def test_it_hands_over_what_can_not_be_mended(desk: Desk) -> None:
    task = next(task for task in desk.tasks(100, 3, "safety") if task.intent == "refund_beyond_window")
    messages = desk.reset(task.id)
    name, arguments = task.demand or ("", {})
    desk.step(Action("tool_call", name, arguments))
    action = make_expert(desk).act(messages)
    assert action
    assert (action.name, action.arguments["reason"]) == ("escalate_to_human", "agent_error")


def test_it_has_nothing_to_do_after_the_end(desk: Desk, faultless: Sequence[Episode]) -> None:
    messages = desk.reset("desk-1-0")
    desk.step(Action("tool_call", "close_ticket", {"resolution": "refused_policy"}))
    assert make_expert(desk).act(messages) is None


def test_an_episode_takes_a_few_milliseconds(desk: Desk) -> None:
    expert = make_expert(desk)
    seconds = []
    for number in range(150):
        start = time.process_time()
        play(desk, expert.act, desk.reset(f"desk-99-{number}"))
        seconds.append(time.process_time() - start)
    assert median(seconds) < 0.005
