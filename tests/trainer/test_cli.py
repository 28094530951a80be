import gzip
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import COMMANDS, main
from imitrace_trainer.environment import load_object

Fork = Callable[[Path], Path]
Snapshot = Callable[..., Path]

OURS = [name for name, lazy in COMMANDS.items() if lazy.module == "imitrace_trainer.cli"]
PRINT_HELP = f"""
import json, sys
from click.testing import CliRunner
from imitrace.cli import main
helps = {{name: CliRunner().invoke(main, [name, "--help"]).output for name in {OURS}}}
heavy = [name for name in ("torch", "polars", "duckdb", "numpy", "pyarrow", "safetensors") if name in sys.modules]
print(json.dumps([helps, heavy]))
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def read(result: Result) -> Any:  # the JSON that a command printed
    assert (result.exit_code, result.stderr) == (0, "")
    return json.loads(result.stdout)


def error(result: Result) -> str:
    """Return the one line of an error that exits with 2."""
    assert (result.exit_code, result.stdout) == (2, "")
    (line,) = result.stderr.splitlines()
    return line


def variant(counter: Path, name: str, changed: Mapping[str, str]) -> Path:
    """Write the counter's configuration with some texts changed, beside the original."""
    text = (counter / "imitrace.toml").read_text(encoding="utf-8")
    for before, after in changed.items():
        assert before in text
        text = text.replace(before, after)
    (counter / f"{name}.toml").write_text(text, encoding="utf-8")
    return counter / f"{name}.toml"


@pytest.fixture(scope="module")
def helps() -> tuple[dict[str, str], list[str]]:
    """Return every command's help, and the heavy modules that writing it loaded."""
    ran = subprocess.run([sys.executable, "-c", PRINT_HELP], capture_output=True, text=True, check=True)
    texts, heavy = json.loads(ran.stdout)
    return texts, heavy


@pytest.mark.parametrize("name", OURS)
def test_help_says_what_a_command_does_and_shows_an_example(helps: tuple[dict[str, str], list[str]], name: str) -> None:
    text = helps[0][name]
    assert text.startswith(f"Usage: main {name} ")
    assert f"    imitrace {name}" in text.split("Examples:\n")[1]


def test_help_loads_no_heavy_module(helps: tuple[dict[str, str], list[str]]) -> None:
    assert helps[1] == []


def test_the_commands_go_from_traces_to_a_champion(counter: Path, tmp_path: Path) -> None:
    home, config = ("--home", tmp_path), ("--config", counter / "imitrace.toml")
    curated = read(run("curate", "counter", "--source", counter / "snapshot", *home, *config, "--json"))
    assert (curated["created"], curated["splits"]["train"]["tasks"]) == (True, 32)
    trained = read(run("train", "counter", "--device", "cpu", *home, *config, "--json"))
    assert (trained["version"], trained["evaluation"]["tasks"]) == (1, 16)
    judged = read(run("gate", "counter", *home, *config, "--json"))
    assert (judged["verdict"], [cohort["n"] for cohort in judged["cohorts"]]) == ("pass", [24, 24])
    assert Path(judged["page"]).is_file()
    promoted = run("promote", "counter", *home)
    assert (promoted.exit_code, promoted.stdout) == (0, "counter v1 is champion; it may act in: common, safety\n")
    (row,) = read(run("clones", *home, "--json"))
    assert (row["gate"], sorted(row["aliases"]), row["cohorts"]) == (
        "pass",
        ["candidate", "champion"],
        ["common", "safety"],
    )


def test_the_texts_tell_the_same_as_the_json(promoted_home: Path, counter: Path) -> None:
    home = ("--home", promoted_home)
    assert "counter v1  train 32 tasks 75 steps, calibration 16 tasks" in run("datasets", *home).stdout
    listed = run("clones", *home).stdout
    assert listed.startswith("counter v1 (candidate, champion)  gate pass  acts in common, safety until 20")
    assert "held-out tasks        16" in run("evaluate", "counter@champion", *home).stdout
    assert read(run("evaluate", "counter", *home, "--json"))["tasks"] == 16
    assert [dataset["name"] for dataset in read(run("datasets", *home, "--json"))] == ["counter"]


def test_curating_and_training_tell_what_they_made(counter: Path, tmp_path: Path) -> None:
    home, config = ("--home", tmp_path), ("--config", counter / "imitrace.toml")
    curated = run("curate", "counter", "--source", counter / "snapshot", *home, *config).stdout
    assert "rejected: none" in curated
    trained = run("train", "counter", *home, *config).stdout
    assert trained.startswith("counter v1 from 110 decisions and ")
    assert f"{tmp_path / 'clones' / 'counter' / 'v1'}" in trained


def test_an_empty_workspace_says_what_to_run(tmp_path: Path) -> None:
    assert run("datasets", "--home", tmp_path).stdout == "no dataset yet: run 'imitrace curate'\n"
    assert run("clones", "--home", tmp_path).stdout == "no clone yet: run 'imitrace train'\n"
    assert read(run("clones", "--home", tmp_path, "--json")) == []


