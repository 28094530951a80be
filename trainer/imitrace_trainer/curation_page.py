"""Show what a curation kept and why not the rest, as one HTML page that needs nothing else: no script, no network."""

import json
from collections.abc import Collection, Mapping, Sequence
from html import escape
from typing import Any, Final

import polars as pl

from imitrace_trainer.cohort import SPLITS
from imitrace_trainer.coverage import warnings
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.frames import gather
from imitrace_trainer.pages import page, table
from imitrace_trainer.rules import RULES
from imitrace_trainer.tool_migration import CHANGES

_BINS: Final = 20
_MOST: Final = 12
"""Tags' values, tools and scores shown of each; the rest is summed up."""
_EXAMPLES: Final = 3
_LETTERS: Final = 160
_WIDTH: Final = 560
_COLOURS: Final = {"train": "#2f6f9f", "calibration": "#e0a030", "gate": "#8a4f9e"}


def render(dataset: Dataset, scores: pl.LazyFrame, tools: Collection[str]) -> str:
    """Return the page of a dataset version.

    Args:
        dataset: just curated.
        scores: ``trajectory_id``, ``name``, ``value``, ``label`` of whole trajectories, also of rejected ones.
        tools: the names of all that the source offers the agent, as they are called now.

    Raises:
        DatasetError: a file is broken.
    """
    found = gather(
        {
            "trajectories": dataset.frame("trajectories").select(
                "trajectory_id", "tags", "split", "step_count", "task_key", "relabelled_by"
            ),
            "proven": _proven(dataset),
            "rejected": dataset.frame("rejected"),
            "steps": _steps(dataset.frame("steps")),
            "offered": dataset.frame("tools").select(pl.col("name").unique().sort()),
            "scores": scores.select("trajectory_id", "name", "value", "label"),
        }
    )
    sections = [
        _head(dataset),
        _warned(warnings(dataset)),
        _funnel(found["trajectories"], found["rejected"]),
        _rejections(found["rejected"]),
        _score_charts(found["scores"], found["trajectories"]),
        _splits(dataset.manifest["splits"]),
        _balance(found["trajectories"]),
        _coverage(found["steps"], found["offered"], tools),
        _changed(dataset.manifest["tools"]["steps"]),
        _masked(found["steps"]),
        _hindsight(found["trajectories"], found["proven"], dataset.manifest["splits"]["train"]["trained_steps"]),
        _judged(dataset.manifest.get("judged", {})),
        _personal(dataset.manifest),
        _asked(dataset.manifest),
    ]
    return page(f"{dataset.name} v{dataset.version}", sections)


def _steps(steps: pl.LazyFrame) -> pl.LazyFrame:
    keys = ["action_kind", "action_name", "split", "loss_mask", "mask_reason"]
    return steps.group_by(keys).agg(pl.len().alias("count"))


def _head(dataset: Dataset) -> str:
    manifest, counts = dataset.manifest, dataset.manifest["counts"]
    seen = counts["trajectories"] + counts["rejected"]
    others = f", {manifest['other_agents']} of other agents left aside" if manifest["other_agents"] else ""
    return (
        f"<h1>{escape(dataset.name)} v{dataset.version}</h1>"
        f"<p class=note>{counts['trajectories']:,} of {seen:,} trajectories kept, {counts['steps']:,} steps{others}. "
        f"From {escape(str(manifest['source']))}, {escape(str(manifest['created_at']))}. "
        f"Content <code>{escape(dataset.hash)}</code></p>"
    )


def _warned(told: Sequence[str]) -> str:
    return "<ul>" + "".join(f"<li>{escape(line)}</li>" for line in told) + "</ul>" if told else ""


def _funnel(kept: pl.DataFrame, rejected: pl.DataFrame) -> str:
    counts = dict(rejected["rule"].value_counts().iter_rows())
    left = total = len(kept) + len(rejected)
    rows = [_funnel_row("seen", "", total, total)]
    for rule in RULES:
        if rule in counts:
            left -= counts[rule]
            rows.append(_funnel_row(rule, f"-{counts[rule]:,}", left, total, counts[rule]))
    rows.append(_funnel_row("kept", "", left, total))
    head = ("after rule", "n:rejected", "n:left", "n:of all", "")
    return "<h2>What the rules left</h2>" + table(head, rows)


