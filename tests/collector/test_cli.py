import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer

Json = dict[str, Any]  # a JSON object


def imitrace(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def file(tmp_path: Path, line: Json) -> Path:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(line) + "\n")
    return path


@pytest.fixture(params=["alone", "beside a collector"])
def home(request: pytest.FixtureRequest, config: CollectorConfig) -> Path:
    """A workspace, with and without a running collector: commands must not differ."""
    if request.param != "alone":
        request.getfixturevalue("collector")
    return config.home


def test_import_list_and_show(home: Path, file: Path) -> None:
    assert imitrace("import", file, "--agent", "desk", "--home", home).output == (
        "1 trajectories new, 0 already stored, 2 steps, 1 scores, 0 lines not imported\n"
    )
    listed = imitrace("trajectories", "--home", home).output.splitlines()
    assert listed[1].split() == ["t1", "desk", "7", "2", "success", "complete"]
    shown = imitrace("show", "t1", "--home", home).output
    for told in (
        "score TaskCompletion: 1",
        "step 0  expert gpt",
        '-> get_order {"id":"A-1"}',
        "<- shipped",
        "It is on its",
    ):
        assert told in shown


def test_json_for_scripts(home: Path, file: Path) -> None:
    report = json.loads(imitrace("import", file, "--agent", "desk", "--home", home, "--json").output)
    assert report.pop("formats") == {str(file): "chat-jsonl"}
    foreign = {"foreign_traces": 0, "foreign_spans": 0, "exports": 0}
    assert report == {"new": 1, "stored": 0, "steps": 2, "scores": 1, "broken": [], **foreign}
    (listed,) = json.loads(imitrace("trajectories", "--home", home, "--json").output)
    detail = json.loads(imitrace("show", "t1", "--home", home, "--json").output)
    assert detail["trajectory"] == listed
    written = json.loads(imitrace("snapshot", "--home", home, "--json").output)
    assert written["manifest"]["counts"]["steps"] == 2


def test_snapshot_prints_its_folder(home: Path, file: Path) -> None:
    imitrace("import", file, "--agent", "desk", "--home", home)
    assert (Path(imitrace("snapshot", "--home", home).output.strip()) / "manifest.json").is_file()


def test_showing_what_is_not_there_says_how_to_list(home: Path, file: Path) -> None:
    imitrace("import", file, "--agent", "desk", "--home", home)
    result = imitrace("show", "t9", "--home", home)
    assert result.exit_code == 2
    assert "no trajectory 't9' in the store; list them by `imitrace trajectories`" in result.stderr


@pytest.mark.parametrize(
    ("lines", "code"), [(['{"id": "x", "messages": [{"role": "user"}]}', "{"], 0), (["{", "{"], 2)]
)
def test_broken_lines_are_told_and_fail_only_when_all_are(tmp_path: Path, lines: Sequence[str], code: int) -> None:
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    result = imitrace("import", tmp_path / "a.jsonl", "--agent", "a", "--home", tmp_path)
    assert result.exit_code == code
    assert "a.jsonl, line 2: it is not JSON" in result.stderr


def test_rebuild_refuses_while_a_collector_runs(collector: CollectorServer, config: CollectorConfig) -> None:
    result = imitrace("rebuild", "--home", config.home)
    assert result.exit_code == 2
    assert f"a collector runs on {config.home} at {collector.http}; stop it, then rebuild" in result.stderr


def test_rebuild_counts_what_it_derived(tmp_path: Path, file: Path) -> None:
    imitrace("import", file, "--agent", "desk", "--home", tmp_path)
    assert imitrace("rebuild", "--home", tmp_path).output == "1 trajectories derived anew\n"


@pytest.mark.parametrize("arguments", [["rebuild"], ["snapshot"], ["trajectories"], ["show", "t1"]])
def test_without_a_store_a_command_says_how_to_fill_one(tmp_path: Path, arguments: Sequence[str]) -> None:
    result = imitrace(*arguments, "--home", tmp_path)
    assert result.exit_code == 2
    assert "fill one by `imitrace collect` or `imitrace import`" in result.stderr


