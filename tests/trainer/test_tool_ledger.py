import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imitrace.canonical import content_hash
from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace_trainer.argument_maps import ArgumentMap
from imitrace_trainer.policy import Decision as Choice
from imitrace_trainer.policy import LivePolicy, State
from imitrace_trainer.tool_ledger import Ledger, ToolDecision, read_ledger, record_decision

BY: dict[str, Any] = {"at": "2026-03-01T00:00:00+00:00", "by": "ann", "why": "it moved"}
RENAME = ToolDecision(kind="rename", tool="look", to="find", arguments=ArgumentMap(rename={"order": "order_id"}), **BY)
RETIRE = ToolDecision(kind="deprecate", tool="call", **BY)
ADD_MANY = """
import sys
from pathlib import Path
from imitrace_trainer.tool_ledger import ToolDecision, record_decision
for number in range(20):
    record_decision(Path(sys.argv[1]), ToolDecision(kind="deprecate", tool=f"{sys.argv[2]}{number}"))
"""


def ledger(*decisions: ToolDecision) -> Ledger:
    made = Ledger()
    for decision in decisions:
        made = made.checked(decision)
    return made


def decided(kind: str, tool: str, **told: Any) -> ToolDecision:
    return ToolDecision(kind=kind, tool=tool, **told)


def test_a_workspace_without_decisions_has_an_empty_ledger(tmp_path: Path) -> None:
    assert read_ledger(tmp_path) == Ledger()
    assert read_ledger(tmp_path).rules("desk").retired == frozenset()


def test_a_decision_is_kept_with_who_when_and_why_and_nothing_is_taken_out(tmp_path: Path) -> None:
    made = [RENAME, RETIRE, decided("restore", "look", by="bob"), decided("risk", "refund", risk="irreversible")]
    for decision in made:
        record_decision(tmp_path / "home", decision)
    assert read_ledger(tmp_path / "home").decisions == tuple(made)
    first = json.loads((tmp_path / "home" / "tools.json").read_text(encoding="utf-8"))["decisions"][0]
    assert first == {
        "kind": "rename",
        "tool": "look",
        "at": "2026-03-01T00:00:00+00:00",
        "by": "ann",
        "why": "it moved",
        "to": "find",
        "arguments": {"rename": {"order": "order_id"}},
    }


def test_those_who_decide_at_once_lose_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ADD_MANY, str(tmp_path)]
    running = [subprocess.Popen([*command, name]) for name in ("a", "b", "c")]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert len({decision.tool for decision in read_ledger(tmp_path).decisions}) == 60


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"tools\.json can't be read .*; put an earlier copy of it back"),
        ("[]", "can't be read"),
        ('{"format": 1, "decisions": [{"kind": "burn", "tool": "x"}]}', "is no decision"),
        ('{"format": 1, "decisions": [{"kind": "rename", "tool": "x"}]}', "is no decision"),
        ('{"format": 1, "decisions": [{"kind": "risk", "tool": "x", "risk": "high"}]}', "is no decision"),
        ('{"format": 1, "decisions": [{"kind": "risk", "tool": "x", "if": 1}]}', "can't be read"),
        ('{"format": 2, "decisions": []}', "has format 2, this imitrace reads up to 1: update imitrace"),
    ],
)
def test_a_damaged_ledger_is_refused_and_not_written_over(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "tools.json").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        record_decision(tmp_path, RETIRE)
    assert (tmp_path / "tools.json").read_text(encoding="utf-8") == text


def test_a_workspace_that_can_not_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigError, match="can't be written"):
        record_decision(tmp_path / "home", RETIRE)


def test_what_counts_is_folded_from_the_history() -> None:
    rules = ledger(RENAME, RETIRE, decided("map", "find", target="h2", sources=("h1",))).rules("desk")
    assert rules.retired == {"look", "call"}
    assert rules.name_now("look") == "find"
    assert rules.superseded == {"find": {"h1"}}
    told = [rules.state(tool) for tool in ("look", "call", "find", "other")]
    assert told == ["renamed to find", "deprecated", "mapped", ""]
    back = ledger(RENAME, RETIRE, decided("restore", "look"), decided("restore", "call")).rules("desk")
    assert (back.retired, back.hash) == (frozenset(), Ledger().rules("desk").hash)


def test_a_decision_for_one_agent_is_none_for_another() -> None:
    made = ledger(decided("deprecate", "look", agent="desk"), decided("deprecate", "call"))
    assert made.rules("desk").retired == {"look", "call"}
    assert made.rules("shop").retired == {"call"}
    assert made.rules(None).retired == {"look", "call"}


