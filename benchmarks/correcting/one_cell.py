"""Make clones by some methods in one repetition, try them in every setting, and print a line of JSON for each.

python -m correcting.one_cell '{"ground": "desk", "fallible": true, "seed": 0, "arms": ["bc"], "calls": 450, ...}'
"""

import json
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from correcting import cycles, desks, kitchens
from correcting.arms import Made, Seed, Shop
from correcting.grounds import SETTINGS
from correcting.trials import disagreement, try_clone, try_expert
from overhead.timing import Json

GROUNDS = {ground.name: ground for ground in (desks.GROUND, kitchens.GROUND)}
COMPARED = ("bc", "dagger", "bc_rounds")
"""Methods of which is told where clone and expert differ."""


def main() -> None:
    """Print what came of each method."""
    asked = json.loads(sys.argv[1])
    torch.set_num_threads(1)
    shop = None if asked["ground"] == cycles.NAME else _shop(asked)
    for name in asked["arms"]:
        began = time.perf_counter()
        told = _tried(shop, name, asked) if shop else cycles.lived(name, asked)
        place = {key: asked[key] for key in ("ground", "fallible", "seed", "calls", "tasks", "epochs")}
        seconds = round(time.perf_counter() - began, 1)
        sys.stdout.write(json.dumps({**place, "arm": name, **told, "seconds": seconds}) + "\n")
        sys.stdout.flush()


def _shop(asked: Json) -> Shop:
    ground = GROUNDS[asked["ground"]]
    seed, held_out = Seed(asked["seed"]), min(40, asked["tasks"])
    return Shop(ground, asked["fallible"], seed, asked["calls"], asked["epochs"], held_out)


def _tried(shop: Shop, name: str, asked: Json) -> Json:
    if name == "expert":
        return {"success": try_expert(shop.ground, asked["fallible"], SETTINGS, asked["tasks"])}
    made = shop.once(name)
    return {
        "success": try_clone(shop.ground, made.policy, SETTINGS, asked["tasks"]),
        **_price(made),
        **({"disagreement": disagreement(shop.ground, made.policy, asked["tasks"])} if name in COMPARED else {}),
    }


def _price(made: Made) -> Json:
    return {
        "expert_calls": made.spent.calls,
        "env_steps": made.spent.steps,
        "rejected_calls": made.spent.rejected,
        "decisions": len(made.shown),
        "note": made.note,
    }


if __name__ == "__main__":
    main()
