"""Measure a registered clone anew on the dataset that it was trained on, and keep the report and its page."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from imitrace.exceptions import CloneError
from imitrace_trainer.clone_files import CloneCard, read_clone
from imitrace_trainer.demonstrations import well_ended
from imitrace_trainer.figures import CriticFigures, Quality
from imitrace_trainer.fit import BCConfig
from imitrace_trainer.ladder import Rung
from imitrace_trainer.measuring import Extras, Foretold, Shown, measure
from imitrace_trainer.progress import Progress
from imitrace_trainer.quality_page import render
from imitrace_trainer.quality_verdicts import verdicts
from imitrace_trainer.refits import Refitter
from imitrace_trainer.registry import Registry
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.stages import dataset_of, demonstrations, load_clone
from imitrace_trainer.task_draws import Share


@dataclass(frozen=True)
class Reported:
    """A clone's figures, and where they lie."""

    quality: Quality
    report: Path
    page: Path

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values, with what each part says."""
        told = {part: asdict(verdict) for part, verdict in verdicts(self.quality).items()}
        return {"page": str(self.page), "verdicts": told, **self.quality.to_json()}

    def text(self) -> str:
        """Return what each part says, a line each, and where the page is."""
        lines = (f"{one.tone:<10}  {one.sentence}" for one in verdicts(self.quality).values())
        return "\n".join([*lines, str(self.page)])


def report_stage(home: Path, reference: str, full: bool, progress: Progress) -> Reported:
    """Measure a clone on its dataset's held-out tasks and keep what it says beside the version, in ``reports``.

    Args:
        home: the workspace.
        reference: the clone, such as ``airline@champion``.
        full: also fit it again, for the learning curve and to see what each group of features is worth.
        progress: told how far it is.

    Raises:
        CloneError: there is no such clone, it is not what was signed, or it can't be fitted again.
        DatasetError: its dataset is gone, or not the same any more.
    """
    loaded = load_clone(home, reference)
    version, card = loaded.version, loaded.card
    dataset = dataset_of(home, loaded)
    calibration, kept = (demonstrations(dataset.examples(part)) for part in ("calibration", "gate"))
    learnt = demonstrations(dataset.examples_of(card.fitted))
    held_out = well_ended(kept)
    refits = None
    if full:
        family = str(card.training["family"])
        refits = Refitter(family, _training(card), learnt, held_out, progress).run()
    clone, _ = read_clone(version.path)
    decisions = []
    for number, one in enumerate(held_out):
        decisions.append(clone.act(one.state))
        progress("measure", (number + 1) / len(held_out))
    known = _known(version.path)
    shown = Shown(learnt, calibration, [Foretold(**one) for one in known["foretold"]], held_out)
    quality = measure(
        clone,
        card,
        shown,
        decisions=decisions,
        thresholds=loaded.thresholds,
        promised=_promised(known),
        version=version.version,
        extras=Extras(critic=_critic(known), refits=refits),
    )
    rungs = [_rung(told) for told in known.get("ladder", ())]
    text = json.dumps({"ladder": known.get("ladder", []), "quality": quality.to_json()}, indent=1) + "\n"
    report, page = Registry(home).record_report(version, {".json": text, ".html": render(quality, rungs)})
    return Reported(quality, report, page)


def _training(card: CloneCard) -> BCConfig:
    try:
        return BCConfig(**card.training["config"])
    except TypeError as error:
        raise CloneError(f"{card.name} was trained with settings unknown here ({error}); train it again") from error


def _known(folder: Path) -> Mapping[str, Any]:  # JSON
    """Return what was written when it was trained, by this imitrace or an older one."""
    found = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found if isinstance(found, dict) else {}


def _critic(known: Mapping[str, Any]) -> CriticFigures | None:  # JSON
    found = known.get("critic")
    return CriticFigures.from_json(found) if found else None


def _promised(known: Mapping[str, Any]) -> RouteConfig:
    told = known.get("quality")
    return RouteConfig(error=told["promised"], confidence=told["proof"]) if told else RouteConfig()


def _rung(told: Mapping[str, Any]) -> Rung:
    return Rung(told["family"], *(Share(**told[name]) for name in ("calibration", "gate", "behind")))