def _funnel_row(name: str, lost: str, left: int, total: int, out: int = 0) -> list[str]:
    share = left / max(1, total)
    return [f"name:{name}", f"n:{lost}", f"n:{left:,}", f"n:{share:.1%}", "bar:" + _bar(share, out / max(1, total))]


def _rejections(rejected: pl.DataFrame) -> str:
    if rejected.is_empty():
        return "<h2>Rejected</h2><p class=note>Nothing.</p>"
    rows = []
    for rule in RULES:
        of_rule = rejected.filter(pl.col("rule") == rule)
        common = of_rule.group_by("reason").agg(pl.len(), pl.col("trajectory_id").first())
        for reason, count, example in (
            common.sort("len", "reason", descending=[True, False]).head(_EXAMPLES).iter_rows()
        ):
            rows.append([f"name:{rule}", f"n:{count:,}", f"name:{_short(reason)}", f"name:{_short(example)}"])
    note = f"<p class=note>The {_EXAMPLES} most frequent reasons of each rule; rejected.parquet has all.</p>"
    return "<h2>Rejected</h2>" + note + table(("rule", "n:trajectories", "reason", "for instance"), rows)


def _score_charts(scores: pl.DataFrame, kept: pl.DataFrame) -> str:
    finite = scores.filter(pl.col("value").is_finite())
    names = finite.group_by("name").len().sort("len", "name", descending=[True, False])["name"].head(_MOST)
    figures = [_histogram(str(name), finite.filter(pl.col("name") == name), kept) for name in sorted(names)]
    note = "<p class=note>Blue: kept. Red: rejected. Each bar is a twentieth of the range.</p>"
    charts = note + "".join(figures) if figures else ""
    return "<h2>Scores</h2>" + (charts + _labels(scores, kept) or "<p class=note>No scores.</p>")


def _labels(scores: pl.DataFrame, kept: pl.DataFrame) -> str:
    mine = pl.col("trajectory_id").is_in(kept["trajectory_id"].implode())
    counted = scores.drop_nulls("label").group_by("name", "label").agg(mine.sum().alias("kept"), pl.len())
    if counted.is_empty():
        return ""
    rows = [
        [f"name:{_short(name)}", f"name:{_short(label)}", f"n:{inside:,}", f"n:{found - inside:,}"]
        for name, label, inside, found in counted.sort("len", "name", "label", descending=[True, False, False])
        .head(_MOST)
        .sort("name", "label")
        .iter_rows()
    ]
    return table(("score", "label", "n:kept", "n:rejected"), rows)


def _histogram(name: str, scores: pl.DataFrame, kept: pl.DataFrame) -> str:
    values = scores["value"]
    low, high = float(values.min() or 0), float(values.max() or 0)  # type: ignore[arg-type]  # of floats
    low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, max(high, low + 1e-9))
    place = ((pl.col("value") - low) / (high - low) * _BINS).floor().clip(0, _BINS - 1).cast(pl.Int64).alias("bin")
    mine = pl.col("trajectory_id").is_in(kept["trajectory_id"].implode()).alias("kept")
    counts = {(row[0], row[1]): row[2] for row in scores.group_by(place, mine).len().iter_rows()}
    tallest = max(sum(counts.get((number, side), 0) for side in (True, False)) for number in range(_BINS))
    width, height = 14, 110
    bars = []
    for number in range(_BINS):
        inside, outside = (counts.get((number, side), 0) * height / tallest for side in (True, False))
        x = number * width
        bars.append(f"<rect class=kept x={x} y={height - inside:.1f} width={width - 2} height={inside:.1f} />")
        bars.append(
            f"<rect class=out x={x} y={height - inside - outside:.1f} width={width - 2} height={outside:.1f} />"
        )
    end = _BINS * width
    ticks = f"<text x=0 y={height + 14}>{low:g}</text><text x={end} y={height + 14} text-anchor=end>{high:g}</text>"
    label = escape(_short(name))
    chart = f'<svg width={end} height={height + 18} role=img aria-label="{label}">{"".join(bars)}{ticks}</svg>'
    mean = float(values.sum()) / len(values)
    told = f"<b>{label}</b>, {len(values):,} trajectories, mean {mean:.3f}"
    return f"<figure>{chart}<figcaption>{told}</figcaption></figure>"


