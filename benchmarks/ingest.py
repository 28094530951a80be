"""Measure how fast the collector takes spans and what that costs, beside MLflow's server and Arize Phoenix.

Every server runs by itself, on a new store, and is sent the same requests by the same number of senders; it is done
when all that it acknowledged can be read by its own query API. Figures are medians of interleaved rounds with tenth and
ninetieth percentile, ratios are of one round.

Examples:
  python benchmarks/ingest.py                    half an hour with the peers, prints a table
  python benchmarks/ingest.py --quick            under a minute, rough, without the peers
  python benchmarks/ingest.py --peers --json     installs the peers under .benchmarks/ first (network)
  python benchmarks/ingest.py --json --output benchmarks/results/ingest.json
"""

import argparse
import datetime
import gzip
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from intake import payloads, products
from intake.load import SENDERS
from intake.products import Imitrace, Product
from intake.runs import Way, run
from overhead.reports import asking, deliver
from overhead.timing import Json, machine, spread, tell, versions

PACKAGES = ("imitrace", "duckdb", "protobuf", "uvicorn", "starlette", "grpcio")
_PLAIN, _STEPS, _HALF = "genai", "steps", "genai_at_half_load"
_APART = 4
_RATIOS = ("spans_per_s", "cpu_s_per_10k_spans", "bytes_per_span")
_DERIVED = "cpu_s_per_10k_spans_until_derived"
_FIGURES = (*_RATIOS, _DERIVED, "cpu_s_per_10k_spans_until_stopped", "peak_mb", "idle_mb", "ready_s")


class Size(NamedTuple):
    """How many requests of 512 spans each; those that only warm up come on top."""

    genai: int
    others: int
    """By gzip, by gRPC, and of our own steps."""
    peers: Mapping[str, int]
    rounds: int
    variants: bool
    """Whether gzip, gRPC and trajectories in parts are measured too."""
    senders: int


FULL = Size(192, 96, {"mlflow": 24, "phoenix": 8}, 5, True, SENDERS)
QUICK = Size(8, 4, {"mlflow": 8, "phoenix": 2}, 1, False, 2)

Rounds = dict[str, list[Json]]
"""What each round measured, by what was measured; empty objects where it failed."""


def main() -> None:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # and with it the servers that it started
    for peer in products.PEERS if options.peers else ():
        tell(f"installing {peer.name}")
        products.install(peer.name)
    skipped = {}
    for peer in products.PEERS:
        if products.version(peer.name) is None:
            skipped[peer.name] = "not installed: run benchmarks/ingest.py with --peers once"
        elif options.quick and not options.peers:
            skipped[peer.name] = "left out of a quick run, for it takes minutes; add --peers"
    size = QUICK if options.quick else FULL
    report = measure(size._replace(rounds=options.rounds or size.rounds), skipped)
    report["quick"] = options.quick
    deliver(report, options, table)


