"""Tell which traces belong together: those that share a key are assembled as one."""

from collections.abc import Iterable

from imitrace_collector.foreign.conversations import Traces, name_of, provides, read_traces, wants
from imitrace_collector.foreign.judgements import targets_of
from imitrace_collector.foreign.readings import is_agents
from imitrace_collector.rows import LogRow, SpanRow

_LATEST = 2**63 - 1
PROVIDES, CONTINUES = "provides:", "continues:"
"""How a key begins that connects only with one of the other kind."""
CONVERSATION, CHAIN, RESPONSE, SPAN = "conversation:", "chain:", "response:", "span:"


def links_of(spans: Iterable[SpanRow], logs: Iterable[LogRow], traces: Traces | None = None) -> frozenset[str]:
    """Return the keys by which one trace is connected with others; none for a trace without an agent's spans.

    ``conversation:ID`` where its spans name one, or a session, for either names the trajectory. Else, for each model
    call, ``provides:chain:HASH`` of what it saw and answered, and for the first ``continues:chain:HASH`` of what that
    saw up to the last answer in it. So are scores connected with what they are about: a call ``provides:response:ID``,
    a score elsewhere ``continues:`` it. ``continues:span:ID`` has no other side: spans are found by their ids.

    Args:
        spans: all of the trace that came so far.
        logs: likewise. Those without a trace are each for themselves.
        traces: what they say, where that has been read already.
    """
    spans, logs = list(spans), list(logs)
    traces = read_traces(spans, logs) if traces is None else traces
    keys = {key if key.startswith(CONVERSATION) else CONTINUES + key for key in targets_of(spans, logs)}
    agents = [reading for reading in traces.readings if is_agents(reading)]
    named = set(traces.names.values()) | {name for call in traces.calls if (name := name_of(call.reading))}
    if agents:
        keys |= {f"{CONVERSATION}{name}" for _, name in named}
    for call in traces.calls:
        keys |= {f"{PROVIDES}{RESPONSE}{name}" for name in call.response_ids}
        if not named:
            keys |= {f"{PROVIDES}{CHAIN}{found}" for found in provides(call)}
    if not named and traces.calls:
        keys |= {f"{CONTINUES}{CHAIN}{found}" for found in wants(traces.calls[0])}
    return frozenset(keys)


def began(spans: Iterable[SpanRow], logs: Iterable[LogRow], traces: Traces) -> int:
    """Return when a trace began: its first model call, else whatever came of it; 0 when nothing did."""
    if traces.calls:
        return min(traces.calls[0].reading.row.started_at, _LATEST)
    times = [*(span.started_at for span in spans), *(log.logged_at for log in logs)]
    return min([*times, _LATEST]) if times else 0