def _splits(splits: Mapping[str, Mapping[str, int]]) -> str:
    total = max(1, sum(counts["trained_steps"] for counts in splits.values()))
    keys = ("tasks", "trajectories", "steps", "trained_steps")
    rows = []
    for split in SPLITS:
        counts = [f"n:{splits[split][key]:,}" for key in keys]
        bar = _bar(splits[split]["trained_steps"] / total, colour=_COLOURS[split])
        rows.append([f"name:{split}", *counts, f"bar:{bar}"])
    return "<h2>Splits</h2>" + table(("split", "n:tasks", "n:trajectories", "n:steps", "n:to learn from", ""), rows)


def _balance(kept: pl.DataFrame) -> str:
    found: dict[tuple[str, str], dict[str, int]] = {}
    for text, split, count in kept.group_by("tags", "split").len().iter_rows():
        for key, value in json.loads(text).items():
            of_value = found.setdefault((str(key), str(value)), dict.fromkeys(SPLITS, 0))
            of_value[split] += count
    lengths = kept.group_by((pl.col("step_count") > 1).alias("turns"), "split").len()
    for several, split, count in lengths.iter_rows():
        of_value = found.setdefault(("steps", "several" if several else "one"), dict.fromkeys(SPLITS, 0))
        of_value[split] += count
    rows = []
    for key in sorted({key for key, _ in found}):
        values = sorted(
            ((sum(counts.values()), value, counts) for (of, value), counts in found.items() if of == key), key=_rank
        )
        for _, value, counts in values[:_MOST]:
            of_splits = [f"n:{counts[split]:,}" for split in SPLITS]
            rows.append(
                [f"name:{_short(key)}", f"name:{_short(value)}", *of_splits, f"bar:{_stack(counts, len(kept))}"]
            )
        if len(values) > _MOST:
            rest = sum(total for total, *_ in values[_MOST:])
            rows.append([f"name:{_short(key)}", f"name:{len(values) - _MOST} more", f"n:{rest:,}", "n:", "n:", "bar:"])
    head = ("tag", "value", *(f"n:{split}" for split in SPLITS), "")
    return "<h2>Balance</h2><p class=note>Kept trajectories by tag, and by how many steps they have.</p>" + table(
        head, rows
    )


def _rank(entry: tuple[int, str, object]) -> tuple[int, str]:
    return (-entry[0], entry[1])


def _coverage(steps: pl.DataFrame, offered: pl.DataFrame, known: Collection[str]) -> str:
    calls = steps.filter((pl.col("action_kind") == "tool_call") & pl.col("loss_mask"))
    counted = calls.group_by("action_name", "split").agg(pl.col("count").sum())
    by_tool: dict[str, dict[str, int]] = {name: dict.fromkeys(SPLITS, 0) for name in sorted(known)}
    for name, split, count in counted.iter_rows():
        by_tool.setdefault(str(name), dict.fromkeys(SPLITS, 0))[split] += count
    most = max((sum(counts.values()) for counts in by_tool.values()), default=1)
    said = set(offered["name"])
    rows = []
    for name, counts in sorted(by_tool.items(), key=lambda entry: (-sum(entry[1].values()), entry[0])):
        told = "" if counts["train"] else "never called in train" if name in said else "not offered in what was kept"
        rows.append([f"name:{_short(name)}", *(f"n:{counts[split]:,}" for split in SPLITS), f"note:{told}"])
        rows[-1].append("bar:" + _stack(counts, max(1, most)))
    head = ("tool", *(f"n:{split}" for split in SPLITS), "", "")
    return "<h2>Tools</h2><p class=note>Calls to learn from, of every tool that the source knows.</p>" + table(
        head, rows
    )


def _changed(counts: Mapping[str, int]) -> str:
    if not counts:
        return ""
    rows = [[f"name:{change}", f"n:{count:,}", f"note:{CHANGES[change]}"] for change, count in counts.items()]
    return "<h2>Calls as they are now</h2>" + table(("what became of a call", "n:steps", ""), rows)


def _masked(steps: pl.DataFrame) -> str:
    reasons = steps.filter(~pl.col("loss_mask")).group_by("mask_reason").agg(pl.col("count").sum())
    rows = [
        [f"name:{_short(str(why))}", f"n:{count:,}"]
        for why, count in reasons.sort("count", descending=True).iter_rows()
    ]
    return "<h2>Context only</h2>" + (table(("why a step is not learnt from", "n:steps"), rows) if rows else _NOTHING)


