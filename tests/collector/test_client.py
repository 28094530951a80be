import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from imitrace.exceptions import ConfigError, WireError
from imitrace_collector.app import create_app
from imitrace_collector.batcher import Batcher
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.derive import Deriver
from imitrace_collector.http_server import HttpServer
from imitrace_collector.intake import Intake
from imitrace_collector.rows import Batch
from imitrace_collector.server import CollectorServer
from imitrace_collector.store import Store

MakeExport = Callable[..., ExportTraceServiceRequest]
SECONDS = 20


def test_a_wrong_token_says_what_to_set(config: CollectorConfig) -> None:
    with CollectorServer(replace(config, token="secret")) as server:
        with pytest.raises(ConfigError, match=r"answers 401: .*set IMITRACE_TOKEN"):
            CollectorClient(server.http, "other").get("/v1/trajectories")
        assert CollectorClient(server.http, "secret").get("/v1/trajectories") == {
            "trajectories": [],
            "lost_records": {},
        }


def test_a_refused_export_carries_the_servers_words(collector: CollectorServer) -> None:
    with pytest.raises(WireError, match="answers 400: request is not an OTLP spans export"):
        CollectorClient(collector.http).export("/v1/traces", b"\xff\xff")


def test_a_full_queue_is_waited_for(
    config: CollectorConfig, store: Store, export: MakeExport, full_batcher: Batcher[Batch], go: threading.Event
) -> None:
    intake, deriver = Intake(config, full_batcher), Deriver(store)
    server = HttpServer(create_app(intake, store, deriver), config)
    body = export().SerializeToString()
    sender = threading.Thread(target=CollectorClient(server.url).export, args=("/v1/traces", body))
    sender.start()
    go.set()
    sender.join(SECONDS)
    assert not sender.is_alive()
    server.stop()
    intake.stop()
    deriver.stop()
