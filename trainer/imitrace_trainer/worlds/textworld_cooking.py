"""Play TextWorld's cooking games by calling tools, and be the expert who plays them well.

They are the games of the First TextWorld Problems competition (https://aka.ms/ftwp): find the kitchen, read the
cookbook, fetch, cut and cook the ingredients, prepare the meal and eat it. One wrong cut or cooking loses the game.
"""

import json
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from imitrace.canonical import content_hash
from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.worlds.calling import answer, call_problem, refuse
from imitrace_trainer.worlds.config import cache_folder
from imitrace_trainer.worlds.cooking_games import SIZES, CookingGames, CookingTask, load_textworld
from imitrace_trainer.worlds.cooking_plan import Recipe, next_command, read_recipe
from imitrace_trainer.worlds.cooking_tools import TOOLS, call_of, command_of, why_not, words_of
from imitrace_trainer.worlds.kitchen import Command, Kitchen

POLICY: Final = """You play a cooking game in a house, by calling tools. Work by these rules:
1. Read the cookbook in the kitchen first; it names the ingredients and what to do with each.
2. Find all ingredients: on furniture, in the fridge, in other rooms behind doors. Take only what the recipe names.
3. To slice, chop or dice, carry the knife and the food. To fry, use the stove; to roast, the oven; to grill, the BBQ.
4. Cut and cook each ingredient once and exactly as the cookbook says; one mistake loses the game.
5. With all ingredients done and carried, prepare the meal in the kitchen and eat it."""

_WON, _LOST = "*** The End ***", "*** You lost! ***"
_LOOKS = ("look", "inventory", "examine")


@dataclass(frozen=True)
class _Snapshot:
    task: CookingTask
    commands: tuple[str, ...]
    kitchen: Kitchen
    ending: str


class CookingWorld:
    """Play cooking games; one object plays one game at a time."""

    def __init__(self, folder: str | Path | None = None, sizes: Sequence[str] = ("small",)) -> None:
        """Prepare to play; games are made when they are first played, in two to four seconds each, and kept.

        Args:
            folder: where games are kept, 0.4 MB each; several processes may share it. Default: ``imitrace/cooking`` in
                the user's folder for caches.
            sizes: kinds of games, of ``SIZES``, that ``tasks`` mixes; each is a cohort.

        Raises:
            ConfigError: there is no such size, or TextWorld is not installed.
        """
        if not sizes or not set(sizes) <= SIZES.keys():
            raise ConfigError(f"sizes are {list(sizes)}, allowed: one or more of {', '.join(SIZES)}")
        self._textworld = load_textworld()
        self._games = CookingGames(Path(folder) if folder else cache_folder() / "cooking")
        self._sizes = tuple(sizes)
        self._task: CookingTask | None = None
        self._player: Any = None  # TextWorld has no types
        self._beginning: Kitchen | None = None
        self._kitchen: Kitchen | None = None
        self._commands: list[str] = []
        self._ending = ""

    @property
    def tools(self) -> list[Mapping[str, Any]]:  # OpenAI tool definitions
        """Return the tools offered, in OpenAI's form."""
        return list(TOOLS)

    def tasks(self, count: int, seed: int, cohort: str | None = None) -> list[CookingTask]:
        """Return ``count`` games of a seed, of one size or of all sizes in turn.

        Raises:
            ConfigError: there is no such size.
        """
        if cohort is not None and cohort not in SIZES:
            raise ConfigError(f"cohort is {cohort!r}, allowed: {', '.join(SIZES)}")
        sizes = (cohort,) if cohort else self._sizes
        return [CookingTask(sizes[number % len(sizes)], seed, number) for number in range(count)]

    def reset(self, task_id: str, seed: int = 0) -> list[dict[str, Any]]:  # OpenAI messages
        """Begin a game and return its first messages; ``seed`` changes nothing, as the games draw nothing.

        Raises:
            ConfigError: there is no such game.
        """
        task = CookingTask.of(task_id)
        if task != self._task:
            self._beginning = self._games.kitchen(task)
            self._close()
            self._player = self._textworld.envs.JerichoEnv()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the player knows other games better
                self._player.load(str(self._games.story(task)))
            self._task = task
        told = str(self._player.reset().feedback)
        self._kitchen, self._commands, self._ending = self.beginning, [], ""
        first = _tidied(told[max(told.find("You are hungry!"), 0) :])
        return [{"role": "system", "content": POLICY}, {"role": "user", "content": first}]

    def step(self, action: Action) -> tuple[list[dict[str, Any]], bool, dict[str, bool]]:  # OpenAI messages
        """Do what the agent does.

        Returns:
            The messages that follow the agent's own, whether the game has ended, and ``info``. What can't be done is
            answered with an error and changes nothing; nothing is raised for it.
        """
        if self.done:
            return [], True, self.info
        if action.kind != "tool_call":
            return [{"role": "user", "content": "Nobody hears you. Call a tool."}], False, self.info
        if problem := call_problem(TOOLS, action):
            return refuse(action, problem), False, self.info
        command = command_of(action, self.kitchen)
        if command not in self.kitchen.commands():
            return refuse(action, why_not(command, self.kitchen)), False, self.info
        return answer(action, self._do(command)), self.done, self.info

    @property
    def task(self) -> CookingTask:
        """Return the game being played."""
        if self._task is None:
            raise ConfigError("cooking world has no game, call reset(task_id) first")
        return self._task

    @property
    def beginning(self) -> Kitchen:
        """Return what is so when this game begins."""
        if self._beginning is None:
            raise ConfigError("cooking world has no game, call reset(task_id) first")
        return self._beginning.copy()

    @property
    def kitchen(self) -> Kitchen:
        """Return what is so now; an agent that is judged must not look."""
        if self._kitchen is None:
            raise ConfigError("cooking world has no game, call reset(task_id) first")
        return self._kitchen

    @property
    def done(self) -> bool:
        """Return whether the game has ended."""
        return bool(self._ending)

    @property
    def info(self) -> dict[str, bool]:
        """Return how it stands: ``success``, ``lost`` (success is out of reach), and ``unsafe``, which nothing is."""
        return {"success": self._ending == _WON, "lost": self._ending == _LOST, "unsafe": False}

    def actions(self) -> list[Action]:
        """Return every tool call that can be done now; none once the game has ended."""
        return [] if self.done else [call_of(command, self.kitchen) for command in self.kitchen.commands()]

    def state_key(self) -> str:
        """Return the hash of the state and of what was shown; looking again at what was seen does not change it."""
        return content_hash([self.task.id, self.kitchen.key(), self._ending])

    def snapshot(self) -> object:
        """Return the present state, to go on from later."""
        return _Snapshot(self.task, tuple(self._commands), self.kitchen.copy(), self._ending)

    def restore(self, snapshot: object) -> None:
        """Go back to a state, by playing the game up to it again: some milliseconds for each step.

        Raises:
            ConfigError: it is not what ``snapshot`` returned.
        """
        if not isinstance(snapshot, _Snapshot):
            raise ConfigError(
                f"snapshot is a {type(snapshot).__name__}, expected what CookingWorld.snapshot() returned"
            )
        self.reset(snapshot.task.id)
        for words in snapshot.commands:
            self._player.step(words)
        self._commands, self._kitchen, self._ending = list(snapshot.commands), snapshot.kitchen.copy(), snapshot.ending

    def __del__(self) -> None:
        self._close()

    def _close(self) -> None:
        player = getattr(self, "_player", None)
        if player is not None:
            player.close()

    def _do(self, command: Command) -> str:
        words = words_of(command, self.kitchen)
        told = str(self._player.step(words)[0].feedback)
        self._ending = next((ending for ending in (_WON, _LOST) if ending in told), "")
        if command[0] not in _LOOKS:
            self._commands.append(words)
        self.kitchen.apply(command)
        return _tidied(told)


