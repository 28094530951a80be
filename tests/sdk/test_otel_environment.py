import pytest

from imitrace.delivery.transports import Connection, Signal
from imitrace.exceptions import ConfigError
from imitrace.otel_environment import connection, number

THEIRS = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "https://vendor.example:4318/",
    "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%20ecret, x=1,,",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "3",
    "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
}


def read(environment: dict[str, str], signal: Signal = "traces", endpoint: str | None = None) -> Connection:
    return connection(signal, environment, endpoint, None, None)


def test_the_default_is_a_collector_beside_the_agent() -> None:
    assert read({}) == Connection(address="http://127.0.0.1:4318")
    assert connection("traces", {}, None, "grpc", None).address == "http://127.0.0.1:4317"


def test_opentelemetrys_variables_fill_what_is_not_said() -> None:
    assert read(THEIRS) == Connection(
        address="https://vendor.example:4318", headers={"api-key": "s ecret", "x": "1"}, timeout=3.0, compression="none"
    )


def test_another_vendors_key_is_never_sent_to_the_endpoint_named_to_us() -> None:
    environment = {**THEIRS, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    found = connection("traces", environment, "http://127.0.0.1:4318", None, "ours")
    assert (found.headers, found.protocol) == ({"authorization": "Bearer ours"}, "http")


def test_a_signals_own_variables_come_first() -> None:
    environment = {
        **THEIRS,
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://traces:1/otel/v1/traces",
        "OTEL_EXPORTER_OTLP_LOGS_HEADERS": "only=logs",
    }
    assert read(environment).address == "http://traces:1/otel"
    assert read(environment, "logs").address == "https://vendor.example:4318"
    assert read(environment, "logs").headers == {"only": "logs"}


@pytest.mark.parametrize(("protocol", "expected"), [("http/protobuf", "http"), ("http/json", "http"), ("grpc", "grpc")])
def test_opentelemetrys_protocols_are_understood(protocol: str, expected: str) -> None:
    assert read({"OTEL_EXPORTER_OTLP_PROTOCOL": protocol}).protocol == expected


@pytest.mark.parametrize(("insecure", "expected"), [("true", "http://host:4317"), ("", "https://host:4317")])
def test_a_grpc_address_without_scheme_is_read_as_the_specification_says(insecure: str, expected: str) -> None:
    environment = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "host:4317",
        "OTEL_EXPORTER_OTLP_INSECURE": insecure,
    }
    assert read(environment).address == expected


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "udp"}, "protocol is 'udp', allowed: http, grpc"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "host:1"}, "endpoint is 'host:1', allowed: an address that starts with"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://host/in"}, "allowed: an address that ends in /v1/traces"),
        ({"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere.pem"}, "certificate is '/nowhere.pem', allowed: a PEM file"),
    ],
)
def test_a_wrong_value_is_refused(environment: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read(environment)


@pytest.mark.parametrize(("text", "expected"), [("7", 7), ("0", 5), ("-1", 5), ("many", 5), ("", 5), (None, 5)])
def test_a_number_that_is_none_is_the_default(text: str | None, expected: int) -> None:
    assert number(text, int, 5) == expected
