from pathlib import Path

import pytest

from imitrace.config import read_config, setting, switched_on, workspace_home
from imitrace.exceptions import ConfigError


@pytest.mark.parametrize(("said", "expected"), [("1", True), ("TRUE", True), ("0", False), ("off", False)])
def test_a_switch_is_read(monkeypatch: pytest.MonkeyPatch, said: str, expected: bool) -> None:
    monkeypatch.setenv("IMITRACE_LOSSLESS", said)
    assert switched_on("IMITRACE_LOSSLESS") is expected
    assert switched_on("IMITRACE_LOSSLESS", not expected) is not expected


def test_a_switch_that_says_neither_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMITRACE_LOSSLESS", "maybe")
    with pytest.raises(ConfigError, match="IMITRACE_LOSSLESS is 'maybe', allowed: 1 or 0"):
        switched_on("IMITRACE_LOSSLESS")


def test_argument_beats_environment_beats_default(monkeypatch: pytest.MonkeyPatch) -> None:
    assert setting("IMITRACE_AGENT", default="default") == "default"
    monkeypatch.setenv("IMITRACE_AGENT", "environment")
    assert setting("IMITRACE_AGENT", default="default") == "environment"
    assert setting("IMITRACE_AGENT", "argument", "default") == "argument"


def test_an_empty_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMITRACE_AGENT", "")
    assert setting("IMITRACE_AGENT", default="default") == "default"


def test_an_unknown_setting_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"setting 'IMITRACE_AGNET' is unknown, allowed: .*IMITRACE_AGENT"):
        setting("IMITRACE_AGNET")


def test_the_workspace_follows_argument_environment_default(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert workspace_home() == Path(".imitrace")
    monkeypatch.setenv("IMITRACE_HOME", "elsewhere")
    assert workspace_home() == Path("elsewhere")
    assert workspace_home(tmp_path) == tmp_path


def test_the_default_file_may_be_absent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert read_config() == {}


def test_the_file_in_the_folder_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    Path("imitrace.toml").write_text('[agent.support]\nmodel = "big"\n', encoding="utf-8")
    assert read_config() == {"agent": {"support": {"model": "big"}}}


def test_a_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        read_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("content", [b"agent = ", b"\xff"])
def test_a_file_that_is_not_toml_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"bad\.toml is not TOML"):
        read_config(tmp_path / "bad.toml")
