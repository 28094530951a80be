"""Read a line of chat JSONL: one trajectory with its ``id`` and ``messages`` in OpenAI's form, and what is known."""

from collections.abc import Iterator, Sequence

from imitrace.exceptions import WireError
from imitrace.messages import Message, from_openai, tool_definition
from imitrace_collector.imports.conversation_spans import ImportedTrajectory, conversation_spans
from imitrace_collector.imports.conversations import (
    REWARD_EVALUATOR,
    REWARD_SCORE,
    SCORE_EVALUATOR,
    Conversation,
    Facts,
    Given,
    Json,
    Row,
    Transcript,
    agent_name,
    each,
    number,
    text,
)
from imitrace_collector.normalize import storable

SOURCE = "chat-jsonl"

_TOLD = ("messages", "task_id", "model", "reward", "scores", "tags")


def read_line(line: Json, position: int, agent: str | None, tools: Sequence[Json]) -> ImportedTrajectory:
    """Return a line's spans.

    Args:
        line: ``id``, ``messages``, and optionally ``agent``, ``task_id``, ``model``, ``reward``, ``scores``, ``tags``,
            ``tools``.
        position: of the line in its file, from 0; gives the trajectory its time.
        agent: name that overrules the line's.
        tools: the definitions offered at every step, as ``messages.tool_definition`` returns them.

    Raises:
        WireError: the line is not of that form.
    """
    (conversation,) = _read(Row(f"line {position + 1}", position, line), Given(agent=agent, tools=tools))
    return conversation_spans(conversation, SOURCE)


def _read(row: Row, given: Given) -> Iterator[Conversation]:
    line = row.value
    if not isinstance(line, dict):
        raise WireError("it is not a JSON object")
    if not isinstance(line.get("id"), str | int) or line["id"] == "":
        raise WireError(f"'id' is {line.get('id')!r}, expected text")
    if not isinstance(line.get("messages"), list) or not line["messages"]:
        raise WireError("'messages' is missing or empty, expected a list of chat messages")
    agent = agent_name(given, line.get("agent"))
    tags = line.get("tags") or {}
    if not isinstance(tags, dict) or not all(isinstance(value, str) for value in tags.values()):
        raise WireError("'tags' is no object of texts")
    tools = offered_tools(line.get("tools"), given)
    reward = number("reward", line.get("reward"))
    transcript = whole_conversation(
        map(from_openai, line["messages"]), Facts(model=text(line.get("model")), tools=tools)
    )
    yield Conversation(
        place=row.place,
        position=row.position,
        trajectory_id=storable(str(line["id"])),
        agent=agent,
        decisions=transcript.decisions,
        after=transcript.after(),
        task=text(line.get("task_id")),
        tags=tags,
        outcome=None if reward is None else "success" if reward >= 1 else "failure",
        scores=_scores(line, reward),
        content=[{key: line.get(key) for key in _TOLD}, list(tools)],
    )


def whole_conversation(messages: Iterator[Message], facts: Facts) -> Transcript:
    """Return a conversation in which each message of the assistant is a decision."""
    transcript = Transcript()
    for message in messages:
        if message["role"] == "assistant":
            transcript.answer(message, facts)
        else:
            transcript.say(message)
    return transcript


def offered_tools(own: object, given: Given) -> Sequence[Json]:
    """Return the definitions that a row brings, else those of the command.

    Raises:
        WireError: the row's are no list of definitions.
    """
    if not own:
        return given.tools
    if not isinstance(own, list):
        raise WireError("'tools' is no list of definitions")
    return [tool_definition(tool) for tool in own]


def _scores(line: Json, reward: float | None) -> dict[str, tuple[float, str]]:
    """Return value and evaluator by name; a reward is a score like any other."""
    given = line.get("scores") or {}
    if not isinstance(given, dict):
        raise WireError("'scores' is no object of numbers")
    scores: dict[str, tuple[float, str]] = {}
    if reward is not None:
        scores[REWARD_SCORE] = (reward, REWARD_EVALUATOR)
    for name, value in given.items():
        found = number(f"scores.{name}", value)
        if found is not None:
            scores[storable(name)] = (found, SCORE_EVALUATOR)
    return scores


read = each(_read)
"""Reader of the whole format."""