def measure(size: Size, skipped: dict[str, str]) -> Json:
    """Return the report: the headline figures by name, then everything in detail."""
    started = time.monotonic()
    peers = [peer for peer in products.PEERS if peer.name not in skipped]
    with tempfile.TemporaryDirectory() as folder:
        tell("writing the requests")
        ways = _ways(Path(folder), size)
        rounds = _rounds(ways, peers, size, skipped)
    ours = {name: _figures(rounds[name]) for name in (*ways, _HALF)}
    ratios = {peer.name: _ratios(rounds[_PLAIN], rounds[peer.name]) for peer in peers if any(rounds[peer.name])}
    started_idle = _figures([each for name in ours for each in rounds[name]])
    return {
        "benchmark": "ingest",
        "spans_per_s": ours[_PLAIN]["spans_per_s"]["median"],
        "cpu_s_per_10k_spans": ours[_PLAIN]["cpu_s_per_10k_spans"]["median"],
        "derived_cpu_s_per_10k_spans": ours[_PLAIN][_DERIVED]["median"],
        "steps_cpu_s_per_10k_spans": ours[_STEPS]["cpu_s_per_10k_spans"]["median"],
        "bytes_per_span": ours[_PLAIN]["bytes_per_span"]["median"],
        "ack_p99_ms": ours[_HALF]["ack_ms"]["p99"],
        "idle_mb": started_idle["idle_mb"]["median"],
        "ready_s": started_idle["ready_s"]["median"],
        **{f"vs_{peer.name}": _median(ratios.get(peer.name), "spans_per_s") for peer in products.PEERS},
        "skipped": skipped,
        "ratios": ratios,
        "imitrace": ours,
        "peers": {peer.name: _about(peer) | _figures(rounds[peer.name]) for peer in peers if peer.name in ratios},
        "payloads": {kind: payloads.packed(kind) for kind in (_PLAIN, _STEPS)},
        "senders": size.senders,
        "rounds": size.rounds,
        "versions": versions(PACKAGES),
        "machine": machine(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "command": " ".join(["python", "benchmarks/ingest.py", *sys.argv[1:]]),
        "seconds": round(time.monotonic() - started),
    }


def _ways(folder: Path, size: Size) -> dict[str, Way]:
    """Return what the collector is sent; the peers get the first requests of the plain way."""
    warming = Imitrace.warming
    plain = payloads.write(folder / "plain", _PLAIN, size.genai + warming)
    count = size.others + warming
    steps = payloads.write(folder / "steps", _STEPS, count)
    ways = {_PLAIN: Way(plain, senders=size.senders), _STEPS: Way(steps, derived=True, senders=size.senders)}
    if not size.variants:
        return ways
    (folder / "gzip").mkdir()
    packed = [folder / "gzip" / path.name for path in plain[:count]]
    for source, target in zip(plain, packed, strict=False):
        target.write_bytes(gzip.compress(source.read_bytes(), 6))
    return ways | {
        "genai_gzip": Way(packed, encoding="gzip"),
        "genai_grpc": Way(plain[:count], protocol="grpc"),
        "steps_apart": Way(payloads.write(folder / "apart", _STEPS, count, _APART), derived=True),
    }


def _rounds(ways: Mapping[str, Way], peers: Sequence[Product], size: Size, skipped: dict[str, str]) -> Rounds:
    """Measure everything once a round, in a new order each time; half load comes last, for it needs the full one."""
    draw, rounds = random.Random(1), Rounds()
    turns: list[tuple[str, Product, Way]] = [(name, Imitrace(), way) for name, way in ways.items()]
    for peer in peers:
        few = ways[_PLAIN].bodies[: peer.warming + size.peers[peer.name]]
        turns.append((peer.name, peer, Way(few, senders=size.senders)))
    for number in range(size.rounds):
        draw.shuffle(turns)
        for name, product, way in [*turns, (_HALF, Imitrace(), ways[_PLAIN])]:
            tell(f"round {number + 1} of {size.rounds}: {name}")
            if name == _HALF:
                peak = statistics.median(each["spans_per_s"] for each in rounds[_PLAIN])
                way = way._replace(rate=peak / 2 / payloads.SPANS)
            rounds.setdefault(name, []).append(_measured(product, way, skipped))
    return rounds


def _measured(product: Product, way: Way, skipped: dict[str, str]) -> Json:
    """Return one round's figures; a peer may fail, which is told."""
    os.sync()  # what another product left to be written would hold up this one's acknowledgements
    try:
        return run(product, way)
    except (OSError, ValueError, KeyError) as error:
        if product.name == Imitrace.name:
            raise
        skipped[product.name] = f"failed in a round: {error}"
        return {}


def _figures(runs: Sequence[Json]) -> Json:
    done = [each for each in runs if each]
    times = sorted(one for each in done for one in each["milliseconds"])
    return {
        **{figure: spread([each[figure] for each in done]) for figure in _FIGURES},
        "ack_ms": {"p50": _at(times, 50), "p99": _at(times, 99), "requests": len(times)},
        "requests_per_s": done[0]["rate"],
        "spans": sum(each["spans"] for each in done),
        "told_to_come_again": sum(each["retried"] for each in done),
        "refused": sum(each["refused"] for each in done),
        "refusals": [why for each in done for why in each["refusals"]][:3],
    }


def _at(times: Sequence[float], percent: int) -> float:
    """Return a percentile of sorted times: of all rounds together, for one round has too few for the 99th."""
    return round(times[min(len(times) - 1, len(times) * percent // 100)], 1)


def _ratios(ours: Sequence[Json], theirs: Sequence[Json]) -> Json:
    """Return by figure how many times what a peer has we have, in the same round."""
    pairs = [(mine, its) for mine, its in zip(ours, theirs, strict=True) if its]
    return {figure: spread([mine[figure] / its[figure] for mine, its in pairs]) for figure in _RATIOS}


def _median(figures: Json | None, name: str) -> float | None:
    return None if figures is None else figures[name]["median"]


def _about(peer: Product) -> Json:
    return {"version": products.version(peer.name), "configured": peer.configured}


def table(report: Json) -> str:
    """Return the report for people."""
    rows = [
        *report["imitrace"].items(),
        *((f"{name} {peer['version']}", peer) for name, peer in report["peers"].items()),
    ]
    lines = [f"{'':22} {'spans/s':>22} {'CPU s/10k spans':>22} {'B/span':>8} {'ack p50, p99 ms':>18}"]
    for name, row in rows:
        fast, cpu, disk = (_range(row[figure]) for figure in _RATIOS)
        times = f"{row['ack_ms']['p50']}, {row['ack_ms']['p99']}"
        lines.append(f"{name:22} {fast:>22} {cpu:>22} {disk.split()[0]:>8} {times:>18}")
    for name, ratios in report["ratios"].items():
        lines.append(f"x {name:20} {_range(ratios['spans_per_s']):>22} {_range(ratios['cpu_s_per_10k_spans']):>22}")
    lines += [f"{name:22} {why}" for name, why in report["skipped"].items()]
    lines.append(f"idle {report['idle_mb']} MB, ready after {report['ready_s']} s")
    return "\n".join([*lines, f"{report['machine']}, {report['date']}, {report['seconds']} s"])


def _range(found: Json) -> str:
    return f"{found['median']:.3g} [{found['p10']:.3g}, {found['p90']:.3g}]"


def _options() -> argparse.Namespace:
    parser = asking(__doc__, "one short round without the peers: checks that it runs")
    parser.add_argument("--peers", action="store_true", help="install the peers, or bring them up to date, first")
    parser.add_argument("--rounds", type=int, help="how many rounds  [default: 5, quick 1]")
    return parser.parse_args()


if __name__ == "__main__":
    main()
