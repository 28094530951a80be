"""Make TextWorld's cooking games and keep them in a folder: a game's name says all that makes it.

Source: https://github.com/microsoft/TextWorld, ``textworld/challenges/tw_cooking/cooking.py``
"""

import importlib.metadata
import json
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from imitrace.canonical import canonical_json, text_hash
from imitrace.exceptions import ConfigError
from imitrace_trainer.worlds.kitchen import Kitchen, read_kitchen

_STORY, _FACTS = "tw-cooking.z8", "facts.json"


@dataclass(frozen=True)
class Size:
    """A kind of games."""

    rooms: int
    """1, 6, 9 or 12."""
    ingredients: int
    """1 to 5, all to be found, cut and cooked."""
    foods: str = "train"
    """Of which foods, and which ways to prepare them: ``train``, ``valid`` or ``test``, which differ."""


SIZES: Final[Mapping[str, Size]] = {
    "small": Size(1, 2),
    "plain": Size(6, 2),
    "large": Size(9, 3),
    "other": Size(6, 2, "test"),
}
"""Every kind of games, by name; ``other`` has foods, and ways to prepare them, that the first three don't know."""


@dataclass(frozen=True)
class CookingTask:
    """One game; ``SIZE-SEED-NUMBER`` says all that makes it."""

    size: str
    seed: int
    number: int

    @property
    def id(self) -> str:
        """Return its name."""
        return f"{self.size}-{self.seed}-{self.number}"

    @property
    def tags(self) -> dict[str, str]:
        """Return the tags of its trajectories."""
        return {"cohort": self.size}

    @classmethod
    def of(cls, task_id: str) -> "CookingTask":
        """Return the task of a name.

        Raises:
            ConfigError: there is no such size, or the seed or number is none.
        """
        size, *numbers = task_id.split("-")
        if size not in SIZES or len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
            raise ConfigError(
                f"task {task_id!r} is unknown, allowed: SIZE-SEED-NUMBER with a size of {', '.join(SIZES)}"
            )
        return cls(size, int(numbers[0]), int(numbers[1]))


def load_textworld() -> Any:  # the package has no types
    """Return the package ``textworld``.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import textworld.envs
    except ImportError as error:
        raise ConfigError(f"textworld can't be imported ({error}), run: pip install 'imitrace[textworld]'") from error
    return textworld


@dataclass(frozen=True)
class CookingGames:
    """The games of a folder; any number of processes may share it."""

    folder: Path

    def story(self, task: CookingTask) -> Path:
        """Return the file of a game for a Z-machine; the first time it is made, which takes seconds.

        Raises:
            ConfigError: TextWorld is not installed.
        """
        return self._made(task) / _STORY

    def kitchen(self, task: CookingTask) -> Kitchen:
        """Return what is so when a game begins.

        Raises:
            ConfigError: TextWorld is not installed, and the game was never made.
        """
        facts = json.loads((self._made(task) / _FACTS).read_text(encoding="utf-8"))
        return read_kitchen(facts["facts"], facts["kinds"])

    def _made(self, task: CookingTask) -> Path:
        # What comes out may change with every release of the generator.
        load_textworld()
        kept = self.folder / f"textworld-{_version()}" / task.id
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            made = Path(tempfile.mkdtemp(prefix=".making-", dir=kept.parent))
            try:
                _make(task, made)
                _move(made, kept)
            finally:
                shutil.rmtree(made, ignore_errors=True)
        return kept


@cache
def _version() -> str:
    return importlib.metadata.version("textworld")


def _move(made: Path, kept: Path) -> None:
    """Put a whole game in its place at once; where another process was faster, its game is the same."""
    try:
        made.rename(kept)
    except OSError:
        if not kept.exists():
            raise


def compile_game(task: CookingTask, folder: Path) -> Path:
    """Make a game in a folder, in a few seconds, and return its story; TextWorld's own record of it lies beside it.

    Raises:
        ConfigError: TextWorld is not installed.
    """
    textworld, size = load_textworld(), SIZES[task.size]
    from textworld.challenges.tw_cooking import cooking

    options = textworld.GameOptions()
    options.seeds = int(text_hash(task.id)[:7], 16)
    options.path = str(folder / _STORY)
    skills = {"open": True, "cook": True, "cut": True, "drop": False}
    amounts = {"go": size.rooms, "recipe": size.ingredients, "take": size.ingredients}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        game = cooking.make({**skills, **amounts, "split": size.foods, "recipe_seed": 0}, options)
        textworld.generator.compile_game(game, options)
    return folder / _STORY


def _make(task: CookingTask, folder: Path) -> None:
    told = json.loads(compile_game(task, folder).with_suffix(".json").read_text(encoding="utf-8"))
    for path in folder.iterdir():
        if path.name != _STORY:
            path.unlink()
    (folder / _FACTS).write_text(canonical_json(_facts(told)), encoding="utf-8")


def _facts(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return a game's propositions over names instead of TextWorld's variables; what has no name keeps its variable."""
    infos = dict(told["infos"])
    names = {variable: info.get("name") or variable for variable, info in infos.items()}
    facts = [
        [fact["name"], *(names.get(argument["name"], argument["name"]) for argument in fact["arguments"])]
        for fact in told["world"]
    ]
    return {"facts": sorted(facts), "kinds": {names[variable]: info["type"] for variable, info in infos.items()}}