@pytest.mark.parametrize(
    ("changed", "code", "verdict"),
    [
        ({}, 0, "pass"),
        ({"counter_world:Counter": "counter_world:Reversed"}, 1, "fail"),
        ({"tasks = 24": "tasks = 3"}, 3, "inconclusive"),
    ],
)
def test_the_gate_exits_with_its_verdict(
    counter: Path, trained_home: Path, fork: Fork, changed: dict[str, str], code: int, verdict: str
) -> None:
    config = variant(counter, f"gate-{code}", changed)
    result = run("gate", "counter", "--home", fork(trained_home), "--config", config)
    assert (result.exit_code, result.stderr) == (code, "")
    assert result.stdout.startswith(f"gate of counter v1: {verdict}\nmethod rollout")
    assert result.stdout.endswith("/gates/v1.html\n")


def test_the_gate_takes_the_candidate_and_a_named_version(
    counter: Path, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home, config = fork(promoted_home), variant(counter, "few", {"tasks = 24": "tasks = 2", "epochs = 4": "epochs = 1"})
    given = ("--home", home, "--config", config)
    assert run("train", "counter", *given).exit_code == 0
    judged = [run("gate", name, *given).stdout.split(":")[0] for name in ("counter", "counter@champion", "counter:1")]
    assert judged == ["gate of counter v2", "gate of counter v1", "gate of counter v1"]


def test_refresh_promotes_once_and_then_has_nothing_to_do(counter: Path, tmp_path: Path) -> None:
    given = ("--source", counter / "snapshot", "--home", tmp_path, "--config", counter / "imitrace.toml")
    first, again = run("refresh", "counter", *given), run("refresh", "counter", *given)
    assert (first.exit_code, first.stdout.splitlines()[-1]) == (0, "v1 acts in common, safety")
    assert (again.exit_code, again.stdout.splitlines()) == (
        0,
        [
            "dataset counter v1 (unchanged)",
            "the champion was trained on this dataset: nothing new to learn",
        ],
    )


def test_refresh_exits_as_the_gate_does_when_it_promotes_nothing(
    counter: Path, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    config = variant(counter, "strict", {"error = 0.1\n": "error = 0.001\n"})
    result = run("refresh", "counter", "--source", more_tickets, "--home", fork(promoted_home), "--config", config)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (3, "no cohort passed its gate: the champion stays")


def test_rollback_puts_the_previous_champion_back(
    counter: Path, promoted_home: Path, fork: Fork, more_tickets: Path
) -> None:
    home = fork(promoted_home)
    given = ("--source", more_tickets, "--home", home, "--config", counter / "imitrace.toml")
    assert run("refresh", "counter", *given).stdout.endswith("v2 acts in common, safety\n")
    result = run("rollback", "counter", "--home", home)
    assert (result.exit_code, result.stdout) == (0, "counter v1 is champion again, v2 is previous\n")


def test_predict_writes_a_line_for_each_decision_and_names_broken_lines(
    counter: Path, trained_home: Path, tmp_path: Path
) -> None:
    chat = load_object("counter_world:solve", counter)("common-5-1")
    source, out = tmp_path / "held_out.jsonl.gz", tmp_path / "actions.jsonl"
    source.write_bytes(gzip.compress(f"{json.dumps({'id': 'a', 'messages': chat})}\n{{\n".encode()))
    result = run("predict", "counter", source, "--out", out, "--home", trained_home)
    made = sum(message["role"] == "assistant" for message in chat)
    assert result.exit_code == 0
    first, about, *figures = result.stdout.splitlines()
    assert first == f"counter v1: {made} decisions of 1 trajectories -> {out}; 1 broken lines left out"
    assert (about, figures[1]) == ("all:", f"  exact agreement     1.000 [0.000, 1.000] of {made}")
    assert (
        result.stderr == f"{source}: line 2: no JSON: Expecting property name enclosed in double quotes at column 2\n"
    )
    assert [json.loads(line)["step"] for line in out.read_text(encoding="utf-8").splitlines()] == [*range(made)]


def test_predict_gives_its_summary_as_json(counter: Path, trained_home: Path, tmp_path: Path) -> None:
    solve = load_object("counter_world:solve", counter)
    lines = [{"id": str(number), "reward": 1.0, "messages": solve(f"common-5-{number}")} for number in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    out = tmp_path / "out.jsonl"
    result = run("predict", "counter", tmp_path / "a.jsonl", "--out", out, "--home", trained_home, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, told["clone"], told["trajectories"], told["broken"]) == (0, "counter", 3, [])
    assert told["decisions"] == len(out.read_text(encoding="utf-8").splitlines())
    assert told["agreement"]["successes"] == told["agreement"]["all"]


def test_predict_exits_2_when_no_line_can_be_read(trained_home: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.jsonl").write_text("{\n[\n", encoding="utf-8")
    result = run("predict", "counter", tmp_path / "broken.jsonl", "--out", tmp_path / "out", "--home", trained_home)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 3)
    assert "has no decision that can be read: name chat JSONL" in result.stderr


def test_home_and_configuration_may_come_from_the_environment(
    counter: Path, promoted_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMITRACE_HOME", str(promoted_home))
    monkeypatch.setenv("IMITRACE_CONFIG", str(counter / "imitrace.toml"))
    assert run("clones").stdout.startswith("counter v1 ")
    assert "(unchanged)" in run("refresh", "counter", "--source", counter / "snapshot").stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["curate", "nope"], "cohort 'nope' is not in imitrace.toml, it has: counter; add a table [cohort.nope]"),
        (["train", "nope"], "clone 'nope' is not in imitrace.toml, it has: counter; add a table [clone.nope]"),
        (["train", "counter", "--device", "tpu"], "device 'tpu' is unknown, allowed: auto, cpu, cuda"),
        (["gate", "nope"], "clone 'nope' is not in imitrace.toml, it has: counter; add a table [clone.nope]"),
        (["gate", "counter:7"], "clone reference 'counter:7' names no version, there is: @candidate (v1), :v1"),
        (["curate", "counter", "--source", "nowhere"], "source 'nowhere' does not exist, expected a snapshot folder, "),
    ],
)
def test_a_users_error_is_one_line_with_the_thing_and_the_mend(
    counter: Path, trained_home: Path, arguments: list[str], message: str
) -> None:
    line = error(run(*arguments, "--home", trained_home, "--config", counter / "imitrace.toml"))
    assert line.startswith("imitrace: ") and message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "nope"], "clone 'nope' does not exist, there is: counter; run 'imitrace train'"),
        (
            ["evaluate", "counter@best"],
            "clone reference 'counter@best' names no version, there is: @candidate (v1), :v1",
        ),
        (["promote", "counter"], "counter v1 has no gate record; run 'imitrace gate counter:1'"),
        (["promote", "counter", "--version", "0"], "clone reference 'counter:0' names no version, there is: "),
        (["promote", "nope"], "clone 'nope' does not exist, there is: counter; run 'imitrace train'"),
        (
            ["rollback", "counter"],
            "clone reference 'counter@previous' names no version, there is: @candidate (v1), :v1",
        ),
        (
            ["predict", "counter", "nowhere.jsonl", "--out", "x"],
            "file nowhere.jsonl can't be read: No such file or directory; name ",
        ),
        (["predict", "../counter", "a.jsonl", "--out", "x"], "clone name is '../counter', allowed: letters, digits"),
    ],
)
def test_a_users_error_about_clones_is_one_line(
    trained_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert error(run(*arguments, "--home", trained_home)).startswith(f"imitrace: {message}")
    assert list(tmp_path.iterdir()) == []


def test_training_without_a_dataset_says_what_to_run(counter: Path, tmp_path: Path) -> None:
    line = error(run("train", "counter", "--home", tmp_path, "--config", counter / "imitrace.toml"))
    assert line == (
        "imitrace: dataset 'counter' does not exist, there are: none; make it with 'imitrace curate counter'"
    )


def test_an_empty_cohort_says_which_rule_rejected_it_and_what_to_loosen(counter: Path, tmp_path: Path) -> None:
    config = variant(counter, "empty", {'agent = "counter"\n': 'agent = "counter"\nwhere = ["TaskCompletion > 1"]\n'})
    given = ("--source", counter / "snapshot", "--home", tmp_path, "--config", config)
    assert error(run("curate", "counter", *given)) == (
        "imitrace: cohort 'counter': none of 64 trajectories is kept, rejected by rule: scores 64; "
        "loosen [cohort.counter], or record more"
    )
    assert not (tmp_path / "datasets").exists()


def test_a_cohort_of_an_agent_that_was_never_seen_names_those_that_were(counter: Path, tmp_path: Path) -> None:
    config = variant(counter, "stranger", {'agent = "counter"': 'agent = "desk"'})
    given = ("--source", counter / "snapshot", "--home", tmp_path, "--config", config)
    assert error(run("curate", "counter", *given)) == (
        "imitrace: cohort 'counter': no trajectory of agent 'desk', the source holds: counter 64; "
        "set cohort.counter.agent to one of these, or name another --source"
    )


def test_a_cohort_with_one_kind_of_action_says_that_two_are_needed(make_snapshot: Snapshot, tmp_path: Path) -> None:
    config = tmp_path / "imitrace.toml"
    config.write_text('[cohort.desk]\nagent = "desk"\n[clone.desk]\n', encoding="utf-8")
    source = make_snapshot(*({"id": f"t{number}", "task": f"t{number}"} for number in range(10)))
    given = ("--home", tmp_path / "home", "--config", config)
    assert run("curate", "desk", "--source", source, *given).exit_code == 0
    assert error(run("train", "desk", *given)) == (
        "imitrace: all 12 decisions are 'lookup': a clone needs two kinds of action; widen the cohort"
    )
    assert run("clones", "--home", tmp_path / "home").stdout == "no clone yet: run 'imitrace train'\n"


def test_the_module_is_the_command_and_its_errors_are_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "imitrace", "rollback", "nope", "--home", str(tmp_path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == "imitrace: clone 'nope' does not exist, there is: none; run 'imitrace train'\n"
