"""Learn from an expert's decisions what needs no weights: its values, where they come from and what they look like."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from imitrace.messages import Action
from imitrace_trainer.affordances import SlotOrigin
from imitrace_trainer.encoding import MESSAGE, StateView
from imitrace_trainer.options import Habits
from imitrace_trainer.prompts import PromptSurvey
from imitrace_trainer.reading import Scalar, argument_values, value_class, value_key, value_shape

_CLOSED_VALUES = 40
_CLOSED_SHARE = 0.7
_SHAPES = 6
_SHAPE_SHARE = 0.95
_SOURCE_SHARE = 0.02


@dataclass
class Knowledge:
    """What an embedded clone knows besides weights; learned from training data alone, kept as JSON."""

    actions: list[str]
    """``message`` and the tools that training offered, in the order of the networks' columns."""
    vocabulary: dict[str, list[Scalar]] = field(default_factory=dict)
    """Values the expert used again and again for a slot, over several tasks."""
    sources: dict[str, list[str]] = field(default_factory=dict)
    """Where the expert's values for a slot were seen."""
    shapes: dict[str, list[str]] = field(default_factory=dict)
    """Outlines of the expert's values, for slots where a few outlines make up nearly all of them."""
    classes: dict[str, list[str]] = field(default_factory=dict)
    """The same by coarser outlines: lengths and kinds of characters."""
    tools: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The newest definition of every tool that was offered in training."""
    prompt: list[int] | None = None
    """The features of every system prompt in training, ascending; None: there was none."""

    def __post_init__(self) -> None:
        self._habits: dict[str, Habits] = {}

    def slot(self, path: str) -> Habits:
        """Return what is known of a slot, worked out once."""
        known = self._habits.get(path)
        if known is None:
            looks = (frozenset(one.get(path, ())) for one in (self.sources, self.shapes, self.classes))
            known = self._habits.setdefault(path, Habits(self.vocabulary.get(path, ()), *looks))
        return known

    def origins(self) -> dict[str, SlotOrigin]:
        """Return where each slot's values come from, by its path, and by ``.parameter`` over all tools that have it."""
        found = {
            slot: SlotOrigin(frozenset(sources), frozenset(self.shapes[slot]), frozenset(self.classes[slot]))
            for slot, sources in self.sources.items()
        }
        for slot, origin in list(found.items()):
            leaf = "." + slot.rsplit(".", 1)[-1]
            other = found.get(leaf, origin)
            found[leaf] = SlotOrigin(
                origin.sources | other.sources, _both(origin.shapes, other.shapes), _both(origin.classes, other.classes)
            )
        return found


def _both(first: frozenset[str], second: frozenset[str]) -> frozenset[str]:
    return first | second if first and second else frozenset()


def learn_knowledge(decisions: Iterable[tuple[StateView, Action, str]], repeated: int = 2) -> Knowledge:
    """Return what decisions teach before any weight is fitted.

    Args:
        decisions: what was seen, what was done, and of which task it is.
        repeated: tasks in which a value must be taken to be known by heart.
    """
    actions = {MESSAGE}
    values: dict[str, dict[Scalar, set[str]]] = defaultdict(lambda: defaultdict(set))
    sources: dict[str, Counter[str]] = defaultdict(Counter)
    tools: dict[str, dict[str, Any]] = {}
    prompts = PromptSurvey()
    for view, action, task in decisions:
        label = action.name or MESSAGE
        actions.add(label)
        prompts.add(view)
        tools.update((name, dict(tool)) for name, tool in view.tools.items())
        for slot, value in argument_values(label, action.arguments):
            values[slot][value].add(task)
            sources[slot].update({seen.source for _, seen in view.places.get(value_key(value), ())})
    return Knowledge(
        actions=sorted(actions | tools.keys()),
        vocabulary={slot: _closed(counted, repeated) for slot, counted in values.items()},
        sources={slot: _frequent(counted) for slot, counted in sources.items()},
        shapes={slot: _outlines(map(value_shape, counted)) for slot, counted in values.items()},
        classes={slot: _outlines(map(value_class, counted)) for slot, counted in values.items()},
        tools=tools,
        prompt=prompts.common,
    )


def _closed(counted: dict[Scalar, set[str]], least: int) -> list[Scalar]:
    """Return a slot's repeated values when they make up most of what the expert gave it, else none."""
    repeated = [value for value, tasks in counted.items() if len(tasks) >= least and len(str(value)) <= 60]
    kept = sorted(repeated, key=lambda value: (-len(counted[value]), str(value)))[:_CLOSED_VALUES]
    covered = sum(len(counted[value]) for value in kept)
    return kept if covered >= _CLOSED_SHARE * sum(map(len, counted.values())) else []


def _outlines(found: Iterable[str]) -> list[str]:
    """Return the outlines of a slot's values when a few make up nearly all of them, else none: any value may do."""
    outlines = Counter(found)
    common = outlines.most_common(_SHAPES)
    return sorted(name for name, _ in common) if sum(n for _, n in common) >= _SHAPE_SHARE * outlines.total() else []


def _frequent(counted: Counter[str]) -> list[str]:
    total = max(counted.values(), default=0)
    return sorted(source for source, count in counted.items() if count >= _SOURCE_SHARE * total)
