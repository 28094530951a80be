"""Measure what a step costs the agent's process when a real collector takes it over HTTP, the queue's thread included.

Run as ``python -m overhead.collected_steps STEPS ROUNDS``; prints one JSON object.
"""

import json
import sys

from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

import imitrace
from overhead.collectors import collector
from overhead.plain_spans import batching_provider, spanned
from overhead.states import model, new_states, sliding_states
from overhead.timing import Cost, Json, Way, in_turns, spread

_FLUSH_SECONDS = 120.0
_BETWEEN_FLUSHES = 500
_SPAN_QUEUE_MS = 120_000


def measure(steps: int, rounds: int) -> Json:
    new, sliding = new_states(steps), sliding_states(steps)
    step = imitrace.step(model)
    with collector() as url:
        imitrace.configure(agent="desk", endpoint=url)
        provider = batching_provider(OTLPSpanExporter(f"{url}/v1/traces", compression=Compression.Gzip))
        span = spanned(provider.get_tracer("benchmark"))

        def record(states: list[list[dict[str, object]]]) -> None:
            for start in range(0, steps, _BETWEEN_FLUSHES):
                with imitrace.trajectory():
                    for state in states[start : start + _BETWEEN_FLUSHES]:
                        step(state)
                assert imitrace.flush(_FLUSH_SECONDS), f"the collector lost records: {imitrace.stats()}"

        def write_spans() -> None:
            for start in range(0, steps, _BETWEEN_FLUSHES):
                for state in new[start : start + _BETWEEN_FLUSHES]:
                    span(state)
                assert provider.force_flush(_SPAN_QUEUE_MS), "the plain spans were not delivered in time"

        ways = {
            "bare_span": Way(write_spans),
            "new_state": Way(lambda: record(new)),
            "sliding_window": Way(lambda: record(sliding)),
        }
        costs = in_turns(ways, steps, rounds)
        stats = imitrace.stats()
        assert not stats.faults and stats.exported == stats.records, f"the benchmark lost records: {stats}"
        imitrace.shutdown()
        provider.shutdown()
    return {name: _report(costs[name], costs["bare_span"]) for name in ways}


def _report(costs: list[Cost], to: list[Cost]) -> Json:
    return {
        "cpu_seconds_per_10k_steps": spread([cost.cpu / 100 for cost in costs]),
        "cpu_ratio": spread([mine.cpu / theirs.cpu for mine, theirs in zip(costs, to, strict=True)]),
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]))))
