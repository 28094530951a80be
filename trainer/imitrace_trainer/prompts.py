"""Tell what an agent's system prompt says beyond what it says in every trajectory."""

from functools import lru_cache
from itertools import pairwise

from imitrace_trainer.encoding import StateView, feature_id
from imitrace_trainer.reading import shape, words

_MOST_WORDS = 20_000
_MOST_LACKING = 40


class PromptSurvey:
    """Find what the prompts of all states have in common."""

    def __init__(self) -> None:
        self._last: frozenset[int] | None = None
        self._common: frozenset[int] | None = None

    def add(self, view: StateView) -> None:
        """Take in a state; one without a prompt says nothing."""
        told = _told(_texts(view))
        if told is self._last or told is None:
            return
        self._last = told
        self._common = told if self._common is None else self._common & told

    @property
    def common(self) -> list[int] | None:
        """The features of every prompt, ascending; None where no state had one."""
        return None if self._common is None else sorted(self._common)


def prompt_features(view: StateView, common: frozenset[int] | None) -> list[int]:
    """Return the hashed words, and pairs of neighbours, that a prompt has beyond what all had, or lacks of that.

    Nothing is told of a state without a prompt, as many instrumentations record none; nor where training saw none.

    Args:
        view: the state.
        common: what every prompt had in training; None where there was none.
    """
    texts = _texts(view)
    return list(_beyond(texts, common)) if texts and common is not None else []


def _texts(view: StateView) -> tuple[str, ...]:
    return tuple(reading.text for reading in view.readings if reading.role == "system")


@lru_cache(maxsize=64)
def _told(texts: tuple[str, ...]) -> frozenset[int] | None:
    """Return the features of a prompt, None for none."""
    if not texts:
        return None
    folded = [shape(word) for text in texts for word in words(text)][:_MOST_WORDS]
    return frozenset(map(_prompt_id, [*folded, *(f"{first} {second}" for first, second in pairwise(folded))]))


@lru_cache(maxsize=1_024)
def _beyond(texts: tuple[str, ...], common: frozenset[int]) -> tuple[int, ...]:
    told = _told(texts) or frozenset()
    lacking = sorted(common - told)[:_MOST_LACKING]
    return (*sorted(told - common), *(_prompt_id(f"lacks {feature}") for feature in lacking))


def _prompt_id(text: str) -> int:
    return feature_id(f"system|{text}")
