"""Run the whole collector in one process: store, writing thread, HTTP and gRPC."""

import ipaddress
import json
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self

from imitrace.listening import address
from imitrace_collector.app import create_app
from imitrace_collector.batcher import Batcher, Commit
from imitrace_collector.budget import Budget
from imitrace_collector.config import RUNNING_FILE, SNAPSHOT_SECONDS, CollectorConfig
from imitrace_collector.derive import Deriver
from imitrace_collector.grpc_server import GrpcServer
from imitrace_collector.http_server import GRACE_SECONDS, HttpServer
from imitrace_collector.ingest import Writer
from imitrace_collector.intake import Intake, log_commits
from imitrace_collector.logs import event
from imitrace_collector.metrics import Metrics
from imitrace_collector.raw_tables import Written
from imitrace_collector.renewal import Renewal
from imitrace_collector.rows import Batch
from imitrace_collector.schedule import Upkeep
from imitrace_collector.store import Store


class CollectorServer:
    """A running collector: enter it to start, leave it to drain and close."""

    def __init__(self, config: CollectorConfig, upkeep: Upkeep | None = None) -> None:
        self.config = config
        self._upkeep = upkeep or Upkeep()
        self.http = ""
        self.grpc = ""
        self._cleanup = ExitStack()

    def __enter__(self) -> Self:
        """Open the store, listen, and tell ``collector.json`` where.

        Raises:
            StoreError: the store can't be opened.
            ConfigError: a port is taken, or a TLS file can't be used.
        """
        try:
            self._start()
        except BaseException:
            self._cleanup.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        event(logging.INFO, "collector stops")
        self._cleanup.close()

    def ready_line(self) -> str:
        """Return the line that says where the collector listens."""
        return f"collector ready http={self.http} grpc={self.grpc} store={self.config.store}"

    def _start(self) -> None:
        """Start one thing after the other; what is started last is stopped first."""
        later = self._cleanup.callback
        config = self.config
        renewal = None
        if config.tls_cert is not None and config.tls_key is not None:
            renewal = Renewal((config.tls_cert, config.tls_key, config.tls_client_ca))
        store = Store.open(config.store)
        later(store.close)
        later(store.checkpoint)
        budget = Budget(config.queue_bytes)
        deriver = Deriver(store, busy=lambda: budget.held > 0)
        later(deriver.stop)
        intake = self._intake(store, deriver, budget)
        if renewal is not None:
            renewal.tell = intake.metrics.renewed
        grpc_server = GrpcServer(intake, renewal)
        later(grpc_server.stop, GRACE_SECONDS)
        context = None if renewal is None else renewal.context
        http_server = HttpServer(create_app(intake, store, deriver), config, context)
        later(http_server.stop)
        catch_up = partial(deriver.catch_up, SNAPSHOT_SECONDS)
        for periodic in self._upkeep.start(store, config.home, catch_up):
            later(periodic.stop)
        later(deriver.release)
        self.http, self.grpc = http_server.url, address(config.host, grpc_server.port)
        self._announce(http_server)
        later((config.home / RUNNING_FILE).unlink, missing_ok=True)
        event(logging.INFO, "collector ready", http=self.http, grpc=self.grpc, store=config.store)

    def _intake(self, store: Store, deriver: Deriver, budget: Budget) -> Intake:
        """Start the writing thread and what stands before it."""
        writer = Writer(self._cleanup.enter_context(store.session()))
        metrics = Metrics()
        log = log_commits()

        def write(batches: Sequence[Batch]) -> Written:
            written = writer.write(batches)
            deriver.committed(written.chunk)
            return written

        def watch(commit: Commit) -> None:
            metrics.committed(commit)
            log(commit)

        batcher = Batcher[Batch](write, self.config.queue_bytes, watch)
        self._cleanup.callback(batcher.stop)
        intake = Intake(self.config, batcher, metrics, budget)
        self._cleanup.callback(intake.stop)
        intake.health.pending = lambda: deriver.pending
        return intake

    def _announce(self, server: HttpServer) -> None:
        """Write ``collector.json``, so that other commands find this collector."""
        running = {
            "pid": os.getpid(),
            "http": f"{server.scheme}://{address(_reachable(server.host), server.port)}",
            "grpc": self.grpc,
            "store": str(self.config.store.absolute()),
        }
        if self.config.tls_cert is not None:
            running["certificate"] = str(self.config.tls_cert.absolute())
        aside = self.config.home / f".{RUNNING_FILE}"
        aside.write_text(json.dumps(running) + "\n", encoding="utf-8")
        aside.replace(self.config.home / RUNNING_FILE)


def _reachable(host: str) -> str:
    """Return a host that can be connected to, where this one stands for all of the machine's."""
    try:
        found = ipaddress.ip_address(host)
    except ValueError:
        return host
    if not found.is_unspecified:
        return host
    return "127.0.0.1" if found.version == 4 else "::1"
