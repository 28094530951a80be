"""Say what a bearer token opens: sending, reading, or everything."""

import enum
import hmac

from imitrace.exceptions import ImitraceError
from imitrace_collector.config import CollectorConfig


class UnauthenticatedError(ImitraceError):
    """Report a request whose token is missing or unknown."""


class ForbiddenError(ImitraceError):
    """Report a request whose token opens something else."""


class Role(enum.Enum):
    """What a route asks for."""

    OPEN = "open"
    INGEST = "ingest"
    READ = "read"
    ADMIN = "admin"


ANYONE = "anyone"
"""The caller where no token is set."""

_OPENS = {
    "token": frozenset(Role),
    "ingest_token": frozenset({Role.OPEN, Role.INGEST}),
    "read_token": frozenset({Role.OPEN, Role.READ}),
    "admin_token": frozenset(Role),
}


class Tokens:
    """Know a collector's tokens."""

    def __init__(self, config: CollectorConfig) -> None:
        found = {name: getattr(config, name) for name in _OPENS}
        self._known = {name: f"Bearer {token}".encode() for name, token in found.items() if token}

    def caller(self, authorization: str | None, role: Role) -> str:
        """Return the name of the token that an ``Authorization`` header's value carries.

        Every known token is compared in full, so the time taken says nothing of how much of one was right.

        Raises:
            UnauthenticatedError: it is none of the collector's.
            ForbiddenError: it doesn't open ``role``.
        """
        if role is Role.OPEN or not self._known:
            return ANYONE
        given = (authorization or "").encode(errors="replace")
        names = [name for name, known in self._known.items() if hmac.compare_digest(given, known)]
        if not names:
            raise UnauthenticatedError("the bearer token is missing or wrong")
        found = next((name for name in names if role in _OPENS[name]), None)
        if found is None:
            raise ForbiddenError(f"the bearer token may not do this, the {role.value} token may")
        return found
