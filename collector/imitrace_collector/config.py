"""Hold the collector's settings and refuse those that would expose a store."""

import hmac
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from imitrace.exceptions import ConfigError

MEBIBYTE = 1024 * 1024
STORE_FILE = "traces.duckdb"
RUNNING_FILE = "collector.json"


@dataclass(frozen=True, kw_only=True)
class CollectorConfig:
    """Say where a collector listens, where it keeps its store, and how much it takes at once."""

    home: Path = Path(".imitrace")
    """Workspace folder; the store is ``traces.duckdb`` in it."""

    host: str = "127.0.0.1"
    """Address to listen on; beyond loopback a token is required."""

    http_port: int = 4318
    """Port for OTLP/HTTP and the read API; 0 takes any free one."""

    grpc_port: int = 4317
    """Port for OTLP/gRPC; 0 takes any free one."""

    max_request_bytes: int = 16 * MEBIBYTE
    """Largest request, as it came and decompressed."""

    queue_bytes: int = 64 * MEBIBYTE
    """Decompressed bytes that may wait to be written; beyond, senders are told to come again."""

    token: str | None = None
    """Bearer token that every request must carry; None asks for none."""

    def __post_init__(self) -> None:
        """Check what can be checked before anything is opened.

        Raises:
            ConfigError: an open address without a token, a port or a size out of range.
        """
        if not self.token and not is_loopback(self.host):
            raise ConfigError(
                f"host {self.host!r} is reachable from other machines and no token is set; "
                "set IMITRACE_TOKEN or --token, or listen on 127.0.0.1"
            )
        for flag, port in (("--http-port", self.http_port), ("--grpc-port", self.grpc_port)):
            if not 0 <= port <= 65535:
                raise ConfigError(f"{flag} is {port}, allowed: 0 (any free port) to 65535")
        if not 0 < self.max_request_bytes <= self.queue_bytes:
            raise ConfigError(
                f"max_request_bytes is {self.max_request_bytes}, allowed: 1 to queue_bytes ({self.queue_bytes}), "
                "or a large request could never be taken"
            )

    @property
    def store(self) -> Path:
        """Return where the store file is."""
        return self.home / STORE_FILE

    def allows(self, authorization: str | None) -> bool:
        """Return whether an ``Authorization`` header's value opens this collector."""
        if not self.token:
            return True
        return hmac.compare_digest((authorization or "").encode(), f"Bearer {self.token}".encode())


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``; a name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
