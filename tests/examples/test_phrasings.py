import string
from collections.abc import Sequence

import pytest

from support_desk import Desk
from support_desk.phrasings import OPENINGS
from support_desk.replies import ANSWERS, CLOSINGS, GIVEN, GREETINGS, REASONS, SUBJECTS
from support_desk.tasks import INTENTS, task_by_id

LISTS = {
    **{f"opening {kind}": wordings for kind, wordings in OPENINGS.items()},
    **{f"reason {reason}": wordings for reason, wordings in REASONS.items()},
    **{f"given {fact}": wordings for fact, wordings in GIVEN.items()},
    **{f"answer {question}": wordings for question, wordings in ANSWERS.items()},
    "greetings": GREETINGS,
    "closings": CLOSINGS,
    "subjects": SUBJECTS,
}


@pytest.mark.parametrize("name", LISTS)
def test_every_list_has_at_least_twelve_wordings(name: str) -> None:
    assert len(LISTS[name]) >= 12


@pytest.mark.parametrize("lists", [OPENINGS, REASONS], ids=["openings", "reasons"])
def test_no_wording_means_two_things(lists: dict[str, Sequence[str]]) -> None:
    wordings = [wording.lower() for group in lists.values() for wording in group]
    assert len(set(wordings)) == len(wordings)


def test_every_intent_has_wordings(desk: Desk) -> None:
    intents = {task.intent: task.kind for task in desk.tasks(600, seed=2)}
    assert set(intents) == {intent for cohort in INTENTS.values() for intent in cohort}
    assert set(intents.values()) == set(OPENINGS)


def test_another_seed_words_the_same_task_differently(desk: Desk) -> None:
    openings = {desk.reset("desk-1-5", seed)[1]["content"] for seed in range(8)}
    assert len(openings) > 4


def test_openings_hardly_ever_repeat(desk: Desk) -> None:
    openings = [desk.reset(task.id)[1]["content"] for task in desk.tasks(500, seed=4)]
    assert len(set(openings)) > 495


def test_no_slot_is_left_open_or_empty(desk: Desk) -> None:
    for number in range(300):
        text = desk.reset(f"desk-6-{number}")[1]["content"]
        assert "{" not in text
        assert "  " not in text, task_by_id(f"desk-6-{number}")


def test_typos_leave_ids_and_emails_alone(desk: Desk) -> None:
    for task in desk.tasks(300, seed=8):
        text = desk.reset(task.id)[1]["content"]
        if "order_id" in task.given:
            assert (task.said_order_id or task.order_id) in text
        if "email" in task.given or task.header:
            assert task.customer.email in text


def test_some_customers_mistype(desk: Desk) -> None:
    known = {word.strip(string.punctuation).lower() for group in LISTS.values() for w in group for word in w.split()}
    greetings = [desk.reset(task.id)[1]["content"].lower().split() for task in desk.tasks(200, seed=9)]
    strange = [word for words in greetings for word in words if word.isalpha() and word not in known]
    assert strange
