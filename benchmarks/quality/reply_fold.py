"""Fit a clone that replies to one fold of a set and print what it would say: a process of its own, for its memory.

python -m quality.reply_fold SET FOLD EPOCHS WORKSPACE
python -m quality.reply_fold desk 0 EPOCHS TASKS

Prints one JSON object: what training does of itself, the drafts on the calibration tasks, and a row for each held-out
decision.
"""

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from imitrace.messages import Action
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.family import Clone
from imitrace_trainer.fit import BCConfig, fit
from imitrace_trainer.phrases import PhraseReader
from imitrace_trainer.policy import same_action
from imitrace_trainer.reply_skeletons import Skeleton, bag, token_f1
from imitrace_trainer.reply_templates import Mined, mine
from imitrace_trainer.reply_writer import ReplyConfig, Replying, ReplyWriter, fit_writer, with_replies
from imitrace_trainer.route_config import RouteConfig
from overhead.timing import Json, tell
from quality.desk_talk import DESK, played
from quality.recorded import Division, divided


def fold_of(name: str, fold: int, epochs: int, source: str) -> Json:
    """Return what a clone would say in a fold."""
    parts = played(int(source)) if name == DESK else divided(open_dataset(Path(source), name).examples(), fold)
    shown, config = (parts.train, parts.calibration), BCConfig(epochs=epochs, device="cpu")
    began = time.process_time()
    clone, _ = fit(*shown, config)
    fitted = time.process_time()
    taught = with_replies(clone, shown, ReplyConfig(fit=config, promise=RouteConfig()))
    learnt = time.process_time()
    mined = mine(parts.train, PhraseReader(clone.reader))
    seconds = {"fit": fitted - began, "replies": learnt - fitted, "mine": time.process_time() - learnt}
    tell(f"{name}, fold {fold}: {len(mined.templates)} templates, refused {dict(mined.refused)}; {taught.lack}")
    found = {
        "templates": [template.text for template in mined.templates],
        "slots": [len(template.kinds) for template in mined.templates],
        "refused": dict(mined.refused),
        "lack": taught.lack,
        "cpu_s": seconds,
    }
    replying = writing(clone, mined, parts, config) if mined.templates else None
    calibration = [_row(replying, one, mined) for one in parts.calibration] if replying else []
    return {**found, "calibration": calibration, "held_out": [_row(replying, one, mined) for one in parts.held_out]}


def writing(clone: Clone, mined: Mined, parts: Division, config: BCConfig) -> Replying:
    """Return a clone that drafts, also where nothing of it can be proven: what it would say is what is measured."""
    shown: tuple[Sequence[Demonstration], Sequence[Demonstration]] = (parts.train, parts.calibration)
    writer = ReplyWriter(fit_writer(mined, shown, config), mined.templates)
    writer.calibrate(clone, parts.calibration, RouteConfig())
    return Replying(clone, writer)


def _row(clone: Replying | None, one: Demonstration, mined: Mined) -> Json:
    """Return what the clone drafts on a decision, beside what the expert did."""
    said = one.action.message
    row: Json = {"task": one.task, "reply": one.action.kind == "message", "draft": None}
    row["fits"] = bool(said and mined.fits(said))
    row["nearly"] = bool(said and mined.label(said))
    draft = clone.draft(one.state, clone.clone.act(one.state)) if clone else None
    if draft is not None:
        written = same_action(Action("message", message=draft.text), one.action)
        f1 = token_f1(bag(Skeleton.of(draft.text).tokens), bag(Skeleton.of(said).tokens)) if said else 0.0
        row |= {"draft": draft.text, "said": said, "confidence": draft.confidence, "exact": written, "near": f1 >= 0.9}
        row["same_template"] = bool(said and (found := mined.label(said)) and found[0].name == draft.template)
    return row


def main() -> None:
    """Measure the fold that the arguments name."""
    name, fold, epochs, source = sys.argv[1:]
    torch.set_num_threads(1)
    print(json.dumps(fold_of(name, int(fold), int(epochs), source)))


if __name__ == "__main__":
    main()
