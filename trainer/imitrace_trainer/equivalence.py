"""Tell which disagreements are harmless: two actions that come to the same, shown by the schema or by what followed.

It is careful: what is not shown to be the same is different. Calls count as reads only where somebody said so.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from imitrace.canonical import canonical_json
from imitrace.messages import Action
from imitrace_trainer.argument_fit import is_type, misfit, numbers_folded, properties, resolved
from imitrace_trainer.policy import same_action

SAME_CALL: Final = "the same call by its schema"
SAME_TEXT: Final = "the same text"
SAME_ANSWER: Final = "the expert made this call in the same answer"
OTHER_ORDER: Final = "reads in another order"
SAME_RESULT: Final = "reads with the same result"
REASONS: Final = (SAME_CALL, SAME_TEXT, SAME_ANSWER, OTHER_ORDER, SAME_RESULT)

_LETTERS: Final = str.maketrans(dict.fromkeys(".,!;:'\"\u2019\u201c\u201d", " "))
_NOTHING: Final = object()


@dataclass(frozen=True)
class Made:
    """A call that was made, and what came of it."""

    action: Action
    observation: str | None
    decision: str = ""
    """Shared by the parallel calls of one answer."""


def equivalent(
    acted: Action,
    other: Action,
    followed: Sequence[Made],
    tools: Sequence[Mapping[str, Any]],
    reads: Collection[str],
) -> str | None:
    """Return why another action comes to the same as the one that was taken; None where that is not shown.

    Args:
        acted: what was done.
        other: what would have been done instead, in the same state.
        followed: the steps of the trajectory from the one that was done on, it included, in their order.
        tools: definitions of the tools offered.
        reads: names of the tools that change nothing; nobody guesses them from a name.
    """
    if acted.kind != other.kind:
        return None
    if acted.kind == "message":
        return SAME_TEXT if _words(acted.message) == _words(other.message) else None
    schemas = {str(tool["name"]): tool.get("parameters") for tool in tools}
    if same_call(acted, other, schemas):
        return SAME_CALL
    decision = followed[0].decision if followed else ""
    answer = [made for made in followed if decision and made.decision == decision]
    if any(same_call(made.action, other, schemas) for made in answer[1:]):
        return SAME_ANSWER
    if acted.name not in reads or other.name not in reads:
        return None
    return _as_read(acted, other, followed, schemas, reads)


def same_call(made: Action, other: Action, schemas: Mapping[str, Any]) -> bool:
    """Tell whether another call is the same to the tool as one that was made: defaults, numbers, sets, empty options.

    What was made may be written loosely, for the tool took it so; the other must be valid by the schema as it is.

    Args:
        made: a call that was carried out.
        other: what would be called instead.
        schemas: the tools' parameters by name.
    """
    if made.kind != other.kind or made.name != other.name or made.kind != "tool_call":
        return False
    if same_action(made, other):
        return True
    schema = schemas.get(other.name or "")
    if misfit(schema, other.arguments, strict=True) is not None:
        return False
    loose, firm = normalised(made.arguments, schema, loose=True), normalised(other.arguments, schema)
    return canonical_json(loose) == canonical_json(firm)


def normalised(arguments: Mapping[str, Any], schema: Any, *, loose: bool = False) -> dict[str, Any]:  # any JSON values
    """Return arguments in one way to write them, as far as a schema allows to tell that ways are the same.

    An option that is null or has its default is left out, and items that the schema calls unique, and so a set, are
    sorted.

    Args:
        arguments: a call's.
        schema: its tool's ``parameters``.
        loose: also take a number or a yes for what it is that was written as text, a listed value in other letters, and
            a text without the space around it.
    """
    found = ((name, _value(value, *_part(schema, name), loose)) for name, value in arguments.items())
    return {name: value for name, value in found if value is not _NOTHING}


def _part(schema: Any, name: str) -> tuple[Mapping[str, Any], bool]:  # any JSON value
    """Return the schema of an argument, and whether it may be left out."""
    whole = resolved(schema, schema)
    return resolved(properties(whole).get(name), schema), name not in (whole.get("required") or ())


def _value(value: Any, schema: Mapping[str, Any], optional: bool, loose: bool) -> Any:  # any JSON values
    plain = numbers_folded(value)
    plain = _typed(plain, schema) if loose else plain
    default = numbers_folded(schema["default"]) if "default" in schema else None
    if optional and canonical_json(plain) in ("null", canonical_json(default)):
        return _NOTHING
    if isinstance(plain, list) and schema.get("uniqueItems") is True:
        return sorted(plain, key=canonical_json)
    if isinstance(plain, Mapping) and properties(schema):
        return normalised(plain, schema, loose=loose)
    return plain


def _typed(value: Any, schema: Mapping[str, Any]) -> Any:  # any JSON values
    kind = schema.get("type")
    if not isinstance(value, str):
        return value
    text = value.strip()
    if kind == "string":
        return _listed(text, schema)
    if kind == "boolean":
        return {"true": True, "false": False}.get(text.lower(), value)
    if kind in ("number", "integer"):
        try:
            number = numbers_folded(float(text))
        except ValueError:
            return value
        return number if is_type(number, kind) else value
    return value


def _listed(text: str, schema: Mapping[str, Any]) -> str:
    """Return which of the values that a schema lists a text means, if it is only one in other letters."""
    listed = [item for item in schema.get("enum") or () if isinstance(item, str) and item.lower() == text.lower()]
    return listed[0] if len(listed) == 1 else text


def _as_read(
    acted: Action, other: Action, followed: Sequence[Made], schemas: Mapping[str, Any], reads: Collection[str]
) -> str | None:
    """Say whether the other read was made too before anything changed: then only the order, or the way, differs."""
    result = followed[0].observation if followed else None
    for made in followed[1:]:
        if made.action.kind == "tool_call" and same_call(made.action, other, schemas):
            same = result is not None and made.observation == result
            return SAME_RESULT if same else OTHER_ORDER
        if made.action.kind != "tool_call" or made.action.name not in reads:
            return None  # something was changed, or somebody was asked, before it was made
    return None


def _words(text: str | None) -> list[str]:
    return (text or "").translate(_LETTERS).casefold().split()
