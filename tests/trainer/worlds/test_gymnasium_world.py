"""Gymnasium's own environments as worlds: a lake to cross and a taxi to drive."""

import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.rollout import expert_actor, play
from imitrace_trainer.worlds.gymnasium_world import GymnasiumWorld, Progress

gymnasium = pytest.importorskip("gymnasium", reason="needs pip install 'imitrace[gymnasium]'")

WAYS = {0: "left", 1: "down", 2: "right", 3: "up"}
STILL = {"is_slippery": False}
ACROSS = ["down", "down", "right", "right", "down", "right"]
DRIVES = {0: "south", 1: "north", 2: "east", 3: "west", 4: "pick_up", 5: "drop_off"}
STANDS = [(0, 0), (0, 4), (4, 0), (4, 3)]


def lake(**changed: Any) -> GymnasiumWorld:
    return GymnasiumWorld("FrozenLake-v1", WAYS, **({"cohorts": {"still": STILL}} | changed))


def taxi(**changed: Any) -> GymnasiumWorld:
    return GymnasiumWorld("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3", DRIVES, success=0.0, **changed)


def call(name: str, **arguments: str) -> Action:
    return Action("tool_call", name, dict(arguments), call_id="c")


def walk(world: GymnasiumWorld, *ways: str) -> list[bool]:
    return [world.step(call(way))[1] for way in ways]


@dataclass
class Walker:
    """Cross the lake by the one safe way, on what was observed last."""

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:
        place = json.loads(messages[-1]["content"])["observation"]
        ways = {0: "down", 4: "down", 8: "right", 9: "right", 10: "down", 14: "right"}
        return Action("tool_call", ways[place]) if place in ways else None


@dataclass
class Driver:
    """Fetch the passenger and bring them home; walls are gone round by the row in their middle, which has none."""

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action:
        found = json.loads(messages[-1]["content"])["observation"]
        rest, goal = divmod(found, 4)
        rest, passenger = divmod(rest, 5)
        here = divmod(rest, 5)
        target = STANDS[goal if passenger == 4 else passenger]
        if here == target:
            return Action("tool_call", "drop_off" if passenger == 4 else "pick_up")
        if here[1] == target[1]:
            return Action("tool_call", "south" if here[0] < target[0] else "north")
        if here[0] != 2:
            return Action("tool_call", "south" if here[0] < 2 else "north")
        return Action("tool_call", "east" if here[1] < target[1] else "west")


def test_a_scripted_expert_crosses_the_lake() -> None:
    world = lake()
    (task,) = world.tasks(1, 1)
    episode = play(world, task, expert_actor(Walker()))
    assert [turn.action.name for turn in episode.turns if turn.action] == ACROSS
    assert (episode.success, episode.cohort) == (True, "still")


def test_a_scripted_expert_drives_the_taxi_from_every_start() -> None:
    world = taxi()
    starts = set()
    for task in world.tasks(12, 3):
        starts.add(world.reset(task.id)[1]["content"])
        assert play(world, task, expert_actor(Driver())).success, task.id
    assert len(starts) > 6


def test_a_name_determines_the_start_and_what_comes_by_chance() -> None:
    slippery = lake(cohorts={"icy": {"is_slippery": True}})
    courses = []
    for name in ("icy-1-0", "icy-1-0", "icy-1-1", "icy-2-0"):
        slippery.reset(name)
        courses.append([slippery.step(call("right"))[0][0]["content"] for _ in range(4) if not slippery.progress.done])
    assert courses[0] == courses[1]
    assert len({str(course) for course in courses}) > 1


def test_who_falls_into_a_hole_has_lost() -> None:
    world = lake(unsafe=lambda progress: progress.terminated and progress.reward == 0)
    world.reset("still-1-0")
    assert walk(world, "right", "down") == [False, True]
    assert world.info == {"success": False, "lost": True, "unsafe": True, "reward": 0.0}
    assert world.step(call("left")) == ([], True, world.info)
    assert world.actions() == []


def test_success_can_be_what_the_user_says() -> None:
    world = lake(success=lambda progress: progress.observation == 5)
    world.reset("still-1-0")
    walk(world, "right", "down")
    assert world.info["success"]


