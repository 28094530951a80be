"""Read certificates and keys from files, and refuse those that no client could use."""

import ssl
from dataclasses import dataclass
from pathlib import Path

from imitrace.exceptions import ConfigError

_HOW = "name PEM files with --tls-cert, --tls-key and --tls-client-ca"


@dataclass(frozen=True)
class Credentials:
    """What a server needs for TLS: once as a context for HTTP, once as bytes for gRPC."""

    context: ssl.SSLContext
    certificate: bytes
    key: bytes
    client_ca: bytes | None


def server_credentials(certificate: Path, key: Path, client_ca: Path | None) -> Credentials:
    """Return a server's credentials.

    Args:
        certificate: chain in PEM, the server's own first.
        key: its private key in PEM, without a passphrase.
        client_ca: authorities in PEM; with them, clients without a certificate of theirs are turned away.

    Raises:
        ConfigError: a file is missing or no PEM, the key is another certificate's, or the certificate is not valid now.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    chain, private = _read(certificate), _read(key)
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(
            f"certificate {certificate} and key {key} don't belong together or are no PEM: {error}; {_HOW}"
        ) from error
    _check_dates(context, certificate)
    if client_ca is None:
        return Credentials(context, chain, private, None)
    authorities = _read(client_ca)
    try:
        context.load_verify_locations(cafile=client_ca)
    except ssl.SSLError as error:
        raise ConfigError(f"client authorities {client_ca} are no certificates in PEM: {error}; {_HOW}") from error
    context.verify_mode = ssl.CERT_REQUIRED
    return Credentials(context, chain, private, authorities)


@dataclass(frozen=True)
class ClientTls:
    """What a client trusts, and what it shows of itself."""

    ca: Path | None = None
    """Authorities in PEM; None takes the system's."""
    certificate: Path | None = None
    """The client's own certificate in PEM."""
    key: Path | None = None
    """Its private key in PEM."""
    check_name: bool = True
    """Whether the server's certificate must bear the name in its address."""

    def context(self) -> ssl.SSLContext:
        """Return the context to connect with.

        Raises:
            ConfigError: a file is missing or of the wrong kind.
        """
        try:
            context = ssl.create_default_context(cafile=self.ca)
            if self.ca is not None:
                context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
            if self.certificate is not None:
                context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(path) for path in (self.ca, self.certificate, self.key) if path)
            raise ConfigError(f"TLS files {files} can't be used: {error}; name PEM files") from error
        context.check_hostname = self.check_name
        return context


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigError(f"TLS file {path} can't be read: {error.strerror}; {_HOW}") from error


def _check_dates(server: ssl.SSLContext, certificate: Path) -> None:
    """Shake hands with ourselves, in memory: the library tells its dates only to a client that checks them."""
    trusting = ssl.create_default_context(cafile=certificate)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = (
        trusting.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for _ in range(4):
        for side in sides:
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError as error:
                raise ConfigError(
                    f"certificate {certificate} is not valid now: {error.verify_message}; renew it"
                ) from error
