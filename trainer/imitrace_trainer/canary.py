"""Remember whether a new champion is still tried in a share of the trajectories only."""

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from imitrace.canonical import text_hash
from imitrace_trainer.state_files import StateFile

FORMAT: Final = 1
CANARY: Final = "canary"
"""The reason of a decision that was trusted to the clone, in a trajectory that the expert keeps while it is tried."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """How the trial of a champion stands."""

    champion: int = 0
    since: str = ""
    """ISO 8601."""
    ended: str | None = None
    why: str = ""
    """Why it ended."""

    def runs(self, version: int) -> bool:
        """Tell whether a version is still tried."""
        return self.champion == version and self.ended is None


class CanaryFile:
    """``clones/NAME/canary.json`` in a workspace; whoever writes holds the registry's lock."""

    def __init__(self, home: Path, name: str) -> None:
        self.path = home / "clones" / name / "canary.json"
        self._file = StateFile(self.path, FORMAT, "delete it, and the trial is over")

    def read(self) -> Trial:
        """Return how the trial stands.

        Raises:
            CloneError: the file was damaged by hand, or a newer imitrace wrote it.
        """
        return self._file.read(lambda record: Trial(**record)) or Trial()

    def begin(self, version: int, at: str) -> None:
        """Try a champion from now on."""
        self._write(Trial(champion=version, since=at))

    def end(self, at: str, why: str) -> None:
        """Let it act in full."""
        self._write(replace(self.read(), ended=at, why=why))

    def _write(self, trial: Trial) -> None:
        self._file.write(asdict(trial))


def inside(trajectory: str, named: tuple[str, str], share: float) -> bool:
    """Tell whether a trajectory is of the share in which a version is tried: drawn by its id, so once for all of it."""
    return int(text_hash(f"{named[0]} {named[1]} {trajectory}")[:8], 16) / 2**32 < share
