"""The refresh story, small: the shop it is told of, and the whole of it with real processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from imitrace.messages import Action
from refresh_story.shop import COHORTS, NEW_INTENT, RETIRED, SUCCESSOR, After, Before, ShopExpert
from support_desk.episode import play

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("desk", [Before(), After()])
def test_the_expert_solves_every_ticket_before_and_after_the_change(desk: Before) -> None:
    expert, offered = ShopExpert(desk), {tool["function"]["name"] for tool in desk.tools}
    for ticket in desk.tasks(60, 3):
        episode = play(desk, expert.act, desk.reset(ticket.id))
        assert episode.info["success"], ticket
        assert {decision.action.name for decision in episode.decisions} <= {None, *offered}


def test_after_the_change_the_retired_tool_does_nothing_and_its_successor_does_the_same() -> None:
    names = {tool["function"]["name"] for tool in After().tools}
    assert (RETIRED in names, SUCCESSOR in names) == (False, True)
    desk = After()
    ticket = next(one for one in desk.tasks(20, 3, "accounts") if one.intent == "address_change")
    desk.reset(ticket.id)
    (message, *_), _, _ = desk.step(Action("tool_call", RETIRED, {"order_id": "A-1"}))
    assert "unknown tool" in message["content"]


def test_tickets_are_of_all_intents_alike_and_of_a_seed_the_same() -> None:
    drawn = After().tasks(60, 3)
    assert {ticket.intent for ticket in drawn if ticket.cohort == "accounts"} == {*COHORTS["accounts"], NEW_INTENT}
    assert drawn == After().tasks(60, 3)
    assert not {ticket.id for ticket in drawn} & {ticket.id for ticket in After().tasks(60, 4)}


def test_told_small_the_clone_serves_the_shop_changes_the_expert_takes_what_changed_and_a_new_clone_takes_over(
    tmp_path: Path,
) -> None:
    home = tmp_path / "story"
    sizes = {"home": home, "first": 240, "tickets": 80, "gate": 60, "margin": 0.2, "days": 5, "error": 0.05}
    words = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "refresh_story", *words]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=ROOT / "examples", check=False)
    assert ran.returncode == 0, ran.stderr
    days = json.loads((home / "story.json").read_text(encoding="utf-8"))
    first, before, changed, *later = days
    assert first["refresh"]["outcome"] == "promoted"
    assert before["day"]["by_clone"]["accounts"] > 0
    assert changed["day"]["by_clone"]["accounts"] == 0
    assert changed["day"]["by_clone"]["orders"] > 0
    assert "accounts" in changed["stepped_back"]
    assert changed["refresh"]["outcome"] == "undecided"
    assert sum(day["day"]["dead"] for day in days) == 0
    assert before["refresh"]["drift"]["verdict"] == "none"
    assert changed["refresh"]["drift"]["verdict"] == "drift"
    outcomes = [day["refresh"]["outcome"] for day in later]
    learnt = outcomes.index("promoted")  # a clone of so few tickets may be worse by chance: then the next is tried
    assert set(outcomes[:learnt]) <= {"held"}
    assert [day["day"]["by_clone"]["accounts"] for day in later[: learnt + 1]] == [0] * (learnt + 1)
    assert all(day["day"]["by_clone"]["accounts"] > 0 for day in later[learnt + 1 :])
    served = [day["day"] for day in days[1:]]
    solved, alone = (sum(sum(day[name].values()) for day in served) for name in ("solved", "by_expert"))
    assert solved >= 0.95 * alone
    assert "<svg" in (home / "story.html").read_text(encoding="utf-8")
