from pathlib import Path
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.serving.config import forward_proxy, serve_config

UPSTREAM = "https://api.openai.com/v1"


def test_an_argument_beats_the_file_and_the_file_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://elsewhere/v1")
    table = {"upstream": UPSTREAM, "port": 1, "tags": {"cohort": "common"}, "ask_seconds": 1}
    config = serve_config({"port": 2, "clone": None, "home": Path("w")}, table)
    assert (config.upstream, config.port, config.tags, config.ask_seconds, config.clone) == (
        UPSTREAM,
        2,
        {"cohort": "common"},
        1,
        None,
    )
    assert serve_config({}, {}).upstream == "http://elsewhere/v1"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"upstream": ""}, "upstream is ''"),
        ({"upstream": "api.openai.com/v1"}, "allowed: the address of an OpenAI-compatible API"),
        ({"upstream": "https://user:sk@host/v1"}, "without user, password"),
        ({"host": "0.0.0.0"}, "is reachable from other machines"),  # noqa: S104 - what is refused
        ({"port": 70000}, "allowed: 0"),
        ({"pending": 0}, "pending is 0, allowed: a whole number over 0"),
        ({"ask_seconds": 0.0}, "ask_seconds is 0.0, allowed: a number over 0"),
        ({"token": "é"}, "token has a letter"),
        ({"upstream": "http://127.0.0.1:8019/v1"}, "which is this proxy itself"),
    ],
)
def test_what_can_not_work_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        serve_config({"upstream": UPSTREAM, **given}, {})


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"upstreams": UPSTREAM}, r"\[serve\] has the key 'upstreams'"),
        ({"port": "1"}, "port is '1', expected a whole number"),
        ({"port": True}, "port is True, expected a whole number"),
        ({"shadow": 1}, "shadow is 1, expected true or false"),
        ({"tags": {"a": 1}}, "expected a table of texts"),
    ],
)
def test_what_the_file_says_wrong_is_refused(table: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        serve_config({"upstream": UPSTREAM}, table)


def test_a_key_is_not_shown() -> None:
    config = serve_config({"upstream": UPSTREAM, "token": "secret", "upstream_key": "sk-1"}, {})
    assert "secret" not in repr(config)
    assert "sk-1" not in repr(config)


def test_the_environments_proxy_is_used_but_for_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("no_proxy", "inside.example")
    assert forward_proxy(UPSTREAM) == "http://proxy:3128"
    assert forward_proxy("https://inside.example/v1") is None
