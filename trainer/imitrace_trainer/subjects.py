"""Tell what a state is about: the thing in hand, what the user said of it, and what the last answer has of that."""

from dataclasses import dataclass
from itertools import pairwise

from imitrace_trainer.encoding import StateView
from imitrace_trainer.reading import Reading, Scalar, argument_values, shape, value_key, words

_BEFORE = 4
_AFTER = 40
_LEAD = 3
_ENDS = ("?", "!", ".", "\n")


@dataclass(frozen=True)
class Subject:
    """The newest argument of a call that the user had named, with the user's words around it."""

    value: str = ""
    before: tuple[str, ...] = ()
    """Words in front of where the user named it, the nearest last."""
    after: tuple[str, ...] = ()
    """Words behind it, up to the next thing of its kind."""

    @property
    def words(self) -> frozenset[str]:
        """All words around it."""
        return frozenset(self.before + self.after)


def find_subject(view: StateView) -> Subject:
    """Return what the newest call that took something the user named was about; an empty subject where none did."""
    spoken = [reading.words for reading in view.readings if reading.role == "user"]
    for call in reversed(view.calls):
        for _, value in argument_values(call.name, call.arguments):
            tokens = words(str(value))
            if len(tokens) == 1 and len(tokens[0]) > 2:
                found = _around(tokens[0], spoken)
                if found is not None:
                    return found
    return Subject()


def _around(token: str, spoken: list[tuple[str, ...]]) -> Subject | None:
    """Return the words around every mention of ``token`` in the newest message that has it."""
    for said in reversed(spoken):
        if token not in said:
            continue
        before: list[str] = []
        after: list[str] = []
        for place, word in enumerate(said):
            if word == token:
                before += said[max(0, place - _BEFORE) : place]
                after += _until_next(said, place)
        return Subject(token, tuple(before), tuple(after))
    return None


def _until_next(said: tuple[str, ...], place: int) -> tuple[str, ...]:
    kind = shape(said[place])
    following = said[place + 1 : place + 1 + _AFTER]
    stop = next((index for index, word in enumerate(following) if kind != said[place] and shape(word) == kind), None)
    return following if stop is None else following[: max(0, stop - _LEAD)]


def subject_features(view: StateView, subject: Subject) -> list[str]:
    """Return what the user said of the subject, and which tools took it already."""
    if not subject.value:
        return ["none"]
    took = sorted({call.name for call in view.calls if subject.value in _tokens(call.arguments)})
    done = "+".join(took)
    before = [shape(word) for word in subject.before]
    features = [f"did {done}", *(f"took {name}" for name in took)]
    features += [f"before {word}" for word in before] + [f"before {word} did {done}" for word in before]
    features += [f"after {shape(word)}" for word in subject.after]
    features += [f"after {shape(word)} did {done}" for word in subject.after[:12]]
    return features


def _tokens(arguments: object) -> set[str]:
    return {word for _, value in argument_values("", arguments) for word in words(str(value))}


def match_features(view: StateView) -> list[str]:
    """Return what of the newest call and of its answer the user had said."""
    if not view.calls or not view.readings or view.readings[-1].role != "tool":
        return ["none"]
    said = said_values(view)
    features = []
    for slot, value in argument_values(view.calls[-1].name, view.calls[-1].arguments):
        features.append(f"{slot} said {value_key(value) in said}")
    found = {seen.source for seen in view.readings[-1].seen if _telling(seen.value) and value_key(seen.value) in said}
    name = view.calls[-1].name
    return [*features, f"{name} answers {min(len(found), 4)}", *(f"{source} said" for source in sorted(found))]


def said_values(view: StateView) -> set[object]:
    """Return the keys of all values in the user's messages."""
    return set().union(*(_said_in(reading) for reading in view.readings if reading.role == "user"))


def _said_in(reading: Reading) -> set[object]:
    found = reading.kept.get(_said_in)
    if not isinstance(found, set):
        found = reading.kept[_said_in] = {value_key(seen.value) for seen in reading.seen}
    return found


def _telling(value: Scalar) -> bool:
    return len(str(value)) > 2 and not isinstance(value, bool)


def reply_features(view: StateView) -> list[str]:
    """Return what the agent last asked, and how the user's answer begins, crossed."""
    if view.last_user < 0 or view.last_user != len(view.readings) - 1:
        return ["none"]
    asked = next((reading for reading in reversed(view.readings) if reading.role == "assistant" and reading.text), None)
    if asked is None:
        return ["first"]
    question = words(_last_question(asked))[-40:]
    opening = next(iter(view.last_user_words), "")
    features = [f"asked {shape(word)}" for word in question]
    features += [f"asked {first} {second}" for first, second in pairwise(question)]
    features += [f"{opening} to {shape(word)}" for word in dict.fromkeys(question)]
    return [*features, f"opens {opening}", f"length {min(len(view.last_user_words) // 6, 6)}"]


def _last_question(asked: Reading) -> str:
    text = asked.text[-600:]
    end = text.rfind("?")
    if end < 0:
        return text[-200:]
    start = max(text.rfind(mark, 0, end) for mark in _ENDS)
    return text[start + 1 : end]
