import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from imitrace.cli import COMMANDS, LazyCommand, main
from imitrace.exceptions import ConfigError, ImitraceError

HEAVY = ("torch", "polars", "duckdb", "starlette", "pyarrow", "numpy", "uvicorn", "grpc")
LIST_LOADED = f"import sys; print(*[name for name in {HEAVY} if name in sys.modules], sep=',', file=sys.stderr)"


def command(monkeypatch: pytest.MonkeyPatch, folder: Path, source: str) -> None:
    (folder / "planted_commands.py").write_text("import click\n" + source, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delitem(sys.modules, "planted_commands", raising=False)
    monkeypatch.setitem(sys.modules, "duckdb", None)
    monkeypatch.setitem(COMMANDS, "collect", LazyCommand("planted_commands", "collect", "collector", "Receive."))


@pytest.mark.parametrize(
    "code",
    [
        "import imitrace",
        "import sys; sys.argv = ['imitrace', '--help']\nfrom imitrace.cli import main\nmain(standalone_mode=False)",
    ],
    ids=["import", "help"],
)
def test_import_and_help_load_nothing_heavy(code: str) -> None:
    run = subprocess.run([sys.executable, "-c", f"{code}\n{LIST_LOADED}"], capture_output=True, text=True, check=True)
    assert run.stderr.strip() == ""


def test_importing_imitrace_starts_no_thread() -> None:
    code = "import imitrace, threading; print(threading.active_count())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "1"


def test_help_names_every_command_with_its_line() -> None:
    output = CliRunner().invoke(main, ["--help"], terminal_width=200).output
    assert all(name in output and lazy.help in output for name, lazy in COMMANDS.items())


def test_a_missing_extra_is_one_line_and_exit_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    command(monkeypatch, tmp_path, "import duckdb\n")
    result = CliRunner().invoke(main, ["collect"])
    assert result.exit_code == 2
    assert result.output == "Error: 'imitrace collect' needs duckdb: pip install 'imitrace[collector]'\n"


def test_an_extra_missing_only_when_the_command_runs_is_told_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command(monkeypatch, tmp_path, "@click.command()\ndef collect():\n    import duckdb\n")
    result = CliRunner().invoke(main, ["collect"])
    assert (result.exit_code, "pip install 'imitrace[collector]'" in result.output) == (2, True)


def test_a_misspelt_import_of_ours_is_not_taken_for_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    command(monkeypatch, tmp_path, "import duckdbb\n")
    assert isinstance(CliRunner().invoke(main, ["collect"]).exception, ModuleNotFoundError)


def test_an_error_of_ours_is_one_line_and_exit_2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    body = "@click.command()\ndef collect():\n    raise ConfigError('x is 3, allowed: 4')\n"
    source = "from imitrace.exceptions import ConfigError\n" + body
    command(monkeypatch, tmp_path, source)
    result = CliRunner().invoke(main, ["collect"])
    assert (result.exit_code, result.output) == (2, "imitrace: x is 3, allowed: 4\n")


def test_an_unknown_command_is_refused() -> None:
    assert CliRunner().invoke(main, ["colect"]).exit_code == 2


def test_every_error_is_of_the_family() -> None:
    assert issubclass(ConfigError, ImitraceError)
    assert not issubclass(ImitraceError, click.ClickException)
