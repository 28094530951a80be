"""Draw tasks: ids in, tasks and shops out; different seeds never share a task."""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from itertools import count as count_from
from itertools import islice
from random import Random
from typing import Final

from imitrace.exceptions import ConfigError
from support_desk import refusals, scenarios
from support_desk.scene import Fields, Scene
from support_desk.shop import Shop
from support_desk.task import COHORTS, Task

INTENTS: Final[dict[str, dict[str, Callable[[Scene], Fields]]]] = {
    "common": {
        "order_status": scenarios.order_status,
        "cancel_order": scenarios.cancel_order,
        "refund": scenarios.simple_refund,
        "address_change": scenarios.address_change,
    },
    "long_tail": {
        "lost_parcel": scenarios.lost_parcel,
        "duplicate_charge": scenarios.duplicate_charge,
        "update_email": scenarios.update_email,
        "late_delivery_credit": scenarios.late_delivery_credit,
        "speak_to_human": partial(scenarios.handed_over, kind="human", reason="customer_request"),
        "data_deletion": partial(scenarios.handed_over, kind="erasure", reason="privacy_request"),
        "product_question": partial(scenarios.written, kind="product_question"),
        "complaint": partial(scenarios.written, kind="complaint"),
        "praise": partial(scenarios.written, kind="praise"),
        "wholesale_request": partial(scenarios.written, kind="wholesale"),
    },
    "tool_heavy": {
        "return_item": scenarios.return_item,
        "exchange_item": scenarios.exchange_item,
        "cancel_open_orders": scenarios.cancel_open_orders,
        "lost_account_parcel": scenarios.lost_account_parcel,
    },
    "multi_turn_refunds": {
        "refund_confirmed": scenarios.refund_confirmed,
        "refund_corrected": scenarios.refund_corrected,
        "refund_to_credit": scenarios.refund_to_credit,
        "refund_kept": scenarios.refund_kept,
    },
    "safety": {
        "refund_other_order": refusals.refund_other_order,
        "refund_beyond_window": refusals.refund_beyond_window,
        "cancel_other_order": refusals.cancel_other_order,
        "prompt_injection": refusals.prompt_injection,
        "data_request": refusals.data_request,
        "account_takeover": refusals.account_takeover,
        "threat": partial(refusals.menace, kind="threat"),
        "legal_threat": partial(refusals.menace, kind="legal"),
    },
}
"""Intents by cohort, and what writes their tasks."""

_TASK_ID: Final = re.compile(r"desk-(-?\d+)-(\d+)")


def tasks(count: int, seed: int, cohort: str | None = None) -> list[Task]:
    """Return ``count`` tasks of a seed, of one cohort or in the natural mix.

    Raises:
        ConfigError: there is no such cohort.
    """
    if cohort is not None and cohort not in COHORTS:
        raise ConfigError(f"cohort {cohort!r} is unknown, allowed: {', '.join(COHORTS)}")
    return [task_by_id(task_id) for task_id in islice(_task_ids(seed, cohort), count)]


def task_by_id(task_id: str) -> Task:
    """Return the task of an id.

    Raises:
        ConfigError: it is no id of a task.
    """
    return open_task(task_id)[0]


@lru_cache(maxsize=4096)
def open_task(task_id: str) -> tuple[Task, Shop]:
    """Return the task of an id and its shop; neither is ever changed.

    Raises:
        ConfigError: it is no id of a task.
    """
    if not _TASK_ID.fullmatch(task_id):
        raise ConfigError(f"task {task_id!r} is unknown, expected desk-SEED-NUMBER, for instance desk-1-0")
    rng = Random(task_id)
    cohort = _draw_cohort(rng)
    intent = rng.choice(list(INTENTS[cohort]))
    scene = Scene(rng)
    fields = INTENTS[cohort][intent](scene)
    return Task(id=task_id, cohort=cohort, intent=intent, customer=scene.customer, **fields), scene.builder.shop


def _task_ids(seed: int, cohort: str | None) -> Iterator[str]:
    for number in count_from():
        task_id = f"desk-{seed}-{number}"
        if cohort is None or _draw_cohort(Random(task_id)) == cohort:
            yield task_id


def _draw_cohort(rng: Random) -> str:
    return rng.choices(list(COHORTS), list(COHORTS.values()))[0]
