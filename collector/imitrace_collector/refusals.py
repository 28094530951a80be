"""Say for each error what a sender is told: whether to come again, in HTTP's codes and in gRPC's.

A request that can never succeed must not get a code on which senders retry, and one that can must not get another.
Source: https://opentelemetry.io/docs/specs/otlp/#failures
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from imitrace.exceptions import ImitraceError, StoreError, WireError
from imitrace_collector.compression import TooLargeError
from imitrace_collector.config import AS_OF_HEADER, PENDING_HEADER
from imitrace_collector.derive import BehindError
from imitrace_collector.rates import RateLimitedError
from imitrace_collector.reads import NotFoundError
from imitrace_collector.tokens import ForbiddenError, UnauthenticatedError

RETRY_SECONDS = 1.0


class UnsupportedError(WireError):
    """Report a content type or encoding that no OTLP request has."""


class SlowSenderError(WireError):
    """Report a request that did not arrive in time."""


@dataclass(frozen=True)
class Refusal:
    """What a sender is told."""

    http: HTTPStatus
    grpc: grpc.StatusCode
    message: str
    retry_seconds: float | None
    """Seconds after which to come again; None: never."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Further HTTP headers."""

    def status(self) -> status_pb2.Status:
        """Return it as the message that both protocols carry."""
        found = status_pb2.Status(code=self.grpc.value[0], message=self.message)
        if self.retry_seconds is not None:
            delay = Duration()
            delay.FromNanoseconds(int(self.retry_seconds * 1e9))
            detail = AnyMessage()
            detail.Pack(error_details_pb2.RetryInfo(retry_delay=delay))
            found.details.append(detail)
        return found

    def headers(self) -> dict[str, str]:
        """Return the HTTP headers that belong to it."""
        if self.http == HTTPStatus.UNAUTHORIZED:
            return {"WWW-Authenticate": "Bearer"}
        if self.retry_seconds is None:
            return {}
        return {"Retry-After": str(max(1, math.ceil(self.retry_seconds))), **self.also}


_CODES: tuple[tuple[type[ImitraceError], HTTPStatus, grpc.StatusCode, float | None], ...] = (
    (UnauthenticatedError, HTTPStatus.UNAUTHORIZED, grpc.StatusCode.UNAUTHENTICATED, None),
    (ForbiddenError, HTTPStatus.FORBIDDEN, grpc.StatusCode.PERMISSION_DENIED, None),
    (RateLimitedError, HTTPStatus.TOO_MANY_REQUESTS, grpc.StatusCode.RESOURCE_EXHAUSTED, RETRY_SECONDS),
    (TooLargeError, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, grpc.StatusCode.RESOURCE_EXHAUSTED, None),
    (UnsupportedError, HTTPStatus.UNSUPPORTED_MEDIA_TYPE, grpc.StatusCode.INVALID_ARGUMENT, None),
    (SlowSenderError, HTTPStatus.REQUEST_TIMEOUT, grpc.StatusCode.DEADLINE_EXCEEDED, None),
    (NotFoundError, HTTPStatus.NOT_FOUND, grpc.StatusCode.NOT_FOUND, None),
    (StoreError, HTTPStatus.SERVICE_UNAVAILABLE, grpc.StatusCode.UNAVAILABLE, RETRY_SECONDS),
    (ImitraceError, HTTPStatus.BAD_REQUEST, grpc.StatusCode.INVALID_ARGUMENT, None),
)
"""Our errors; the first that fits."""


def refusal(error: Exception) -> Refusal:
    """Return what a sender is told of an error; of one that is not ours, no more than that there was one."""
    for kind, status, code, seconds in _CODES:
        if isinstance(error, kind):
            if isinstance(error, RateLimitedError | BehindError) and error.seconds is not None:
                seconds = error.seconds
            also = {}
            if isinstance(error, BehindError):
                also = {PENDING_HEADER: str(error.chunks), AS_OF_HEADER: str(error.up_to)}
            return Refusal(status, code, str(error), seconds, also)
    return Refusal(
        HTTPStatus.INTERNAL_SERVER_ERROR, grpc.StatusCode.INTERNAL, "the collector failed; its log says how", None
    )
