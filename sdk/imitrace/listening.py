"""Bind the port that a server listens on, and write its address."""

import socket

from imitrace.exceptions import ConfigError


def bound(host: str, port: int, what: str, option: str, backlog: int | None = None) -> socket.socket:
    """Return a socket that is bound.

    Args:
        host: a name or an address, IPv6 without brackets.
        port: 0 takes a free one.
        what: what the port is called in an error, such as ``HTTP port``.
        option: of the command, which names another.
        backlog: listen already, with so many connections waiting at most; None: whoever serves begins to.

    Raises:
        ConfigError: the port is taken, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # event loops turn Nagle's algorithm off only where the protocol is named; with it every answer waits 40 ms
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        if backlog is not None:
            listener.listen(backlog)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"{what} {port} on {host} can't be listened on: {error.strerror}; name another with {option}"
        ) from error
    return listener


def address(host: str, port: int) -> str:
    """Return ``HOST:PORT``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
