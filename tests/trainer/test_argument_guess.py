from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from imitrace_trainer.argument_guess import guess_calls, walk
from imitrace_trainer.encoding import StateView, view_state
from imitrace_trainer.knowledge import Knowledge, learn_knowledge
from imitrace_trainer.out_of_fold import fold_of
from imitrace_trainer.reading import Reader

if TYPE_CHECKING:
    from imitrace_trainer.demonstrations import Demonstration


def read(made: "Demonstration") -> StateView:
    return view_state(made.state.messages, made.state.tools, Reader())


def test_arguments_that_the_conversation_holds_are_guessed_without_the_task(
    play_shop: "Callable[[int, int], list[Demonstration]]",
) -> None:
    calls = [made for made in play_shop(60, 1) if made.action.kind == "tool_call"]
    views = [read(made) for made in calls]
    knowledge = learn_knowledge((view, made.action, made.task) for view, made in zip(views, calls, strict=True))
    walks = [
        walk(knowledge, view, view.tools[str(made.action.name)], made.action.arguments)
        for view, made in zip(views, calls, strict=True)
    ]
    guesses = guess_calls(walks, fold_of([made.task for made in calls]))
    assert np.mean([guess.right for guess in guesses]) > 0.9
    assert all(0 <= guess.probability <= guess.weakest <= 1 for guess in guesses)
    wrong = [guess.probability for guess in guesses if not guess.right]
    assert np.mean([guess.probability for guess in guesses if guess.right]) > max(np.mean(wrong) if wrong else 0, 0.8)


def test_a_value_that_stands_nowhere_is_missing(play_shop: "Callable[[int, int], list[Demonstration]]") -> None:
    made = next(made for made in play_shop(3, 1) if made.action.name == "find_order")
    view = read(made)
    call = walk(Knowledge([]), view, view.tools["find_order"], {"order_id": "a number that nobody said"})
    guess = guess_calls([call], np.array([0]))[0]
    assert not guess.right
    assert guess.missing == ["find_order.order_id"]


def test_a_value_is_offered_anywhere_only_when_three_tasks_gave_it(
    play_shop: "Callable[[int, int], list[Demonstration]]",
) -> None:
    made = next(made for made in play_shop(30, 1) if made.action.name == "refund")
    for tasks, offered in ((2, []), (3, [made.action.arguments["reason"]])):
        known = learn_knowledge(((read(made), made.action, f"t{task}") for task in range(tasks)), repeated=3)
        assert known.vocabulary["refund.reason"] == offered
