"""What the ranker is told of a slot's options."""

from imitrace.messages import Message
from imitrace_trainer.arguments import OMIT, STOP, Filling, Slot
from imitrace_trainer.columns import mix, text_id
from imitrace_trainer.encoding import StateView, view_state
from imitrace_trainer.options import Habits, Options, Trail, gather
from imitrace_trainer.ranking import OptionRows, Ranking
from imitrace_trainer.reading import Reader

TEXT, INTEGER = {"type": "string"}, {"type": "integer"}


def look(response: object, said: str = "") -> StateView:
    user: Message = {"role": "user", "parts": [{"type": "text", "content": said}]}
    call = {"type": "tool_call", "id": "1", "name": "look", "arguments": {}}
    answer = {"type": "tool_call_response", "id": "1", "response": response}
    messages = [user, {"role": "assistant", "parts": [call]}, {"role": "tool", "parts": [answer]}]
    return view_state(messages, [], Reader())


def told(view: StateView, slot: Slot, trail: Trail | None = None) -> tuple[Options, OptionRows]:
    filling, steps = Filling(), trail or Trail()
    options = gather(view.table, slot, Habits(), filling, steps)
    return options, Ranking(view).features(slot, options, filling, steps).distinct()


def told_of(view: StateView, slot: Slot, value: object, trail: Trail | None = None) -> set[int]:
    options, rows = told(view, slot, trail)
    return set(rows.ids[rows.owners == options.find(value, view.table)].tolist())


def feature(name: str, *codes: int, slot: str = "") -> int:
    joined = mix(text_id(name), text_id(slot)) if slot else text_id(name)
    for code in codes:
        joined = mix(joined, code)
    return joined >> 33


def test_features_stand_in_the_order_of_the_options_and_some_can_be_kept() -> None:
    _, rows = told(look({"id": "A", "other": "B"}, "A or C"), Slot("send.id", TEXT, (OMIT,)))
    assert (rows.owners[1:] >= rows.owners[:-1]).all()
    kept = rows.only([2, 0])
    assert kept.ids[kept.owners == 0].tolist() == rows.ids[rows.owners == 2].tolist()
    assert kept.ids[kept.owners == 1].tolist() == rows.ids[rows.owners == 0].tolist()


def test_the_ranker_is_told_that_a_value_stands_in_the_record_chosen_before() -> None:
    view, slot = look([{"sku": "A", "n": 1}, {"sku": "B", "n": 2}]), Slot("send.n", INTEGER)
    trail, same = Trail([("send.sku", view.table.group_of("B"))]), feature("same record", True, True)
    assert same in told_of(view, slot, 2, trail)
    assert same not in told_of(view, slot, 1, trail)


def test_the_ranker_is_told_what_the_user_said() -> None:
    view, slot = look({}, "please late"), Slot("send.reason", {"enum": ["late", "lost"]})
    said = feature("crossed", text_id("'late'"), text_id("please"), slot="send.reason")
    assert said in told_of(view, slot, "late")
    assert said not in told_of(view, slot, "lost")


def test_the_ranker_tells_omitting_apart_by_the_users_words() -> None:
    slot = Slot("send.note", TEXT, (OMIT,))
    gift = feature("OMIT", text_id("gift"), slot="send.note")
    assert gift in told_of(look({}, "a gift"), slot, OMIT)
    assert gift not in told_of(look({}, "a box"), slot, OMIT)


def test_options_are_ranked_by_where_their_records_are_spoken_of() -> None:
    items = [{"name": "Hose", "id": 1}, {"name": "Desk Lamp", "id": 2}, {"name": "Pet Bed", "id": 3}]
    view = look({"items": items}, "return the desk lamp and the hose")
    slot = Slot("send.ids", INTEGER, (STOP,), 1)
    first, second = feature("record rank", 0), feature("record rank", 1)
    assert first in told_of(view, Slot("send.ids", INTEGER), 2)
    assert second in told_of(view, Slot("send.ids", INTEGER), 1)
    assert not {first, second} & told_of(view, Slot("send.ids", INTEGER), 3)
    assert first in told_of(view, slot, 1, Trail([("send.ids", view.table.group_of(2))]))


def test_a_list_is_told_whether_another_one_is_longer() -> None:
    view, trail = look({"ids": ["A", "B"]}), Trail([("send.old", 0), ("send.new", 1)])
    as_long = feature("STOPpartner", 1)
    assert as_long in told_of(view, Slot("send.new", TEXT, (STOP,), 1), STOP, trail)
    assert as_long not in told_of(view, Slot("send.new", TEXT, (STOP,), 0), STOP, Trail([("send.old", 0)]))


def test_what_is_wished_instead_is_compared_with_the_value_it_replaces() -> None:
    kinds = {
        "10": {"size": "S", "color": "red"},
        "11": {"size": "M", "color": "red"},
        "12": {"size": "M", "color": "blue"},
        "13": {"size": "S", "color": "blue"},
        "14": {"size": "L", "color": "red"},
        "15": {"size": "L", "color": "blue"},
    }
    view = look({"kinds": kinds}, "change the S red one to M")
    trail = Trail([("send.old", view.table.group_of("10"))])
    slot, best = Slot("send.new", TEXT), feature("best wish", True, True)
    assert best in told_of(view, slot, "11", trail)
    assert all(best not in told_of(view, slot, other, trail) for other in ("12", "13", "14"))


def test_single_words_that_the_user_shares_with_a_record_are_told() -> None:
    orders = [
        {"item": "Wren tripod", "id": "A1"},
        {"item": "Wren pet bed", "id": "A2"},
        {"item": "Vela shirt", "id": "A3"},
    ]
    view, slot = look(orders, "my Wren tripod is bent"), Slot("send.id", TEXT)
    best = feature("own words", True, True)
    assert [best in told_of(view, slot, one) for one in ("A1", "A2", "A3")] == [True, False, False]