def test_a_clone_of_nobody_knows_whom_obeys_everybodys_decisions_even_if_they_contradict() -> None:
    made = ledger(decided("rename", "a", to="b", agent="desk"), decided("rename", "b", to="a", agent="shop"))
    assert (made.rules(None).name_now("a"), made.rules(None).retired) == ("a", frozenset({"a", "b"}))
    assert made.rules("desk").name_now("a") == "b"


def test_a_second_map_to_one_contract_replaces_the_first_and_one_to_another_follows_it() -> None:
    first, again = (decided("map", "look", target="h2", sources=("h1",), by=by) for by in ("ann", "bob"))
    later = decided("map", "look", target="h3", sources=("h1", "h2"))
    assert ledger(first, again, later).rules("desk").maps == {"look": (again, later)}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (decided("restore", "find"), "tool 'find' has nothing to restore, decided on: look"),
        (decided("restore", "look", agent="desk"), ""),
        (decided("rename", "find", to="look"), "tool 'find' can't be renamed to 'look', which leads back to it"),
        (decided("rename", "x", to="x"), "tool 'x' can't be renamed to 'x'"),
    ],
)
def test_a_decision_that_makes_no_sense_is_refused(made: ToolDecision, message: str) -> None:
    if message:
        with pytest.raises(ConfigError, match=message):
            ledger(RENAME, made)
    else:
        assert ledger(RENAME, made).rules("desk").retired == frozenset()


def test_risk_is_inherited_by_the_new_name_unless_it_was_judged_itself() -> None:
    risky = decided("risk", "look", risk="irreversible")
    assert ledger(risky, RENAME).rules("desk").irreversible == {"look", "find"}
    assert ledger(risky, RENAME, decided("risk", "find", risk="read")).rules("desk").irreversible == {"look"}
    assert ledger(risky, decided("risk", "look", risk="reversible")).rules("desk").irreversible == frozenset()


def test_the_hash_names_what_bears_on_rows_and_nothing_else() -> None:
    empty, moved = Ledger().rules("desk").hash, ledger(RENAME).rules("desk").hash
    assert ledger(decided("risk", "look", risk="read")).rules("desk").hash == empty
    assert ledger(decided("deprecate", "x", agent="shop")).rules("desk").hash == empty
    told = decided("rename", "look", to="find", arguments=RENAME.arguments, by="bob", at="later")
    assert ledger(told).rules("desk").hash == moved != empty
    assert ledger(decided("rename", "look", to="find")).rules("desk").hash != moved


class First:
    """A policy that likes the tools in the order in which they are offered."""

    def act(self, state: State) -> Choice:
        names = [tool["name"] for tool in state.tools]
        if not names:
            return Choice(Action("message", message=""), 0.9, 0.1, {"message": 1.0})
        shares = dict(zip([*names, "message"], (0.7, 0.2, 0.1), strict=False))
        return Choice(Action("tool_call", names[0]), 0.9, 0.1, shares)


def ask(retired: set[str], *names: str, superseded: dict[str, set[str]] | None = None) -> Choice:
    return LivePolicy(First(), retired, superseded or {}).act(State([], [{"name": name} for name in names]))


def test_a_retired_tool_is_never_called_though_it_is_offered() -> None:
    choice = ask({"old"}, "old", "new")
    assert (choice.action.name, choice.tools) == ("new", {"new": 0.2, "message": 0.1})
    assert choice.confidence == pytest.approx(0.3)
    assert ask({"old"}, "old").action.kind == "message"


def test_a_choice_that_is_not_retired_stays_as_sure_as_it_was() -> None:
    assert (ask({"old"}, "new", "old").action.name, ask({"old"}, "new", "old").confidence) == ("new", 0.9)
    assert ask({"old"}, "new", "old").tools == {"new": 0.7, "message": 0.1}
    assert ask({"gone"}, "new", "other") == First().act(State([], [{"name": "new"}, {"name": "other"}]))


def test_a_superseded_contract_is_not_called_and_its_successor_is() -> None:
    old = {"new": {content_hash({"name": "new"})}}
    assert ask(set(), "new", "other", superseded=old).action.name == "other"
    assert ask(set(), "new", "other", superseded={"new": {"another"}}).action.name == "new"


def test_restricting_again_takes_the_new_rules_in_place_of_the_old() -> None:
    first, second = ledger(RETIRE).rules("desk"), ledger(RENAME).rules("desk")
    live = first.restrict(First())
    assert first.restrict(live) is live
    assert second.restrict(live).retired == {"look"}
