"""Write a clone's card: what it is, what it reached, and when not to use it, each from what was counted."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from imitrace_trainer.clone_files import CloneCard
from imitrace_trainer.datasets import Dataset
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.encoding import view_state
from imitrace_trainer.evaluate import EvaluationReport
from imitrace_trainer.ladder import Rung, render
from imitrace_trainer.passport import mask_report
from imitrace_trainer.reading import Reader, argument_values, value_key
from imitrace_trainer.route_rules import cohort_of
from imitrace_trainer.thresholds import Thresholds

RARE_TASKS = 10
"""A tool or cohort with fewer tasks is named: nine right of nine still allow a third wrong (Clopper-Pearson)."""
_REACH = 0.9
"""An argument is named when less than this share of the expert's values could have been found."""


@dataclass(frozen=True)
class Limits:
    """What bounds a clone, counted on what it was trained and held out on."""

    cohorts: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By cohort: tasks trained on, tasks held out."""
    tools: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By tool that was offered: decisions trained on that call it, and their tasks."""
    arguments: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """By ``tool.argument``, held out: values that were in the conversation or given in training, and all."""
    replies: tuple[int, int] = (0, 0)
    """Held-out decisions that were replies, and all."""
    outcomes: Mapping[str, int] = field(default_factory=dict)
    """How the trajectories ended that it learned from; ``unknown`` where nobody said."""
    masked: Mapping[str, int] = field(default_factory=dict)
    """Training steps that were context only, by reason."""
    critic: Sequence[str] = ("- none",)
    """What its critic reached or why it is off, and what it forbids, a line each."""
    silence: str | None = None
    """Why it never replies by a template; None: it does, or nothing of it is known."""


def measure_limits(
    train: Sequence[Demonstration],
    held_out: Sequence[Demonstration],
    dataset: Dataset,
    fitted: Sequence[str],
) -> Limits:
    """Count what bounds a clone of these demonstrations.

    Args:
        train: what it was fitted to.
        held_out: what it is measured on.
        dataset: of which both are.
        fitted: the splits that ``train`` is of.
    """
    ended, masked = Counter[str](), Counter[str]()
    report = mask_report(dataset)
    for split in fitted:
        outcomes = dataset.tables(split)["trajectories"]["outcome"].fill_null("unknown").value_counts()
        ended.update(dict(outcomes.iter_rows()))
        masked.update(report[split]["masked"])
    return Limits(
        cohorts=_cohorts(train, held_out),
        tools=_tools(train),
        arguments=_arguments(train, held_out),
        replies=(sum(held.action.kind == "message" for held in held_out), len(held_out)),
        outcomes=dict(sorted(ended.items())),
        masked=dict(masked),
    )


def render_card(
    card: CloneCard, evaluation: EvaluationReport, rungs: Sequence[Rung], thresholds: Thresholds, limits: Limits
) -> str:
    """Return the card as Markdown.

    Args:
        card: what it is.
        evaluation: what it reached on held-out tasks.
        rungs: what the other families reached there.
        thresholds: from which confidence it may act.
        limits: what bounds it.
    """
    sections = [
        heading(card, rungs[0].family),
        measured(evaluation),
        compared(rungs),
        confidence(thresholds, limits.silence),
        "## Its critic\n\n" + "\n".join(limits.critic),
        "## Do not use it\n\n" + "\n".join(warnings(evaluation, thresholds, limits)),
    ]
    return "\n\n".join(sections) + "\n"


def heading(card: CloneCard, family: str) -> str:
    """Return what the clone is and what it was made from."""
    return f"""# {card.name}

A clone of the family `{family}`, trained {card.created_at} with imitrace {card.imitrace} on dataset
{card.dataset} v{card.dataset_version} (`{card.dataset_hash}`). It answers with tool calls; a predicted message
without text means: ask the expert."""


def measured(evaluation: EvaluationReport) -> str:
    """Return what it reached on held-out tasks."""
    return f"## On tasks it never saw\n\n```\n{evaluation.render()}\n```"


def compared(rungs: Sequence[Rung]) -> str:
    """Return how far it leads before the other families."""
    told = "Exact agreement with the expert. The calibration tasks chose; the held-out tasks had no say."
    return f"## Beside the other families\n\n{told}\n\n{render(rungs)}"


def confidence(thresholds: Thresholds, silence: str | None) -> str:
    """Return from which confidence it may act; ``silence`` is why it never says anything."""
    lack = "nothing could be promised on the calibration tasks"
    levels = (thresholds.reversible, thresholds.irreversible, thresholds.replies)
    loose, strict, said = (
        f"{value:.4f}" if value <= 1 else f"never: {why}"
        for value, why in zip(levels, (lack, lack, silence or lack), strict=True)
    )
    return f"""## Acts from this confidence

- tools that can be undone: {loose}
- tools that can't ({", ".join(thresholds.irreversible_tools) or "none declared"}): {strict}
- replies by a template: {said}"""


