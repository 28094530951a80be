"""Offer ``imitrace.step``: record a decision with ``with``, or decorate what decides, with a clone before it or not."""

import functools
import inspect
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, NamedTuple, ParamSpec, TypeVar, overload

from imitrace.binding import Arguments, Instead, wrap
from imitrace.clones import CloneHandle
from imitrace.context import current
from imitrace.exceptions import ConfigError, WireError
from imitrace.history import HistoryReader
from imitrace.messages import Action
from imitrace.provider import active, faults
from imitrace.shapes.replies import reply_like
from imitrace.steps import NOTHING_SEEN, Step
from imitrace.verdict import Verdict

P = ParamSpec("P")
R = TypeVar("R")

MESSAGES = ("messages", "input", "state", "history", "conversation", "chat_history")
"""Names of the argument that holds what the agent sees; else it is the first."""
TOOLS = ("tools", "functions")
SYSTEM = ("system", "instructions", "system_prompt")
ELSEWHERE = ("previous_response_id", "conversation_id")
"""Arguments by which a function says that the model's service keeps what came before."""
MODES = ("serve", "shadow")

_NOT_GIVEN: Any = object()


class _Seen(NamedTuple):
    """What a decorated function saw beside the messages, and how its answer is read."""

    tools: Sequence[object] | None
    system: Any
    answer: Callable[[Any], object] | None


class ClonedStep(Step):
    """A decision that a clone takes where it is trusted, or is asked about while the function decides."""

    def __init__(self, messages: Any, seen: _Seen, decider: "Decider", elsewhere: bool) -> None:
        super().__init__(messages, *seen)
        self._elsewhere = elsewhere
        self._decider = decider

    def instead(self) -> Instead | None:
        """Return the clone's answer, in the shape that the function returns; None where the function decides."""
        verdict = self._ask()
        decider = self._decider
        if verdict.trusted and verdict.action is not None and decider.serves:
            action = replace(verdict.action, call_id=verdict.action.call_id or f"call_{secrets.token_hex(8)}")
            try:
                value = decider.reply(verdict, action)
            except Exception as error:  # a maker of the user's own, or a shape we can't write
                verdict = decider.unsaid(verdict, error)
            else:
                self.asked(verdict, acted=True)
                self.act(action)
                return Instead(value)
        self.asked(verdict, acted=False)
        return None

    def settle(self, result: object) -> None:
        """Take what the function returned, and remember its shape."""
        super().settle(result)
        if result is not None:
            self._decider.sample = result

    def stream(self, result: object) -> object | None:
        """Return a streamed answer wrapped; a clone can't answer in streams."""
        wrapped = super().stream(result)
        if wrapped is not None:
            self._decider.streams = True
        return wrapped

    def _ask(self) -> Verdict:
        if self._elsewhere:
            return Verdict(None, False, "what came before is kept by the model's service, where no clone can see it")
        trajectory = current()
        if self._decided.messages is None:
            with faults().guard("step"):
                self._read(HistoryReader(faults()), None)
        if self._decided.messages is None:
            return Verdict(None, False, "what the agent saw could not be read")
        return self._decider.handle.ask(
            [message.raw for message in self._decided.messages],
            [] if self._decided.tools is None else self._decided.tools.definitions,
            {} if trajectory is None else trajectory.tags,
            None if trajectory is None else trajectory.id,
        )


class Decider:
    """A function that decides, its clone, and what its answers look like."""

    def __init__(self, handle: CloneHandle, serve: bool, reply: Callable[[Action], object] | None) -> None:
        self.handle = handle
        self.sample: object = None
        self.streams = False
        self._serve = serve
        self._reply = reply

    @property
    def serves(self) -> bool:
        """Return whether the clone may act here; streamed answers stay the function's."""
        if self._serve and self.streams:
            faults().count("clone_stream", "a function that streams its answer is never replaced by its clone")
        return self._serve and not self.streams

    def reply(self, verdict: Verdict, action: Action) -> object:
        """Return the clone's action as the function would have returned it.

        Raises:
            WireError: no answer of the function was seen yet, or it is of a shape that can't be written.
        """
        if self._reply is not None:
            return self._reply(action)
        if self.sample is None:
            raise WireError("no answer of the function was seen yet, so its shape is unknown; or give reply=")
        return reply_like(self.sample, action, f"{verdict.clone}:{verdict.version}")

    @staticmethod
    def unsaid(verdict: Verdict, error: Exception) -> Verdict:
        """Return the verdict that lets the function decide, since the clone's action can't be returned."""
        return replace(verdict, trusted=False, reason=f"the clone's action can't be returned: {error}"[:300])


@overload
def step(messages: Callable[P, R], /) -> Callable[P, R]: ...


@overload
def step(
    messages: Sequence[object] | Mapping[str, object] | str | None,
    tools: Sequence[object] | None = None,
    *,
    system: Any = None,
) -> Step: ...


