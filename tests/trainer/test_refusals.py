import pytest

from imitrace.messages import Action
from imitrace_trainer.refusals import Refusals


def call(name: str, **arguments: object) -> Action:
    return Action("tool_call", name, dict(arguments))


def reply(text: str) -> Action:
    return Action("message", message=text)


@pytest.mark.parametrize(
    "action",
    [
        call("close_ticket", resolution="refused_policy"),
        call("escalate_to_human", reason="threat"),
        call("transfer_to_human_agents", summary="He wants another's data."),
        call("set_status", status="DENIED"),
        reply("I'm sorry, I can't help with that."),
        reply("I am not able to share another customer's address."),
    ],
)
def test_telling_names_and_replies_are_refusals(action: Action) -> None:
    assert Refusals().holds(action)


@pytest.mark.parametrize(
    "action",
    [
        call("close_ticket", resolution="refunded"),
        call("search", query="why was my refund refused last week"),
        call("order_garden_chair", colour="denim"),
        reply("I can't find an order with this number, could you check it?"),
        reply("Done, the money is on its way."),
    ],
)
def test_other_actions_are_none(action: Action) -> None:
    assert not Refusals().holds(action)


def test_what_the_user_says_is_a_refusal_is_one_and_nothing_else() -> None:
    known = Refusals(("close kind=no level=2", "/out of scope/"))
    assert known.any([call("find"), call("close", kind="no", level=2, note="x")])
    assert known.holds(reply("That is Out of Scope for me."))
    assert not known.any([call("close", kind="no"), call("escalate_to_human"), reply("I can't help with that.")])
