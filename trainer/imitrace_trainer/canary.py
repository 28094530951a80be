"""Remember whether a new champion is still tried in a share of the trajectories only."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from imitrace.canonical import text_hash
from imitrace.exceptions import CloneError
from imitrace_trainer.drafts import replace_text

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

    def read(self) -> Trial:
        """Return how the trial stands.

        Raises:
            CloneError: the file was damaged by hand, or a newer imitrace wrote it.
        """
        try:
            record = json.loads(self.path.read_text(encoding="utf-8"))
            if record.pop("format") > FORMAT:
                raise ValueError("its format is newer than this imitrace: update imitrace")
            return Trial(**record)
        except FileNotFoundError:
            return Trial()
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CloneError(f"{self.path} can't be read ({error}); delete it, and the trial is over") from error

    def begin(self, version: int, at: str) -> None:
        """Try a champion from now on."""
        self._write(Trial(champion=version, since=at))

    def end(self, at: str, why: str) -> None:
        """Let it act in full."""
        self._write(replace(self.read(), ended=at, why=why))

    def _write(self, trial: Trial) -> None:
        replace_text(self.path, json.dumps({"format": FORMAT, **asdict(trial)}, indent=1) + "\n")


def inside(trajectory: str, named: tuple[str, str], share: float) -> bool:
    """Tell whether a trajectory is of the share in which a version is tried: drawn by its id, so once for all of it."""
    return int(text_hash(f"{named[0]} {named[1]} {trajectory}")[:8], 16) / 2**32 < share
