"""Write structured log lines, in which nothing of a client can pass for a line or a command of ours."""

import json
import logging
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

FORMATS = ("text", "json")
LOGGER = logging.getLogger("imitrace_collector")

_VALUE_LETTERS = 200
_TRACE_LETTERS = 4000
_FIELDS = "imitrace_fields"


def event(level: int, name: str, **fields: object) -> None:
    """Log one event of the collector.

    Args:
        level: one of ``logging``'s.
        name: what happened, in words of ours only.
        fields: what it happened to; may come from a client.
    """
    LOGGER.log(level, name, extra={_FIELDS: fields})


class Seldom:
    """Log an event at most once in a while, and count how often it was left out."""

    def __init__(self, seconds: float = 10.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next: dict[str, float] = {}
        self._left_out: dict[str, int] = {}

    def event(self, level: int, name: str, **fields: object) -> None:
        """Log the event, or count it for the next time; ``name`` must be one of few."""
        now = self._clock()
        if now < self._next.get(name, now):
            self._left_out[name] = self._left_out.get(name, 0) + 1
            return
        self._next[name] = now + self._seconds
        more = self._left_out.pop(name, 0)
        event(level, name, **fields, **({"left_out": more} if more else {}))


class LineFormatter(logging.Formatter):
    """Make one line of ASCII of any record: text, or a JSON object."""

    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        fields: dict[str, object] = {key: _short(value) for key, value in getattr(record, _FIELDS, {}).items()}
        if record.exc_info:
            fields["trace"] = _cut(self.formatException(record.exc_info), _TRACE_LETTERS, last=True)
        told = _cut(record.getMessage(), _VALUE_LETTERS)
        level = record.levelname.lower()
        if self._as_json:
            return json.dumps({"time": at, "level": level, "event": told, "logger": record.name} | {"fields": fields})
        words = "".join(f" {key}={json.dumps(value)}" for key, value in fields.items())
        return f"{at} {level} {json.dumps(told)[1:-1]}{words}"


def configure(style: str) -> None:
    """Send this process's log to standard error, one line an event.

    Args:
        style: one of ``FORMATS``.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter(style == "json"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    LOGGER.setLevel(logging.INFO)
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # its warnings come as often as a stranger likes


def _short(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _cut(str(value), _VALUE_LETTERS)


def _cut(text: str, letters: int, last: bool = False) -> str:
    if len(text) <= letters:
        return text
    left_out = f"[{len(text) - letters} letters left out]"
    return left_out + text[-letters:] if last else text[:letters] + left_out
