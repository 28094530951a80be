"""Let a language model be the expert, over any endpoint that speaks OpenAI's chat completions."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from imitrace.exceptions import WireError
from imitrace.messages import Action, from_openai, message_actions, tool_definition
from imitrace_trainer.chat_endpoint import CHARACTERS_A_TOKEN, ChatEndpoint, EndpointError
from imitrace_trainer.worlds.config import key_in


class ModelExpertError(EndpointError):
    """Report that a model gave no action: its endpoint did not answer, or its answers could not be read."""


class Offering(Protocol):
    """What a model expert needs of an environment."""

    @property
    def tools(self) -> Sequence[Mapping[str, Any]]:
        """Definitions of the tools offered, in OpenAI's form."""
        ...


@dataclass
class _Endpoint(ChatEndpoint):
    role: ClassVar[str] = "expert"
    setting: ClassVar[str] = "base_url"
    error: ClassVar[type[EndpointError]] = ModelExpertError
    variable: str | None = None

    @property
    def key_name(self) -> str:
        return self.variable or "key_variable"


class ModelExpert:
    """Ask a model what to do next, with the environment's tools.

    It is made by ``ModelExpert(environment, base_url=..., model=...)``, or named as ``expert`` in ``imitrace.toml``
    with these in ``expert_options``. A model of temperature 0 is near to deterministic, and no more than that.
    """

    def __init__(  # noqa: PLR0913 - each is one setting of the endpoint
        self,
        environment: Offering,
        base_url: str,
        model: str,
        *,
        key_variable: str | None = "OPENAI_API_KEY",
        temperature: float = 0.0,
        timeout: float = 60.0,
        retries: int = 3,
        first_wait: float = 0.5,
        answer_tokens: int = 1000,
        token_budget: int = 10_000_000,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        Args:
            environment: its ``tools`` are offered to the model.
            base_url: the API's address up to, and without, ``/chat/completions``.
            model: its name there.
            key_variable: the environment variable that holds the key; None, or empty, where the endpoint wants none.
            temperature: of the model's draws.
            timeout: seconds that one request may take.
            retries: how often a request is sent again that was refused for now (429, 5xx), failed on the way, or
                whose answer can't be read.
            first_wait: seconds before the first of these, doubling; ``Retry-After`` prolongs it, to 30 seconds at most.
            answer_tokens: ``max_tokens``; 0 leaves it to the endpoint.
            token_budget: tokens that this expert may use in all.
            extra: further fields of the request; they go before ours.

        Raises:
            ConfigError: the address is none, or the variable holds no key.
        """
        self._tools = [{"type": "function", "function": tool_definition(tool)} for tool in environment.tools]
        self._extra = dict(extra or {})
        self._endpoint = _Endpoint(
            endpoint=base_url,
            model=model,
            key=key_in(key_variable),
            answer_tokens=answer_tokens,
            temperature=temperature,
            token_budget=token_budget,
            timeout=timeout,
            retries=retries,
            first_wait=first_wait,
            variable=key_variable,
        )

    @property
    def tokens(self) -> int:
        """Return the tokens used so far, of questions and answers; as the endpoint says, else estimated."""
        return self._endpoint.spent.tokens

    @property
    def requests(self) -> int:
        """Return the requests sent so far, with those sent again."""
        return self._endpoint.spent.requests

    def act(self, messages: Sequence[Mapping[str, Any]]) -> Action | None:  # OpenAI messages
        """Return what the model does next.

        Of several parallel tool calls the first is taken, and the others never happened: a decision is one action, and
        the model sees that one's result before it decides anew. A call of a tool that is not offered, or with wrong
        arguments, is returned as it is, for the environment to refuse.

        Returns:
            A tool call or a message; None where the model answers with neither, which ends an episode.

        Raises:
            ModelExpertError: the endpoint refused, or gave no answer that can be read, in all tries; an answer without
                ``choices[0].message``, cut off within a call, or with arguments that are no JSON object can't be read.
                Also when the ``token_budget`` is spent.
        """
        body: dict[str, Any] = {
            "model": self._endpoint.model,
            "messages": list(messages),
            "temperature": self._endpoint.temperature,
        }
        if self._tools:
            body["tools"] = self._tools
        if self._endpoint.answer_tokens:
            body["max_tokens"] = self._endpoint.answer_tokens
        body |= self._extra
        expected = len(json.dumps(body)) // CHARACTERS_A_TOKEN + self._endpoint.answer_tokens
        return self._endpoint.ask(body, expected, self._action)

    def _action(self, found: Any) -> Action | None:  # JSON
        try:
            message = found["choices"][0]["message"]
            first = message_actions(from_openai({**message, "role": "assistant"}))[0]
        except (KeyError, IndexError, TypeError) as error:
            raise ModelExpertError(f"{self._endpoint.endpoint} answered without choices[0].message") from error
        except WireError as error:
            raise ModelExpertError(f"{self._endpoint.endpoint} answered what can't be read: {error}") from error
        return first if first.kind == "tool_call" or (first.message or "").strip() else None
