import math
import time
from email.utils import formatdate
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.delivery.transports import Connection, accepted, bounded_delay, retry_after, shown
from imitrace.exceptions import ConfigError


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"address": "127.0.0.1:4317"}, "endpoint is '127.0.0.1:4317', allowed: an address that starts with http"),
        ({"protocol": "udp"}, "protocol is 'udp', allowed: http, grpc"),
        ({"compression": "zip"}, "compression is 'zip', allowed: gzip, deflate, none"),
        ({"timeout": 0.0}, "timeout is 0.0, allowed: seconds above 0"),
        ({"timeout": math.nan}, "timeout is nan, allowed"),
        ({"certificate": "/nowhere/ca.pem"}, "certificate is '/nowhere/ca.pem', allowed: a PEM file that exists"),
        ({"client_key": "/nowhere/key.pem"}, "client_key is '/nowhere/key.pem', allowed"),
    ],
)
def test_a_connection_refuses_what_it_cannot_use(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        Connection(**{"address": "http://127.0.0.1:4318", **wrong})


def test_a_date_to_come_back_at_is_turned_into_seconds() -> None:
    assert 20 < (retry_after(formatdate(time.time() + 30, usegmt=True)) or 0) <= 30
    assert retry_after(formatdate(time.time() + 10**6, usegmt=True)) == 60
    assert retry_after(formatdate(0, usegmt=True)) == 0


@settings(max_examples=50, deadline=None)
@given(st.text() | st.floats().map(str) | st.integers().map(str))
def test_whatever_a_header_asks_for_is_at_most_a_minute(value: str) -> None:
    delay = retry_after(value)
    assert delay is None or 0 <= delay <= 60


@settings(max_examples=50, deadline=None)
@given(st.floats())
def test_whatever_a_message_asks_for_is_at_most_a_minute(seconds: float) -> None:
    assert 0 <= bounded_delay(seconds) <= 60


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(["traces", "logs"]), st.binary(max_size=200))
def test_whatever_the_body_of_a_success_is_it_stays_a_success(signal: Any, body: bytes) -> None:
    assert accepted(signal, body).verdict == "accepted"


@settings(max_examples=50, deadline=None)
@given(st.text())
def test_foreign_text_becomes_one_short_line(text: str) -> None:
    line = shown(text)
    assert len(line) <= 200
    assert line.isprintable()
