import pytest

from imitrace.exceptions import ConfigError
from imitrace_collector.config import CollectorConfig, is_loopback


def test_listening_beyond_loopback_needs_a_token() -> None:
    with pytest.raises(ConfigError, match=r"'0\.0\.0\.0' is reachable .* IMITRACE_TOKEN"):
        CollectorConfig(host="0.0.0.0")  # noqa: S104 - refused
    assert CollectorConfig(host="0.0.0.0", token="secret").token == "secret"  # noqa: S104


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("localhost", True), ("::1", True), ("10.0.0.1", False), ("box", False)]
)
def test_loopback_is_what_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(("flag", "ports"), [("--http-port", {"http_port": 70000}), ("--grpc-port", {"grpc_port": -1})])
def test_a_port_out_of_range_is_named_with_its_flag(flag: str, ports: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=flag):
        CollectorConfig(http_port=ports.get("http_port", 0), grpc_port=ports.get("grpc_port", 0))


def test_a_request_that_could_never_fit_the_queue_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_request_bytes is 10"):
        CollectorConfig(max_request_bytes=10, queue_bytes=9)


def test_only_the_right_bearer_token_is_allowed() -> None:
    config = CollectorConfig(token="secret")
    assert config.allows("Bearer secret")
    assert not config.allows("Bearer other")
    assert not config.allows(None)
