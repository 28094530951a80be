"""Measure one server once: how fast it takes requests, what that costs, and what is left of it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from intake import processes
from intake.load import SENDERS, Load, put
from intake.payloads import SPANS, TRAJECTORY_SPANS
from intake.products import Imitrace, Product
from intake.servers import Server, running, wait
from overhead.timing import Json

_READ_SECONDS = 600.0
_LOOK, _SHARE = 0.05, 0.02
"""Seconds between two looks at least, and as a share of the time it takes: looking costs the server, too."""
_PER = 10_000
_SHOWN = 3


class Way(NamedTuple):
    """What is sent, and how."""

    bodies: Sequence[Path]
    """The first ones only warm up: as many as the product asks for."""
    protocol: str = "http"
    encoding: str = ""
    """Content encoding of the bodies; empty for none."""
    derived: bool = False
    """Whether the spans are trajectories of ours, all of which must be complete."""
    rate: float | None = None
    """Requests a second at random times; None for as fast as it goes."""
    senders: int = SENDERS


def run(product: Product, way: Way) -> Json:
    """Start a server, warm it up, send everything, and wait until all that was acknowledged can be read.

    Raises:
        ConnectionError: it did not start, or lost what it had acknowledged.
    """
    with running(product) as server:
        headers = {"Content-Encoding": way.encoding} if way.encoding else {}
        route = server.route(way.protocol, **headers)
        warm = put(route, way.bodies[: product.warming], senders=way.senders)
        _until_readable(server, warm.acknowledged)
        _derive(server)
        server.rest()
        started = processes.cpu_seconds(server.pid)
        load = put(route, way.bodies[product.warming :], way.rate, way.senders)
        acknowledged = warm.acknowledged + load.acknowledged
        _until_readable(server, acknowledged)
        if way.derived:
            _derive(server)
        seconds = time.monotonic() - load.begun
        read = processes.cpu_seconds(server.pid)
        derived = _derive(server)
        peak = processes.memory(server.pid, "VmHWM")
        checked = _check(server, way) if way.derived else 0.0
        server.stop()
        stored = product.stored(server.home)
        if stored < acknowledged:
            raise ConnectionError(f"{product.name} acknowledged {acknowledged} spans and stored {stored}")
        return {
            "spans_per_s": load.acknowledged / seconds,
            "cpu_s_per_10k_spans": _per_10k(read - started, load),
            "cpu_s_per_10k_spans_until_derived": _per_10k(derived - started, load),
            "cpu_s_per_10k_spans_until_stopped": _per_10k(server.life_cpu - started - checked, load),
            "bytes_per_span": server.bytes_on_disk() / stored,
            "peak_mb": peak,
            "idle_mb": server.idle_megabytes,
            "ready_s": server.ready_seconds,
            "milliseconds": load.milliseconds,
            "spans": load.acknowledged,
            "rate": way.rate,
            "retried": load.retried,
            "refused": len(load.refused),
            "refusals": load.refused[:_SHOWN],
        }


def _per_10k(cpu: float, load: Load) -> float:
    return cpu / load.acknowledged * _PER


def _until_readable(server: Server, spans: int) -> None:
    if not spans:
        raise ConnectionError(f"{server.product.name} acknowledged nothing")
    since = time.monotonic()
    while not server.product.can_read(server, spans):
        waited = time.monotonic() - since
        if waited > _READ_SECONDS:
            raise ConnectionError(f"{server.product.name} acknowledged {spans} spans that can't be read")
        wait(max(_LOOK, _SHARE * waited))


def _derive(server: Server) -> float:
    """Wait until trajectories are derived, where they are; returns what the server has taken, in CPU seconds."""
    if isinstance(server.product, Imitrace):
        server.product.derive(server)
    return processes.cpu_seconds(server.pid)


def _check(server: Server, way: Way) -> float:
    """Look whether all trajectories were derived, complete; returns what the server took to say so, in CPU seconds."""
    assert isinstance(server.product, Imitrace)
    before = processes.cpu_seconds(server.pid)
    found, complete = server.product.complete(server)
    expected = len(way.bodies) * SPANS // TRAJECTORY_SPANS
    assert found == complete == expected, f"{expected} trajectories were sent, {found} derived, {complete} complete"
    return processes.cpu_seconds(server.pid) - before
