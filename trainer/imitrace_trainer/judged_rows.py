"""Make of judged decisions what a clone learns from: each is a row of its own, with who judged it and how.

A row stands in the train split alone, and only where its task judges no clone; elsewhere it is left out, counted and
said. What was recorded of a judged decision in the train split is context from then on: the row says what is right.
"""

import json
import re
import secrets
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import polars as pl

from imitrace.canonical import canonical_json, content_hash
from imitrace.messages import Action
from imitrace.redaction.redactor import Redactor
from imitrace_trainer.added_rows import Rows, message_rows, no_rows, seen_columns, tool_rows, with_rows
from imitrace_trainer.clues import allowed
from imitrace_trainer.cohort import MOST_WEIGHT, CohortConfig
from imitrace_trainer.curate import Curated
from imitrace_trainer.frames import gather
from imitrace_trainer.live_tools import dead_call
from imitrace_trainer.orders import ORDERS
from imitrace_trainer.queue_items import Item
from imitrace_trainer.queue_verdicts import Label, Reviews, label
from imitrace_trainer.survey import masked
from imitrace_trainer.tool_ledger import ToolRules

SOURCE: Final = "queue"
"""The source of a trajectory that is a judged decision."""
PREFIX: Final = "judged-"
"""How its name begins; behind it stands the item's id."""
OVERRULED: Final = "judged: a row of its own says what is right"
"""Why a recorded step is context; the row's ``parent`` and ``parent_step`` say which it is."""
SILENT: Final = "nobody said what is right"
DISPUTED: Final = "reviewers disagree"

_BARRING: Final = frozenset({"complete", "tags", "window", "licence", "personal_data", "quarantine"})
"""Rules whose word on a trajectory holds for its judged decisions too."""
_HEARD: Final = ("user", "tool")


@dataclass(frozen=True)
class JudgedRow:
    """A judged decision that is learnt from, or kept to say that there is none to learn from."""

    item: Item
    label: Label
    action: Action
    task: str
    tools: tuple[dict[str, Any], ...]  # JSON schemas
    weight: float
    """How often it counts in training: as often as it was recorded there, and at least once."""
    reason: str | None
    """Why it is not learnt from; None where it is."""

    @property
    def overrules(self) -> bool:
        """Tell whether what was recorded is not to be learnt from: the row says what is right, or that it was wrong."""
        return self.reason is None or self.label.verdict == "both_wrong"


@dataclass(frozen=True)
class _Known:
    """What curation knows of trajectories, tasks and tools."""

    kept: Mapping[str, tuple[str, str]]
    """By trajectory: task and split."""
    splits: Mapping[str, frozenset[str]]
    """By task."""
    rejected: Mapping[str, str]
    """By trajectory: the rule."""
    tools: Mapping[str, list[dict[str, Any]]]  # JSON schemas
    """By name: the definitions that kept steps offer."""


def with_judged(curated: Curated, reviews: Reviews, cohort: CohortConfig, rules: ToolRules) -> Curated:
    """Return what was curated, with a row for each judged decision that a clone may know of.

    Args:
        curated: what ``curate`` made.
        reviews: what was said of the agent's decisions.
        cohort: whose rules hold for judged decisions too.
        rules: what was decided about the agent's tools.
    """
    if not reviews.items:
        return curated
    known = _known(curated)
    rows, out = _judged_rows(reviews, cohort, rules, known)
    places = [place for row in rows if row.overrules for place in row.item.places]
    overruled = replace(curated, steps=_masked(curated.steps, places))
    return replace(
        with_rows(overruled, _tables(rows, cohort)),
        judged={
            "rows": len(rows),
            "learnt": sum(row.reason is None for row in rows),
            "verdicts": dict(sorted(Counter(row.label.verdict for row in rows).items())),
            "context": dict(sorted(Counter(row.reason for row in rows if row.reason).items())),
            "left_out": dict(sorted(out.items())),
            "broken_lines": reviews.broken,
        },
    )


