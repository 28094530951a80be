"""Decide what to do next in a cooking game, on what was shown of it and no more."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

from imitrace_trainer.worlds.kitchen import (
    APPLIANCES,
    CARRIED,
    COOKBOOK,
    CUTS,
    DIRECTIONS,
    HEAT,
    MEAL,
    Command,
    Kitchen,
)

_KNIFE, _FRIDGE = "knife", "c"


@dataclass(frozen=True)
class Recipe:
    """What a cookbook says."""

    ingredients: tuple[str, ...]
    directions: tuple[tuple[str, str], ...]
    """A verb of ``CUTS`` or ``APPLIANCES``, and the ingredient."""

    def misread(self, rng: Random) -> "Recipe":
        """Return it with one direction that says something else: another cut, or the other appliance of a kitchen."""
        at = rng.randrange(len(self.directions))
        verb, name = self.directions[at]
        others = [other for other in (CUTS if verb in CUTS else ("fry", "roast")) if other != verb]
        wrong = (rng.choice(others), name)
        return replace(self, directions=(*self.directions[:at], wrong, *self.directions[at + 1 :]))


def read_recipe(text: str) -> Recipe | None:
    """Return the recipe that a text holds; None when it holds none."""
    found = re.search(r"Ingredients:\n(.*?)\n\s*Directions:\n(.*)", text, re.DOTALL)
    if not found:
        return None
    directions = re.findall(rf"^\s*({'|'.join((*CUTS, *APPLIANCES))}) the (.+?)\s*$", found[2], re.MULTILINE)
    return Recipe(tuple(line.strip() for line in found[1].splitlines() if line.strip()), tuple(directions))


def next_command(kitchen: Kitchen, recipe: Recipe | None) -> Command | None:
    """Return what to do next; None when the meal can't be made any more, or there is nowhere left to look.

    The order is: read the cookbook; gather what it needs, the nearest first; cut and cook in its order; prepare; eat.
    Rooms are explored nearest first, north before east, south and west; a fridge that is near is opened before that.

    Args:
        kitchen: of it only what was ``shown`` is used.
        recipe: what was read; None before the cookbook was.
    """
    if recipe is None:
        return _fetch(kitchen, [COOKBOOK], ("examine", COOKBOOK))
    if kitchen.places.get(MEAL) == CARRIED:
        return ("eat", MEAL)
    open_directions = [(verb, name) for verb, name in recipe.directions if not kitchen.has(name, _result(verb))]
    knife = [_KNIFE] if any(verb in CUTS for verb, _ in open_directions) else []
    missing = [name for name in (*recipe.ingredients, *knife) if kitchen.places.get(name) != CARRIED]
    if missing:
        return _fetch(kitchen, missing)
    for verb, name in open_directions:
        return (verb, name) if verb in CUTS else _cook(kitchen, name, APPLIANCES[verb])
    return _go(kitchen, kitchen.plan.cooking_room) or ("prepare meal",)


def _result(verb: str) -> str:
    return CUTS.get(verb) or HEAT[APPLIANCES[verb]]


def _cook(kitchen: Kitchen, name: str, kind: str) -> Command | None:
    known = [
        fixture for fixture in kitchen.plan.fixtures if kitchen.plan.kinds[fixture] == kind and kitchen.shown(fixture)
    ]
    if not known:
        return _explore(kitchen)
    return _go(kitchen, kitchen.plan.fixtures[known[0]]) or ("cook", name, known[0])


def _fetch(kitchen: Kitchen, names: Sequence[str], then: Command | None = None) -> Command | None:
    """Return the next step towards the nearest of some things, or ``then``, instead of taking it, once it is there."""
    distances = _distances(kitchen)
    places = {name: kitchen.room_of(name) or "" for name in names if kitchen.shown(name)}
    if any(not place for place in places.values()):
        return None
    if len(places) < len(names):
        places |= {name: kitchen.plan.fixtures[name] for name in _unopened(kitchen, (_FRIDGE,))}
    near = [name for name in places if places[name] in distances]
    if near:
        name = min(near, key=lambda name: distances[places[name]])
        return _go(kitchen, places[name]) or _reach(kitchen, name, then)
    return _explore(kitchen) or _open_any(kitchen)


def _reach(kitchen: Kitchen, name: str, then: Command | None) -> Command:
    if name in kitchen.plan.fixtures:
        return ("open", name)
    place = kitchen.places[name]
    if kitchen.is_container(place) and not kitchen.has(place, "open"):
        return ("open", place)
    return then or (("take", name) if place == kitchen.room else ("take", name, place))


def _open_any(kitchen: Kitchen) -> Command | None:
    for name in _unopened(kitchen, ("c", "oven")):
        return _go(kitchen, kitchen.plan.fixtures[name]) or ("open", name)
    return None


def _unopened(kitchen: Kitchen, kinds: Sequence[str]) -> Iterator[str]:
    for name, room in kitchen.plan.fixtures.items():
        unseen = room in kitchen.seen and name not in kitchen.seen
        if unseen and kitchen.plan.holds(name, kinds) and kitchen.has(name, "closed"):
            yield name


def _explore(kitchen: Kitchen) -> Command | None:
    """Return the next step towards the nearest way that leads to a room not seen; None where there is none left."""
    for room in _distances(kitchen):
        for where in DIRECTIONS:
            way = kitchen.plan.exits[room].get(where)
            if way and way.room not in kitchen.seen:
                return _go(kitchen, room) or _leave(kitchen, where)
    return None


def _leave(kitchen: Kitchen, where: str) -> Command:
    door = kitchen.plan.exits[kitchen.room][where].door
    return ("open", door) if door and kitchen.has(door, "closed") else ("go", where)


def _go(kitchen: Kitchen, room: str) -> Command | None:
    """Return the next step to a room that was seen; None in that room."""
    where = _first_steps(kitchen)[room]
    return _leave(kitchen, where) if where else None


def _distances(kitchen: Kitchen) -> dict[str, int]:
    """Return how far each room is that was seen, the nearest first."""
    found, edge = {kitchen.room: 0}, [kitchen.room]
    for room in edge:
        for where in DIRECTIONS:
            way = kitchen.plan.exits[room].get(where)
            if way and way.room in kitchen.seen and way.room not in found:
                found[way.room] = found[room] + 1
                edge.append(way.room)
    return found


def _first_steps(kitchen: Kitchen) -> dict[str, str | None]:
    steps: dict[str, str | None] = {kitchen.room: None}
    for room in _distances(kitchen):
        for where in DIRECTIONS:
            way = kitchen.plan.exits[room].get(where)
            if way and way.room in kitchen.seen:
                steps.setdefault(way.room, steps[room] or where)
    return steps
