"""Say which headers travel on: to the model's API, and back to the caller; and whose token a request carries."""

import hmac
import re
from collections.abc import Iterable

from imitrace_trainer.serving.config import ServeConfig

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""

ACTOR, REASON, CLONE, CONFIDENCE = (
    f"x-imitrace-{name}".encode() for name in ("actor", "reason", "clone", "confidence")
)
TOKEN = b"x-imitrace-token"
_OURS = (b"x-imitrace-", b"imitrace-trajectory")
_OF_ONE_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te")
) | frozenset((b"trailer", b"transfer-encoding", b"upgrade", b"expect", b"host"))
_UNWRITABLE = re.compile(r"[^ -~]+")
_REASON_LETTERS = 200
_READABLE = (b"gzip", b"x-gzip", b"deflate", b"identity")


def travelling(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers that go further than to the next hop, in their order."""
    lowered = [(name.lower(), value) for name, value in headers]
    named = {word.strip().lower() for name, value in lowered if name == b"connection" for word in value.split(b",")} - {
        b"close",
        b"keep-alive",
    }
    return [(name, value) for name, value in lowered if name not in _OF_ONE_HOP and name not in named]


def upstream_headers(headers: Iterable[tuple[bytes, bytes]], config: ServeConfig) -> Headers:
    """Return what the model's API is sent of a caller's headers: all but those of one hop, and our own.

    Where the proxy has a key of its own, that one is sent; a token of the proxy's is never.
    """
    kept = [(name, value) for name, value in travelling(headers) if not name.startswith(_OURS)]
    if config.upstream_key is not None:
        kept = [(name, value) for name, value in kept if name not in (b"authorization", b"api-key")]
        return [*kept, (b"authorization", f"Bearer {config.upstream_key}".encode())]
    return [(name, value) for name, value in kept if name != b"authorization" or not _is_token(value, config)]


def readable(headers: Headers, size: int) -> Headers:
    """Return headers by which an answer comes in an encoding that the recorder can read.

    Args:
        headers: of the request.
        size: of its body, in bytes.
    """
    found = []
    for name, value in headers:
        if name == b"accept-encoding":
            known = b", ".join(part for part in map(bytes.strip, value.split(b",")) if part.startswith(_READABLE))
            found.append((name, known or b"identity"))
        else:
            found.append((name, str(size).encode() if name == b"content-length" else value))
    return found


def admitted(headers: Iterable[tuple[bytes, bytes]], config: ServeConfig) -> bool:
    """Tell whether a caller shows the proxy's token; where there is none, whether it is no web page in a browser.

    Any page may send requests to loopback, and a browser then says which one did.
    """
    if not config.token:
        return all(name != b"origin" for name, _ in headers)
    token = config.token.encode()
    return any(
        (name == TOKEN and hmac.compare_digest(value, token)) or (name == b"authorization" and _is_token(value, config))
        for name, value in headers
    )


def noted(actor: str, reason: str) -> Headers:
    """Return the headers that tell a caller who acted, and why."""
    return [(ACTOR, actor.encode()), (REASON, _UNWRITABLE.sub(" ", reason)[:_REASON_LETTERS].strip().encode())]


def _is_token(authorization: bytes, config: ServeConfig) -> bool:
    return bool(config.token) and hmac.compare_digest(authorization, f"Bearer {config.token}".encode())
