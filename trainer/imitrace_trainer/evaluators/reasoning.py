"""Score what an agent wrote before it acted: whether it speaks of what is there, and of what it then did. Weak."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from imitrace.messages import Message, message_text
from imitrace_trainer.episodes import Decided, Episode
from imitrace_trainer.evaluators.result import Result, StepResult, Task
from imitrace_trainer.evaluators.trajectories import as_episode, calls_of, turns
from imitrace_trainer.reading import words

EMPTY_WORDS: Final = frozenset(
    """
    a about after again all also although am an and any are as at be because been before being but by can
    consequently could did do does doing don't down each either else even ever every few finally first firstly for
    from further furthermore get given go going had has have having he hence her here him his how however i i'll i'm
    if in indeed instead into is it it's its just last lastly let let's like maybe me means might more moreover most
    must my namely need needs neither next no nonetheless nor not now of off ok okay on once one only or other our
    out over own perhaps please rather really same second secondly see she should since so some still such sure than
    that that's the their them then there therefore these they think this those though thus to too under until up us
    very was we well were what when where whereas whether which while who why will with would yes yet you your
    """.split()  # noqa: SIM905 - a word a line would be a page
)
"""Words that carry no content of their own: articles, pronouns, auxiliaries, connectives. They never count."""
_PARTS = re.compile(r"[a-z]+|\d+")


class ReasoningQuality:
    """From 0 to 1, a weak heuristic: the mean over decisions with a written thought.

    A thought is reasoning text, or text beside a call. It is read as the set of its content words, so that length,
    repetition and connectives count nothing. Half of its score is the share of these words that stand in what the agent
    saw, or in what it then did; half, the share of the words of what it then did (tool and argument values) that the
    thought speaks of. A thought that says no more than an earlier one gets 0. It can't tell true from false, and one
    that copies what it saw does well.
    """

    name = "ReasoningQuality"
    version = "1"

    def evaluate(self, input: Task | str | None, trajectory: Episode | Sequence[Mapping[str, Any]]) -> Result:  # noqa: A002 - as others name it
        """Return the score; none where no thought was written, which says nothing of its quality."""
        del input
        episode = as_episode(trajectory)
        steps: list[StepResult] = []
        earlier: set[frozenset[str]] = set()
        seen: set[str] = set()
        for decided, new, answer in turns(episode):
            seen.update(word for message in new for word in _message_words(message))
            thought = content_words(_thought(answer, decided))
            if thought:
                repeated = any(thought <= known for known in earlier)
                score, why = (0.0, "says no more than before") if repeated else _judge(thought, decided, seen)
                steps.append(StepResult(decided.taken[0].index, score, why))
                earlier.add(thought)
            seen.update(_message_words(answer))
        if not steps:
            return Result(None, "no thought is written down")
        score = sum(step.score for step in steps) / len(steps)
        return Result(score, f"{len(steps)} thoughts; weak heuristic", "heuristic", tuple(steps))


def content_words(text: str) -> frozenset[str]:
    """Return the words of a text that carry content."""
    return frozenset(words(text)) - EMPTY_WORDS


def _thought(answer: Message, decided: Decided) -> str:
    written = [str(part.get("content") or "") for part in answer["parts"] if part.get("type") == "reasoning"]
    if calls_of(decided):
        written.append(message_text(answer))
    return "\n".join(written)


def _judge(thought: frozenset[str], decided: Decided, seen: set[str]) -> tuple[float, str]:
    done = _done(decided)
    grounded = len(thought & (seen | done)) / len(thought)
    if not done:
        return grounded, f"{grounded:.0%} of its words are grounded"
    spoken = len(done & _split(thought)) / len(done)
    return (grounded + spoken) / 2, f"{grounded:.0%} of its words are grounded, {spoken:.0%} of the action is spoken of"


def _done(decided: Decided) -> frozenset[str]:
    found: set[str] = set()
    for taken in decided.taken:
        if taken.action.kind == "tool_call":
            found.update(_PARTS.findall((taken.action.name or "").lower()))
            found.update(word for value in taken.action.arguments.values() for word in content_words(str(value)))
        else:
            found.update(content_words(taken.action.message or ""))
    return frozenset(found) - EMPTY_WORDS


def _split(thought: frozenset[str]) -> frozenset[str]:
    return thought | frozenset(part for word in thought for part in _PARTS.findall(word))


def _message_words(message: Message) -> frozenset[str]:
    texts = [str(part.get("content") or part.get("response") or "") for part in message["parts"]]
    return content_words("\n".join(texts))
