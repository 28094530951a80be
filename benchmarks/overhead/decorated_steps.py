"""Measure a decorated step of imitrace against the plain span: tracing on, in several shapes, and tracing off.

Run as ``python -m overhead.decorated_steps STEPS ROUNDS``; prints one JSON object.
"""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Generic, TypeVar

import imitrace
from imitrace.pipeline import Pipeline, TracingConfig
from imitrace.provider import install
from imitrace.redaction.redactor import make_redactor
from imitrace.redaction.rules import RULES
from overhead.plain_spans import NoExporter, Step, batching_provider, each, empty_spanned, noop_tracer, spanned
from overhead.states import ANSWER, Message, growing_states, model, new_states, offered_tools, sliding_states
from overhead.timing import Cost, Json, Way, in_turns, ratios, spread, tell

T = TypeVar("T")
_SECRET = "benchmark secret, no other use"  # noqa: S105 - nothing is protected by it
_FLUSH_SECONDS = 60.0
_OFF_CALLS = 50


class NoDelivery(Generic[T]):
    """Take every batch."""

    def send(self, batch: Sequence[T]) -> bool:
        return True

    def close(self) -> None:
        pass

    def reset(self) -> None:
        pass


@contextmanager
def recording(pipeline: Pipeline) -> Iterator[None]:
    before = install(pipeline)
    try:
        yield
    finally:
        install(before)


def decorated_way(step: Step, states: Sequence[list[Message]], pipeline: Pipeline, trajectory_of: int) -> Way:
    """Return a way that takes all states, ``trajectory_of`` of them in one trajectory."""

    def run() -> None:
        with recording(pipeline):
            for start in range(0, len(states), trajectory_of):
                with imitrace.trajectory():
                    for state in states[start : start + trajectory_of]:
                        step(state)

    return Way(run, lambda: pipeline.flush(_FLUSH_SECONDS))


def completing() -> Step | None:
    """Return a decorated function that answers with OpenAI's object; None where its client is not installed."""
    try:
        from openai.types.chat import ChatCompletion
    except ImportError:
        return None
    call = {"id": "call_1", "type": "function", "function": {"name": ANSWER[0], "arguments": json.dumps(ANSWER[1])}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    answer = ChatCompletion.model_validate(
        {
            "id": "c",
            "object": "chat.completion",
            "created": 1,
            "model": "gpt",
            "choices": [{"index": 0, "finish_reason": "tool_calls", "message": message}],
            "usage": {"prompt_tokens": 500, "completion_tokens": 20, "total_tokens": 520},
        }
    )

    @imitrace.step
    def complete(messages: list[Message]) -> ChatCompletion:
        return answer

    return complete


def measure_enabled(steps: int, rounds: int) -> Json:
    with ExitStack() as cleanup:

        def pipeline(**config: Any) -> Pipeline:
            made: Pipeline = Pipeline(TracingConfig(agent="desk", **config), NoDelivery(), NoDelivery())
            cleanup.callback(made.close, _FLUSH_SECONDS)
            return made

        def plain(states: Sequence[list[Message]]) -> Way:
            provider = batching_provider(NoExporter())
            cleanup.callback(provider.shutdown)
            return Way(each(spanned(provider.get_tracer("benchmark")), states), provider.force_flush)

        new, umlauts, growing = new_states(steps), new_states(steps, beyond_ascii=True), growing_states(steps)
        on, redacting = pipeline(), pipeline(redactor=make_redactor(RULES, _SECRET))
        step, offering = imitrace.step(model), imitrace.step(tools=offered_tools())(model)
        ways = {
            "bare_span": plain(new),
            "bare_span_beyond_ascii": plain(umlauts),
            "bare_span_growing": plain(growing),
            "new_state": decorated_way(step, new, on, steps),
            "sliding_window": decorated_way(step, sliding_states(steps), on, steps),
            "redaction": decorated_way(step, new, redacting, steps),
            "tools_16": decorated_way(offering, new, on, steps),
            "trajectory_each": decorated_way(step, new, on, 1),
            "beyond_ascii": decorated_way(step, umlauts, on, steps),
            "growing": decorated_way(step, growing, on, 20),
        }
        if complete := completing():
            ways["openai_answer"] = decorated_way(complete, new, on, steps)
        tell(f"{len(ways)} ways to record {steps} steps, {rounds} rounds")
        costs = in_turns(ways, steps, rounds)
        _check(on, redacting)
    return _report(costs)


def _check(*pipelines: Pipeline) -> None:
    for pipeline in pipelines:
        stats = pipeline.stats()
        assert stats.lost == 0 and not stats.faults, f"the benchmark lost records: {stats}"


def _report(costs: dict[str, list[Cost]]) -> Json:
    references = {"beyond_ascii": "bare_span_beyond_ascii", "growing": "bare_span_growing"}
    report: Json = {name: None for name in ("openai_answer",) if name not in costs}
    for name, measured in costs.items():
        if name.startswith("bare_span"):
            report[name] = {"microseconds": spread([cost.wall for cost in measured])}
        else:
            against = references.get(name, "bare_span")
            report[name] = {"against": against, **ratios(measured, costs[against])}
    return report


def measure_disabled(steps: int, rounds: int) -> Json:
    """Measure what the decorator and the no-op spans add to a plain call, tracing not configured."""
    states = new_states(20) * (steps * _OFF_CALLS // 20)
    tracer = noop_tracer()
    kinds = {"plain": model, "step": imitrace.step(model), "noop_span": empty_spanned(tracer)}
    few = states[: max(20, len(states) // 20)]
    tell(f"tracing off: {len(states)} calls, {rounds} rounds")
    costs = in_turns({name: Way(each(step, states)) for name, step in kinds.items()}, len(states), rounds)
    written = in_turns({"attributes": Way(each(spanned(tracer), few))}, len(few), rounds)["attributes"]
    added = {
        name: [cost.wall - plain.wall for cost, plain in zip(costs[name], costs["plain"], strict=True)]
        for name in ("step", "noop_span")
    }
    return {
        "added_microseconds": spread(added["step"]),
        "noop_span_microseconds": spread(added["noop_span"]),
        "noop_span_with_attributes_microseconds": spread([cost.wall for cost in written]),
        "ratio": spread([ours / theirs for ours, theirs in zip(added["step"], added["noop_span"], strict=True)]),
    }


if __name__ == "__main__":
    asked = int(sys.argv[1]), int(sys.argv[2])
    print(json.dumps({"disabled": measure_disabled(*asked), "enabled": measure_enabled(*asked)}))
