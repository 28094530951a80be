"""The cooking games as TextWorld makes and judges them: nothing here stands in for the game."""

import json
import random
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.rollout import expert_actor, play
from imitrace_trainer.worlds.cooking_games import CookingGames, CookingTask, compile_game
from imitrace_trainer.worlds.cooking_plan import next_command, read_recipe
from imitrace_trainer.worlds.cooking_tools import call_of, words_of
from imitrace_trainer.worlds.textworld_cooking import CookingExpert, CookingWorld, make_expert

pytest.importorskip("textworld.envs", reason="needs pip install 'imitrace[textworld]'", exc_type=ImportError)

Json = dict[str, Any]  # a JSON object


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("games")


@pytest.fixture
def world(folder: Path) -> CookingWorld:
    return CookingWorld(folder)


def call(name: str, **arguments: str) -> Action:
    return Action("tool_call", name, dict(arguments), call_id="c")


def told(messages: list[Json]) -> str:
    (message,) = messages
    assert message["tool_call_id"] == "c"
    return str(message["content"])


def talk(world: CookingWorld, expert: CookingExpert, task: str) -> tuple[list[Json], Mapping[str, Any]]:
    messages, info = world.reset(task), world.info
    while (action := expert.act(messages)) is not None:
        messages += said(action, len(messages))
        following, _, info = world.step(replace(action, call_id=f"c{len(messages) - 1}"))
        messages += following
    return messages, info


def said(action: Action, number: int) -> list[Json]:
    function = {"name": action.name, "arguments": json.dumps(action.arguments)}
    calls = [{"id": f"c{number}", "type": "function", "function": function}]
    return [{"role": "assistant", "content": None, "tool_calls": calls}]


def test_the_expert_reads_the_cookbook_gathers_works_and_eats(world: CookingWorld) -> None:
    (task,) = world.tasks(1, 1)
    episode = play(world, task, expert_actor(make_expert(world)))
    names = [turn.action.name or "" for turn in episode.turns if turn.action]
    assert (episode.success, episode.unsafe, episode.cohort) == (True, False, "small")
    assert (names[0], names[-2:]) == ("examine", ["prepare_meal", "eat"])
    assert sorted(names[1:-2]) == ["cook", "cook", "cut", "cut", "open", "take", "take", "take"]
    assert names.index("cut") > max(at for at, name in enumerate(names) if name == "take")


def test_the_first_message_is_the_room_and_no_banner(world: CookingWorld) -> None:
    system, user = world.reset("small-1-0")
    assert (system["role"], user["role"]) == ("system", "user")
    assert user["content"].startswith("You are hungry!")
    assert "-= Kitchen =-" in user["content"]
    assert "$$" not in user["content"]
    assert ">" not in user["content"]


def test_the_same_conversation_has_the_same_action_whatever_the_world_went_through(world: CookingWorld) -> None:
    expert = make_expert(world)
    messages, info = talk(world, expert, "small-1-0")
    assert info == {"success": True, "lost": False, "unsafe": False}
    decided = [at for at, message in enumerate(messages) if message["role"] == "assistant"]
    assert len(decided) > 8
    for at in decided:
        action = expert.act(messages[:at])
        assert action is not None
        assert said(action, at) == [messages[at]]


def test_what_was_not_shown_does_not_change_what_the_expert_does(world: CookingWorld) -> None:
    opening = world.reset("small-1-0")
    assert make_expert(world).act(opening) == Action("tool_call", "examine", {"target": "cookbook"})
    recipe = read_recipe(told(world.step(call("examine", target="cookbook"))[0]))
    assert recipe is not None
    world.step(call("take", item="knife"))
    hidden, decided = replace(recipe, ingredients=("carrot",)), set()
    for place in ("fridge", "oven"):
        kitchen = world.kitchen.copy()
        kitchen.places["carrot"] = place
        decided.add(next_command(kitchen, hidden))
    assert decided == {("open", "fridge")}


def test_who_misreads_loses_and_the_seed_says_where(world: CookingWorld) -> None:
    tasks = [task.id for task in world.tasks(3, 1)]
    lost = [talk(world, make_expert(world, misread=1.0), task)[1]["lost"] for task in tasks]
    assert lost == [True] * 3
    expert = make_expert(world, misread=0.5, seed=3)
    once, again = ([talk(world, expert, task)[0] for task in tasks] for _ in range(2))
    assert once == again
    shares = {tuple(talk(world, make_expert(world, 0.5, seed), task)[1]["lost"] for task in tasks) for seed in range(6)}
    assert len(shares) > 1


def test_a_lost_game_is_over(world: CookingWorld) -> None:
    world.reset("small-1-0")
    talk(world, make_expert(world, misread=1.0), "small-1-0")
    assert world.info == {"success": False, "lost": True, "unsafe": False}
    assert world.step(call("look")) == ([], True, world.info)
    assert world.actions() == []


@pytest.mark.parametrize(
    ("action", "problem"),
    [
        (call("fly"), "there is no tool 'fly'"),
        (call("go"), "go can't have these arguments"),
        (call("go", direction="up"), "go can't have these arguments"),
        (call("take", item="knife", quickly="yes"), "take can't have these arguments"),
        (call("take", item="unicorn"), "there is no unicorn here"),
        (call("go", direction="north"), "there is no way north"),
        (call("cut", item="cookbook", how="dice"), "that can't be done now"),
        (call("prepare_meal"), "You still miss something."),
    ],
)
def test_what_can_not_be_done_is_an_error_and_changes_nothing(
    world: CookingWorld, action: Action, problem: str
) -> None:
    world.reset("small-1-0")
    before = world.state_key()
    following, done, _ = world.step(action)
    assert problem in json.loads(told(following))["error"]
    assert (done, world.state_key()) == (False, before)


