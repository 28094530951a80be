"""Measure another SDK's decorator against the plain span, both in one process: run by the Python that has it.

Run as ``python -m overhead.peer_steps NAME STEPS ROUNDS``; prints one JSON object. Needs no imitrace and no network.
"""

import importlib.metadata
import json
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any, NamedTuple

from opentelemetry.sdk.trace.export import BatchSpanProcessor

from overhead.plain_spans import NoExporter, Step, batching_provider, each, spanned
from overhead.states import model, new_states
from overhead.timing import Json, Way, in_turns, ratios, spread


class Traced(NamedTuple):
    step: Step
    flush: Callable[[], object]


def _logfire(exporter: NoExporter) -> Traced:
    logfire: Any = import_module("logfire")
    logfire.configure(
        send_to_logfire=False, console=False, metrics=False, additional_span_processors=[BatchSpanProcessor(exporter)]
    )
    return Traced(logfire.instrument(record_return=True)(model), logfire.force_flush)


def _traceloop(exporter: NoExporter) -> Traced:
    sdk: Any = import_module("traceloop.sdk")
    sdk.Traceloop.init(app_name="benchmark", exporter=exporter, telemetry_enabled=False, instruments=set())
    decorators: Any = import_module("traceloop.sdk.decorators")
    provider: Any = import_module("opentelemetry.trace").get_tracer_provider()
    return Traced(decorators.tool(name="model")(model), provider.force_flush)


def _langfuse(exporter: NoExporter) -> Traced:
    langfuse: Any = import_module("langfuse")
    client = langfuse.Langfuse(public_key="pk-lf-benchmark", secret_key="sk-lf-benchmark", span_exporter=exporter)  # noqa: S106
    provider: Any = import_module("opentelemetry.trace").get_tracer_provider()
    assert client is not None
    return Traced(langfuse.observe(as_type="tool")(model), provider.force_flush)


def _openinference(exporter: NoExporter) -> Traced:
    provider = import_module("openinference.instrumentation").TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return Traced(provider.get_tracer("benchmark").tool(name="model")(model), provider.force_flush)


class Peer(NamedTuple):
    package: str
    traced: Callable[[NoExporter], Traced]
    configured: str


PEERS = {
    "logfire": Peer(
        "logfire",
        _logfire,
        "@logfire.instrument(record_return=True), nothing sent, console and metrics off, scrubbing as it comes",
    ),
    "traceloop": Peer("traceloop-sdk", _traceloop, "@tool, own exporter, no instruments, telemetry off"),
    "langfuse": Peer("langfuse", _langfuse, '@observe(as_type="tool"), own exporter, its own batches'),
    "openinference": Peer("openinference-instrumentation", _openinference, "@tracer.tool of its TracerProvider"),
}


def measure(name: str, steps: int, rounds: int) -> Json:
    """Return the ratio, after a look at one span: both the messages and the answer must be in it."""
    peer, states = PEERS[name], new_states(steps)
    exporter = NoExporter()
    traced = peer.traced(exporter)
    traced.step(states[0])
    traced.flush()
    written = "" if exporter.last is None else json.dumps(dict(exporter.last.attributes or {}), default=str)
    captured = states[0][0]["content"][:12] in written and "Q-7345" in written
    if not captured:
        raise SystemExit(f"{name} did not record the argument and the answer: {written[:300]}")
    provider = batching_provider(NoExporter())
    ways = {
        "bare_span": Way(each(spanned(provider.get_tracer("benchmark")), states), provider.force_flush),
        name: Way(each(traced.step, states), traced.flush),
    }
    costs = in_turns(ways, steps, rounds)
    return {
        "version": importlib.metadata.version(peer.package),
        "opentelemetry_sdk": importlib.metadata.version("opentelemetry-sdk"),
        "configured": peer.configured,
        **ratios(costs[name], costs["bare_span"]),
        "bare_span_microseconds": spread([cost.wall for cost in costs["bare_span"]]),
    }


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))))
