from pathlib import Path
from typing import Any

import pytest

from imitrace.exceptions import CloneError
from imitrace.messages import Action
from imitrace_trainer.correcting.rewinding import Rewinder
from imitrace_trainer.environment import load_object
from support_desk.desk import Desk

ORDER = Action("tool_call", "search_orders", {"email": "a@b.test"}, call_id="call_0")


@pytest.fixture
def world(counter: Path) -> Any:  # the Counter of counter_world
    return load_object("counter_world:Counter", counter)()


def test_without_snapshots_everything_is_done_again(world: Any) -> None:
    rewinder = Rewinder(world)
    rewinder.reset("common-1-1")
    find = Action("tool_call", "find_order", {"email": world.email}, call_id="call_0")
    rewinder.step(find)
    mark = rewinder.mark()
    rewinder.step(Action("tool_call", "refund_order", {"order_id": world.order}, call_id="call_1"))
    assert world.refunded
    rewinder.back(mark)
    assert not world.refunded
    assert mark.done == 1


def test_an_environments_own_snapshot_is_taken() -> None:
    desk = Desk()
    rewinder = Rewinder(desk)
    rewinder.reset(desk.tasks(1, 3)[0].id)
    before, mark = desk.state_key(), rewinder.mark()
    rewinder.step(Action("tool_call", "close_ticket", {"resolution": "cancelled"}))
    assert desk.done
    rewinder.back(mark)
    assert (desk.done, desk.state_key()) == (False, before)
    assert rewinder.state_key([]) == before


class Fickle:
    """An environment that answers otherwise each time."""

    tools = ()

    def __init__(self) -> None:
        self.resets = 0

    def tasks(self, count: int, seed: int, cohort: str | None = None) -> list[Any]:
        return []

    def reset(self, task_id: str, seed: int = 0) -> list[dict[str, Any]]:
        self.resets += 1
        return [{"role": "user", "content": "hello"}]

    def step(self, action: Action) -> tuple[list[dict[str, Any]], bool, dict[str, Any]]:
        return [{"role": "user", "content": f"visit {self.resets}"}], False, {}


def test_an_environment_that_is_not_deterministic_is_refused() -> None:
    rewinder = Rewinder(Fickle())
    rewinder.reset("t1")
    rewinder.step(ORDER)
    mark = rewinder.mark()
    with pytest.raises(CloneError, match="not deterministic: task 't1' answers otherwise after 1 equal actions"):
        rewinder.back(mark)