def _proven(dataset: Dataset) -> pl.LazyFrame:
    again = dataset.frame("trajectories").filter(pl.col("relabelled_by").is_not_null()).select("trajectory_id")
    steps = dataset.frame("steps").join(again, on="trajectory_id", how="semi").filter("loss_mask")
    return steps.group_by("action_kind", "action_name").agg(pl.len().alias("count"))


def _hindsight(kept: pl.DataFrame, proven: pl.DataFrame, trained: int) -> str:
    failures = kept["relabelled_by"].count()
    if not failures:
        return ""
    steps = int(proven["count"].sum())
    rows = [
        [f"name:{_short(name or kind)}", f"n:{count:,}"]
        for kind, name, count in proven.sort("count", "action_name", descending=[True, False]).head(_MOST).iter_rows()
    ]
    note = (
        f"{steps:,} steps of {failures:,} failures, {steps / max(1, trained):.1%} of the train split's to learn from."
    )
    shown = table(("learnt from failures, as proven right", "n:steps"), rows)
    return f"<h2>In hindsight</h2><p class=note>{note}</p>{shown}"


_NOTHING: Final = "<p class=note>Nothing.</p>"


_BECAME: Final = {
    "reject": "Trajectories in which something was found are rejected.",
    "mask": "Steps of the train split that see or do such a thing are context only; the files hold them still.",
    "count": "Only counted: a clone learns from it.",
}


def _personal(manifest: Mapping[str, Any]) -> str:  # JSON
    asked = manifest["cohort"].get("personal_data", ())
    if not asked:
        return ""
    counts = manifest.get("personal_data", {})
    none = {"found": 0, "trajectories": 0}
    rows = [
        [f"name:{rule}", *(f"n:{counts.get(rule, none)[key]:,}" for key in ("found", "trajectories"))] for rule in asked
    ]
    note = f"<p class=note>{_BECAME[manifest['cohort']['personal_data_action']]}</p>"
    return "<h2>Personal data</h2>" + note + table(("rule", "n:found", "n:in trajectories"), rows)


def _judged(told: Mapping[str, Any]) -> str:  # JSON
    if not told:
        return ""
    note = f"{told['rows']:,} judged decisions are trajectories of one step, {told['learnt']:,} of them learnt from."
    rows = [[f"name:judged {_short(verdict)}", f"n:{count:,}"] for verdict, count in told["verdicts"].items()]
    rows += [[f"name:context only: {_short(why)}", f"n:{count:,}"] for why, count in told["context"].items()]
    rows += [[f"name:left out: {_short(why)}", f"n:{count:,}"] for why, count in told["left_out"].items()]
    return f"<h2>Judged by people</h2><p class=note>{note}</p>" + table(
        ("what became of verdicts", "n:decisions"), rows
    )


def _asked(manifest: Mapping[str, Any]) -> str:  # JSON
    text = json.dumps(manifest.get("spec", {}), indent=1, ensure_ascii=False)
    return f"<h2>What was asked for</h2><pre>{escape(text)}</pre>"


def _bar(share: float, out: float = 0.0, colour: str = "") -> str:
    fill = f' style="fill:{colour}"' if colour else ""
    return (
        f'<svg width="100%" height=14 viewBox="0 0 {_WIDTH} 14" preserveAspectRatio=none>'
        f"<rect class=back width={_WIDTH} height=14 /><rect class=kept width={share * _WIDTH:.1f} height=14{fill} />"
        f"<rect class=out x={share * _WIDTH:.1f} width={out * _WIDTH:.1f} height=14 /></svg>"
    )


def _stack(counts: Mapping[str, int], total: int) -> str:
    pieces, at = [], 0.0
    for split in SPLITS:
        width = counts[split] / max(1, total) * _WIDTH
        pieces.append(f'<rect x={at:.1f} width={width:.1f} height=14 style="fill:{_COLOURS[split]}" />')
        at += width
    back = f"<rect class=back width={_WIDTH} height=14 />"
    svg = f'<svg width="100%" height=14 viewBox="0 0 {_WIDTH} 14" preserveAspectRatio=none>'
    return f"{svg}{back}{''.join(pieces)}</svg>"


def _short(text: str) -> str:
    return text if len(text) <= _LETTERS else f"{text[:_LETTERS]}…"
