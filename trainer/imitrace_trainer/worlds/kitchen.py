"""Keep what is so in a cooking game: where things are, what was done to them, what can be done, and what was shown.

The rules are those of TextWorld's cooking challenge
(https://github.com/microsoft/TextWorld, ``challenges/tw_cooking/textworld_data/logic``), without its inventory limit.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

Command = tuple[str, ...]
"""A verb and the names it is about, as ``("take", "carrot", "fridge")``."""

DIRECTIONS: Final = ("north", "east", "south", "west")
CUTS: Final = {"chop": "chopped", "slice": "sliced", "dice": "diced"}
HEAT: Final = {"stove": "fried", "oven": "roasted", "toaster": "grilled"}
"""What a kind of appliance does to food."""
APPLIANCES: Final = {"fry": "stove", "roast": "oven", "grill": "toaster"}
"""The kind of appliance that each verb of a cookbook means."""
CARRIED: Final = "inventory"
GONE: Final = "nowhere"
MEAL: Final = "meal"
COOKBOOK: Final = "cookbook"

_CONTAINERS, _SUPPORTERS, _FOODS = ("c", "oven", "toaster"), ("s", "stove"), ("f", "meal")
_KINDS = ("open", "closed", "raw", "needs_cooking", "edible", "uncut", "drinkable", "sharp")


@dataclass(frozen=True)
class Exit:
    """A way out of a room."""

    room: str
    door: str | None = None


@dataclass(frozen=True)
class Plan:
    """What never changes in a game."""

    kinds: Mapping[str, str]
    """TextWorld's type of each thing, by name."""
    exits: Mapping[str, Mapping[str, Exit]]
    """By room and direction."""
    fixtures: Mapping[str, str]
    """The room of each thing that can't be carried."""
    recipe: Mapping[str, frozenset[str]]
    """What each ingredient must have become, ``raw`` and ``uncut`` for nothing at all."""
    cooking_room: str

    def holds(self, name: str, kinds: Sequence[str]) -> bool:
        """Return whether a thing is of one of these types."""
        return self.kinds.get(name) in kinds


@dataclass
class Kitchen:
    """The present state of a game."""

    plan: Plan
    room: str
    places: dict[str, str]
    """Where each thing that can be carried is: a thing, a room, ``inventory`` or ``nowhere``."""
    traits: dict[str, set[str]]
    """What is so of a thing: ``open``, ``raw``, ``roasted``, ``diced`` ..."""
    seen: set[str] = field(default_factory=set)
    """The rooms that were entered, the containers that were looked into, and the cookbook once it was read."""

    def copy(self) -> "Kitchen":
        """Return one that changes by itself."""
        traits = {name: set(found) for name, found in self.traits.items()}
        return Kitchen(self.plan, self.room, dict(self.places), traits, set(self.seen))

    def key(self) -> list[Any]:
        """Return the state as JSON: two that are alike, also in what was shown, have the same."""
        traits = {name: sorted(found) for name, found in self.traits.items() if found}
        return [self.room, self.places, traits, sorted(self.seen)]

    def has(self, name: str, trait: str) -> bool:
        """Return whether something is so of a thing."""
        return trait in self.traits.get(name, ())

    def room_of(self, name: str) -> str | None:
        """Return the room in which a thing is, carried or not; None when it is nowhere, or unknown."""
        place = self.plan.fixtures.get(name) or self.places.get(name, GONE)
        if place == CARRIED:
            return self.room
        if place == GONE or place in self.plan.exits:
            return None if place == GONE else place
        return self.plan.fixtures[place]

    def within(self, place: str) -> list[str]:
        """Return what is in, on or at a place, by name."""
        return sorted(name for name, found in self.places.items() if found == place)

    def here(self) -> list[str]:
        """Return what stands in the room and can't be carried."""
        return [name for name, room in self.plan.fixtures.items() if room == self.room]

    def shown(self, name: str) -> bool:
        """Return whether it was shown where a thing is."""
        place = self.plan.fixtures.get(name) or self.places.get(name, GONE)
        if place == CARRIED:
            return True
        room = self.room_of(name)
        return room in self.seen and (not self.plan.holds(place, _CONTAINERS) or place in self.seen)

    def look_around(self) -> None:
        """Note what the room shows."""
        self.seen.add(self.room)
        self.seen.update(name for name in self.here() if self.is_container(name) and self.has(name, "open"))

    def is_container(self, name: str) -> bool:
        """Return whether things can be in it."""
        return self.plan.holds(name, _CONTAINERS)

    def doors(self) -> dict[str, str]:
        """Return the doors of the room, with where they lead."""
        return {way.door: where for where, way in self.plan.exits[self.room].items() if way.door}

    def commands(self) -> Iterator[Command]:
        """Yield what can be done now, each once."""
        carried, here = self.within(CARRIED), self.here()
        yield ("look",)
        yield ("inventory",)
        yield from (("go", where) for where in DIRECTIONS if self._passable(where))
        for name in (*here, *self.doors()):
            if self.has(name, "closed"):
                yield ("open", name)
            if self.has(name, "open"):
                yield ("close", name)
        places = [self.room, *(name for name in here if self._reachable(name))]
        lying = [(name, place) for place in places for name in self.within(place)]
        yield from (("examine", name) for name in (*here, *self.doors(), *carried, *(name for name, _ in lying)))
        yield from (("take", name) if place == self.room else ("take", name, place) for name, place in lying)
        for name in carried:
            yield ("drop", name)
            yield from (("put", name, place) for place in places[1:])
            yield from self._food_commands(name)
        if self.prepare_problem() is None:
            yield ("prepare meal",)

    def _food_commands(self, name: str) -> Iterator[Command]:
        if self._can_be_heated(name):
            yield from (("cook", name, heat) for heat in self.here() if self.plan.holds(heat, tuple(HEAT)))
        if self.has(name, "uncut") and any(self.has(tool, "sharp") for tool in self.within(CARRIED)):
            yield from ((cut, name) for cut in CUTS)
        if self.has(name, "edible"):
            yield ("eat", name)
        if self.has(name, "drinkable"):
            yield ("drink", name)

    def prepare_problem(self) -> str | None:
        """Return why the meal can't be prepared now, in the game's words; None when it can."""
        if self.places.get(MEAL) != GONE or any(self.places[name] == GONE for name in self.plan.recipe):
            return "There is nothing left to prepare."
        if self.room != self.plan.cooking_room:
            return f"Can only prepare meal in the {self.plan.cooking_room}."
        for name, wanted in self.plan.recipe.items():
            if self.places[name] != CARRIED:
                return "You still miss something."
            if not self._is_cooked_as(name, wanted & {"raw", *HEAT.values()}):
                return "Something still needs to be cooked."
            if not wanted & {"uncut", *CUTS.values()} <= self.traits[name]:
                return "Something still needs to be cut."
        return None

    def _is_cooked_as(self, name: str, wanted: frozenset[str]) -> bool:
        return not self.traits[name] & set(HEAT.values()) if wanted == {"raw"} else wanted <= self.traits[name]

    def apply(self, command: Command) -> None:
        """Do what ``commands`` said can be done."""
        verb, names = command[0], command[1:]
        if verb in ("take", "drop", "put"):
            self.places[names[0]] = {"take": CARRIED, "drop": self.room}.get(verb, names[-1])
        elif verb == "go":
            self.room = self.plan.exits[self.room][names[0]].room
        elif verb in ("open", "close"):
            self.traits[names[0]] -= {"open", "closed"}
            self.traits[names[0]].add("open" if verb == "open" else "closed")
        elif verb == "cook":
            self._heat(names[0], HEAT[self.plan.kinds[names[1]]])
        elif verb in CUTS:
            self.traits[names[0]] -= {"uncut"}
            self.traits[names[0]].add(CUTS[verb])
        elif verb in ("eat", "drink"):
            self.places[names[0]] = GONE
        elif verb == "prepare meal":
            self.places |= dict.fromkeys(self.plan.recipe, GONE) | {MEAL: CARRIED}
            self.traits[MEAL] |= {"edible", "raw"}
        elif command == ("examine", COOKBOOK):
            self.seen.add(COOKBOOK)
        self.look_around()

    def _passable(self, where: str) -> bool:
        way = self.plan.exits[self.room].get(where)
        return way is not None and (way.door is None or self.has(way.door, "open"))

    def _reachable(self, name: str) -> bool:
        return self.plan.holds(name, _SUPPORTERS) or (self.is_container(name) and self.has(name, "open"))

    def _can_be_heated(self, name: str) -> bool:
        if not self.plan.holds(name, _FOODS):
            return False
        found = self.traits[name]
        return bool(found & {"raw", "needs_cooking"}) or {"cooked", "edible"} <= found

    def _heat(self, name: str, result: str) -> None:
        found = self.traits[name]
        if {"cooked", "edible"} <= found:
            found -= {"edible"}
            found.add("burned")
        else:
            found -= {"raw", "needs_cooking"}
            found |= {result, "cooked", "edible"}


