import json
import logging
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace_collector.logs import LOGGER, LineFormatter, Seldom, configure, event

NASTY = "\x1b[31mred\nfake line\r\0\u2028\ud800" + "x" * 1_000_000


def line(as_json: bool, **fields: object) -> str:
    record = logging.LogRecord("imitrace_collector", logging.WARNING, __file__, 1, "request refused", None, None)
    record.imitrace_fields = fields
    return LineFormatter(as_json).format(record)


@pytest.mark.parametrize("as_json", [True, False])
@given(value=st.text() | st.just(NASTY))
def test_whatever_a_client_says_stays_in_one_short_line_of_ascii(as_json: bool, value: str) -> None:
    told = line(as_json, path=value)
    assert told.isascii()
    assert told.isprintable()
    assert len(told) < 3000


def test_json_lines_give_the_fields_back() -> None:
    told = json.loads(line(True, path="/\n", size=5, ok=None))
    assert (told["level"], told["event"]) == ("warning", "request refused")
    assert told["fields"] == {"path": "/\n", "size": 5, "ok": None}
    assert json.loads(line(True, path=NASTY))["fields"]["path"].endswith("letters left out]")


def test_text_lines_say_when_what_and_to_what() -> None:
    told = line(False, path='/a "b"', size=5)
    assert told.endswith(' warning request refused path="/a \\"b\\"" size=5')
    assert told[:2] == "20"


def test_a_traceback_is_one_line_too() -> None:
    try:
        raise ValueError("no\nway")
    except ValueError:
        record = logging.LogRecord("uvicorn.error", logging.ERROR, __file__, 1, "failed\n", None, sys.exc_info())
    told = LineFormatter(False).format(record)
    assert "\n" not in told
    assert "ValueError: no" in told


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Put the process's logging back afterwards."""
    root = logging.getLogger()
    handlers, level, own = root.handlers[:], root.level, LOGGER.level
    root.handlers[:] = []
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    LOGGER.setLevel(own)


@pytest.mark.usefixtures("own_logging")
def test_a_configured_process_logs_one_line_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json")
    event(logging.INFO, "collector ready", http="http://127.0.0.1:1")
    logging.getLogger("uvicorn.error").info("not worth a line")
    logging.getLogger("asyncio").error("broken %s", "pipe\n")
    first, second = (json.loads(text) for text in capsys.readouterr().err.splitlines())
    assert first["fields"] == {"http": "http://127.0.0.1:1"}
    assert second["event"] == "broken pipe\n"


def test_what_happens_often_is_logged_seldom_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    seldom = Seldom(10, lambda: now[0])
    for _ in range(5):
        seldom.event(logging.WARNING, "refused")
    seldom.event(logging.WARNING, "other")
    now[0] = 11
    seldom.event(logging.WARNING, "refused")
    assert [record.getMessage() for record in caplog.records] == ["refused", "other", "refused"]
    assert getattr(caplog.records[-1], "imitrace_fields") == {"left_out": 4}  # noqa: B009 - not in the stubs
