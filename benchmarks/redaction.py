"""Measure the redaction rules: what they find, what they mask without cause, and what they cost.

python benchmarks/redaction.py            # a table, 24,000 samples
python benchmarks/redaction.py --quick    # 2,000 samples
python benchmarks/redaction.py --json     # the same as JSON
"""

import json
import math
import platform
import re
import timeit
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any

from imitrace.redaction.redactor import Redactor
from imitrace.redaction.rules import RULES, Rule
from overhead.reports import asking, deliver
from overhead.timing import machine, versions
from redaction_samples import Sample, samples

PACKAGES = ("imitrace",)
FIXED = b"a fixed secret, for the benchmark"
FOUND = re.compile("\2(.*?)\3(.*?)\4", re.DOTALL)
PROSE = (
    "Thanks for coming back to me. I would like to return the blue jacket, please, and keep the rest; it fits well. "
)
HOSTILE = [
    "@",
    "a@",
    "a@b.",
    "a.",
    "4",
    "4 ",
    "01 ",
    "+1 ",
    "(1)",
    "eyJ",
    "sk-",
    "password=",
    'token:"',
    "\\",
    "\\n",
    "DE89 ",
]


def marking() -> Redactor:
    """Return a redactor that leaves each hit in place, between marks that name its rule."""

    def mark(name: str) -> Callable[[str], str]:
        return lambda written: f"\2{name}\3{written}\4"

    return Redactor([Rule(name, replace=mark(name)) for name in RULES], FIXED)


def hits(redactor: Redactor, text: str) -> list[tuple[str, int, int]]:
    found, shift = [], 0
    for match in FOUND.finditer(redactor.text(text)):
        start = match.start() - shift
        found.append((match[1], start, start + len(match[2])))
        shift += len(match[0]) - len(match[2])
    return found


def wilson(share: int, total: int) -> list[float]:
    """Return the share and its 95 % Wilson interval."""
    if not total:
        return [0.0, 0.0, 1.0]
    p, z = share / total, 1.959964
    middle, spread = p + z * z / 2 / total, z * math.sqrt(p * (1 - p) / total + z * z / 4 / total / total)
    scale = 1 + z * z / total
    return [round(p, 4), round((middle - spread) / scale, 4), round((middle + spread) / scale, 4)]


class Tally:
    """Count what was found, missed and masked without cause."""

    def __init__(self) -> None:
        self.total: Counter[tuple[str, str]] = Counter()
        self.found: Counter[tuple[str, str]] = Counter()
        self.right: Counter[str] = Counter()
        self.masked: Counter[tuple[str, str]] = Counter()
        self.characters = self.negatives = 0

    def add(self, sample: Sample, found: list[tuple[str, int, int]]) -> None:
        (label,) = sample.labels
        self.characters += len(sample.text)
        self.negatives += label.kind == "negative"
        self.total[label.kind, label.form] += 1
        self.found[label.kind, label.form] += (label.kind, label.start, label.end) in found
        for name, start, end in found:
            if name == label.kind and start < label.end and end > label.start:
                self.right[name] += 1
            else:
                self.masked[name, label.form if label.kind == "negative" else f"({label.kind}) {label.form}"] += 1

    def rule(self, name: str) -> dict[str, Any]:
        forms = {form: total for (kind, form), total in self.total.items() if kind == name}
        false = sum(count for (rule, _), count in self.masked.items() if rule == name)
        negative = sum(n for (rule, form), n in self.masked.items() if rule == name and not form.startswith("("))
        missed = {form: [total - self.found[name, form], total] for form, total in sorted(forms.items())}
        return {
            "values": sum(forms.values()),
            "recall": wilson(sum(self.found[name, form] for form in forms), sum(forms.values())),
            "precision": wilson(self.right[name], self.right[name] + false),
            "false_masks_per_1000_characters": round(1000 * false / self.characters, 4),
            "false_masks_per_1000_negatives": [round(1000 * x, 2) for x in wilson(negative, self.negatives)],
            "false_masks": {form: n for (rule, form), n in self.masked.most_common() if rule == name},
            "missed": {form: counts for form, counts in missed.items() if counts[0]},
        }


