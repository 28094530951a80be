"""Run the exercise and print its numbers: ``PYTHONPATH=examples python -m twenty_labels``."""

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence

from twenty_labels.clones import IntentClone, same
from twenty_labels.labelling import (
    BATCH,
    FIRST,
    HELD_OUT,
    POOL,
    ROUNDS,
    STRATEGIES,
    Labelling,
    act,
    interval,
    label,
    label_as_printed,
    rounds_to_match,
)
from twenty_labels.tickets import Call, Ticket, tickets

FIFTY = 50
"""The labels at random that the rounds are to match."""


def counting() -> list[str]:
    """Return what the clone that counts says of the classic data."""
    seen = [("order_status", Call(tool, {})) for tool in ("search_orders", "search_orders", "escalate")]
    clone = IntentClone([*seen, ("refund", Call("process_refund", {}))])
    lines = ["counting by intent                                    count/total  smoothed"]
    for intent in ("order_status", "refund", "warranty"):
        tool, share = clone.predict(intent)
        lines.append(f"  {intent:<14}-> {tool:<36}{share:>8.2f}{clone.smoothed(intent):>10.2f}")
    return lines


def curves(runs: Sequence[Mapping[str, Labelling]]) -> list[str]:
    """Return agreement by number of labels for both strategies, and the rounds that it takes to match 50 labels."""
    lines = [
        f"{FIRST} labels, {POOL} tickets unlabelled, {BATCH} more labels a round, {HELD_OUT} tickets held out, "
        f"{len(runs)} seeds",
        "labels   uncertainty            random                 difference",
    ]
    for number in range(ROUNDS + 1):
        asked, drawn = ([run[strategy].curve[number] for run in runs] for strategy in STRATEGIES)
        gained = [one - other for one, other in zip(asked, drawn, strict=True)]
        lines.append(f"{FIRST + BATCH * number:>4}     " + "   ".join(map(bounded, (asked, drawn, gained))))
    matched = (FIFTY - FIRST) // BATCH
    reached = Counter(rounds_to_match(run["uncertainty"].curve, run["random"].curve[matched]) for run in runs)
    order = sorted(reached, key=lambda number: ROUNDS + 1 if number is None else number)
    told = ", ".join(f"{'never' if number is None else number}: {reached[number]}" for number in order)
    return [*lines, f"rounds of uncertainty until {FIFTY} labels at random are matched (rounds: seeds)   {told}"]


def mistakes(runs: Sequence[Mapping[str, Labelling]]) -> list[str]:
    """Return what the loop as it is usually printed costs."""
    printed = [label_as_printed(seed, ROUNDS) for seed in range(len(runs))]
    lines = ["the loop as usually printed   labels that are new   its clone              the mended loop's"]
    for rounds in (1, 3, ROUNDS):
        asked = rounds * BATCH
        new = sum(len({ticket.text for ticket in run.labelled[FIRST : FIRST + asked]}) for run in printed)
        theirs, ours = [run.curve[rounds - 1] for run in printed], [run["uncertainty"].curve[rounds] for run in runs]
        share = f"{new / len(runs):.1f} of {asked}"
        lines.append(f"  after {rounds} of {ROUNDS} rounds{share:>25}    {bounded(theirs)}   {bounded(ours)}")
    return lines


def bounded(values: Sequence[float]) -> str:
    """Return a mean over seeds with its interval."""
    return "{:.3f} [{:.3f}, {:.3f}]".format(*interval(values))


def acting(seed: int = 0, threshold: float = 0.7) -> list[str]:
    """Return what the clone of 30 labels does with fresh tickets, and whose answers its desk gives."""
    clone = label(seed, "uncertainty", rounds=1).clone
    fresh = tickets(HELD_OUT, seed + 10_000)
    corrections: list[Ticket] = []
    alone = [clone.answer(ticket.text) for ticket in fresh]
    right = [answer.call.tool == ticket.expert.tool for answer, ticket in zip(alone, fresh, strict=True)]
    whole = [same(answer.call, ticket.expert) for answer, ticket in zip(alone, fresh, strict=True)]
    answers = [act(clone, ticket, threshold, corrections) for ticket in fresh]
    own = [same(a.call, t.expert) for a, t in zip(answers, fresh, strict=True) if a.source == "clone"]
    return [
        f"the clone of 30 labels on {len(fresh)} fresh tickets: tool {sum(right) / len(right):.3f}, "
        f"with every argument {sum(whole) / len(whole):.3f}",
        f"at threshold {threshold}: clone {len(own)} ({sum(own)} right in full), expert {len(corrections)}, "
        f"each kept with its arguments",
    ]


def main() -> None:
    """Print the exercise's numbers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="how often it is done anew")
    seeds = range(parser.parse_args().seeds)
    runs = [{strategy: label(seed, strategy) for strategy in STRATEGIES} for seed in seeds]
    print("\n\n".join("\n".join(part) for part in (counting(), curves(runs), mistakes(runs), acting())))


if __name__ == "__main__":
    main()
