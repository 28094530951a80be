"""What is exported and imported again is the same: so many trajectories and steps, the same actions and states."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from imitrace.messages import to_openai
from imitrace_collector.importer import StoreSink, import_file, import_files, read_tools
from imitrace_collector.imports.conversations import Given
from imitrace_collector.store import Store
from imitrace_trainer.episodes import Episode, of_source
from imitrace_trainer.exports import FORMATS, export
from imitrace_trainer.sources import StoreSource

Json = dict[str, Any]  # a JSON object

READ_AS = {
    "openai": "openai-fine-tune",
    "trl": "openai-fine-tune",
    "trl-prompt-completion": "trl-prompt-completion",
    "sharegpt": "sharegpt",
    "minari": "minari",
}
LAST_RESULTS = {"openai", "trl-prompt-completion"}  # these forms end with the last answer, not with what it brought


def episodes(store: Path) -> list[Episode]:
    return list(of_source(StoreSource(store), "TaskCompletion").episodes())


def told(episode: Episode, form: str) -> Json:
    """Return all that an episode says, in words that each format has."""
    ids = form != "sharegpt"
    last = len(episode.decisions) - 1
    return {
        "decisions": [
            {
                "state": [plain(to_openai(message), ids) for message in decided.state],
                "tools": list(decided.tools),
                "actions": [
                    (taken.action.kind, taken.action.name, taken.action.arguments, taken.action.message)
                    for taken in decided.taken
                ],
                "results": None
                if form in LAST_RESULTS and place == last
                else [taken.observation for taken in decided.taken],
            }
            for place, decided in enumerate(episode.decisions)
        ]
    }


def plain(message: Json, ids: bool) -> Json:
    if not ids:
        message = {key: value for key, value in message.items() if key not in ("tool_call_id", "name")}
        for call in message.get("tool_calls", ()):
            call.pop("id")
        message["content"] = None if message.get("tool_calls") else message["content"]
    elif message["role"] == "tool":
        message.pop("name", None)
    return message


def counted(found: list[Episode], form: str) -> Counter[str]:
    return Counter(json.dumps(told(episode, form), sort_keys=True) for episode in found)


@pytest.fixture
def airline(tmp_path: Path, recorded: Path) -> Path:
    """A store with 20 recorded trajectories."""
    folder = tmp_path / "airline"
    folder.mkdir()
    with gzip.open(recorded / "tau_airline_gpt4o.jsonl.gz", "rt", encoding="utf-8") as lines:
        (folder / "a.jsonl").write_text("".join(line for _, line in zip(range(20), lines, strict=False)))
    path = folder / "traces.duckdb"
    with Store.open(path) as store:
        tools = read_tools(recorded / "tau_airline_tools.json")
        assert import_file(folder / "a.jsonl", StoreSink(store), None, tools).new == 20
        store.checkpoint()
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_recorded_trajectories_come_back_the_same(airline: Path, tmp_path: Path, form: str) -> None:
    before = episodes(airline)
    target = tmp_path / "out.jsonl.gz"
    written = export(before, form, target)
    assert (written.trajectories, written.steps) == (20, sum(episode.steps for episode in before))
    with Store.open(tmp_path / "again.duckdb") as store:
        report = import_files([target], StoreSink(store), Given(agent="airline"))
        store.checkpoint()
    assert (report.new, report.steps, report.broken) == (20, written.steps, [])
    assert report.formats == {str(target): READ_AS[form]}
    assert counted(episodes(tmp_path / "again.duckdb"), form) == counted(before, form)


def test_what_minari_keeps_beside_the_steps_comes_back_too(airline: Path, tmp_path: Path) -> None:
    before = episodes(airline)
    export(before, "minari", tmp_path / "out.parquet")
    with Store.open(tmp_path / "again.duckdb") as store:
        import_files([tmp_path / "out.parquet"], StoreSink(store), Given())
        store.checkpoint()
    again = {episode.trajectory_id: episode for episode in episodes(tmp_path / "again.duckdb")}
    for episode in before:
        same = again[episode.trajectory_id]
        assert (same.agent, same.task, same.reward, same.outcome) == (
            episode.agent,
            episode.task,
            episode.reward,
            episode.outcome,
        )