def warnings(evaluation: EvaluationReport, thresholds: Thresholds, limits: Limits) -> list[str]:
    """Return a line for each thing that was measured and speaks against using the clone."""
    unproven = [] if min(thresholds.reversible, thresholds.irreversible) <= 1 else ["- anywhere: it may never act"]
    return [
        *unproven,
        *cohort_warnings(limits),
        *tool_warnings(limits),
        *novelty_warnings(evaluation),
        *text_warnings(limits),
        *expert_warnings(limits),
    ]


def cohort_warnings(limits: Limits) -> list[str]:
    """Return where no gate has said yes, which at training is everywhere, and the cohorts that few tasks speak for."""
    few = [
        f"{cohort} (trained on {trained}, held out {held})"
        for cohort, (trained, held) in sorted(limits.cohorts.items())
        if min(trained, held) < RARE_TASKS
    ]
    known = ", ".join(sorted(limits.cohorts)) or "none"
    lines = [
        f"- where no gate passed. None had judged it when this was written; `imitrace clones show` adds the verdicts. "
        f"Cohorts it was made from: {known}."
    ]
    return lines + ([f"- in cohorts with fewer than {RARE_TASKS} tasks: {', '.join(few)}."] if few else [])


def tool_warnings(limits: Limits) -> list[str]:
    """Return the tools that were never or rarely called in training."""
    never = sorted(name for name, (decisions, _) in limits.tools.items() if not decisions)
    rare = [
        f"{name} ({decisions} in {tasks})"
        for name, (decisions, tasks) in sorted(limits.tools.items())
        if decisions and tasks < RARE_TASKS
    ]
    lines = [f"- for tools that were offered and never called in training: {', '.join(never)}."] if never else []
    return lines + (
        [f"- for tools with calls in fewer than {RARE_TASKS} training tasks (calls in tasks): {', '.join(rare)}."]
        if rare
        else []
    )


def novelty_warnings(evaluation: EvaluationReport) -> list[str]:
    """Return how much of what it had not seen lay beyond the accepted distance."""
    decisions = evaluation.action_agreement.decisions
    return [
        f"- far from what it was trained on. On held-out tasks {evaluation.out_of_distribution:.1%} of {decisions} "
        f"states were beyond the accepted distance; there the expert acts."
    ]


def text_warnings(limits: Limits) -> list[str]:
    """Return how much of the expert's work is words of its own."""
    replies, decisions = limits.replies
    lines = []
    if replies:
        lines.append(
            f"- to write. {replies} of {decisions} held-out decisions ({replies / decisions:.1%}) were replies, which "
            f"are left to the expert where no template is sure; a reply that is left counts as agreement."
        )
    short = [
        f"{slot} ({found} of {total})"
        for slot, (found, total) in sorted(limits.arguments.items())
        if found < _REACH * total
    ]
    if short:
        lines.append(
            f"- for arguments whose values the expert often made up, neither said in the conversation nor given in "
            f"training (held out, in reach of all): {', '.join(short)}."
        )
    return lines


def expert_warnings(limits: Limits) -> list[str]:
    """Return what the expert itself got wrong: agreement with it is not correctness."""
    total, failed = sum(limits.outcomes.values()), limits.outcomes.get("failure", 0)
    ended = ", ".join(f"{count} {outcome}" for outcome, count in limits.outcomes.items()) or "none"
    lines = [
        f"- as more right than the expert. The {total} trajectories that it learned from ended: {ended}"
        + (f"; in {failed / total:.1%} the expert itself failed." if failed else ".")
    ]
    if limits.masked:
        reasons = ", ".join(f"{reason} {count}" for reason, count in limits.masked.items())
        lines.append(f"- for what it was kept from learning, training steps that were context only: {reasons}.")
    return lines


def _cohorts(train: Sequence[Demonstration], held_out: Sequence[Demonstration]) -> dict[str, tuple[int, int]]:
    seen: dict[str, tuple[set[str], set[str]]] = defaultdict(lambda: (set(), set()))
    for side, part in enumerate((train, held_out)):
        for shown in part:
            seen[cohort_of(shown.state.tags)][side].add(shown.task)
    return {cohort: (len(trained), len(held)) for cohort, (trained, held) in seen.items()}


def _tools(train: Sequence[Demonstration]) -> dict[str, tuple[int, int]]:
    offered = {str(tool["name"]) for shown in train for tool in shown.state.tools}
    calls = Counter(shown.label for shown in train)
    tasks = {(shown.label, shown.task) for shown in train}
    apart = Counter(label for label, _ in tasks)
    return {name: (calls[name], apart[name]) for name in offered}


def _arguments(train: Sequence[Demonstration], held_out: Sequence[Demonstration]) -> dict[str, tuple[int, int]]:
    known = {
        (slot, value_key(value))
        for shown in train
        for slot, value in argument_values(shown.label, shown.action.arguments)
    }
    reader = Reader()
    found: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for held in held_out:
        given = argument_values(held.label, held.action.arguments)
        places = view_state(held.state.messages, held.state.tools, reader).places if given else {}
        for slot, value in given:
            total[slot] += 1
            found[slot] += value_key(value) in places or (slot, value_key(value)) in known
    return {slot: (found[slot], count) for slot, count in total.items()}
