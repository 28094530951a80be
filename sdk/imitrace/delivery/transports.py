"""Say where the collector listens, and what became of one encoded request that was carried there."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Literal, NamedTuple, Protocol
from urllib.parse import urlsplit

from imitrace.exceptions import ConfigError

PROTOCOLS = ("http", "grpc")
COMPRESSIONS = ("gzip", "deflate", "none")
MAX_ANSWER = 64 * 2**10
"""Bytes of an answer that are read at most."""
_MAX_DELAY = 60.0
_MAX_REASON = 200

Signal = Literal["traces", "logs"]
Verdict = Literal["accepted", "later", "refused"]


@dataclass(frozen=True, kw_only=True)
class Connection:
    """Where a collector listens and how it wants to be spoken to; one for each signal where they differ.

    Raises:
        ConfigError: protocol, address, compression or timeout is not one of those allowed, or a file is absent.
    """

    address: str
    """Base address, ``http://`` or ``https://``; over HTTP the signal's path, such as /v1/traces, is added."""
    protocol: str = "http"
    """OTLP over ``http`` or ``grpc``."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Sent with each request: the bearer token is ``{"authorization": "Bearer ..."}``."""
    timeout: float = 10.0
    """Seconds one try may take in all."""
    compression: str = "gzip"
    """``gzip``, ``deflate`` or ``none``."""
    certificate: str | None = None
    """File of the authorities to trust; the system's when not given."""
    client_certificate: str | None = None
    """File of the certificate that proves who we are."""
    client_key: str | None = None
    """File of that certificate's key, when it is not in the same file."""

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol is {self.protocol!r}, allowed: {', '.join(PROTOCOLS)}; set it")
        if not self.address.startswith(("http://", "https://")):
            raise ConfigError(
                f"endpoint is {self.address!r}, allowed: an address that starts with http:// or https://; mend it"
            )
        if self.compression not in COMPRESSIONS:
            raise ConfigError(f"compression is {self.compression!r}, allowed: {', '.join(COMPRESSIONS)}; set it")
        if not 0 < self.timeout < float("inf"):
            raise ConfigError(f"timeout is {self.timeout!r}, allowed: seconds above 0; set it")
        for name in ("certificate", "client_certificate", "client_key"):
            file = getattr(self, name)
            if file is not None and not Path(file).is_file():
                raise ConfigError(f"{name} is {file!r}, allowed: a PEM file that exists; name it")

    @property
    def place(self) -> str:
        """Return the address as it may be logged: without a password."""
        parts = urlsplit(self.address)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


class Answer(NamedTuple):
    """What became of one try."""

    verdict: Verdict
    """Accepted, to be tried again later, or refused for good."""
    reason: str = ""
    """Why, in the collector's words."""
    rejected: int = 0
    """Records of an accepted request that were rejected."""
    delay: float | None = None
    """Seconds to wait before the next try, when the collector said."""
    mendable: bool = False
    """Whether it was refused for what other settings, here or there, would mend: a token, an address."""


class Transport(Protocol):
    """What carries requests of one signal; one thread uses it, another may close it."""

    def post(self, body: bytes, timeout: float) -> Answer:
        """Carry a request within ``timeout`` seconds in all; never raise."""

    def close(self) -> None:
        """Break off a try in progress; later ones end at once."""


def accepted(signal: Signal, body: bytes) -> Answer:
    """Return the answer that a successful response of ``signal`` means: part of the request may be rejected."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

    try:
        if signal == "logs":
            logs = ExportLogsServiceResponse.FromString(body).partial_success
            return Answer("accepted", shown(logs.error_message), logs.rejected_log_records)
        spans = ExportTraceServiceResponse.FromString(body).partial_success
        return Answer("accepted", shown(spans.error_message), spans.rejected_spans)
    except DecodeError:  # the status said yes, and that is the contract
        return Answer("accepted", "its answer can't be read")


def shown(text: str) -> str:
    """Return foreign text so short and plain that it can be logged."""
    return "".join(character if character.isprintable() else " " for character in text[:_MAX_REASON]).strip()


def bounded_delay(seconds: float) -> float:
    """Return a delay that a collector asked for, between none and a minute."""
    return 0.0 if math.isnan(seconds) else min(max(seconds, 0.0), _MAX_DELAY)


def retry_after(value: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, as seconds or as a date; None when it says nothing."""
    if value is None:
        return None
    try:
        return bounded_delay(float(value))
    except ValueError:
        pass
    try:
        return bounded_delay(parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
