"""Keep what is remembered between commands in one file of JSON with its format: read and replaced as a whole."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from imitrace.exceptions import CloneError, ImitraceError
from imitrace_trainer.drafts import replace_text

T = TypeVar("T")


@dataclass(frozen=True)
class StateFile:
    """One file."""

    path: Path
    format: int
    """Which is written, and the newest that is read."""
    mend: str
    """What to do where it is damaged, and what comes of that."""
    error: type[ImitraceError] = CloneError
    """What a damaged file raises."""

    def read(self, parse: Callable[[dict[str, Any]], T]) -> T | None:
        """Return what ``parse`` makes of the record without its format, None where there is no file.

        Raises:
            ImitraceError: of ``error``; it was damaged by hand, or a newer imitrace wrote it.
        """
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            found = record.pop("format")
            if found > self.format:
                raise ValueError(f"format is {found}, this imitrace reads up to {self.format}: update imitrace")
            return parse(record)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise self.error(f"{self.path} can't be read ({error}); {self.mend}") from error

    def write(self, record: dict[str, Any]) -> None:
        """Replace the file; whoever writes what he read holds a lock."""
        replace_text(self.path, json.dumps({"format": self.format, **record}, indent=1) + "\n")
