import http.client
import json
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

from imitrace.exceptions import ConfigError, StoreError
from imitrace_collector.client import CollectorClient, running_collector
from imitrace_collector.config import CollectorConfig
from imitrace_collector.server import CollectorServer
from imitrace_collector.tls import ClientTls, server_credentials

MakeExport = Callable[..., ExportTraceServiceRequest]


class Files:
    """An authority with certificates of its own, as files."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._authority = trustme.CA()
        self.ca = folder / "ca.pem"
        self._authority.cert_pem.write_to_path(self.ca)

    def pair(self, name: str, until: datetime | None = None) -> tuple[Path, Path]:
        """Return the paths of a certificate for ``name`` and of its key."""
        issued = self._authority.issue_cert(name, not_after=until)
        certificate, key = (self._folder / f"{name}.{end}.pem" for end in ("cert", "key"))
        issued.cert_chain_pems[0].write_to_path(certificate)
        issued.private_key_pem.write_to_path(key)
        return certificate, key


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


@pytest.fixture
def secure(config: CollectorConfig, files: Files) -> CollectorConfig:
    """Settings of a collector that is known as 127.0.0.1."""
    certificate, key = files.pair("127.0.0.1")
    return replace(config, tls_cert=certificate, tls_key=key)


def test_http_and_grpc_are_served_by_tls_only(secure: CollectorConfig, files: Files, export: MakeExport) -> None:
    with CollectorServer(secure) as server:
        assert server.http.startswith("https://")
        client = CollectorClient(server.http, tls=ClientTls(files.ca))
        client.export("/v1/traces", export().SerializeToString())
        trusted = grpc.ssl_channel_credentials(files.ca.read_bytes())
        with grpc.secure_channel(server.grpc, trusted) as channel:
            TraceServiceStub(channel).Export(export("t2"), timeout=20)  # type: ignore[no-untyped-call]  # generated
        assert len(client.get("/v1/trajectories")["trajectories"]) == 2
        with pytest.raises(StoreError, match="no collector answers"):
            CollectorClient(server.http.replace("https", "http")).get("/healthz")
        with pytest.raises(StoreError, match="CERTIFICATE_VERIFY_FAILED"):
            CollectorClient(server.http).get("/healthz")


def test_a_client_without_a_certificate_is_turned_away_where_one_is_asked_for(
    secure: CollectorConfig, files: Files, export: MakeExport
) -> None:
    certificate, key = files.pair("agent")
    with CollectorServer(replace(secure, tls_client_ca=files.ca)) as server:
        shown = ClientTls(files.ca, certificate, key)
        CollectorClient(server.http, tls=shown).export("/v1/traces", export().SerializeToString())
        with pytest.raises(StoreError, match="no collector answers"):
            CollectorClient(server.http, tls=ClientTls(files.ca)).get("/healthz")
        ca = files.ca.read_bytes()
        unknown = grpc.ssl_channel_credentials(ca)
        with grpc.secure_channel(server.grpc, unknown) as channel, pytest.raises(grpc.RpcError):
            TraceServiceStub(channel).Export(export(), timeout=5)  # type: ignore[no-untyped-call]  # generated
        known = grpc.ssl_channel_credentials(ca, key.read_bytes(), certificate.read_bytes())
        with grpc.secure_channel(server.grpc, known) as channel:
            TraceServiceStub(channel).Export(export(), timeout=20)  # type: ignore[no-untyped-call]  # generated


def test_a_running_collector_is_known_by_the_certificate_in_its_workspace(
    config: CollectorConfig, files: Files
) -> None:
    certificate, key = files.pair("collector.example")
    with CollectorServer(replace(config, tls_cert=certificate, tls_key=key)) as server:
        told = json.loads((config.home / "collector.json").read_text())
        assert (told["http"], told["certificate"]) == (server.http, str(certificate))
        found = running_collector(config.home, None)
        assert found is not None
        assert found.get("/healthz")["status"] == "ok"


def test_an_old_protocol_is_refused(secure: CollectorConfig, files: Files) -> None:
    context = ssl.create_default_context(cafile=files.ca)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with CollectorServer(secure) as server, pytest.raises(ssl.SSLError):
        http.client.HTTPSConnection(urlsplit(server.http).netloc, context=context).connect()


def test_a_file_that_is_missing_or_no_pem_is_named(files: Files, tmp_path: Path) -> None:
    certificate, key = files.pair("127.0.0.1")
    nothing, other = tmp_path / "nothing.pem", tmp_path / "other.pem"
    other.write_text("no pem")
    with pytest.raises(ConfigError, match=r"nothing\.pem can't be read: No such file .* --tls-cert"):
        server_credentials(nothing, key, None)
    with pytest.raises(ConfigError, match="don't belong together or are no PEM"):
        server_credentials(certificate, other, None)
    with pytest.raises(ConfigError, match=r"client authorities .*other\.pem are no certificates"):
        server_credentials(certificate, key, other)
    with pytest.raises(ConfigError, match=r"other\.pem can't be used"):
        ClientTls(other).context()


def test_another_certificates_key_is_told(files: Files) -> None:
    certificate, _ = files.pair("127.0.0.1")
    _, key = files.pair("localhost")
    with pytest.raises(ConfigError, match="don't belong together"):
        server_credentials(certificate, key, None)


def test_an_expired_certificate_is_told_before_any_client_meets_it(config: CollectorConfig, files: Files) -> None:
    certificate, key = files.pair("127.0.0.1", datetime.now(UTC) - timedelta(days=1))
    with pytest.raises(ConfigError, match="not valid now: certificate has expired; renew it"):
        server_credentials(certificate, key, None)
    with (
        pytest.raises(ConfigError, match="expired"),
        CollectorServer(replace(config, tls_cert=certificate, tls_key=key)),
    ):
        pass
