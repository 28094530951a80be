"""Ask a model that judges, and return its words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from imitrace_trainer.chat_endpoint import CHARACTERS_A_TOKEN, ChatEndpoint, EndpointError


class JudgeError(EndpointError):
    """Report that a judge gave no score."""


@dataclass
class JudgeClient(ChatEndpoint):
    """Ask one judge, which is one model of one endpoint."""

    role: ClassVar[str] = "judge"
    setting: ClassVar[str] = "judge.endpoint"
    error: ClassVar[type[EndpointError]] = JudgeError

    @property
    def key_name(self) -> str:
        """Return the environment variable of the key."""
        return "IMITRACE_JUDGE_KEY"

    def answer(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return what the model answers.

        Raises:
            JudgeError: the budget would be exceeded, or no answer came.
        """
        body = {
            "model": self.model,
            "messages": list(messages),
            "temperature": self.temperature,
            "max_tokens": self.answer_tokens,
        }
        expected = sum(len(message["content"]) for message in messages) // CHARACTERS_A_TOKEN + self.answer_tokens
        found = self.ask(body, expected, lambda found: found)
        try:
            text = found["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise JudgeError(f"{self.endpoint} answered without choices[0].message.content") from error
        return text if isinstance(text, str) else ""
