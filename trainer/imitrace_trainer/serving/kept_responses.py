"""Keep the responses that the clone made, for callers that name one as what came before.

The model's service knows nothing of them: such a request goes on with what was said written out in it.
"""

import json
import threading
from collections import OrderedDict
from typing import Any

from imitrace_trainer.serving.asked import Json

_BEFORE = b'"previous_response_id"'


class KeptResponses:
    """The clone's responses by their ids, each with all that was said up to it; bounded in bytes."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self._held = 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, body: Json, response: Json) -> None:
        """Keep a response with the request that it answered, unless that asked for nothing to be stored."""
        if body.get("store") is False:
            return
        said = json.dumps([*_items(body.get("input")), *response["output"]]).encode()
        with self._lock:
            self._kept[response["id"]] = said
            self._held += len(said)
            while self._held > self._most:
                self._held -= len(self._kept.popitem(last=False)[1])

    def spelled_out(self, body: bytes) -> bytes:
        """Return a request's body with what came before in it, where that is a response of the clone's."""
        if not self._kept or _BEFORE not in body:
            return body
        try:
            found = json.loads(body)
            before = found.pop("previous_response_id")
            with self._lock:
                said = self._kept.get(before)
            if said is None:
                return body
            found["input"] = [*json.loads(said), *_items(found.get("input"))]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return body
        return json.dumps(found).encode()


def _items(given: Any) -> list[Any]:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    return given if isinstance(given, list) else []
