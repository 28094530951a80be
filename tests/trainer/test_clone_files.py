"""A clone on disk: the same decisions after reading, and one clear line for every way a file can be wrong."""

import json
import pickle  # noqa: TID251 - shows that one is refused
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from imitrace.exceptions import CloneError
from imitrace_trainer.clone_files import FORMAT, CloneCard, read_clone, write_clone
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.policy import State

CARD = CloneCard("shop", "shop", 3, "abc", "2026-03-01T00:00:00Z", "0.1.0", {"seed": 0}, {"reversible": 0.9})


@pytest.fixture
def folder(shop_clone: EmbeddedPolicy, tmp_path: Path) -> Path:
    write_clone(tmp_path, shop_clone, CARD)
    return tmp_path


def refusal(folder: Path) -> str:
    with pytest.raises(CloneError) as refused:
        read_clone(folder)
    assert "\n" not in str(refused.value)
    assert str(folder) in str(refused.value)
    return str(refused.value)


def change(folder: Path, **entries: Any) -> None:  # JSON values
    record = json.loads((folder / "clone.json").read_text())
    (folder / "clone.json").write_text(json.dumps(record | entries))


def test_a_clone_that_was_read_back_decides_exactly_as_before(
    shop_clone: EmbeddedPolicy, folder: Path, play_shop: Callable[[int, int], list[Demonstration]]
) -> None:
    again, card = read_clone(folder)
    states = [shown.state for shown in play_shop(8, 3)]
    unseen = {"name": "close", "description": "Close an order.", "parameters": {"properties": {"order_id": {}}}}
    states += [State(state.messages, [*state.tools, unseen]) for state in states[:5]]
    assert [again.act(state) for state in states] == [shop_clone.act(state) for state in states]
    assert card == CARD


def test_writing_twice_gives_the_same_bytes(folder: Path, shop_clone: EmbeddedPolicy, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    write_clone(tmp_path / "again", read_clone(folder)[0], CARD)
    for name in ("clone.json", "model.safetensors"):
        assert (tmp_path / "again" / name).read_bytes() == (folder / name).read_bytes()


def test_text_that_utf_8_cannot_hold_survives(shop_clone: EmbeddedPolicy, tmp_path: Path) -> None:
    shop_clone.knowledge.vocabulary["refund.odd"] = ["\ud800", "é"]
    try:
        write_clone(tmp_path, shop_clone, CARD)
    finally:
        del shop_clone.knowledge.vocabulary["refund.odd"]
    again, _ = read_clone(tmp_path)
    assert isinstance(again, EmbeddedPolicy)
    assert again.knowledge.vocabulary["refund.odd"] == ["\ud800", "é"]


@pytest.mark.parametrize("name", ["clone.json", "model.safetensors"])
@pytest.mark.parametrize("kept", [0, 100, -1])
def test_a_truncated_file_is_refused(folder: Path, name: str, kept: int) -> None:
    content = (folder / name).read_bytes().rstrip()
    (folder / name).write_bytes(content[:kept])
    assert "train it again" in refusal(folder)


@pytest.mark.parametrize("name", ["clone.json", "model.safetensors"])
def test_a_missing_file_is_refused(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert name in refusal(folder)


def test_a_newer_format_asks_for_an_update(folder: Path) -> None:
    change(folder, format=FORMAT + 1)
    assert refusal(folder).endswith(f"has format {FORMAT + 1}, this imitrace reads up to {FORMAT}: update imitrace")


def test_an_older_format_asks_for_another_training(folder: Path) -> None:
    change(folder, format=FORMAT - 1)
    assert refusal(folder).endswith(f"has format {FORMAT - 1}, this imitrace reads {FORMAT}: train it again")


def test_a_pickle_is_refused_unopened(folder: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[Path]]:
            return Path.touch, (folder / "opened",)

    (folder / "model.safetensors").write_bytes(pickle.dumps(Trap()))
    assert "can't be read" in refusal(folder)
    assert not (folder / "opened").exists()


@pytest.mark.parametrize("name", ["choice.bias", "ranker.out.weight", "vocabulary.slots.ids", "reference"])
def test_a_missing_tensor_is_refused(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    del tensors[name]
    save_file(tensors, folder / "model.safetensors")
    assert "train it again" in refusal(folder)


@pytest.mark.parametrize("name", ["choice.bias", "vocabulary.features.ids", "vocabulary.slots.idf", "reference"])
def test_a_tensor_of_another_shape_is_refused(folder: Path, name: str) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(tensors | {name: torch.zeros(5, 5)}, folder / "model.safetensors")
    assert "train it again" in refusal(folder)


@pytest.mark.parametrize(
    "entries",
    [
        {"format": "new"},
        {"network": {"features": 3}},
        {"network": 7},
        {"knowledge": {"actions": ["pay"], "sources": []}},
        {"knowledge": {"actions": ["pay"]}},
        {"calibration": {"slope": 1}},
        {"family": "linear"},
        {"family": "lm"},
    ],
    ids=str,
)
def test_a_damaged_record_is_refused(folder: Path, entries: dict[str, Any]) -> None:
    change(folder, **entries)
    assert "train it again" in refusal(folder)


@pytest.mark.parametrize("text", ["[]", "null", "3", '"clone"', "[" * 5_000, "\ud800"])
def test_a_record_that_is_no_object_is_refused(folder: Path, text: str) -> None:
    (folder / "clone.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert "train it again" in refusal(folder)
