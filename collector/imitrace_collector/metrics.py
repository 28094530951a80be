"""Count what the collector takes, refuses and writes, for Prometheus."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from imitrace_collector.batcher import Commit

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_GROUPS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class Metrics:
    """Hold one collector's figures, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Export requests answered.", "signal", "protocol", "code")
        self._bytes = self._counter("request_bytes", "Bytes of export requests as they came.", "signal", "protocol")
        self._items = self._counter("items", "Spans and log records by what became of them.", "signal", "outcome")
        self._commits = self._counter("commits", "Writes to the store.", "outcome")
        self._renewals = self._counter("certificate_renewals", "Certificates that were read again.", "outcome")
        for outcome in ("renewed", "failed"):  # both from the start, so that the first one is seen to rise
            self._renewals.labels(outcome)
        self._seconds = Histogram(
            "imitrace_commit_seconds", "Seconds of a write.", registry=self._registry, buckets=_SECONDS
        )
        self._groups = Histogram(
            "imitrace_commit_requests", "Requests written together.", registry=self._registry, buckets=_GROUPS
        )
        self._lost = Gauge(
            "imitrace_lost_records", "Records that senders say they lost.", ["service"], registry=self._registry
        )
        self._gauges: dict[str, Gauge] = {}

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"imitrace_{name}", about, labels, registry=self._registry)

    def answered(self, signal: str, protocol: str, code: str) -> None:
        """Count an answered export request; ``code`` is HTTP's number or gRPC's word."""
        self._requests.labels(signal, protocol, code).inc()

    def received(self, signal: str, protocol: str, size: int) -> None:
        """Count a request's bytes as they came."""
        self._bytes.labels(signal, protocol).inc(size)

    def read(self, signal: str, accepted: int, rejected: int) -> None:
        """Count a durable request's items."""
        self._items.labels(signal, "accepted").inc(accepted)
        self._items.labels(signal, "rejected").inc(rejected)

    def committed(self, commit: Commit) -> None:
        """Count a write to the store."""
        self._commits.labels("failed" if commit.error else "written").inc()
        self._seconds.observe(commit.seconds)
        self._groups.observe(commit.requests)
        duplicates = getattr(commit.result, "duplicates", 0)
        if duplicates:
            self._items.labels("all", "duplicate").inc(duplicates)

    def renewed(self, good: bool) -> None:
        """Count a certificate whose files have changed, and whether they could be used."""
        self._renewals.labels("renewed" if good else "failed").inc()

    def render(self, gauges: Mapping[str, float], lost: Mapping[str, int]) -> bytes:
        """Return everything in Prometheus's text format.

        Args:
            gauges: figures of this moment by name; the same names each time.
            lost: how many records each service says it lost.
        """
        for name, value in gauges.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"imitrace_{name}", name.replace("_", " "), registry=self._registry)
            self._gauges[name].set(value)
        for service, count in lost.items():
            self._lost.labels(service).set(count)
        return generate_latest(self._registry)
