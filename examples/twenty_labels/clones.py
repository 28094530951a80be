"""The two clones of the exercise: one counts by intent, one reads the text; both learn a call's arguments too."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from twenty_labels.tickets import Call, Ticket

FALLBACK = "fallback_response"
_WORD = re.compile(r"[a-z']+|[#@]")
_STEPS, _RATE, _RIDGE = 80, 4.0, 0.01


@dataclass(frozen=True)
class Answer:
    """A call, how sure its maker is, and who made it."""

    call: Call
    confidence: float
    """The clone's, also where the expert answered: a correction does not make the clone sure."""
    source: str
    """``clone`` or ``expert``."""


class IntentClone:
    """Count what the expert did for each intent."""

    def __init__(self, shown: Iterable[tuple[str, Call]]) -> None:
        self._tools: dict[str, Counter[str]] = defaultdict(Counter)
        for intent, call in shown:
            self._tools[intent][call.tool] += 1
        self._known = len({tool for counted in self._tools.values() for tool in counted})

    def predict(self, intent: str) -> tuple[str, float]:
        """Return the commonest tool and its share, count over total; the fallback and 0 for an unknown intent."""
        counted = self._tools.get(intent)
        if not counted:
            return FALLBACK, 0.0
        tool, count = counted.most_common(1)[0]
        return tool, count / counted.total()

    def smoothed(self, intent: str) -> float:
        """Return the confidence by the rule of succession: one of one is not yet certain."""
        counted = self._tools.get(intent)
        if not counted:
            return 0.0
        return (counted.most_common(1)[0][1] + 1) / (counted.total() + max(2, self._known))


class TextClone:
    """TF-IDF and multinomial logistic regression over the words; arguments by what the expert's look like."""

    def __init__(self, shown: Sequence[Ticket]) -> None:
        words = [_words(ticket.text) for ticket in shown]
        self._columns = {word: column for column, word in enumerate(sorted({w for found in words for w in found}))}
        seen = Counter(word for found in words for word in set(found))
        self._idf = np.array([1 + np.log((1 + len(shown)) / (1 + seen[word])) for word in self._columns])
        self.tools = sorted({ticket.expert.tool for ticket in shown})
        labels = np.array([self.tools.index(ticket.expert.tool) for ticket in shown])
        self._weights = _fit(self._features([ticket.text for ticket in shown]), labels, len(self.tools))
        self._arguments = _learn_arguments(shown)

    def probabilities(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return each tool's probability for each text, shape (texts, tools)."""
        return _softmax(self._features(texts) @ self._weights)

    def answer(self, text: str) -> Answer:
        """Return the likeliest tool with its arguments."""
        shares = self.probabilities([text])[0]
        tool = self.tools[int(shares.argmax())]
        arguments = {name: learned.fill(text) for name, learned in self._arguments[tool].items()}
        return Answer(Call(tool, arguments), float(shares.max()), "clone")

    def _features(self, texts: Sequence[str]) -> npt.NDArray[np.float64]:
        counts = np.zeros((len(texts), len(self._columns) + 1))
        for row, text in enumerate(texts):
            for word in _words(text):
                if word in self._columns:
                    counts[row, self._columns[word]] += 1
        counts[:, :-1] *= self._idf
        counts /= np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-12)
        counts[:, -1] = 0.3  # the bias
        return counts


@dataclass(frozen=True)
class LearnedArgument:
    """How the expert gave one argument: values of these outlines that the text holds, else one of the known values."""

    outlines: frozenset[str]
    values: tuple[str, ...]
    """Commonest first."""

    def fill(self, text: str) -> str:
        """Return a known value that the text says, else what is of the outline, else the commonest known value."""
        said = next((value for value in self.values if value in text), None)
        if said is not None:
            return said
        found = (word.strip(".,:!?") for word in text.split())
        return next((word for word in found if _outline(word) in self.outlines), self.values[0])


def _learn_arguments(shown: Sequence[Ticket]) -> dict[str, dict[str, LearnedArgument]]:
    given: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for ticket in shown:
        given[ticket.expert.tool]  # a tool without arguments is known too
        for name, value in ticket.expert.arguments.items():
            given[ticket.expert.tool][name].append(value)
    return {
        tool: {
            name: LearnedArgument(
                frozenset(_outline(value) for value in values if " " not in value and not value.isalpha()),
                tuple(value for value, _ in Counter(values).most_common()),
            )
            for name, values in arguments.items()
        }
        for tool, arguments in given.items()
    }


def same(call: Call, other: Call) -> bool:
    """Tell whether two calls are equal, arguments included."""
    return call.tool == other.tool and dict(call.arguments) == dict(other.arguments)


def agreement(clone: TextClone, held_out: Sequence[Ticket]) -> float:
    """Return for which share of the tickets the clone takes the expert's tool."""
    taken = clone.probabilities([ticket.text for ticket in held_out]).argmax(axis=1)
    return float(np.mean([clone.tools[tool] == t.expert.tool for tool, t in zip(taken, held_out, strict=True)]))


def _outline(value: str) -> str:
    return re.sub(r"[a-z]+", "a", re.sub(r"[0-9]+", "9", value.lower()))


@lru_cache(maxsize=4_096)
def _words(text: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(text.lower()))


def _softmax(logits: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    normal: npt.NDArray[np.float64] = shares / shares.sum(axis=1, keepdims=True)
    return normal


def _fit(features: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], tools: int) -> npt.NDArray[np.float64]:
    """Return the weights of least ridge-penalised cross-entropy, by gradient descent with Nesterov's momentum."""
    weights = np.zeros((features.shape[1], tools))
    before, target = weights, np.eye(tools)[labels]
    for step in range(_STEPS):
        ahead = weights + step / (step + 3) * (weights - before)
        gradient = features.T @ (_softmax(features @ ahead) - target) / len(labels) + _RIDGE / len(labels) * ahead
        before, weights = weights, ahead - _RATE * gradient
    return weights
