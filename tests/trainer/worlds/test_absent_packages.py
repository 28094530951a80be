"""Where the package of an adapter is not installed, its world says what to install."""

import subprocess
import sys

import pytest

ABSENT = """
import sys
from imitrace.exceptions import ConfigError
sys.modules["{package}"] = None  # as Python remembers a package that it did not find
try:
    {made}
except ConfigError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("package", "made"),
    [
        ("textworld", "from imitrace_trainer.worlds.textworld_cooking import CookingWorld; CookingWorld()"),
        (
            "gymnasium",
            "from imitrace_trainer.worlds.gymnasium_world import GymnasiumWorld; "
            "GymnasiumWorld('FrozenLake-v1', {0: 'left'}).reset('common-1-0')",
        ),
    ],
)
def test_an_absent_package_is_named_with_its_extra(package: str, made: str) -> None:
    program = ABSENT.format(package=package, made=made)
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert told.stdout.startswith(f"{package} can't be imported")
    assert told.stdout.endswith(f"run: pip install 'imitrace[{package}]'\n")