def linkage() -> dict[str, int]:
    """Return how many writings of one value got the pseudonym of the first."""
    redactor, linked, total = Redactor(RULES, FIXED), 0, 0
    writings = []
    for n in range(500):
        writings.append([f"anna.nr{n}@firma{n % 9}.de", f"Anna.Nr{n}@FIRMA{n % 9}.DE", f"ANNA.NR{n}@firma{n % 9}.de"])
        digits = f"{1700000000 + 7919 * n}"
        writings.append([f"+49 {digits[:3]} {digits[3:]}", f"+49-{digits[:3]}-{digits[3:]}", f"+49{digits}"])
    for first, *others in writings:
        for frame in ("{}", '{{"note": "x\\n{}"}}', "write to {}, please"):
            for other in others:
                pseudonyms = [_compact(redactor.text(frame.format(written)), frame) for written in (first, other)]
                linked, total = linked + (pseudonyms[0] == pseudonyms[1] != _compact(first, "{}")), total + 1
    return {"linked": linked, "pairs": total}


def _compact(text: str, frame: str) -> str:
    head, tail = frame.format("\1").split("\1")
    return re.sub(r"[ -]", "", text[len(head) : len(text) - len(tail)]).lower()


def cost(repeats: int) -> dict[str, float]:
    """Return microseconds for one text of 2,000 characters, the best of five."""
    redactor = Redactor(RULES, FIXED)
    three = f"{PROSE * 4}My mail is anna.mueller@firma.de, card 4111 1111 1111 1111, {PROSE * 3}call +49 170 1234567. "
    row = {"id": 17, "note": 'line one\nline "two"', "price": 19.9, "at": "2026-11-21T09:56:54Z"}
    texts = {
        "prose, no hit": PROSE * 20,
        "prose with dates and order numbers, no hit": f"{PROSE * 3}Order ORD-12345-6789 of 2026-11-21: 129.90 EUR. "
        * 5,
        "prose with three hits": three + PROSE * 10,
        "JSON text, no hit": json.dumps([row] * 40),
        "log lines, no hit": "2026-11-21 09:56:54,123 INFO worker-3: request 71123 took 12 ms\n" * 40,
    }
    return {
        name: round(
            min(timeit.repeat(partial(redactor.text, text[:2000]), number=repeats, repeat=5)) / repeats * 1e6, 1
        )
        for name, text in texts.items()
    }


def growth(size: int) -> dict[str, float]:
    """Return how much longer a hostile text of four times the size takes: 4 is linear, 16 would be quadratic."""
    redactor = Redactor(RULES, FIXED)
    ratios = {}
    for unit in HOSTILE:
        short, long = ((unit * (length // len(unit) + 1))[:length] for length in (size // 4, size))
        times = [min(timeit.repeat(partial(redactor.text, t), number=1, repeat=2)) for t in (short, long)]
        ratios[unit] = round(times[1] / times[0], 1)
    return ratios


def measure(quick: bool) -> dict[str, Any]:
    tally, redactor = Tally(), marking()
    count = 2_000 if quick else 24_000
    for sample in samples(count, seed=20261121):
        tally.add(sample, hits(redactor, sample.text))
    return {
        "versions": versions(PACKAGES),
        "date": datetime.now(UTC).date().isoformat(),
        "command": "python benchmarks/redaction.py" + (" --quick" if quick else "") + " --json",
        "machine": machine(),
        "python": platform.python_version(),
        "samples": count,
        "negatives": tally.negatives,
        "rules": {name: tally.rule(name) for name in RULES},
        "linkage": linkage(),
        "microseconds_per_2000_characters": cost(50 if quick else 500),
        "time_ratio_of_four_times_the_text": growth(2**16 if quick else 2**20),
    }


def table(result: dict[str, Any]) -> str:
    lines = [f"{'rule':6} {'recall':>24} {'precision':>24} {'false masks per 1,000 negatives':>34}"]
    for name, rule in result["rules"].items():
        cells = [f"{m} ({low} to {high})" for m, low, high in (rule["recall"], rule["precision"])]
        false = "{} ({} to {})".format(*rule["false_masks_per_1000_negatives"])
        lines.append(f"{name:6} {cells[0]:>24} {cells[1]:>24} {false:>34}")
    lines += [f"{name}: {took} us" for name, took in result["microseconds_per_2000_characters"].items()]
    return "\n".join(lines)


def main() -> None:
    """Measure as the options say, and print it."""
    options = asking(__doc__, "2,000 samples and short hostile texts").parse_args()
    deliver(measure(options.quick), options, table)


if __name__ == "__main__":
    main()