def test_an_endpoint_may_be_named(collector: CollectorServer, tmp_path: Path, file: Path) -> None:
    result = imitrace("import", file, "--agent", "desk", "--endpoint", collector.http, "--home", tmp_path / "other")
    assert result.output.startswith("1 trajectories new")
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [("http://127.0.0.1:1", "no collector answers at http://127.0.0.1:1"), ("nowhere", "expected http://")],
)
def test_an_endpoint_that_does_not_answer_is_named(tmp_path: Path, file: Path, endpoint: str, told: str) -> None:
    result = imitrace("import", file, "--agent", "desk", "--endpoint", endpoint, "--home", tmp_path)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--host", "10.0.0.1"], "set IMITRACE_TOKEN or --token, or listen on 127.0.0.1, or say --insecure"),
        (["--tls-cert", "cert.pem"], "TLS needs both --tls-cert and --tls-key"),
        (["--tls-cert", "cert.pem", "--tls-key", "key.pem"], "TLS file cert.pem can't be read: No such file"),
        (["--http-port", "70000"], "--http-port is 70000"),
    ],
)
def test_collect_refuses_what_could_not_work(tmp_path: Path, arguments: Sequence[str], told: str) -> None:
    result = imitrace("collect", "--home", tmp_path, *arguments)
    assert result.exit_code == 2
    assert told in result.stderr


def test_the_collectors_table_of_the_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "imitrace.toml").write_text("[collector]\nquue_bytes = 1\n")
    result = imitrace("collect", "--home", tmp_path, "--config", tmp_path / "imitrace.toml")
    assert "[collector] has the key 'quue_bytes', allowed: host, http_port" in result.stderr


def test_listening_for_anyone_without_a_token_is_warned_of_and_logged(tmp_path: Path) -> None:
    program = [sys.executable, "-m", "imitrace", "collect", "--home", str(tmp_path), "--log-format", "json"]
    arguments = ["--host", "0.0.0.0", "--insecure", "--http-port", "0", "--grpc-port", "0"]  # noqa: S104 - warned of
    with subprocess.Popen([*program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("collector ready")
        process.terminate()
        _, told = process.communicate(timeout=20)
    warned, ready, stops = told.splitlines()
    assert warned == "imitrace: warning: 0.0.0.0 takes requests from other machines without any token"
    assert [json.loads(line)["event"] for line in (ready, stops)] == ["collector ready", "collector stops"]


@pytest.mark.parametrize("command", ["collect", "import", "snapshot", "rebuild", "trajectories", "show"])
def test_every_command_has_help_with_examples(command: str) -> None:
    result = imitrace(command, "--help")
    assert result.exit_code == 0
    assert f"Examples:\n    imitrace {command}" in result.output


def test_several_files_of_several_formats_are_imported_at_once(home: Path, file: Path, tmp_path: Path) -> None:
    turns = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]
    (tmp_path / "share.jsonl").write_text(json.dumps({"conversations": turns}) + "\n[]\n")
    result = imitrace("import", file, tmp_path / "share.jsonl", "--agent", "desk", "--home", home, "--json")
    report = json.loads(result.stdout)
    assert report["formats"] == {str(file): "chat-jsonl", str(tmp_path / "share.jsonl"): "sharegpt"}
    assert (report["new"], report["broken"]) == (2, [f"{tmp_path / 'share.jsonl'}, line 2: it is not a JSON object"])
    assert f"imitrace: {tmp_path / 'share.jsonl'}, line 2: it is not a JSON object" in result.stderr


def test_a_format_can_be_named(home: Path, file: Path) -> None:
    result = imitrace("import", file, "--agent", "desk", "--format", "openai-fine-tune", "--home", home, "--json")
    assert json.loads(result.stdout)["formats"] == {str(file): "openai-fine-tune"}
    refused = imitrace("import", file, "--format", "xml", "--home", home)
    assert (refused.exit_code, "format is 'xml'" in refused.stderr) == (2, True)
