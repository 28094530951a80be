"""Write what the benchmark sends, and the clones: ``python -m proxying.prepare FOLDER COUNT`` prints where they are.

A process of its own, so that torch is not in the one that measures.
"""

import json
import sys
from pathlib import Path

import torch

from proxying.talk import bodies, make_clones


def main() -> None:
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    files = {"asks": folder / "asks.jsonl", "talks": folder / "talks.jsonl"}
    for seed, (name, path) in enumerate(files.items()):
        path.write_bytes(b"\n".join(bodies(name == "asks", count, 100 + seed)))
    homes = {"passing": folder / "passing", "failing": folder / "failing"}
    make_clones(homes)
    print(json.dumps({"bodies": {name: str(path) for name, path in files.items()},
                      "homes": {name: str(home) for name, home in homes.items()}}))  # fmt: skip


if __name__ == "__main__":
    main()
