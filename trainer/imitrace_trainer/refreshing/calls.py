"""Say how a scheduler is to call ``imitrace refresh``: by which program, in which folder, with which log."""

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from imitrace.exceptions import ConfigError


@dataclass(frozen=True, kw_only=True)
class Call:
    """One clone's refresh as a scheduler starts it; all paths are absolute, for it knows neither PATH nor folder."""

    clone: str
    home: Path
    """The workspace."""
    config: Path
    """Its ``imitrace.toml``."""

    def __post_init__(self) -> None:
        """Refuse paths that no line can hold.

        Raises:
            ConfigError: a path has a line break.
        """
        for path in (self.home, self.config, Path(sys.executable)):
            if any(sign in str(path) for sign in "\n\r\0"):
                raise ConfigError(f"path {str(path)!r} has a line break, which no schedule can hold; rename it")

    @property
    def folder(self) -> Path:
        """Return the folder that it runs in: where its configuration lies."""
        return self.config.parent

    @property
    def log(self) -> Path:
        """Return the file that gets what it prints."""
        return self.home / "runs" / self.clone / "refresh.log"

    @property
    def mark(self) -> str:
        """Return what names the clone and its workspace, and by which its lines are found again."""
        return f"# imitrace {self.clone} in {self.home}"

    @property
    def words(self) -> list[str]:
        """Return the program and its arguments: this interpreter, since a script may lie where no scheduler looks."""
        command = [sys.executable, "-m", "imitrace", "refresh", self.clone]
        return [*command, "--home", str(self.home), "--config", str(self.config)]

    @property
    def shell(self) -> str:
        """Return a line for ``sh``."""
        log = shlex.quote(str(self.log))
        made = f"mkdir -p {shlex.quote(str(self.log.parent))} && cd {shlex.quote(str(self.folder))}"
        return f"{made} && {shlex.join(self.words)} >> {log} 2>&1"


def call_for(clone: str, home: Path, config: Path) -> Call:
    """Return a call with all paths made absolute."""
    return Call(clone=clone, home=home.resolve(), config=config.resolve())