def test_one_tool_can_do_everything_and_observations_can_be_texts() -> None:
    world = lake(one_tool=True, observe=lambda place: f"row {place // 4}, column {place % 4}", instructions="Cross.")
    assert [message["content"] for message in world.reset("still-1-0")] == ["Cross.", "row 0, column 0"]
    (tool,) = world.tools
    assert tool["function"]["parameters"]["properties"]["action"]["enum"] == list(WAYS.values())
    (heard,), _, _ = world.step(call("act", action="down"))
    assert heard == {"role": "tool", "tool_call_id": "c", "content": "row 1, column 0"}
    assert Action("tool_call", "act", {"action": "up"}) in world.actions()


@pytest.mark.parametrize("action", [call("jump"), call("left", far="yes"), call("act", action="left")])
def test_what_is_no_tool_here_is_an_error_and_changes_nothing(action: Action) -> None:
    world = lake()
    world.reset("still-1-0")
    (heard,), done, _ = world.step(action)
    assert "error" in json.loads(heard["content"])
    assert (done, world.progress.steps) == (False, 0)
    assert world.step(Action("message", message="Hello?"))[0][0]["role"] == "user"
    assert world.progress.steps == 0


def test_a_mask_says_what_can_be_done() -> None:
    world = taxi()
    world.reset("common-1-0")
    allowed = {action.name for action in world.actions()}
    mask = world.progress.info["action_mask"]
    assert allowed == {name for number, name in DRIVES.items() if mask[number]}
    assert allowed < set(DRIVES.values())


@pytest.mark.parametrize("copies", [True, False])
def test_a_state_can_be_gone_back_to_also_where_nothing_can_be_copied(copies: bool) -> None:
    def made() -> Any:
        environment = gymnasium.make("FrozenLake-v1", is_slippery=True)
        if not copies:
            environment.unwrapped.lock = threading.Lock()  # which nobody can copy
        return environment

    world = GymnasiumWorld(made, WAYS)
    world.reset("common-1-0")
    walk(world, "down")
    saved, key = world.snapshot(), world.state_key()
    course = [world.step(call("right"))[0] for _ in range(3)]
    for _ in range(2):
        world.restore(saved)
        assert world.state_key() == key
        assert [world.step(call("right"))[0] for _ in range(3)] == course
    with pytest.raises(ConfigError, match="expected what GymnasiumWorld"):
        world.restore("saved")


def test_states_are_one_by_what_the_user_says_matters() -> None:
    told, untold = lake(state=lambda environment: environment.s), lake()
    keys = []
    for world in (told, untold):
        world.reset("still-1-0")
        before = world.state_key()
        walk(world, "left")
        keys.append(world.state_key() == before)
    assert keys == [True, False]


def test_cohorts_are_ways_to_make_the_environment() -> None:
    world = lake(cohorts={"still": STILL, "large": STILL | {"map_name": "8x8"}})
    assert [(task.id, task.tags["cohort"]) for task in world.tasks(3, 9)] == [
        ("still-9-0", "still"),
        ("large-9-1", "large"),
        ("still-9-2", "still"),
    ]
    world.reset("large-9-1")
    assert world.environment.observation_space.n == 64


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="each with a name of its own"):
        GymnasiumWorld("FrozenLake-v1", {0: "go", 1: "go"})
    with pytest.raises(ConfigError, match="a name without a dash"):
        lake(cohorts={"very-icy": {}})
    with pytest.raises(ConfigError, match=r"the environment has Discrete\(4\)"):
        GymnasiumWorld("FrozenLake-v1", {7: "fly"}).reset("common-1-0")
    with pytest.raises(ConfigError, match="cohort is 'icy', allowed: still"):
        lake().reset("icy-1-0")
    with pytest.raises(ConfigError, match="call reset"):
        lake().state_key()


def test_progress_says_when_it_is_over() -> None:
    assert [Progress(0, truncated=True).done, Progress(0, terminated=True).done, Progress(0).done] == [
        True,
        True,
        False,
    ]
