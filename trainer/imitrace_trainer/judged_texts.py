"""Say in short texts what an action in a state is: what a critic weighs, and what its vetoes can be read by."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from imitrace.messages import Action
from imitrace_trainer.encoding import StateView
from imitrace_trainer.reading import Scalar, argument_values, value_key
from imitrace_trainer.schemas import plain_schema

_FACTS = 40
_SOURCES = 4
_LONG = 40


@dataclass(frozen=True)
class JudgedTexts:
    """What can be said of an action in a state; nobody's own words, and ids and numbers by their outline alone."""

    tool: str
    action: tuple[str, ...]
    """Of the action: what its arguments chose of closed lists, where values were seen, what they contradict."""
    state: tuple[str, ...]
    """Of the state: what was done so far, and what the newest answer of each tool says."""

    def features(self) -> Iterator[str]:
        """Yield what the critic weighs: of the action, of the state, and of the tool in that state."""
        yield self.tool
        yield from self.action
        yield from self.state
        yield from (f"{self.tool} while {text}" for text in self.state)

    @property
    def all(self) -> frozenset[str]:
        """Everything that is said but the tool's name."""
        return frozenset((*self.action, *self.state))


def judged_texts(view: StateView, action: Action) -> JudgedTexts:
    """Return what can be said of a call in a state; how many steps came before is left out."""
    return JudgedTexts(action.name or "message", tuple(_of_call(view, action)), tuple(_of_state(view)))


def _of_call(view: StateView, action: Action) -> list[str]:
    texts = ["the same call again"] if any(_same(call, action) for call in view.calls) else []
    for slot, value in argument_values(action.name or "", action.arguments):
        if _is_choice(view, slot, value):
            texts.append(f"{slot}={value}")
            continue
        sources = sorted({seen.source for _, seen in view.places.get(value_key(value), ())})
        texts += [f"{slot} from {source}" for source in sources[:_SOURCES]]
        if not sources:
            texts += [f"{slot} seen nowhere", "an argument seen nowhere"]
        if _contradicts(view, slot, value):
            texts += [f"{slot} contradicts the newest answer", "an argument contradicts the newest answer"]
    return list(dict.fromkeys(texts))


def _of_state(view: StateView) -> list[str]:
    last = ["nothing", "nothing", *view.actions][-2:]
    texts = [f"after {last[1]}", f"after {last[0]} and {last[1]}", *(f"called {name}" for name in set(view.actions))]
    for call in view.calls:
        said = argument_values(call.name, call.arguments)
        texts += [f"called {slot}={value}" for slot, value in said if _is_choice(view, slot, value)]
    if view.calls and view.calls[-1].error:
        texts.append("the newest call failed")
    texts += [f"{failed.name} failed" for failed in view.calls if failed.error]
    newest: dict[str, tuple[str, ...]] = {}
    for reading in view.readings:
        if reading.role == "tool" and reading.facts:
            newest[reading.facts[0].split(":", 1)[0]] = reading.facts
    texts += [fact for facts in newest.values() for fact in facts[:_FACTS]]
    return sorted(set(texts))


def _same(call: Any, action: Action) -> bool:  # a call of the view
    return bool(call.name == action.name and call.arguments == action.arguments)


def _is_choice(view: StateView, slot: str, value: Scalar) -> bool:
    """Tell whether a value is one of a few that the tool's definition lists, or a flag."""
    if isinstance(value, bool):
        return True
    tool, _, name = slot.partition(".")
    properties = plain_schema((view.tools.get(tool) or {}).get("parameters")).get("properties") or {}
    known = properties.get(name)
    return isinstance(known, dict) and value in (known.get("enum") or ())


def _contradicts(view: StateView, slot: str, value: Scalar) -> bool:
    """Tell whether the newest answer has other values, and not this one, under the argument's name."""
    if not view.readings or view.readings[-1].role != "tool":
        return False
    leaf = slot.rsplit(".", 1)[-1]
    told = {value_key(seen.value) for seen in view.readings[-1].seen if seen.leaf == leaf}
    return bool(told) and value_key(value) not in told
