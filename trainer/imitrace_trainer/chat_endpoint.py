"""Talk to an endpoint of chat completions, within a budget of tokens, a time limit and a number of tries."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar, TypeVar
from urllib.parse import urlsplit

from imitrace.exceptions import ConfigError, ImitraceError

CHARACTERS_A_TOKEN = 3
_LARGEST = 4 * 1024 * 1024
_LONGEST_WAIT = 30.0
_FINAL = (400, 401, 403, 404, 422)

Read = TypeVar("Read")


class EndpointError(ImitraceError):
    """Report that an endpoint gave no answer of use."""

    def __init__(self, told: str, final: bool = False) -> None:
        super().__init__(told)
        self.final = final
        """Whether asking again is of no use."""


@dataclass
class Spent:
    """What an endpoint has cost so far."""

    requests: int = 0
    tokens: int = 0
    """As the endpoint says, or where it does not, three characters each."""
    output_tokens: int = 0
    """Those of them that were the answers, or could have been."""


@dataclass
class ChatEndpoint:
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
    """Seconds before a request is sent again, twice as long each time, or as the endpoint says, at most 30."""
    spent: Spent = field(default_factory=Spent)

    role: ClassVar[str] = "endpoint"
    """What it is called in messages to the user."""
    setting: ClassVar[str] = "endpoint"
    """What its address is called there."""
    error: ClassVar[type[EndpointError]] = EndpointError
    """What is raised."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.endpoint)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(f"{self.setting} is {self.endpoint!r}, allowed: http://HOST... or https://HOST...")

    @property
    def key_name(self) -> str:
        """Return where the user sets the key."""
        return "the endpoint's key"

    def ask(self, body: Mapping[str, Any], expected: int, read: Callable[[Any], Read]) -> Read:
        """Send a request, again where that may help, and return what ``read`` makes of the JSON that came back.

        Args:
            body: the request, as JSON.
            expected: tokens that it will cost at most, about.
            read: makes a value of the answer; one that raises an error that is not final is asked for again.

        Raises:
            EndpointError: the budget would be exceeded, or no answer came; in a subclass, its own ``error``.
        """
        told, problem, wait = json.dumps(body).encode(), "", 0.0
        for attempt in range(self.retries + 1):
            if self.spent.tokens + expected > self.token_budget:
                raise self.error(
                    f"the {self.role}'s token_budget of {self.token_budget} is spent ({self.spent.tokens} used)",
                    final=True,
                )
            if attempt:
                threading.Event().wait(min(_LONGEST_WAIT, max(wait, self.first_wait * 2 ** (attempt - 1))))
            self.spent.requests += 1
            try:
                found = json.loads(self._post(told))
            except urllib.error.HTTPError as error:
                with error:
                    problem, wait = self._refused(error), _seconds(error.headers.get("Retry-After"))
                continue
            except (OSError, http.client.HTTPException, ValueError) as error:
                problem = f"{self.endpoint} gave no answer: {error}"
                self._pay(expected, self.answer_tokens)  # it may have been paid for
                continue
            used = _used(found, "total_tokens", expected)
            self._pay(used, min(used, _used(found, "completion_tokens", self.answer_tokens)))
            try:
                return read(found)
            except EndpointError as error:
                if error.final:
                    raise
                problem, wait = str(error), 0.0
        raise self.error(f"{problem} ({self.retries + 1} tries)")

    def _refused(self, error: urllib.error.HTTPError) -> str:
        problem = f"{self.endpoint} answered {error.code} {error.reason}"
        if error.code in _FINAL:
            mend = f"; set {self.key_name}" if error.code in (401, 403) else ""
            raise self.error(problem + mend, final=True) from error
        return problem

    def _pay(self, tokens: int, output_tokens: int) -> None:
        self.spent.tokens += tokens
        self.spent.output_tokens += output_tokens

    def _post(self, body: bytes) -> bytes:
        address = f"{self.endpoint.rstrip('/')}/chat/completions"
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})  # noqa: S310 - checked above
        if self.key:
            request.add_unredirected_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=self.timeout) as answer:  # noqa: S310 - checked above
            return bytes(answer.read(_LARGEST))


def _seconds(told: str | None) -> float:
    """Return how long a ``Retry-After`` asks to wait: seconds or a date; 0 where it says nothing that can be read.

    Source: https://www.rfc-editor.org/rfc/rfc9110#field.retry-after
    """
    if not told:
        return 0.0
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        return max(0.0, (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0


def _used(found: Any, key: str, expected: int) -> int:  # JSON
    usage = found.get("usage") if isinstance(found, dict) else None
    total = usage.get(key) if isinstance(usage, dict) else None
    return total if isinstance(total, int) and not isinstance(total, bool) and total > 0 else expected
