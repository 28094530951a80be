"""Turn calls of tools into what is done in a cooking game and into the game's own words, and back."""

from collections.abc import Mapping
from typing import Any, Final

from imitrace.messages import Action
from imitrace_trainer.worlds.calling import TEXT, choice, define_tool
from imitrace_trainer.worlds.kitchen import APPLIANCES, CARRIED, CUTS, DIRECTIONS, Command, Kitchen

_HEATS: Final = tuple(APPLIANCES)
TOOLS: Final[tuple[Mapping[str, Any], ...]] = (
    define_tool("look", "Look around the room you are in."),
    define_tool("inventory", "See what you carry."),
    define_tool("examine", "Look at a thing closely, or read it.", target=TEXT),
    define_tool("go", "Go to the next room.", direction=choice(DIRECTIONS)),
    define_tool("open", "Open a door or a container.", target=TEXT),
    define_tool("close", "Close a door or a container.", target=TEXT),
    define_tool("take", "Take an item, from wherever it is in this room.", item=TEXT),
    define_tool("drop", "Drop an item to the floor.", item=TEXT),
    define_tool("put", "Put an item on or into a place.", item=TEXT, place=TEXT),
    define_tool("cut", "Cut food that you carry with the knife that you carry.", item=TEXT, how=choice(tuple(CUTS))),
    define_tool(
        "cook", "Fry food that you carry on a stove, roast it in an oven, or grill it.", item=TEXT, how=choice(_HEATS)
    ),
    define_tool("eat", "Eat an item that you carry.", item=TEXT),
    define_tool("drink", "Drink an item that you carry.", item=TEXT),
    define_tool("prepare_meal", "Make the meal from all its ingredients, in the kitchen."),
)

_ARGUMENTS = {tool["function"]["name"]: tuple(tool["function"]["parameters"]["properties"]) for tool in TOOLS}


def call_of(command: Command, kitchen: Kitchen) -> Action:
    """Return the tool call that does a command."""
    if command[0] in CUTS:
        return Action("tool_call", "cut", {"item": command[1], "how": command[0]})
    if command[0] == "cook":
        how = next(how for how, kind in APPLIANCES.items() if kitchen.plan.kinds[command[2]] == kind)
        return Action("tool_call", "cook", {"item": command[1], "how": how})
    name = command[0].replace(" ", "_")
    return Action("tool_call", name, dict(zip(_ARGUMENTS[name], command[1:], strict=False)))


def command_of(action: Action, kitchen: Kitchen) -> Command:
    """Return the command that a call, which conforms to its tool's schema, does.

    Names may be in capitals or not, and have an article.
    """
    given = [_named(action.arguments[key], kitchen) for key in _ARGUMENTS[action.name or ""] if key in action.arguments]
    if action.name == "cut":
        return (given[1], given[0])
    if action.name == "cook":
        kind = APPLIANCES[given[1]]
        given[1] = next((name for name in kitchen.here() if kitchen.plan.kinds.get(name) == kind), kind)
    if action.name == "take":
        place = kitchen.places.get(given[0], CARRIED)
        given += [] if place in (CARRIED, kitchen.room) else [place]
    return ((action.name or "").replace("_", " "), *given)


def words_of(command: Command, kitchen: Kitchen) -> str:
    """Return a command as a game understands it."""
    verb, *names = command
    if verb in CUTS:
        knife = next(name for name in kitchen.within(CARRIED) if kitchen.has(name, "sharp"))
        return f"{verb} {names[0]} with {knife}"
    if verb == "put":
        return (
            f"insert {names[0]} into {names[1]}" if kitchen.is_container(names[1]) else f"put {names[0]} on {names[1]}"
        )
    return f" {_BETWEEN.get(verb, '')} ".join((f"{verb} {names[0]}" if names else verb, *names[1:]))


_BETWEEN = {"take": "from", "cook": "with"}


def why_not(command: Command, kitchen: Kitchen) -> str:
    """Return why a command can't be done now."""
    if command == ("prepare meal",):
        return kitchen.prepare_problem() or ""
    if command[0] == "go":
        door = next((name for name, where in kitchen.doors().items() if where == command[1]), None)
        return f"the {door} is closed" if door else f"there is no way {command[1]}"
    absent = [name for name in command[1:] if not _is_here(name, kitchen)]
    if absent:
        return f"there is no {absent[0]} here, or it can't be seen"
    return f"{' '.join(command)}: that can't be done now"


def _is_here(name: str, kitchen: Kitchen) -> bool:
    return name in kitchen.doors() or (kitchen.room_of(name) == kitchen.room and kitchen.shown(name))


def _named(text: str, kitchen: Kitchen) -> str:
    bare = text.strip().casefold()
    for article in ("the ", "a ", "an ", "some "):
        bare = bare.removeprefix(article)
    return next((name for name in kitchen.plan.kinds if name.casefold() == bare), text)
