"""Look for drift of the champion's traffic in the middle of a refresh, and let no fault of that look stop it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from imitrace.exceptions import BudgetError, ImitraceError
from imitrace_trainer.config import CloneConfig
from imitrace_trainer.drift_stage import drift_look
from imitrace_trainer.progress import Progress
from imitrace_trainer.refreshing.run_desk import champion_of
from imitrace_trainer.survey import Frames


def drift_in_turn(
    home: Path, clone: CloneConfig, frames: Frames, progress: Progress, now: int | None = None
) -> dict[str, Any] | None:
    """Return what a run keeps of its look for drift: ``verdict``, ``why``, ``look``, and new ``alarms``.

    Args:
        home: the workspace.
        clone: whose champion.
        frames: the tables of the run's source by name.
        progress: is told how far it is.
        now: when the window ends, in nanoseconds since 1970; None: at this moment.

    Returns:
        None where nothing asks for a look: no schedule that heeds drift, or no champion. The verdict is ``error``
        where the look itself failed.

    Raises:
        BudgetError: the run came to a limit of its schedule.
    """
    if clone.schedule is None or not clone.schedule.drift or champion_of(home, clone.name) is None:
        return None
    try:
        report = drift_look(home, clone, frames, progress, now=now, thrifty=True)
    except BudgetError:
        raise
    except ImitraceError as error:
        return {"verdict": "error", "why": [str(error)]}
    except Exception as error:  # a look that fails must not keep a clone from being mended
        return {"verdict": "error", "why": [f"{type(error).__name__}: {error}"]}
    told = {"verdict": report.verdict, "why": [*report.why], "look": [report.version, report.look]}
    return told | ({"alarms": [asdict(alarm) for alarm in report.alarms]} if report.alarms else {})
