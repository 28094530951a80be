"""Read besides single words the short phrases of what people wrote, so that a reply can copy them."""

import re

from imitrace.messages import Message
from imitrace_trainer.reading import Reader, Reading, Seen, shape

_CLAUSE = re.compile(r"[,;!?()\"“”<>\[\]{}\n]+|[.:]+(?=\s|$)")
_LONGEST = 4
_MAX_WORDS = 200


class PhraseReader(Reader):
    """Read messages as another reader does, and the phrases of two to four words in those of users."""

    def __init__(self, inner: Reader | None = None) -> None:
        super().__init__()
        self._inner = inner or Reader()
        self._phrased: dict[int, tuple[Reading, Reading]] = {}

    def read(self, message: Message, tool: str = "", year: str = "") -> Reading:
        """Return the reading of a message; ``tool`` names the tool that answered, ``year`` completes dates."""
        plain = self._inner.read(message, tool, year)
        if plain.role != "user":
            return plain
        found = self._phrased.get(id(plain))
        if found is not None and found[0] is plain:
            return found[1]
        if len(self._phrased) >= self._inner.limit:
            self._phrased.clear()
        more = Reading(
            plain.role, plain.text, plain.words, (*plain.seen, *phrases(plain.text)), plain.facts, plain.error
        )
        self._phrased[id(plain)] = (plain, more)
        return more


def phrases(text: str) -> list[Seen]:
    """Return the phrases of a user's text, none across a comma or a full stop."""
    found: list[Seen] = []
    count = 0
    for clause in _CLAUSE.split(text):
        words = [word.strip("'*`") for word in clause.split()]
        for start in range(len(words)):
            count += 1
            if count > _MAX_WORDS:
                return found
            before = shape(words[start - 1].lower()) if start else ""
            for end in range(start + 2, min(start + _LONGEST, len(words)) + 1):
                after = shape(words[end].lower()) if end < len(words) else ""
                span = " ".join(words[start:end])
                found.append(Seen(span, "user+phrase", "", 0, frozenset(), count, before, after))
    return found
