"""Hold the proxy's settings, and refuse those that would expose a key or could never work."""

import ipaddress
import os
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from imitrace.exceptions import ConfigError

MEBIBYTE = 1024 * 1024
UPSTREAM_VARIABLE = "OPENAI_BASE_URL"
"""Where OpenAI's own clients look for the address; the proxy does where nothing else names one."""


@dataclass(frozen=True, kw_only=True)
class ServeConfig:
    """Say what is served, before which model, to whom, and how long anybody waits."""

    upstream: str
    """Base address of the model's API, for instance ``https://api.openai.com/v1``."""

    clone: str | None = None
    """Reference of the clone, ``NAME`` or ``NAME@champion``; none: only record what the model does."""

    home: Path = Path(".imitrace")
    """Workspace folder, where the clone is registered."""

    shadow: bool = False
    """The model answers always, and what the clone would have done is recorded beside it."""

    host: str = "127.0.0.1"
    """Address to listen on; beyond loopback a token is required."""

    port: int = 8019
    """Port to listen on; 0 takes any free one."""

    token: str | None = field(default=None, repr=False)
    """What callers must show, in ``X-Imitrace-Token`` or as the bearer token."""

    upstream_key: str | None = field(default=None, repr=False)
    """Bearer token for the model's API; none: each caller's own is handed on."""

    insecure: bool = False
    """Listen beyond loopback without a token."""

    agent: str | None = None
    """Name of the agent in traces; none: the clone's agent."""

    tags: Mapping[str, str] = field(default_factory=dict)
    """Of every trajectory, unless a request says otherwise; ``cohort`` names the slice that the gate judges."""

    ask_seconds: float = 0.25
    """Most seconds that a request waits for the clone before it goes to the model."""

    processes: int = 1
    """How many processes hold the clone; each decides about a hundred times a second, on a core of its own."""

    pending: int = 16
    """Most questions that wait for each of them at once; further requests go to the model."""

    ask_bytes: int = MEBIBYTE
    """Largest request that the clone is asked about."""

    read_bytes: int = 4 * MEBIBYTE
    """Largest body, of a request or of an answer, that is read; a larger one passes through, unasked and unrecorded."""

    unrecorded_bytes: int = 64 * MEBIBYTE
    """Most bytes that wait to be recorded; beyond, steps are dropped, and counted."""

    kept_bytes: int = 64 * MEBIBYTE
    """Most bytes of the clone's own responses that are kept, for requests that name one as what came before."""

    connect_seconds: float = 10.0
    """Most seconds that connecting to the model's API may take."""

    silence_seconds: float = 600.0
    """Most seconds that the model's API may say nothing."""

    connections: int = 1000
    """Most requests at once; more are answered with 503."""

    keep_alive_seconds: float = 75.0
    """Seconds after which an idle connection of a caller is closed."""

    idle_seconds: float = 1800.0
    """Seconds without a request after which a conversation's trajectory ends."""

    conversations: int = 2_000
    """Most conversations that are known at once; beyond, the one that was idle longest ends."""

    def __post_init__(self) -> None:
        """Check what can be checked before anything is opened.

        Raises:
            ConfigError: an address that is none, an open one without a token, or a number out of range.
        """
        address = _split(self.upstream)
        if address is None or address.scheme not in ("http", "https") or not address.hostname:
            raise ConfigError(
                f"upstream is {self.upstream!r}, allowed: the address of an OpenAI-compatible API, such as "
                f"https://api.openai.com/v1; give --upstream, or set {UPSTREAM_VARIABLE}"
            )
        if address.username or address.password or address.query or address.fragment:
            raise ConfigError("upstream must be an address alone, without user, password, query or fragment")
        if not (self.token or self.insecure or is_loopback(self.host)):
            raise ConfigError(
                f"host {self.host!r} is reachable from other machines and no token is set; "
                "set IMITRACE_SERVE_TOKEN or --token-file, or listen on 127.0.0.1, or say --insecure"
            )
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port is {self.port}, allowed: 0 (any free port) to 65535")
        if self.port and (address.hostname, address.port) == (self.host, self.port):
            raise ConfigError(f"upstream is {self.upstream!r}, which is this proxy itself; name the model's address")
        self._check_numbers()

    def _check_numbers(self) -> None:
        for name, kind in _numbers().items():
            if name != "port" and not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, allowed: {_WORDS[kind]} over 0")
        for name in ("token", "upstream_key"):
            if not (getattr(self, name) or "x").isascii():
                raise ConfigError(f"{name} has a letter that no header can carry, allowed: ASCII")


_WORDS: Mapping[object, str] = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "a table of texts",
}
_KINDS: Mapping[object, Any] = {str | None: str, Mapping[str, str]: dict}


def _numbers() -> dict[str, object]:
    return {each.name: each.type for each in fields(ServeConfig) if each.type in (int, float)}


def serve_config(given: Mapping[str, Any], table: Mapping[str, Any]) -> ServeConfig:
    """Return the proxy's settings: what was given, else the ``[serve]`` table, else the defaults.

    Args:
        given: values of ``ServeConfig`` by name, None where nothing was said.
        table: of ``imitrace.toml``; any values, and whatever is wrong in it is refused.

    Raises:
        ConfigError: the table has an unknown key, or a value is of the wrong kind or out of range.
    """
    kinds = {each.name: _KINDS.get(each.type, each.type) for each in fields(ServeConfig) if each.name != "home"}
    for key, value in table.items():
        if key not in kinds:
            raise ConfigError(f"[serve] has the key {key!r}, allowed: {', '.join(kinds)}")
        kind = (int, float) if kinds[key] is float else kinds[key]
        fits = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
        if not fits or (kind is dict and not all(isinstance(text, str) for text in value.values())):
            raise ConfigError(f"[serve] {key} is {value!r}, expected {_WORDS[kinds[key]]}")
    said = {key: value for key, value in given.items() if value is not None}
    return ServeConfig(**{"upstream": os.environ.get(UPSTREAM_VARIABLE, ""), **table, **said})


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach ``host``; a name other than localhost counts as reachable."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def forward_proxy(upstream: str) -> str | None:
    """Return the HTTP proxy that the environment names for an address (``HTTPS_PROXY``, ``NO_PROXY``), if any."""
    address = urlsplit(upstream)
    if urllib.request.proxy_bypass_environment(address.hostname or ""):  # type: ignore[attr-defined]  # not in stubs
        return None
    return urllib.request.getproxies_environment().get(address.scheme)


def _split(address: str) -> Any:
    try:
        split = urlsplit(address)
        return split if split.port != 0 else None
    except ValueError:
        return None
