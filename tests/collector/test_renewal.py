import http.client
import json
import logging
import re
import shutil
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
import trustme
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from imitrace.exceptions import StoreError
from imitrace_collector.client import CollectorClient
from imitrace_collector.config import CollectorConfig
from imitrace_collector.renewal import Renewal
from imitrace_collector.server import CollectorServer
from imitrace_collector.tls import ClientTls

MakeExport = Callable[..., ExportTraceServiceRequest]
SECONDS = 20


class Files:
    """The files of a server, and of the authority that signed them."""

    def __init__(self, folder: Path) -> None:
        self.certificate, self.key, self.ca = (folder / name for name in ("cert.pem", "key.pem", "ca.pem"))
        self.renew()

    def renew(self, *, key: bool = True, until: datetime | None = None) -> None:
        """Replace them, signed by a new authority; with the old key, if only the certificate has come yet."""
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1", not_after=until)
        authority.cert_pem.write_to_path(self.ca)
        issued.cert_chain_pems[0].write_to_path(self.certificate)
        self.waiting = issued.private_key_pem
        if key:
            self.renew_key()

    def renew_key(self) -> None:
        self.waiting.write_to_path(self.key)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def secure(config: CollectorConfig, files: Files) -> CollectorConfig:
    return replace(config, tls_cert=files.certificate, tls_key=files.key)


def export_by_grpc(address: str, ca: Path, message: ExportTraceServiceRequest, *shown: Path) -> None:
    trusted = grpc.ssl_channel_credentials(ca.read_bytes(), *(path.read_bytes() for path in shown))
    with grpc.secure_channel(address, trusted) as channel:
        TraceServiceStub(channel).Export(message, timeout=SECONDS)  # type: ignore[no-untyped-call]  # generated


def renewals(client: CollectorClient) -> dict[str, float]:
    with client.stream("/metrics") as answer:
        found = re.findall(r'certificate_renewals_total\{outcome="(\w+)"\} (\S+)', answer.read().decode())
    return {outcome: float(count) for outcome, count in found}


def test_connections_that_begin_after_a_renewal_have_the_new_certificate(
    secure: CollectorConfig, files: Files, export: MakeExport
) -> None:
    with CollectorServer(secure) as server:
        old = ssl.create_default_context(cafile=files.ca)
        before = http.client.HTTPSConnection(urlsplit(server.http).netloc, timeout=SECONDS, context=old)
        before.request("GET", "/healthz")
        before.getresponse().read()
        export_by_grpc(server.grpc, files.ca, export("t1"))
        files.renew()
        client = CollectorClient(server.http, tls=ClientTls(files.ca))
        assert client.get("/healthz")["status"] == "ok"
        export_by_grpc(server.grpc, files.ca, export("t2"))
        before.request("GET", "/healthz")  # a connection that was open goes on
        assert json.loads(before.getresponse().read())["status"] == "ok"
        before.close()
        assert renewals(client) == {"renewed": 1.0, "failed": 0.0}
        assert len(client.get("/v1/trajectories")["trajectories"]) == 2


def test_the_old_certificate_stays_until_both_files_are_new(
    secure: CollectorConfig, files: Files, export: MakeExport, caplog: pytest.LogCaptureFixture
) -> None:
    with CollectorServer(secure) as server:
        old = Path(shutil.copy(files.ca, files.ca.with_name("old.pem")))
        client = CollectorClient(server.http, tls=ClientTls(old))
        with caplog.at_level(logging.INFO):
            files.renew(key=False)
            assert client.get("/healthz")["status"] == "ok"
            export_by_grpc(server.grpc, old, export())
            assert renewals(client) == {"renewed": 0.0, "failed": 1.0}  # looked at by each connection, read once
            files.renew_key()
            with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
                client.get("/healthz")
            renewed = CollectorClient(server.http, tls=ClientTls(files.ca))
            assert renewals(renewed) == {"failed": 1.0, "renewed": 1.0}
    told = [record.getMessage() for record in caplog.records if "certificate" in record.getMessage()]
    assert told == ["renewed certificate can't be used, the old one stays", "certificate renewed"]


def test_the_authorities_of_clients_are_renewed_too(secure: CollectorConfig, files: Files, export: MakeExport) -> None:
    with CollectorServer(replace(secure, tls_client_ca=files.ca)) as server:
        shown = ClientTls(files.ca, files.certificate, files.key)
        CollectorClient(server.http, tls=shown).get("/healthz")
        export_by_grpc(server.grpc, files.ca, export("t1"), files.key, files.certificate)
        known_before = shown.context()
        files.renew()
        CollectorClient(server.http, tls=shown).get("/healthz")
        export_by_grpc(server.grpc, files.ca, export("t2"), files.key, files.certificate)
        known_before.load_verify_locations(files.ca)  # it trusts the server, which knows its authority no more
        connection = http.client.HTTPSConnection(urlsplit(server.http).netloc, timeout=SECONDS, context=known_before)
        with pytest.raises(OSError):  # told by an alert, or cut off
            connection.request("GET", "/healthz")
            connection.getresponse()
        connection.close()


def test_files_that_could_not_be_used_are_tried_again_after_a_while(files: Files) -> None:
    now, told = [0.0], list[bool]()
    renewal = Renewal((files.certificate, files.key, None), told.append, lambda: now[0])
    first = renewal.current()
    files.renew(until=datetime.now(UTC) - timedelta(days=1))
    assert renewal.current() is renewal.current() is first
    assert told == [False]
    now[0] = 11.0
    assert renewal.current() is first
    assert told == [False, False]
    files.certificate.unlink()
    assert renewal.current() is first
    files.renew()
    assert renewal.current() is not first
    assert told == [False, False, False, True]
    assert renewal.current() is renewal.current()