@overload
def step(
    *,
    tools: Sequence[object] | None = None,
    system: Any = None,
    answer: Callable[[Any], object] | None = None,
    clone: str | CloneHandle | None = None,
    mode: Literal["serve", "shadow"] = "serve",
    reply: Callable[[Action], object] | None = None,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...


def step(  # noqa: PLR0913 - what the agent saw, and how a clone takes part, each a plain keyword
    messages: Any = _NOT_GIVEN,
    tools: Sequence[object] | None = None,
    *,
    system: Any = None,
    answer: Callable[[Any], object] | None = None,
    clone: str | CloneHandle | None = None,
    mode: str = "serve",
    reply: Callable[[Action], object] | None = None,
) -> Any:
    """Record one decision, as ``with imitrace.step(messages, tools) as s: s.act(model(...))`` or as a decorator.

    As a decorator, with or without brackets, it stands on the function that calls the model: plain or async, returning
    the answer, streaming it, or being a generator of its chunks. Its arguments ``messages`` (or ``input``, ``state``,
    ``history``; else the first), ``tools`` and ``system`` (or ``instructions``) are what the agent sees, and what it
    returns is the answer.

    Args:
        messages: the conversation so far, in the form of OpenAI's, Anthropic's or LangChain's client, or one text.
        tools: the tools offered, in any client's form; for a decorator those of a function that doesn't take them.
        system: the system prompt, where it is apart from the messages.
        answer: reads what the function returns, where that is a type of your own: it is given the value and returns
            the action, ``(name, arguments)`` for instance.
        clone: a registered clone, ``NAME@champion`` or a ``CloneHandle`` to share or to warm: where it is trusted its
            action is returned and the function is not called. Only for decorators.
        mode: ``serve``, or ``shadow``: the function decides always, and what the clone would have done is recorded.
        reply: makes the function's return value of a clone's action; else it is made like the last answer seen.

    Raises:
        ConfigError: the clone's reference or the mode is not one of those allowed.
    """
    if _is_function(messages) and clone is None:
        return _decorate(messages, _Seen(tools, system, answer), None)
    if messages is not _NOT_GIVEN:
        if clone is not None:
            raise ConfigError(
                "clone= is for decorators: write @imitrace.step(clone=...) over the function that decides"
            )
        return Step(messages, tools, system, answer)
    if mode not in MODES:
        raise ConfigError(f"mode is {mode!r}, allowed: {', '.join(MODES)}")
    handle = CloneHandle(clone) if isinstance(clone, str) else clone

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        decider = None if handle is None else Decider(handle, mode == "serve", reply)
        return _decorate(function, _Seen(tools, system, answer), decider)

    return decorate


def _decorate(function: Callable[P, R], default: _Seen, decider: Decider | None) -> Callable[P, R]:
    defaults = _defaults(function)

    def scope(given: Arguments) -> Step:
        arguments = {**defaults, **given}
        seen_in = _messages(arguments)
        if isinstance(seen_in, dict):  # one object with everything that the model's client is given
            arguments = {**{name: seen_in[name] for name in (*TOOLS, *SYSTEM) if name in seen_in}, **arguments}
        offered = _first(arguments, TOOLS, (list, tuple, dict), default.tools)
        seen = _Seen(offered, _first(arguments, SYSTEM, (str, list), default.system), default.answer)
        if decider is None:
            return Step(seen_in, *seen)
        elsewhere = any(arguments.get(name) for name in ELSEWHERE)
        return ClonedStep(seen_in, seen, decider, elsewhere)

    if decider is None:
        return wrap(function, scope, active)
    decider.streams = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    return wrap(function, scope, lambda: True)


def _is_function(messages: Any) -> bool:
    """Tell a function to decorate from what an agent saw, which may be callable too."""
    kind = type(messages)
    if issubclass(kind, staticmethod | classmethod | functools.partial) or inspect.isroutine(messages):
        return True
    return callable(messages) and not issubclass(kind, Mapping | Sequence) and not hasattr(messages, "messages")


def _defaults(function: Any) -> Arguments:
    """Return the defaults of arguments that say what the agent saw."""
    inner = function.__func__ if isinstance(function, staticmethod | classmethod) else function
    try:
        parameters = inspect.signature(inner).parameters
    except (TypeError, ValueError):  # some builtins have none
        return {}
    named = ((name, parameters[name].default) for name in (*TOOLS, *SYSTEM) if name in parameters)
    return {name: default for name, default in named if default is not inspect.Parameter.empty}


def _messages(arguments: Mapping[str, Any]) -> Any:
    for name in MESSAGES:
        if name in arguments:
            return arguments[name]
    return next((value for name, value in arguments.items() if name not in (*TOOLS, *SYSTEM)), NOTHING_SEEN)


def _first(arguments: Mapping[str, Any], names: Sequence[str], kinds: tuple[type, ...], default: Any) -> Any:
    """Return the first argument of these names and classes; by its type, since some objects lie about their class."""
    for name in names:
        if name in arguments and issubclass(type(arguments[name]), kinds):
            return arguments[name]
    return default
