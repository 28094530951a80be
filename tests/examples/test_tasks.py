from collections import Counter

import pytest

from imitrace.exceptions import ConfigError
from support_desk import COHORTS, Desk, task_by_id, tasks
from support_desk.tasks import INTENTS, open_task


def test_a_seed_determines_its_tasks() -> None:
    first = tasks(50, seed=3)
    open_task.cache_clear()
    assert tasks(50, seed=3) == first


def test_an_id_determines_the_task_and_the_shop() -> None:
    task, shop = open_task("desk-3-17")
    open_task.cache_clear()
    assert open_task("desk-3-17") == (task, shop)
    assert task_by_id("desk-3-17") == task


def test_different_seeds_share_no_task_and_no_customer_with_the_same_orders() -> None:
    ids = [{task.id for task in tasks(100, seed)} for seed in (1, 2)]
    shops = [{frozenset(open_task(task_id)[1].orders) for task_id in group} for group in ids]
    assert not ids[0] & ids[1]
    assert not shops[0] & shops[1]


def test_the_natural_mix_has_the_shares_it_should() -> None:
    counts = Counter(task.cohort for task in tasks(2000, seed=5))
    for cohort, share in COHORTS.items():
        assert abs(counts[cohort] / 20 - share) < 4


@pytest.mark.parametrize("cohort", COHORTS)
def test_a_cohort_holds_all_of_its_intents_and_no_other(cohort: str) -> None:
    found = tasks(150, 1, cohort)
    assert len(found) == 150
    assert {task.intent for task in found} == set(INTENTS[cohort])
    assert {task.tags["cohort"] for task in found} == {cohort}


def test_a_cohorts_tasks_are_those_of_the_natural_mix() -> None:
    mixed = [task for task in tasks(200, seed=6) if task.cohort == "safety"]
    assert tasks(len(mixed), 6, "safety") == mixed


def test_a_shop_has_the_customer_and_others_with_realistic_ids() -> None:
    task, shop = open_task("desk-1-1")
    assert task.customer.id in shop.customers
    assert len(shop.customers) == 5
    assert all(order_id.startswith("A-") for order_id in shop.orders)
    assert all(payment_id.startswith("pay_") for payment_id in shop.payments)
    assert all(number.startswith("1Z") for number in shop.shipments)


@pytest.mark.parametrize("task_id", ["desk-1", "desk-x-1", "shop-1-1", "desk-1-1 "])
def test_an_unknown_task_is_refused_in_words(task_id: str) -> None:
    with pytest.raises(ConfigError, match="expected desk-SEED-NUMBER"):
        task_by_id(task_id)


def test_an_unknown_cohort_is_refused_in_words(desk: Desk) -> None:
    with pytest.raises(ConfigError, match="allowed: common, long_tail"):
        desk.tasks(1, 1, "nobody")