def _judged_rows(
    reviews: Reviews, cohort: CohortConfig, rules: ToolRules, known: _Known
) -> tuple[list[JudgedRow], Counter[str]]:
    """Return the rows that judged decisions become, and how many become none, by reason."""
    rows, out = [], Counter[str]()
    redactor = Redactor(cohort.personal_data, secrets.token_bytes(16)) if cohort.personal_data else None
    for name, judgements in sorted(reviews.standing.items()):
        item = reviews.items.get(name)
        if item is None or item.agent != cohort.agent:
            continue
        task, why = _placed(item, cohort, known)
        why = why or _barred(item, cohort, redactor)
        if why is not None:
            out[why] += 1
            continue
        rows.append(_row(item, label(judgements, item), task, (cohort, rules, known)))
    return rows, out


def _row(item: Item, found: Label, task: str, context: tuple[CohortConfig, ToolRules, _Known]) -> JudgedRow:
    cohort, rules, known = context
    tools = tuple(_in_force(tool, known) for tool in item.tools)
    shown = found.action or item.clone or item.expert or Action("message", message="")
    reason = None
    if found.action is None:
        reason = DISPUTED if found.verdict == "disputed" else f"judged {found.verdict}, {SILENT}"
    else:
        reason = _unlearnable(item, found.action, tools, (cohort, rules))
    recorded = sum(name in known.kept for name, _ in item.places)
    return JudgedRow(item, found, shown, task, tools, min(MOST_WEIGHT, max(1.0, recorded)), reason)


def _unlearnable(
    item: Item, action: Action, tools: Sequence[Mapping[str, Any]], context: tuple[CohortConfig, ToolRules]
) -> str | None:
    cohort, rules = context
    if "human" not in cohort.roles:
        return "by human"
    if action == item.expert and not allowed(item.expert_name or "", cohort.licences):
        return f"by {item.expert_name}, from whom nothing may be learnt"
    return dead_call(action, tools, rules)


def _placed(item: Item, cohort: CohortConfig, known: _Known) -> tuple[str, str | None]:
    """Return the task that a row belongs to, and why it can't be in the train split."""
    barred = [known.rejected[name] for name, _ in item.places if known.rejected.get(name) in _BARRING]
    if barred:
        return "", f"its trajectory is rejected by {barred[0]}"
    tasks = {known.kept[name][0] for name, _ in item.places if name in known.kept} | set(item.tasks)
    splits = {known.kept[name][1] for name, _ in item.places if name in known.kept}
    splits |= {split for task in tasks for split in known.splits.get(task, ())}
    if splits - {"train"}:
        return "", f"its task is in the split {min(splits - {'train'})}"
    if not splits and cohort.split.near is not None:
        return "", "its task is new, and could be like one that is judged on"
    return min(tasks, default=item.id), None


def _barred(item: Item, cohort: CohortConfig, redactor: Redactor | None) -> str | None:
    """Return which of the cohort's rules forbids to learn from an item, whatever became of its trajectory."""
    if any(item.tags.get(tag) != value for tag, value in cohort.tags.items()):
        return "other tags than the cohort's"
    if not (cohort.since or 0) <= item.at < (cohort.until or 2**63):
        return "outside of the cohort's time"
    texts = [canonical_json(message) for message in item.state]
    if redactor is not None and cohort.personal_data_action != "count" and _personal(texts, redactor):
        return "holds personal data"
    heard = [text for text, message in zip(texts, item.state, strict=True) if message["role"] in _HEARD]
    if cohort.quarantine and any(re.search(order, text.lower()) for text in heard for order in ORDERS.values()):
        return "gives orders to the model"
    return None


def _personal(texts: Iterable[str], redactor: Redactor) -> bool:
    for text in texts:
        redactor.text(text)
    found = any(redactor.counts().values())
    redactor.reset()
    return found


