"""Say what a request asks a model, whichever of OpenAI's two forms it has, and what an answer to it may be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from imitrace.messages import Action

Json = dict[str, Any]
Events = Iterator[tuple[str | None, Json | str]]
"""Names and data of server-sent events."""


class Lack(NamedTuple):
    """Why a clone can't answer a request: a word to count by, and the whole."""

    word: str
    reason: str


class Choice(NamedTuple):
    """What ``tool_choice`` says."""

    mode: str = "auto"
    """``auto``, ``none`` or ``required``."""
    names: frozenset[str] | None = None
    """The tools that may be called; None: all."""


@dataclass(frozen=True)
class Asked:
    """A request for a decision."""

    body: Json
    messages: Any
    """The conversation, for ``imitrace.history``."""
    system: Any
    """The system prompt, where it stands apart."""
    tools: Sequence[Any]
    """In the client's form."""
    functions: frozenset[str]
    """Names of the tools that a clone's call may name."""
    choice: Choice
    lack: Lack | None = None
    """Why no clone's answer could do."""
    before: str | None = None
    """Name under which the model's service keeps what came before."""

    @property
    def model(self) -> str:
        """The model that was asked for."""
        return str(self.body.get("model", ""))

    @property
    def streams(self) -> bool:
        """Whether the answer is to be streamed."""
        return self.body.get("stream") is True


class Form(Protocol):
    """One of the two forms, by its path."""

    path: str

    def read(self, body: Json) -> Asked:
        """Return what a request's body asks.

        Raises:
            WireError: it is not of this form.
        """

    def misfit(self, asked: Asked, action: Action) -> Lack | None:
        """Return why an action is no answer to a request, None where it is one."""

    def whole(self, asked: Asked, action: Action, model: str) -> Json:
        """Return the answer that carries an action."""

    def events(self, asked: Asked, whole: Json) -> Events:
        """Yield such an answer as a stream."""

    def said(self, answer: Json) -> list[Any]:
        """Return of an answer what the conversation then holds more: messages or items."""


def parameters_lack(body: Json, harmless: frozenset[str], only: Mapping[str, Sequence[Any]]) -> Lack | None:
    """Return the first parameter that asks for something which a clone can't give.

    Args:
        body: the request's.
        harmless: parameters that a clone may pass over, or that are looked at elsewhere.
        only: others, with the values that ask for nothing special.
    """
    for name, value in body.items():
        if value is None or name in harmless or value in only.get(name, ()):
            continue
        word = name if name in only else "parameter"
        return Lack(word, f"the request says {name}, which only the model can follow")
    return None


def misfit(asked: Asked, action: Action, shaped: bool, limit: object) -> Lack | None:
    """Return why a clone's action is no answer to a request, None where it is one.

    Args:
        asked: the request.
        action: what the clone would do.
        shaped: whether a text must have a shape, as JSON has.
        limit: most tokens of the answer, where it says so; no token is shorter than a byte.
    """
    mode, names = asked.choice
    text = action.message or ""
    if action.kind == "tool_call":
        text = f"{action.name}{action.arguments}"
        if mode == "none":
            return Lack("tool_choice", "the request wants no tool call")
        if action.name not in asked.functions or (names is not None and action.name not in names):
            return Lack("tool_choice", f"the request does not allow to call {action.name}")
    elif mode == "required":
        return Lack("tool_choice", "the request wants a tool call")
    elif shaped:
        return Lack("response_format", "the request wants a text of a certain shape")
    elif asked.body.get("stop"):
        return Lack("stop", "the request says where texts stop")
    if isinstance(limit, int) and len(text.encode()) > limit:
        return Lack("max_tokens", "the answer may be longer than the request allows")
    return None
