"""Say of each figure whether it is good, bad, or can't be told from so few tasks, in one sentence. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from imitrace_trainer.card import RARE_TASKS
from imitrace_trainer.drift.visited_states import FEWEST, StatesCompared
from imitrace_trainer.encoding import MESSAGE
from imitrace_trainer.figures import Quality, Refits, Slice
from imitrace_trainer.task_draws import Share

Tone = Literal["good", "bad", "can't tell"]

HONEST = 0.05
"""Expected calibration error up to which a confidence is called honest."""
_HARDLY = 0.02
"""A gain by twice the tasks up to which more of them are called little help."""


@dataclass(frozen=True)
class Verdict:
    """What a figure means."""

    tone: Tone
    sentence: str


def verdicts(quality: Quality) -> dict[str, Verdict]:
    """Return what each part of a report says, by the part's name."""
    found = {
        "agreement": _agreement(quality),
        "reliability": _reliability(quality),
        "risk": _risk(quality),
        "tools": _slices(quality.tools, quality.exact, "tool"),
        "cohorts": _slices(quality.cohorts, quality.exact, "cohort"),
        "states": _states(quality.states),
        "critic": _critic(quality),
    }
    if quality.refits is not None:
        found |= {"learning": _learning(quality.refits), "ablation": _ablation(quality.refits)}
    return found


def points(share: Share) -> str:
    """Return a share with its interval in words."""
    return f"{share.value:.1%} [{share.low:.1%}, {share.high:.1%}]"


def signed(share: Share) -> str:
    """Return a difference of shares with its interval, in points of a hundred."""
    return f"{100 * share.value:+.1f} [{100 * share.low:+.1f}, {100 * share.high:+.1f}]"


def called(name: str) -> str:
    """Return what people call an action."""
    return "a reply" if name == MESSAGE else name


def _tone(share: Share, limit: float) -> Tone:
    """Return good where a figure lies above a limit, bad where it lies below, by its interval."""
    if share.low > limit:
        return "good"
    return "bad" if share.high < limit else "can't tell"


def _agreement(quality: Quality) -> Verdict:
    tone = _tone(quality.lead, 0.0)
    beats = {
        "good": "more than the table of the previous action",
        "bad": "less than the table of the previous action",
        "can't tell": "not surely more than the table of the previous action",
    }[tone]
    return Verdict(
        tone,
        f"It chooses the expert's action in {points(quality.agreement)} of the decisions, {beats}, "
        f"and all of the call in {points(quality.exact)}",
    )


def _reliability(quality: Quality) -> Verdict:
    found = quality.reliability
    error, excess = found.error.value, found.excess
    if not quality.decisions:
        return Verdict("can't tell", "Nothing was held out, so its confidence was never checked")
    if not quality.calibration_decisions:
        return Verdict("bad", "It was never calibrated: its confidence is 0, and it never acts")
    direction = "boasts" if excess.low > 0 else "is modest" if excess.high < 0 else "is off"
    if error <= HONEST:
        return Verdict("good", f"Its confidence is honest: off by {error:.3f} on average, {HONEST} or less is good")
    if error <= 2 * found.by_chance:
        chance = f"an honest one would show {found.by_chance:.3f} on so few decisions"
        return Verdict("can't tell", f"Its confidence is off by {error:.3f} on average, and {chance}")
    return Verdict("bad", f"Its confidence {direction} by {error:.3f} on average, {HONEST} or less is good")


def _risk(quality: Quality) -> Verdict:
    if quality.threshold is None:
        return Verdict(
            "bad",
            f"It may never act: {quality.calibration_tasks} calibration tasks prove no threshold with at most "
            f"{quality.promised:.0%} wrong",
        )
    wrong = _flipped(quality.acted_right)
    told = f"It would take {points(quality.acted)} of the decisions"
    if not wrong.decisions:
        return Verdict(
            "bad",
            f"It would take none of the held-out decisions, though a threshold of {quality.threshold:.3f} was proven",
        )
    tone: Tone = "good" if wrong.high <= quality.promised else "bad" if wrong.low > quality.promised else "can't tell"
    return Verdict(tone, f"{told}, {points(wrong)} of them wrong where at most {quality.promised:.0%} were promised")


