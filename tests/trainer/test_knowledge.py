"""What is learned before any weight is fitted."""

from typing import Any

from imitrace.messages import Action, Message
from imitrace_trainer.encoding import MESSAGE, StateView, view_state
from imitrace_trainer.knowledge import learn_knowledge
from imitrace_trainer.reading import Reader, Scalar

PAY: dict[str, Any] = {
    "name": "pay",
    "description": "Pay.",
    "parameters": {"properties": {"how": {"type": "string"}, "n": {"type": "integer"}}, "required": ["how"]},
}
Decision = tuple[StateView, Action, str]


def pay(task: int, said: str, *tools: dict[str, Any], **arguments: Scalar) -> Decision:
    message: Message = {"role": "user", "parts": [{"type": "text", "content": said}]}
    view = view_state([message], tools or [PAY], Reader())
    return view, Action("tool_call", "pay", arguments), str(task)


def test_a_message_is_always_among_the_actions() -> None:
    assert learn_knowledge([pay(1, "hi")]).actions == [MESSAGE, "pay"]


def test_a_tool_that_was_offered_and_never_called_is_no_new_one() -> None:
    unused = {"name": "wipe", "description": "", "parameters": {}}
    assert learn_knowledge([pay(1, "hi", PAY, unused)]).actions == [MESSAGE, "pay", "wipe"]


def test_values_repeated_over_tasks_are_remembered_and_identifiers_are_not() -> None:
    shown = [pay(task, "hi", how="cash" if task % 2 else "card", n=task) for task in range(6)]
    assert learn_knowledge(shown).vocabulary == {"pay.how": ["card", "cash"], "pay.n": []}
    assert learn_knowledge(shown, repeated=4).vocabulary == {"pay.how": [], "pay.n": []}


def test_a_value_repeated_within_one_task_is_no_habit() -> None:
    assert learn_knowledge([pay(1, "hi", how="W1"), pay(1, "hi", how="W1")]).vocabulary == {"pay.how": []}


def test_where_the_experts_values_were_seen_is_remembered() -> None:
    shown = [pay(1, "by cash", how="cash"), pay(2, "never", how="card")]
    assert learn_knowledge(shown).sources == {"pay.how": ["user"]}


def test_the_newest_definition_of_a_tool_is_kept() -> None:
    newer = pay(2, "hi", {**PAY, "description": "Pay now."})
    assert learn_knowledge([pay(1, "hi"), newer]).tools["pay"]["description"] == "Pay now."
