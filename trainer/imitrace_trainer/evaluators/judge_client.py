"""Talk to an endpoint of chat completions, within a budget of tokens, a time limit and a number of tries."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from imitrace.exceptions import ConfigError, ImitraceError

_LARGEST = 4 * 1024 * 1024
_CHARACTERS_A_TOKEN = 3
_LONGEST_WAIT = 30.0


class JudgeError(ImitraceError):
    """Report that a judge gave no score."""

    def __init__(self, told: str, final: bool = False) -> None:
        super().__init__(told)
        self.final = final
        """Whether asking again is of no use."""


@dataclass
class Spent:
    """What a judge has cost so far."""

    requests: int = 0
    tokens: int = 0
    """As the endpoint says, or where it does not, three characters each."""
    output_tokens: int = 0
    """Those of them that were the answers, or could have been."""


@dataclass
class JudgeClient:
    """Ask one model of one endpoint."""

    endpoint: str
    model: str
    key: str | None = None
    answer_tokens: int = 300
    temperature: float = 0.0
    token_budget: int = 1_000_000
    timeout: float = 60.0
    retries: int = 3
    first_wait: float = 0.5
    """Seconds before a request is sent again, twice as long each time."""
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"judge.endpoint is {self.endpoint!r}, allowed: http://HOST... or https://HOST...")

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
        expected = sum(len(message["content"]) for message in messages) // _CHARACTERS_A_TOKEN + self.answer_tokens
        found = self._ask(json.dumps(body).encode(), expected)
        try:
            text = found["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError) as error:
            raise JudgeError(f"{self.endpoint} answered without choices[0].message.content") from error
        return text if isinstance(text, str) else ""

    def _ask(self, body: bytes, expected: int) -> Any:  # JSON
        problem = ""
        for attempt in range(self.retries + 1):
            if self.spent.tokens + expected > self.token_budget:
                raise JudgeError(
                    f"the judge's token_budget of {self.token_budget} is spent ({self.spent.tokens} used)", final=True
                )
            if attempt:
                threading.Event().wait(min(_LONGEST_WAIT, self.first_wait * 2 ** (attempt - 1)))
            self.spent.requests += 1
            try:
                found = json.loads(self._post(body))
            except urllib.error.HTTPError as error:
                with error:
                    problem = f"{self.endpoint} answered {error.code} {error.reason}"
                if error.code in (400, 401, 403, 404, 422):
                    mend = "; set IMITRACE_JUDGE_KEY" if error.code in (401, 403) else ""
                    raise JudgeError(problem + mend, final=True) from error
                continue
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{self.endpoint} gave no answer: {error}"
                self.spent.tokens += expected  # it may have been paid for
                self.spent.output_tokens += self.answer_tokens
                continue
            used = _used(found, "total_tokens", expected)
            self.spent.tokens += used
            self.spent.output_tokens += min(used, _used(found, "completion_tokens", self.answer_tokens))
            return found
        raise JudgeError(f"{problem} ({self.retries + 1} tries)")

    def _post(self, body: bytes) -> bytes:
        address = f"{self.endpoint.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310 - checked above
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310 - checked above
            return bytes(answer.read(_LARGEST))


def _used(found: Any, key: str, expected: int) -> int:  # JSON
    usage = found.get("usage") if isinstance(found, dict) else None
    total = usage.get(key) if isinstance(usage, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else expected
