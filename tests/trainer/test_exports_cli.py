import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main

Json = dict[str, Any]  # a JSON object


def imitrace(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A workspace with ten trajectories of one agent and one of another, and a dataset of the first."""
    call = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    lines: list[Json] = []
    for number in range(11):
        asked = {"role": "user", "content": f"question {number}"}
        told = [
            asked,
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "x"},
        ]
        told.append({"role": "assistant", "content": "done"})
        agent = "desk" if number < 10 else "other"
        lines.append({"id": f"t{number}", "agent": agent, "task_id": str(number), "reward": 1.0, "messages": told})
    (tmp_path / "chat.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "imitrace.toml").write_text(
        '[cohort.desk]\nagent = "desk"\nsplit = { calibration = 0.2, gate = 0.2 }\n'
    )
    assert imitrace("import", tmp_path / "chat.jsonl", "--home", tmp_path / "home").exit_code == 0
    curated = imitrace("curate", "desk", "--home", tmp_path / "home", "--config", tmp_path / "imitrace.toml")
    assert curated.exit_code == 0, curated.output
    return tmp_path / "home"


def test_export_says_what_it_wrote(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    told = imitrace("export", out, "--format", "openai", "--agent", "desk", "--home", home)
    assert told.output == f"10 trajectories, 20 steps -> {out} (10 rows)\n"
    assert len(out.read_text().splitlines()) == 10


def test_export_from_a_dataset_and_from_a_split_of_it(home: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl.gz"
    whole = imitrace("export", out, "--format", "trl", "--dataset", "desk@1", "--home", home, "--json")
    assert json.loads(whole.output) == {
        "path": str(out),
        "format": "trl",
        "trajectories": 10,
        "steps": 20,
        "rows": 10,
        "left_out": {},
        "lost": {},
    }
    assert len(gzip.decompress(out.read_bytes()).splitlines()) == 10
    part = imitrace("export", out, "--format", "trl", "--dataset", "desk", "--split", "gate", "--home", home, "--json")
    assert 0 < json.loads(part.output)["trajectories"] < 10


def test_export_from_a_snapshot_as_episodes(home: Path, tmp_path: Path) -> None:
    snapshot = imitrace("snapshot", "--home", home).output.strip()
    out = tmp_path / "out.parquet"
    assert imitrace("export", out, "--format", "minari", "--source", snapshot, "--agent", "other").exit_code == 0
    import polars as pl

    table = pl.read_parquet(out)
    assert table["reward"].to_list() == [0.0, 1.0]
    assert table["terminated"].to_list() == [False, True]
    assert table["offset"].to_list() == [0, 1]
    assert json.loads(table["action"][1]) == {"kind": "message", "message": "done"}


def test_what_is_incomplete_is_left_out_and_counted(home: Path, tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "hi"}]
    (tmp_path / "more.jsonl").write_text(json.dumps({"id": "empty", "agent": "desk", "messages": messages}) + "\n")
    imitrace("import", tmp_path / "more.jsonl", "--home", home)
    told = imitrace("export", tmp_path / "out.jsonl", "--format", "openai", "--home", home, "--json")
    assert told.exit_code == 0, told.stderr
    assert json.loads(told.output)["left_out"] == {"without a step": 1}


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["--format", "xml"], "format is 'xml', expected one of openai, trl, trl-prompt-completion, sharegpt, minari"),
        (["--format", "trl", "--dataset", "desk@two"], "dataset version is 'two', expected a number, as in NAME@3"),
        (["--format", "trl", "--dataset", "desk@9"], "dataset 'desk' has no version 9"),
        (["--format", "trl", "--split", "gate"], "--split gate needs --dataset"),
        (["--format", "trl", "--dataset", "desk", "--split", "x"], "has no split 'x'"),
    ],
)
def test_a_wrong_word_is_refused_and_nothing_is_written(
    home: Path, tmp_path: Path, words: list[str], reason: str
) -> None:
    told = imitrace("export", tmp_path / "out", *words, "--home", home)
    assert told.exit_code == 2
    assert reason in told.stderr
    assert not list(tmp_path.glob("*out*"))


def test_a_file_that_cant_be_written_leaves_the_one_before(home: Path, tmp_path: Path) -> None:
    told = imitrace("export", tmp_path / "none" / "out.jsonl", "--format", "openai", "--home", home)
    assert (told.exit_code, "can't be written" in told.stderr) == (2, True)