def test_who_talks_is_asked_to_act(world: CookingWorld) -> None:
    world.reset("small-1-0")
    (heard,), done, _ = world.step(Action("message", message="What shall I cook?"))
    assert (heard["role"], done) == ("user", False)


def test_names_may_have_articles_and_capitals_and_places_may_be_left_out(world: CookingWorld) -> None:
    world.reset("small-1-0")
    assert told(world.step(call("take", item="The Knife"))[0]).startswith("You take the knife from the")
    assert told(world.step(call("drop", item="knife"))[0]) == "You drop the knife on the ground."
    assert told(world.step(call("take", item="knife"))[0]) in ("Taken.", "You pick up the knife from the ground.")


def test_a_state_has_one_key_and_can_be_gone_back_to(world: CookingWorld) -> None:
    world.reset("small-1-0")
    beginning, start = world.state_key(), world.snapshot()
    world.step(call("examine", target="cookbook"))
    read = world.state_key()
    world.step(call("inventory"))
    world.step(call("look"))
    assert read not in (beginning, None)
    assert world.state_key() == read
    world.step(call("open", target="fridge"))
    inside, opened = world.step(call("look"))[0], world.snapshot()
    world.restore(start)
    assert world.state_key() == beginning
    world.restore(opened)
    assert world.step(call("look"))[0] == inside
    with pytest.raises(ConfigError, match="expected what CookingWorld"):
        world.restore("opened")


def test_a_name_says_all_that_makes_a_game(folder: Path, tmp_path: Path) -> None:
    again = CookingWorld(tmp_path)
    assert again.reset("small-1-0") == CookingWorld(folder).reset("small-1-0")
    assert again.reset("small-2-0") != again.reset("small-1-0")
    assert again.beginning.key() == CookingGames(folder).kitchen(CookingTask("small", 1, 0)).key()


def test_processes_may_make_the_same_game_at_once(tmp_path: Path) -> None:
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        made = list(pool.map(first_message, [str(tmp_path)] * 2))
    assert made[0] == made[1]
    assert [path.name for path in next(tmp_path.iterdir()).iterdir()] == ["small-7-0"]


def first_message(folder: str) -> str:
    return str(CookingWorld(folder).reset("small-7-0")[1]["content"])


@pytest.mark.parametrize("name", ["small", "small-1", "huge-1-1", "small-1-x", "small-1-1-1", ""])
def test_a_name_that_is_none_is_refused(name: str, world: CookingWorld) -> None:
    with pytest.raises(ConfigError, match="allowed: SIZE-SEED-NUMBER"):
        world.reset(name)


def test_sizes_are_cohorts(folder: Path) -> None:
    tasks = CookingWorld(folder, ("small", "plain")).tasks(3, 5)
    assert [(task.id, task.tags["cohort"]) for task in tasks] == [
        ("small-5-0", "small"),
        ("plain-5-1", "plain"),
        ("small-5-2", "small"),
    ]
    assert CookingWorld(folder).tasks(1, 5, "large")[0].id == "large-5-0"
    for wrong in ((), ("huge",)):
        with pytest.raises(ConfigError, match="sizes are"):
            CookingWorld(folder, wrong)
    with pytest.raises(ConfigError, match="cohort is 'huge'"):
        CookingWorld(folder).tasks(1, 1, "huge")


@pytest.mark.parametrize("size", ["plain", "large", "other"])
def test_the_expert_explores_larger_houses(folder: Path, size: str) -> None:
    world = CookingWorld(folder)
    _, info = talk(world, make_expert(world), f"{size}-1-0")
    assert info["success"]


@pytest.mark.filterwarnings("ignore:Game .* is not fully supported")
def test_what_can_be_done_is_what_textworld_says(tmp_path: Path) -> None:
    """TextWorld follows its own logic while we play at random; examining, and preparing too soon, are ours to judge."""
    import textworld

    task = CookingTask("plain", 4, 0)
    made = compile_game(task, tmp_path)
    # By this name its player takes the game for one of its own, and TextWorld does not follow it.
    story = made.rename(tmp_path / "followed.z8")
    made.with_suffix(".json").rename(story.with_suffix(".json"))
    theirs = textworld.start(str(story), textworld.EnvInfos(admissible_commands=True))
    state, world, draw, compared = theirs.reset(), CookingWorld(tmp_path / "games"), random.Random(1), 0
    world.reset(task.id)
    while not world.done and compared < 60:
        ours = {words_of(command, world.kitchen): command for command in world.kitchen.commands()}
        wanted = {words for words in state["admissible_commands"] if not _excepted(words)}
        assert {words for words in ours if not _excepted(words)} == wanted
        words = draw.choice(sorted(wanted))
        following, _, _ = world.step(replace(call_of(ours[words], world.kitchen), call_id="c"))
        state, _, _ = theirs.step(words)
        compared += 1
        if not world.done:
            assert told(following).split() == _words(state["feedback"])
    assert compared > 20


def _excepted(words: str) -> bool:
    return words == "prepare meal" or words.startswith("examine ")


def _words(feedback: str) -> list[str]:
    return feedback.partition("\n>")[0].replace("Your score has just gone up by one point.", "").split()
