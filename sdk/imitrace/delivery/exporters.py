"""Encode batches as OTLP and hand them over: to the collector at once, or to the disk first."""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.trace import ReadableSpan

from imitrace.delivery.outbox import Delivery, Receipt, Settled
from imitrace.delivery.sender import RetryConfig, Sender
from imitrace.delivery.transports import Connection, Signal
from imitrace.faults import Faults

if TYPE_CHECKING:  # loaded when there is a spool
    from imitrace.delivery.drainer import Drainer
    from imitrace.delivery.spool import SpoolConfig

T = TypeVar("T")
_MAX_REQUEST = 4 * 2**20 - 2**16


class Request(NamedTuple):
    """An encoded OTLP request."""

    body: bytes
    records: int


class Encoder(Generic[T]):
    """Makes requests of records, each small enough for receivers that take 4 MiB unless one record alone is not."""

    def __init__(self, encode: Callable[[Sequence[T]], Any], faults: Faults) -> None:
        self._encode = encode  # returns a protobuf message, which is untyped
        self._faults = faults

    def requests(self, batch: Sequence[T]) -> Iterator[Request]:
        """Yield the requests of a batch; a record that can't be encoded is left out and counted as a fault."""
        body = self._body(batch)
        if body is not None and (len(body) <= _MAX_REQUEST or len(batch) == 1):
            yield Request(body, len(batch))
        elif len(batch) > 1:
            half = len(batch) // 2
            yield from self.requests(batch[:half])
            yield from self.requests(batch[half:])

    def _body(self, batch: Sequence[T]) -> bytes | None:
        try:
            return bytes(self._encode(batch).SerializeToString())
        except Exception as error:  # whatever an attribute's text can do to protobuf
            if len(batch) == 1:
                self._faults.count("not_encoded", f"{type(error).__name__}: {error}")
            return None


class DirectDelivery(Generic[T]):
    """Sends each batch to the collector and waits for its answer."""

    def __init__(self, encoder: Encoder[T], make_sender: Callable[[], Sender]) -> None:
        self._encoder = encoder
        self._make_sender = make_sender
        self.reset()

    def reset(self) -> None:
        """Forget the connection; its sockets belong to the parent process."""
        self._sender = self._make_sender()

    def send(self, batch: Sequence[T]) -> Receipt:
        """Deliver a batch; what can be tried again is, within the configured patience."""
        exported = sum(accepted_records(self._sender, request) for request in self._encoder.requests(batch))
        return Receipt(exported, failed=len(batch) - exported)

    def close(self) -> None:
        """Break off a delivery in progress and refuse later ones."""
        self._sender.close()


class SpoolDelivery(Generic[T]):
    """Writes each batch to the disk, from where the drainer delivers it; sends it when the disk can't take it."""

    def __init__(
        self, encoder: Encoder[T], make_sender: Callable[[], Sender], drainer: "Drainer", faults: Faults
    ) -> None:
        self._encoder = encoder
        self._make_sender = make_sender
        self._drainer = drainer
        self._faults = faults
        self.reset()

    def reset(self) -> None:
        """Leave files and connections to the parent process."""
        self._drainer.reset()
        self._sender = self._make_sender()

    def send(self, batch: Sequence[T]) -> Receipt:
        """Write a batch to the disk; the receipt tells of the records that did not get there."""
        exported = dropped = kept = 0
        for request in self._encoder.requests(batch):
            try:
                if self._drainer.keep(self._sender.signal, request.records, request.body):
                    kept += request.records
                else:
                    dropped += request.records
            except OSError as error:
                self._faults.count("spool_unwritable", f"{error}; sent from memory instead")
                exported += accepted_records(self._sender, request)
        return Receipt(exported, len(batch) - kept - exported - dropped, dropped)

    def settled(self) -> Settled:
        """Return the counts of what was written to the disk."""
        return self._drainer.settled(self._sender.signal)

    def drain(self, timeout: float) -> bool:
        """Wait until everything on disk is delivered, also what processes that have died left there."""
        return self._drainer.drain(timeout)

    def close(self) -> None:
        """Stop; what is left on disk waits for the next process."""
        self._sender.close()
        self._drainer.close(self._sender.signal)


def accepted_records(sender: Sender, request: Request) -> int:
    """Send a request and return how many of its records the collector accepted."""
    answer = sender.send(request.body, request.records)
    return request.records - answer.rejected if answer.verdict == "accepted" else 0


def deliveries(
    connection: Connection,
    spool: "SpoolConfig | None" = None,
    *,
    logs: Connection | None = None,
    faults: Faults | None = None,
    retry: RetryConfig | None = None,
) -> tuple[Delivery[ReadableSpan], Delivery[ReadableLogRecord]]:
    """Return what takes spans and log records to the collector; nothing is opened before the first record or flush.

    Args:
        connection: the collector, for spans and for log records.
        spool: where requests wait on disk until they are delivered; without it they wait in memory, for ten seconds.
        logs: the collector for log records, where it is another or wants other headers.
        faults: where failures are counted by reason; the first of each reason is logged.
        retry: how long and how often a request is tried.
    """
    faults, retry = faults or Faults(), retry or RetryConfig()
    ways: dict[Signal, Connection] = {"traces": connection, "logs": logs or connection}
    spans, records = Encoder[ReadableSpan](encode_spans, faults), Encoder[ReadableLogRecord](encode_logs, faults)

    def sender(signal: Signal) -> Sender:
        return Sender(ways[signal], signal, retry, faults)

    if spool is None:
        return DirectDelivery(spans, lambda: sender("traces")), DirectDelivery(records, lambda: sender("logs"))
    from imitrace.delivery.drainer import Drainer

    drainer = Drainer(spool, lambda: {signal: sender(signal) for signal in ways}, faults)
    return (
        SpoolDelivery(spans, lambda: sender("traces"), drainer, faults),
        SpoolDelivery(records, lambda: sender("logs"), drainer, faults),
    )
