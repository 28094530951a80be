"""Read OTLP export requests that were kept as files: protobuf or JSON, also as gzip."""

import gzip
import zlib
from pathlib import Path
from typing import Any

from imitrace.exceptions import ConfigError, WireError
from imitrace_collector import otlp
from imitrace_collector.imports.files import OTLP_SUFFIXES

_LARGEST = 256 * 1024 * 1024
_NAMED = {".traces.": otlp.TRACES, ".logs.": otlp.LOGS}


def is_export(path: Path) -> bool:
    """Return whether a file's name says that it is an export request."""
    return path.name.endswith(OTLP_SUFFIXES)


def read_export(path: Path) -> tuple[otlp.Signal, Any]:
    """Return a file's signal and its request message.

    The signal is told by ``.traces.`` or ``.logs.`` in the name, else by the content.

    Args:
        path: one export request, up to 256 MiB.

    Raises:
        ConfigError: the file can't be opened.
        WireError: it is no export request, or too large.
    """
    body = _content(path)
    media_type = otlp.JSON if ".otlp.json" in path.name else otlp.PROTOBUF
    named = next((signal for part, signal in _NAMED.items() if part in path.name), None)
    if named is not None:
        return named, otlp.parse(named, body, media_type)
    for signal in (otlp.TRACES, otlp.LOGS):
        try:
            message = otlp.parse(signal, body, media_type)
        except WireError:
            continue
        if signal.count(message) and otlp.read(signal, message, 0).batch.origins:
            return signal, message
    raise WireError("it holds neither spans nor log records")


def _content(path: Path) -> bytes:
    try:
        with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
            body = file.read(_LARGEST + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise WireError(f"it is no whole gzip file: {error}") from error
    except OSError as error:
        raise ConfigError(f"file {path} can't be opened: {error.strerror}") from error
    if len(body) > _LARGEST:
        raise WireError(f"it has more than {_LARGEST} bytes; split it")
    return body
