import json
import multiprocessing
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imitrace.exceptions import ConfigError, DatasetError
from imitrace.messages import Action
from imitrace_trainer.queue_items import Item
from imitrace_trainer.queue_verdicts import (
    VERDICTS,
    Judgement,
    check_judgement,
    label,
    parse_correction,
    path_of,
    read_reviews,
    record_judgement,
)

LOOK, REFUND = Action("tool_call", "look", {"order": "A1"}), Action("tool_call", "refund", {"order": "A1"})
SCHEMA = {"type": "object", "required": ["order"], "properties": {"order": {"type": "string"}}}
ITEM = Item(
    id="0123456789abcdef",
    agent="desk",
    kind="disagreement",
    state=({"role": "user", "parts": [{"type": "text", "content": "Where is A1? \ud800"}]},),
    tools=tuple({"name": name, "parameters": SCHEMA} for name in ("look", "refund")),
    tags={"cohort": "common"},
    expert=LOOK,
    expert_name="gpt",
    clone=REFUND,
    clone_name="desk v3",
    places=(("t1", 0),),
    tasks=("task 1",),
)


def said(verdict: str, reviewer: str = "ann", **more: Any) -> Judgement:
    return Judgement(item=ITEM.id, verdict=verdict, reviewer=reviewer, **more)


def test_a_verdict_and_its_item_are_read_back_as_they_were_said(tmp_path: Path) -> None:
    made = said("both_wrong", correction=Action("message", message="Which?"), note="unclear", seconds=12.5)
    kept = record_judgement(tmp_path, ITEM, made)
    assert kept.at.startswith("20")
    record_judgement(tmp_path, ITEM, said("unsafe", "ben"))
    reviews = read_reviews(tmp_path, "desk")
    assert reviews.items == {ITEM.id: ITEM}
    assert reviews.judgements[0] == kept
    assert [one.reviewer for one in reviews.judgements] == ["ann", "ben"]
    assert reviews.broken == 0
    assert path_of(tmp_path, "desk").read_bytes().count(b'"kind":"item"') == 1


def test_of_each_reviewer_the_newest_word_counts(tmp_path: Path) -> None:
    for verdict in ("unsafe", "clone_right"):
        record_judgement(tmp_path, ITEM, said(verdict))
    record_judgement(tmp_path, ITEM, said("both_fine", "ben"))
    standing = read_reviews(tmp_path, "desk").standing[ITEM.id]
    assert {who: made.verdict for who, made in standing.items()} == {"ann": "clone_right", "ben": "both_fine"}


def test_nothing_was_said_where_there_is_no_file(tmp_path: Path) -> None:
    assert read_reviews(tmp_path, "desk").items == {}


@pytest.mark.parametrize("agent", ["a b", "../x", "ä", ".", "", "a/b", "x" * 300])
def test_whatever_an_agent_is_called_it_has_a_file_of_its_own_in_the_folder(tmp_path: Path, agent: str) -> None:
    path = path_of(tmp_path, agent)
    assert path.parent == tmp_path / "queue"
    assert path != path_of(tmp_path, agent + "!")
    record_judgement(tmp_path, replace(ITEM, agent=agent), said("unsafe"))
    assert len(read_reviews(tmp_path, agent).judgements) == 1


@pytest.mark.parametrize("kept", [1, 10, 60])
def test_half_a_line_of_a_killed_writer_costs_only_itself(tmp_path: Path, kept: int) -> None:
    record_judgement(tmp_path, ITEM, said("unsafe"))
    path = path_of(tmp_path, "desk")
    whole = path.read_bytes()
    path.write_bytes(whole + whole.splitlines()[-1][:kept])
    assert read_reviews(tmp_path, "desk").broken == 1
    record_judgement(tmp_path, ITEM, said("both_fine", "ben"))
    reviews = read_reviews(tmp_path, "desk")
    assert (reviews.broken, [one.reviewer for one in reviews.judgements]) == (1, ["ann", "ben"])


@given(st.binary(max_size=80))
def test_no_bytes_in_the_file_make_the_verdicts_unreadable(
    tmp_path_factory: pytest.TempPathFactory, junk: bytes
) -> None:
    home = tmp_path_factory.mktemp("home")
    record_judgement(home, ITEM, said("unsafe"))
    with path_of(home, "desk").open("ab") as file:
        file.write(junk + b"\n")
    record_judgement(home, ITEM, said("unsafe", "ben"))
    assert {"ann", "ben"} <= {one.reviewer for one in read_reviews(home, "desk").judgements}


def _judge(home: Path, reviewer: str, count: int) -> None:
    for number in range(count):
        record_judgement(
            home, replace(ITEM, id=f"{number:016x}"), replace(said("unsafe", reviewer), item=f"{number:016x}")
        )


def test_two_reviewers_at_once_lose_nothing(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_judge, args=(tmp_path, who, 20)) for who in ("ann", "ben")]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    reviews = read_reviews(tmp_path, "desk")
    assert (len(reviews.judgements), len(reviews.items), reviews.broken) == (40, 20, 0)


