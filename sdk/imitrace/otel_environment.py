"""Read ``OTEL_*`` variables the way OpenTelemetry's own SDK does, where ours say nothing.

Source: https://opentelemetry.io/docs/specs/otel/protocol/exporter/ and
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import unquote

from imitrace.delivery.transports import PROTOCOLS, Connection, Signal
from imitrace.exceptions import ConfigError

T = TypeVar("T", int, float)

_DEFAULT_ENDPOINTS = {"http": "http://127.0.0.1:4318", "grpc": "http://127.0.0.1:4317"}
_PREFIX = "OTEL_EXPORTER_OTLP_"


def connection(
    signal: Signal, environment: Mapping[str, str], endpoint: str | None, protocol: str | None, token: str | None
) -> Connection:
    """Return where a signal goes.

    What the environment says belongs to the environment's own collector: nothing of it is used where an endpoint was
    named to us, so that another vendor's key or certificate is never shown to it.

    Args:
        signal: ``traces`` or ``logs``.
        environment: the ``OTEL_*`` variables.
        endpoint: base address, if one was named to us.
        protocol: ``http`` or ``grpc``, if one was named to us.
        token: bearer token.

    Raises:
        ConfigError: a value is not one of those allowed.
    """

    def said(name: str) -> str | None:
        if endpoint is not None:
            return None
        return environment.get(f"{_PREFIX}{signal.upper()}_{name}") or environment.get(f"{_PREFIX}{name}")

    protocol = protocol or (said("PROTOCOL") or "http").lower().partition("/")[0]
    if protocol not in PROTOCOLS:
        raise ConfigError(f"protocol is {protocol!r}, allowed: {', '.join(PROTOCOLS)}; set it or IMITRACE_PROTOCOL")
    address = endpoint or _address(signal, environment, protocol) or _DEFAULT_ENDPOINTS[protocol]
    if not address.startswith(("http://", "https://")):
        raise ConfigError(
            f"endpoint is {address!r}, allowed: an address that starts with http:// or https://; "
            "set it or IMITRACE_ENDPOINT"
        )
    headers = _headers(said("HEADERS"))
    if token:
        headers["authorization"] = f"Bearer {token}"
    return Connection(
        address=address.rstrip("/"),
        protocol=protocol,
        headers=headers,
        timeout=number(said("TIMEOUT"), float, 10.0),
        compression=(said("COMPRESSION") or "gzip").lower(),
        certificate=said("CERTIFICATE"),
        client_certificate=said("CLIENT_CERTIFICATE"),
        client_key=said("CLIENT_KEY"),
    )


def number(text: str | None, kind: Callable[[str], T], default: T) -> T:
    """Return the number above 0 that a variable says, else the default."""
    try:
        value = kind(text or "")
    except ValueError:
        return default
    return value if 0 < value < math.inf else default


def _address(signal: Signal, environment: Mapping[str, str], protocol: str) -> str | None:
    own, path = environment.get(f"{_PREFIX}{signal.upper()}_ENDPOINT"), f"/v1/{signal}"
    address = own or environment.get(f"{_PREFIX}ENDPOINT")
    if address is None:  # what only traces were given an address for goes where the traces go
        return None if signal == "traces" else _address("traces", environment, protocol)
    if protocol == "grpc" and "://" not in address:
        plain = (environment.get(f"{_PREFIX}INSECURE") or "").lower() == "true"
        return f"{'http' if plain else 'https'}://{address}"
    if own is not None and protocol == "http":
        if not own.rstrip("/").endswith(path):
            raise ConfigError(f"{_PREFIX}{signal.upper()}_ENDPOINT is {own!r}, allowed: an address that ends in {path}")
        return own.rstrip("/").removesuffix(path)
    return address


def _headers(text: str | None) -> dict[str, Any]:
    pairs = (pair.partition("=") for pair in (text or "").split(","))
    return {name.strip().lower(): unquote(value.strip()) for name, _, value in pairs if name.strip()}
