"""Make clones by some methods in one repetition, try them in every setting, and print a line of JSON for each.

python -m correcting.one_cell '{"ground": "desk", "fallible": true, "seed": 0, "arms": ["bc"], "calls": 450, ...}'
"""

import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from correcting import desks, kitchens
from correcting.arms import Seed, Shop
from correcting.grounds import SETTINGS
from correcting.trials import try_clone, try_expert
from overhead.timing import Json

GROUNDS = {ground.name: ground for ground in (desks.GROUND, kitchens.GROUND)}


def main() -> None:
    """Print what came of each method."""
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    ground = GROUNDS[asked["ground"]]
    shop = Shop(ground, asked["fallible"], Seed(asked["seed"]), asked["calls"], asked["epochs"])
    shop.held_out = min(shop.held_out, asked["tasks"])
    for name in asked["arms"]:
        began = time.perf_counter()
        told: Json
        if name == "expert":
            told = {"success": try_expert(ground, asked["fallible"], SETTINGS, asked["tasks"])}
        else:
            made = shop.once(name)
            told = {
                "success": try_clone(ground, made.policy, SETTINGS, asked["tasks"]),
                "expert_calls": made.spent.calls,
                "env_steps": made.spent.steps,
                "rejected_calls": made.spent.rejected,
                "decisions": made.decisions,
                "note": made.note,
            }
        place = {key: asked[key] for key in ("ground", "fallible", "seed", "calls", "tasks", "epochs")}
        seconds = round(time.perf_counter() - began, 1)
        sys.stdout.write(json.dumps({**place, "arm": name, **told, "seconds": seconds}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
