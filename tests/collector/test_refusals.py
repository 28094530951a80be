import grpc
import pytest
from google.rpc import error_details_pb2

from imitrace.exceptions import ConfigError, StoreError, WireError
from imitrace_collector.budget import QueueFullError
from imitrace_collector.compression import TooLargeError
from imitrace_collector.rates import RateLimitedError
from imitrace_collector.reads import NotFoundError
from imitrace_collector.refusals import UnsupportedError, refusal
from imitrace_collector.tokens import ForbiddenError, UnauthenticatedError

RETRYABLE_HTTP = {429, 502, 503, 504}
RETRYABLE_GRPC = {"CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"}


def retryable(code: grpc.StatusCode, has_retry_info: bool) -> bool:
    return code.name in RETRYABLE_GRPC or (code.name == "RESOURCE_EXHAUSTED" and has_retry_info)


@pytest.mark.parametrize("error", [QueueFullError("x"), StoreError("x"), RateLimitedError("x", 2.5)])
def test_what_may_succeed_later_is_told_in_retryable_codes_and_when(error: Exception) -> None:
    found = refusal(error)
    (detail,) = found.status().details
    retry = error_details_pb2.RetryInfo()
    assert detail.Unpack(retry)
    assert found.http in RETRYABLE_HTTP
    assert retryable(found.grpc, has_retry_info=True)
    assert float(found.headers()["Retry-After"]) >= retry.retry_delay.ToTimedelta().total_seconds() > 0


@pytest.mark.parametrize(
    "error",
    [
        WireError("x"),
        TooLargeError("x"),
        UnsupportedError("x"),
        UnauthenticatedError("x"),
        ForbiddenError("x"),
        NotFoundError("x"),
        ConfigError("x"),
        ValueError("x"),
        RecursionError("x"),
    ],
)
def test_what_can_never_succeed_is_told_in_no_retryable_code(error: Exception) -> None:
    found = refusal(error)
    assert found.http not in RETRYABLE_HTTP
    assert not found.status().details
    assert not retryable(found.grpc, has_retry_info=False)
    assert "Retry-After" not in found.headers()


def test_an_error_that_is_not_ours_says_nothing_of_itself() -> None:
    found = refusal(ValueError("/etc/secret"))
    assert (found.http, found.grpc.name) == (500, "INTERNAL")
    assert "secret" not in found.message