KILLED = """
import sys
from pathlib import Path
from imitrace_trainer.queue_items import Item
from imitrace_trainer.queue_verdicts import Judgement, record_judgement
import json
item = Item.from_json(json.loads(sys.stdin.readline()))
number = 0
while True:
    record_judgement(Path(sys.argv[1]), item, Judgement(item=item.id, verdict="unsafe", reviewer=f"r{number}"))
    print(number, flush=True)
    number += 1
"""


def test_what_was_acknowledged_before_a_kill_is_there_after_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    plain = replace(ITEM, state=({"role": "user", "parts": [{"type": "text", "content": "Hi"}]},))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(plain.to_json()) + "\n")
        process.stdin.flush()
        acknowledged = [int(process.stdout.readline()) for _ in range(25)]
        os.kill(process.pid, signal.SIGKILL)
    reviews = read_reviews(tmp_path, "desk")
    assert {f"r{number}" for number in acknowledged} <= {one.reviewer for one in reviews.judgements}
    assert reviews.broken <= 1
    record_judgement(tmp_path, plain, said("both_fine", "after"))
    assert read_reviews(tmp_path, "desk").judgements[-1].reviewer == "after"


def test_a_folder_that_takes_nothing_is_said(tmp_path: Path) -> None:
    (tmp_path / "queue").write_text("no folder")
    with pytest.raises(DatasetError, match="can't be"):
        record_judgement(tmp_path, ITEM, said("unsafe"))


@pytest.mark.parametrize(
    ("item", "made", "message"),
    [
        (
            replace(ITEM, clone=None),
            said("clone_right"),
            "nobody did or would have done, allowed: expert_right, both_wrong",
        ),
        (replace(ITEM, expert=None), said("both_fine"), "allowed: clone_right, both_wrong, unsafe"),
        (
            ITEM,
            said("expert_right", correction=LOOK),
            "a correction comes with both_wrong or unsafe, not with expert_right",
        ),
        (
            ITEM,
            said("unsafe", correction=Action("tool_call", "sing")),
            "correction calls 'sing', offered: look, refund",
        ),
        (ITEM, said("unsafe", correction=Action("tool_call", "look")), "correction does not fit look: .*order"),
        (
            ITEM,
            said("unsafe", correction=Action("tool_call", "look", {"order": "1", "x": 1})),
            "argument 'x' is unknown",
        ),
        (ITEM, said("unsafe", correction=Action("message", message=" ")), "correction is an empty message"),
    ],
)
def test_a_verdict_that_makes_no_sense_is_refused(tmp_path: Path, item: Item, made: Judgement, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        record_judgement(tmp_path, item, made)
    assert not path_of(tmp_path, "desk").exists()


@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_verdict_can_be_said_of_two_actions(verdict: str) -> None:
    check_judgement(ITEM, said(verdict))


def test_a_correction_is_a_call_or_a_message() -> None:
    assert parse_correction('{"name": "look", "arguments": {"order": "A1"}}') == LOOK
    assert parse_correction('{"name": "look"}') == Action("tool_call", "look")
    assert parse_correction('{"message": "Hi"}') == Action("message", message="Hi")


@pytest.mark.parametrize(
    "text", ["", "look", "[]", "{}", '{"name": 1}', '{"name": "x", "arguments": []}', '{"message": "a", "name": "b"}']
)
def test_anything_else_is_no_correction(text: str) -> None:
    with pytest.raises(ConfigError, match=r"correction is .*, write "):
        parse_correction(text)


FIX = Action("message", message="Which?")


@pytest.mark.parametrize(
    ("verdicts", "action", "verdict"),
    [
        ({"a": "expert_right"}, LOOK, "expert_right"),
        ({"a": "clone_right"}, REFUND, "clone_right"),
        ({"a": "both_fine"}, LOOK, "both_fine"),
        ({"a": "both_wrong"}, None, "both_wrong"),
        ({"a": "unsafe"}, None, "unsafe"),
        ({"a": "expert_right", "b": "clone_right"}, None, "disputed"),
        ({"a": "expert_right", "b": "both_fine"}, LOOK, "expert_right"),
        ({"a": "clone_right", "b": "clone_right", "c": "expert_right"}, REFUND, "clone_right"),
        ({"a": "clone_right", "b": "clone_right", "c": "unsafe"}, None, "disputed"),
        ({"a": "expert_right", "b": "expert_right", "c": "unsafe"}, LOOK, "expert_right"),
    ],
)
def test_most_reviewers_decide_and_what_one_calls_unsafe_is_never_right(
    verdicts: dict[str, str], action: Action | None, verdict: str
) -> None:
    found = label({who: said(word, who) for who, word in verdicts.items()}, ITEM)
    assert (found.action, found.verdict) == (action, verdict)


def test_corrections_are_compared_by_what_they_say() -> None:
    made = {who: said("both_wrong", who, correction=FIX) for who in ("a", "b")}
    assert label(made, ITEM).action == FIX
    made["b"] = said("both_wrong", "b", correction=LOOK)
    assert label(made, ITEM).verdict == "disputed"