def _in_force(tool: dict[str, Any], known: _Known) -> dict[str, Any]:  # JSON schemas
    """Return a tool as it is offered now, where that is told; else as it was offered then."""
    now = known.tools.get(str(tool["name"]), [])
    return tool if not now or tool in now else now[0]


def _known(curated: Curated) -> _Known:
    kept = curated.trajectories.select("trajectory_id", "task_key", "split")
    parts = [kept.select(pl.col("task_key").alias("task"), "split")]
    named = {"tools": curated.tools.select("name", "definition").unique().sort("name", "definition")}
    if curated.failures is not None:
        named["failed"] = curated.failures.select("task", "split").unique()
    found = gather(named)
    parts += [found["failed"]] if "failed" in found else []
    splits = pl.concat(parts).group_by("task").agg(pl.col("split").unique())
    tools: dict[str, list[dict[str, Any]]] = {}
    for name, definition in found["tools"].iter_rows():
        tools.setdefault(name, []).append(json.loads(definition))
    return _Known(
        kept={name: (task, split) for name, task, split in kept.iter_rows()},
        splits={task: frozenset(of) for task, of in splits.iter_rows()},
        rejected=dict(curated.rejected.select("trajectory_id", "rule").iter_rows()),
        tools=tools,
    )


def _masked(steps: pl.LazyFrame, places: Sequence[tuple[str, int]]) -> pl.LazyFrame:
    """Make context of what was recorded where a row says what is right."""
    schema = {"trajectory_id": pl.String, "step_index": pl.Int64}
    judged = pl.DataFrame(places, schema=schema, orient="row").unique().with_columns(pl.lit(value=True).alias("judged"))
    found = steps.join(judged.lazy(), on=list(schema), how="left", maintain_order="left")
    out = pl.col("judged").is_not_null() & (pl.col("split") == "train")
    return masked(found, out, pl.lit(OVERRULED)).drop("judged")


def _tables(rows: Sequence[JudgedRow], cohort: CohortConfig) -> Rows:
    made = no_rows()
    for row in rows:
        made["trajectories"].append(_trajectory(row, cohort))
        made["steps"].append(_step(row, cohort))
        made["messages"] += message_rows(row.item.state)
        made["tools"] += tool_rows(row.tools)
    return made


def _trajectory(row: JudgedRow, cohort: CohortConfig) -> dict[str, Any]:  # a row of a table
    item = row.item
    parent, step = item.places[0] if item.places else (None, None)
    return {
        "trajectory_id": f"{PREFIX}{item.id}",
        "agent": cohort.agent,
        "task": row.task,
        "task_key": row.task,
        "tags": canonical_json(item.tags),
        "source": SOURCE,
        "parent": parent,
        "parent_step": step,
        "step_count": 1,
        "started_at": item.at,
        "ended_at": item.at,
        "complete": True,
        "split": "train",
        "scores": "{}",
    }


def _step(row: JudgedRow, cohort: CohortConfig) -> dict[str, Any]:  # a row of a table
    item, action = row.item, row.action
    return {
        "trajectory_id": f"{PREFIX}{item.id}",
        "step_index": 0,
        "decision": f"{PREFIX}{item.id}",
        "agent": cohort.agent,
        "policy_role": "human",
        "policy_name": ", ".join(row.label.reviewers),
        **seen_columns(
            list(map(content_hash, item.state)), content_hash(list(row.tools)), replace(action, call_id=None)
        ),
        "confidence": item.confidence,
        "route_reason": f"judged {row.label.verdict}",
        "propensity": item.propensity,
        "started_at": item.at,
        "ended_at": item.at,
        "trace_id": "",
        "span_id": "",
        "complete": True,
        "task": row.task,
        "tags": canonical_json(item.tags),
        "split": "train",
        "loss_mask": row.reason is None,
        "mask_reason": row.reason,
        "weight": row.weight,
    }