def _flipped(share: Share) -> Share:
    return Share(1 - share.value, 1 - share.high, 1 - share.low, share.decisions)


def _slices(slices: Sequence[Slice], whole: Share, kind: str) -> Verdict:
    """Return which parts lie below the whole by their intervals, of those with enough tasks to tell."""
    told = [one for one in slices if one.tasks >= RARE_TASKS]
    worse = [one for one in told if one.exact.high < whole.value]
    if worse:
        names = ", ".join(f"{called(one.name)} {points(one.exact)}" for one in worse[:3])
        more = f" and {len(worse) - 3} more" if len(worse) > 3 else ""
        return Verdict("bad", f"It is worse than on the whole at {names}{more}")
    if len(told) < len(slices):
        few = len(slices) - len(told)
        return Verdict("can't tell", f"{few} of {len(slices)} {kind}s have fewer than {RARE_TASKS} held-out tasks")
    if len(slices) == 1:
        return Verdict("can't tell", f"There is one {kind} only, so none can be compared")
    return Verdict("good", f"No {kind} is surely worse than the whole")


def _states(found: StatesCompared | None) -> Verdict:
    if found is None or found.auroc is None or found.p is None:
        told = "" if found is None else f": {min(found.before, found.now)} tasks of a side, needed: {FEWEST}"
        return Verdict("can't tell", f"The held-out states were not compared with those of training{told}")
    beside = f"a classifier's AUROC is {found.auroc:.3f}, p {found.p:.2g}"
    if found.differ:
        return Verdict("bad", f"The held-out states can be told from those of training: {beside}")
    return Verdict("good", f"The held-out states can't be told from those of training: {beside}")


def _critic(quality: Quality) -> Verdict:
    found = quality.critic
    if found is None:
        return Verdict("can't tell", "It has no critic: nothing tells a call that fails from one that succeeds")
    beside = f"AUROC {_plain(found.auroc)}, the number of steps so far reaches {_plain(found.by_length)}"
    if found.refused is not None:
        return Verdict("bad", f"Its critic is off: {beside}")
    tone: Tone = "good" if found.auroc.low > found.by_length.high else "can't tell"
    return Verdict(tone, f"Its critic tells failures from successes: {beside}")


def _plain(share: Share) -> str:
    return f"{share.value:.3f} [{share.low:.3f}, {share.high:.3f}]"


def _learning(refits: Refits) -> Verdict:
    if len(refits.learning) < 2:
        return Verdict("can't tell", "Too few tasks to train on fewer")
    before, last = refits.learning[-2:]
    told = f"from {before.tasks} to {last.tasks} tasks agreement went {signed(last.gain)} points"
    if last.gain.low > 0:
        return Verdict("can't tell", f"It still learns: {told}, so more tasks should help")
    if last.gain.high <= _HARDLY:
        return Verdict("good", f"More tasks of this kind would hardly help: {told}")
    return Verdict("can't tell", f"Whether more tasks would help is open: {told}")


def _ablation(refits: Refits) -> Verdict:
    if not refits.ablation:
        return Verdict("can't tell", "This family has no groups of features to leave out")
    harmful = [one.left_out for one in refits.ablation if one.worth.high < 0]
    chance = abs(refits.another_seed.worth.value)
    needed = [one.left_out for one in refits.ablation if one.worth.low > 0 and one.worth.value > chance]
    if harmful:
        return Verdict("bad", f"It would do better without {', '.join(harmful)}")
    if needed:
        return Verdict("good", f"It needs {', '.join(needed)}; the others can stand in for each other")
    return Verdict("can't tell", "No group is surely needed: each can be stood in for by the others")