def read_kitchen(facts: Sequence[Sequence[str]], kinds: Mapping[str, str]) -> Kitchen:
    """Return a game's beginning.

    Args:
        facts: TextWorld's propositions over names, as ``["in", "carrot", "fridge"]``.
        kinds: TextWorld's type of each thing, by name.
    """
    told: dict[str, list[list[str]]] = {}
    for name, *arguments in facts:
        told.setdefault(name, []).append(arguments)
    at = {fact[0]: fact[1] for fact in told["at"]}
    places = {name: place for fact in ("at", "in", "on") for name, place in told.get(fact, [])}
    portable = {name for name, kind in kinds.items() if kind in ("o", *_FOODS)}
    fixtures = {name: room for name, room in sorted(at.items()) if kinds.get(name) in (*_CONTAINERS, *_SUPPORTERS)}
    traits: dict[str, set[str]] = {name: set() for name in kinds}
    for trait in (*_KINDS, "cooked", *HEAT.values(), *CUTS.values()):
        for (name,) in told.get(trait, []):
            traits[name].add(trait)
    bases = {ingredient: food for food, ingredient in told.get("base", [])}
    recipe = {food: frozenset(traits[ingredient]) for ingredient, food in bases.items()}
    ((cooking_room, _),) = told["cooking_location"]
    plan = Plan(kinds, _exits(told, kinds), fixtures, recipe, cooking_room)
    kitchen = Kitchen(
        plan,
        at["P"],
        {name: CARRIED if places.get(name) == "I" else places.get(name, GONE) for name in sorted(portable)},
        {name: found for name, found in traits.items() if name not in bases},
    )
    kitchen.look_around()
    return kitchen


def _exits(told: Mapping[str, Sequence[Sequence[str]]], kinds: Mapping[str, str]) -> dict[str, dict[str, Exit]]:
    doors = {(room, other): door for room, door, other in told.get("link", [])}
    exits: dict[str, dict[str, Exit]] = {name: {} for name, kind in kinds.items() if kind == "r"}
    for where, back in (("north", "south"), ("west", "east"), ("south", "north"), ("east", "west")):
        for there, here in told.get(f"{where}_of", []):
            exits[here][where] = Exit(there, doors.get((here, there)))
            exits[there][back] = Exit(here, doors.get((there, here)))
    return exits
