import subprocess
import sys

import pytest

PROGRAM = """
import sys
from pathlib import Path
from imitrace_collector.memory import keep_small

if sys.argv[1] == "small":
    keep_small()

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

bytes(30_000_000)  # by itself glibc maps nothing apart from now on that is smaller
before = resident()
kept = []
bodies = []
for _ in range(100):
    bodies.append(b"x" * 1_000_000)
    kept.append(b"y" * 2_000)
bodies.clear()
print(resident() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/statm is Linux's")
def test_the_memory_of_large_requests_is_given_back_at_once() -> None:
    def left(how: str) -> int:
        run = subprocess.run(
            [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=60, check=True
        )
        return int(run.stdout)

    assert left("small") < 10_000_000 < 30_000_000 < left("as it is")
