import subprocess
import sys
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace.redaction.rules import RULES, Rule

_LOADED = """
import sys
import imitrace
imitrace.configure(agent="desk")
imitrace.shutdown()
print(sorted(name for name in sys.modules if name.startswith("imitrace.redaction.")))
"""


@pytest.mark.parametrize("name", RULES)
def test_a_built_in_rule_needs_nothing_but_its_name(name: str) -> None:
    assert Rule(name) == Rule(name, pattern=None, replace=None, find=None)


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"name": "mail"}, "redaction rule 'mail' is unknown, allowed: email, phone, card, iban, key, or Rule"),
        ({"name": "my rule", "pattern": "a"}, "redaction rule 'my rule' has no name of letters, digits"),
        ({"name": "x", "pattern": "a", "find": list}, "redaction rule 'x' has a pattern and a find, allowed: one"),
        ({"name": "x", "pattern": "("}, r"redaction rule 'x': pattern '\(' is wrong"),
    ],
)
def test_a_rule_that_finds_nothing_or_in_two_ways_is_refused_in_words(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Rule(**rule)


def test_no_finder_is_loaded_where_nothing_is_redacted() -> None:
    output = subprocess.run([sys.executable, "-c", _LOADED], capture_output=True, text=True, check=True).stdout
    assert output == "['imitrace.redaction.rules']\n"