def _tidied(told: str) -> str:
    """Return a game's words without what a console needs: indents, score, and the question what to do after the end."""
    for ending in (_WON, _LOST):
        told = told[: told.index(ending) + len(ending)] if ending in told else told
    lines = "\n".join(line.strip() for line in told.splitlines())
    return re.sub(r"\n{3,}", "\n\n", lines.replace("Your score has just gone up by one point.", "")).strip()


@dataclass(frozen=True)
class CookingExpert:
    """Play the game that ``world`` has open, on what the conversation has shown so far.

    It looks nothing up behind the scenes: where a thing is it knows once its room was entered and its container opened,
    and what to do with it once the cookbook was read. The same conversation always leads to the same action, whatever
    the world went through since.
    """

    world: CookingWorld
    misread: float = 0.0
    """Share of games in which it misreads one direction of the recipe, and so loses."""
    seed: int = 0
    """Which games these are."""

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:  # OpenAI messages
        """Return the next tool call; None once the game has ended, or can't be won any more."""
        kitchen, recipe, ended = self._gone_through(messages)
        command = None if ended else next_command(kitchen, recipe)
        return call_of(command, kitchen) if command else None

    def _gone_through(self, messages: Sequence[Mapping[str, Any]]) -> tuple[Kitchen, Recipe | None, bool]:
        kitchen, recipe, ended = self.world.beginning, None, False
        calls: dict[str | None, Action] = {}
        for message in messages:
            for call in message.get("tool_calls") or ():
                asked = call["function"]
                calls[call["id"]] = Action("tool_call", asked["name"], json.loads(asked["arguments"]))
            if message["role"] == "tool" and not message["content"].startswith('{"error"'):
                action = calls[message["tool_call_id"]]
                kitchen.apply(command_of(action, kitchen))
                recipe = recipe or self._read(message["content"])
                ended = ended or message["content"].endswith((_WON, _LOST))
        return kitchen, recipe, ended

    def _read(self, text: str) -> Recipe | None:
        rng, recipe = Random(f"{self.seed}/{self.world.task.id}"), read_recipe(text)
        return recipe.misread(rng) if recipe and rng.random() < self.misread else recipe


def make_expert(world: CookingWorld, misread: float = 0.0, seed: int = 0) -> CookingExpert:
    """Return an expert for the games of a world.

    Args:
        world: the world whose present game the expert plays.
        misread: share of games in which it misreads the recipe, 0 to 1.
        seed: which games these are.
    """
    return CookingExpert(world, misread, seed)
