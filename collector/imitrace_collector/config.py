"""Hold the collector's settings and refuse those that would expose a store or could never work."""

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from imitrace.exceptions import ConfigError

MEBIBYTE = 1024 * 1024
STORE_FILE = "traces.duckdb"
RUNNING_FILE = "collector.json"
PENDING_HEADER = "imitrace-pending-chunks"
"""Says of an answer that so many chunks were stored, and what follows from them is not in it."""
AS_OF_HEADER = "imitrace-as-of"
"""Says up to which chunk a read had to wait; with it as ``as_of`` in the query, the next one waits for no more."""
FRESH_SECONDS = 120
"""How long a read that must be fresh waits where nobody says."""
SNAPSHOT_SECONDS = 900
"""How long a snapshot does."""
TOKENS = ("token", "ingest_token", "read_token", "admin_token")


@dataclass(frozen=True, kw_only=True)
class CollectorConfig:
    """Say where a collector listens, where it keeps its store, whom it lets in, and how much it takes at once."""

    home: Path = Path(".imitrace")
    """Workspace folder; the store is ``traces.duckdb`` in it."""

    host: str = "127.0.0.1"
    """Address to listen on; beyond loopback a token is required."""

    http_port: int = 4318
    """Port for OTLP/HTTP and the read API; 0 takes any free one."""

    grpc_port: int = 4317
    """Port for OTLP/gRPC; 0 takes any free one."""

    token: str | None = None
    """Bearer token for everything."""

    ingest_token: str | None = None
    """Bearer token that may only send."""

    read_token: str | None = None
    """Bearer token that may only read."""

    admin_token: str | None = None
    """Bearer token that may do everything."""

    insecure: bool = False
    """Listen beyond loopback without any token."""

    tls_cert: Path | None = None
    """Certificate chain in PEM; with it HTTP and gRPC are served by TLS only."""

    tls_key: Path | None = None
    """The certificate's private key in PEM."""

    tls_client_ca: Path | None = None
    """Authorities in PEM, one of which must have signed every client's certificate."""

    max_request_bytes: int = 16 * MEBIBYTE
    """Largest request, as it came and decompressed."""

    queue_bytes: int = 64 * MEBIBYTE
    """Bytes of all requests in flight, as they came and decompressed; beyond, senders are told to come again."""

    rate_requests: float = 0.0
    """Requests a second for each token; 0 sets no limit."""

    rate_bytes: float = 0.0
    """Bytes a second for each token, as they came; 0 sets no limit."""

    connections: int = 512
    """Most connections at once, for HTTP and gRPC each."""

    header_bytes: int = 32 * 1024
    """Most bytes of a request's line and headers."""

    header_seconds: float = 10.0
    """Most seconds that a TLS handshake, or a request's headers, may take."""

    body_seconds: float = 60.0
    """Most seconds that a request's body may take, and an answer may wait for its reader."""

    keep_alive_seconds: float = 75.0
    """Seconds after which an idle connection is closed."""

    min_free_bytes: int = 64 * MEBIBYTE
    """Free bytes on the store's disk below which nothing more is taken."""

    def __post_init__(self) -> None:
        """Check what can be checked before anything is opened.

        Raises:
            ConfigError: an open address without a token, half a key pair, a port or a size out of range.
        """
        if not self.guarded and not self.insecure and not is_loopback(self.host):
            raise ConfigError(
                f"host {self.host!r} is reachable from other machines and no token is set; "
                "set IMITRACE_TOKEN or --token, or listen on 127.0.0.1, or say --insecure"
            )
        for name, port in (("http_port", self.http_port), ("grpc_port", self.grpc_port)):
            if not 0 <= port <= 65535:
                raise ConfigError(f"--{name.replace('_', '-')} is {port}, allowed: 0 (any free port) to 65535")
        if not 0 < 2 * self.max_request_bytes <= self.queue_bytes:
            raise ConfigError(
                f"max_request_bytes is {self.max_request_bytes}, allowed: 1 to half of queue_bytes "
                f"({self.queue_bytes}), or a large request could never be taken"
            )
        self._check_limits()
        if (self.tls_cert is None) != (self.tls_key is None) or (self.tls_client_ca and not self.tls_cert):
            raise ConfigError("TLS needs both --tls-cert and --tls-key; --tls-client-ca may be added to them")

    def _check_limits(self) -> None:
        for name in ("rate_requests", "rate_bytes", "min_free_bytes"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, allowed: 0 or more")
        for name in ("connections", "header_bytes", "header_seconds", "body_seconds", "keep_alive_seconds"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, allowed: more than 0")
        for name in TOKENS:
            if not (getattr(self, name) or "x").isascii():
                raise ConfigError(f"{name} has a letter that no header can carry, allowed: ASCII")

    @property
    def store(self) -> Path:
        """Return where the store file is."""
        return self.home / STORE_FILE

    @property
    def guarded(self) -> bool:
        """Return whether any token is set; then every request must carry one that allows it."""
        return any(getattr(self, name) for name in TOKENS)

    @property
    def exposed(self) -> bool:
        """Return whether other machines may do everything without a token."""
        return not self.guarded and not is_loopback(self.host)


def config_from(home: Path, given: Mapping[str, Any], table: Mapping[str, Any]) -> CollectorConfig:
    """Return a collector's settings: what was given, else the ``[collector]`` table, else the defaults.

    Args:
        home: the workspace folder.
        given: values of ``CollectorConfig`` by name, None where nothing was said.
        table: of ``imitrace.toml``; any values, and whatever is wrong in it is refused.

    Raises:
        ConfigError: the table has an unknown key, or a value of the wrong kind or out of range.
    """
    allowed = {field.name: field.type for field in fields(CollectorConfig) if field.name != "home"}
    for key, value in table.items():
        if key not in allowed:
            raise ConfigError(f"[collector] has the key {key!r}, allowed: {', '.join(allowed)}")
        if not _fits(value, allowed[key]):
            raise ConfigError(f"[collector] {key} is {value!r}, expected {_EXPECTED[allowed[key]]}")
    paths = {key: Path(value) for key, value in table.items() if allowed[key] == Path | None}
    said = {key: value for key, value in given.items() if value is not None}
    return CollectorConfig(home=home, **{**table, **paths, **said})


_EXPECTED: Mapping[object, str] = {
    str: "a text",
    str | None: "a text",
    Path | None: "a path",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
}


def _fits(value: object, kind: object) -> bool:
    if kind is bool or isinstance(value, bool):
        return kind is bool and isinstance(value, bool)
    return isinstance(value, int) if kind is int else isinstance(value, (int, float) if kind is float else str)


def quiet_grpc() -> None:
    """Keep gRPC's own library from writing to standard error what clients sent; call it before gRPC is imported."""
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``; a name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
