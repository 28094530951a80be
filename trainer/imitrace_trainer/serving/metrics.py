"""Count what the proxy does, for Prometheus."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """Hold one proxy's figures, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = self._counter("requests", "Requests answered.", "route", "actor", "code")
        self._asks = self._counter("questions", "Requests that a clone was to answer, by what became of it.", "outcome")
        self._upstream = self._counter("upstream_failures", "Requests that the model's API left open.", "kind")
        self._recorded = self._counter("recorded", "Decisions by what became of their record.", "outcome")
        for outcome in ("dropped", "failed"):  # both from the start, so that the first one is seen to rise
            self._recorded.labels(outcome)
        self._asking = Histogram(
            "imitrace_serve_question_seconds", "Seconds of a question.", registry=self._registry, buckets=_SECONDS
        )
        self._gauges: dict[str, Gauge] = {}

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"imitrace_serve_{name}", about, labels, registry=self._registry)

    def answered(self, route: str, actor: str, code: int) -> None:
        """Count an answered request; 0 for one whose caller hung up before."""
        self._requests.labels(route, actor, str(code)).inc()

    def asked(self, outcome: str, seconds: float | None = None) -> None:
        """Count a request that the clone was to answer, and how long it took to ask."""
        self._asks.labels(outcome).inc()
        if seconds is not None:
            self._asking.observe(seconds)

    def upstream_failed(self, kind: str) -> None:
        """Count a request that the model's API did not answer, or not to the end."""
        self._upstream.labels(kind).inc()

    def recorded(self, outcome: str) -> None:
        """Count a decision by what became of its record."""
        self._recorded.labels(outcome).inc()

    def render(self, gauges: Mapping[str, float]) -> bytes:
        """Return everything in Prometheus's text format, with figures of this moment by name."""
        for name, value in gauges.items():
            if name not in self._gauges:
                self._gauges[name] = Gauge(f"imitrace_serve_{name}", name.replace("_", " "), registry=self._registry)
            self._gauges[name].set(value)
        return generate_latest(self._registry)
