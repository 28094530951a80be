"""Read what the worlds take from the environment: a model's key, and the folder for what can be made again."""

import os
from pathlib import Path

from imitrace.exceptions import ConfigError


def key_in(variable: str | None) -> str | None:
    """Return the key that an environment variable holds; None where none is named.

    Raises:
        ConfigError: the variable is not set, or empty.
    """
    if not variable:
        return None
    key = os.environ.get(variable)
    if not key:
        raise ConfigError(f"environment variable {variable} holds no key; set it, or name none: key_variable = ''")
    return key


def cache_folder() -> Path:
    """Return the user's folder for what can be made again.

    Source: https://specifications.freedesktop.org/basedir-spec/latest/
    """
    named = os.environ.get("XDG_CACHE_HOME")
    return (Path(named) if named else Path.home() / ".cache") / "imitrace"
