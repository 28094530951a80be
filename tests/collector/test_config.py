from pathlib import Path
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace_collector.config import CollectorConfig, config_from, is_loopback


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
    with pytest.raises(ConfigError, match="max_request_bytes is 10, allowed: 1 to half of queue_bytes"):
        CollectorConfig(max_request_bytes=10, queue_bytes=19)


def test_any_token_allows_another_host_and_insecure_does_without() -> None:
    assert CollectorConfig(host="0.0.0.0", read_token="r").guarded  # noqa: S104
    assert CollectorConfig(host="0.0.0.0", insecure=True).exposed  # noqa: S104
    assert not CollectorConfig(insecure=True).exposed


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"tls_cert": Path("c")}, "both --tls-cert and --tls-key"),
        ({"tls_client_ca": Path("c")}, "both --tls-cert and --tls-key"),
        ({"rate_bytes": -1.0}, "rate_bytes is -1.0, allowed: 0 or more"),
        ({"connections": 0}, "connections is 0, allowed: more than 0"),
        ({"token": "\u00fc"}, "token has a letter that no header can carry"),
    ],
)
def test_a_setting_that_could_not_work_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        CollectorConfig(**settings)


def test_what_is_given_beats_the_file_and_the_file_the_default() -> None:
    table = {"http_port": 1, "grpc_port": 2, "tls_cert": "cert.pem", "tls_key": "key.pem", "body_seconds": 5}
    config = config_from(Path("home"), {"http_port": 9, "token": None}, table)
    assert (config.http_port, config.grpc_port, config.tls_cert) == (9, 2, Path("cert.pem"))
    assert (config.token, config.body_seconds, config.home) == (None, 5, Path("home"))


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"portt": 1}, "the key 'portt', allowed: host, http_port"),
        ({"http_port": "1"}, "http_port is '1', expected a whole number"),
        ({"http_port": True}, "http_port is True, expected a whole number"),
        ({"insecure": 1}, "insecure is 1, expected true or false"),
        ({"tls_key": 3}, "tls_key is 3, expected a path"),
        ({"rate_bytes": "fast"}, "expected a number"),
    ],
)
def test_a_wrong_key_or_value_of_the_file_is_refused(table: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        config_from(Path("home"), {}, table)
