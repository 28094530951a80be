import json

import pytest

from imitrace.exceptions import ConfigError
from imitrace_trainer.route_config import RouteConfig


@pytest.mark.parametrize("key", ["error", "irreversible_error", "confidence"])
@pytest.mark.parametrize("value", [0, 1, -0.1, True, "0.1", float("nan")])
def test_a_wrong_share_is_refused_with_what_is_allowed(key: str, value: object) -> None:
    with pytest.raises(ConfigError, match=rf"^route {key} is .+, allowed: a number over 0 and under 1$"):
        RouteConfig.from_table({key: value})


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"irreversible": "cancel"}, "route irreversible is 'cancel', allowed: a list of tool names"),
        ({"irreversible": ["cancel", 3]}, "route irreversible is ['cancel', 3], allowed: a list of tool names"),
        ({"audit": 1}, "route audit is 1, allowed: a number from 0 to under 1"),
        ({"hold": 1.0}, "route hold is 1.0, allowed: a whole number from 0"),
        ({"handovers": -1}, "route handovers is -1, allowed: a whole number from 0"),
        ({"gate_days": -1}, "route gate_days is -1, allowed: days from 0, which is for ever"),
        ({"second_key": 1}, "route second_key is 1, allowed: true, false"),
        ({"rules": {}}, "route rules is {}, allowed: a list of rules"),
    ],
)
def test_a_wrong_table_is_refused_with_what_is_allowed(table: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RouteConfig.from_table(table)
    assert str(caught.value) == message


def test_a_table_fills_the_settings() -> None:
    config = RouteConfig.from_table({"error": 0.05, "irreversible": ["cancel"]})
    assert config == RouteConfig(error=0.05, irreversible=("cancel",))


def test_an_unknown_key_is_refused_with_all_that_are_known() -> None:
    with pytest.raises(ConfigError, match=r"^route eror is unknown, allowed: error, irreversible_error, .*drift_days$"):
        RouteConfig.from_table({"eror": 0.1})


def test_a_clone_that_nobody_watches_must_be_asked_for() -> None:
    with pytest.raises(ConfigError, match=r"nobody would notice where the clone is wrong.*or say unaudited = true"):
        RouteConfig.from_table({"audit": 0})
    assert RouteConfig.from_table({"audit": 0, "unaudited": True}).audit == 0


def test_settings_come_back_from_json() -> None:
    rule = {"when": {"or": [{"tag": "tier", "eq": "vip"}, {"not": {"tag": "lang", "in": ["en"]}}]}, "to": "expert"}
    config = RouteConfig.from_table({"audit": 0.1, "irreversible": ["cancel"], "rules": [rule], "gate_days": 7})
    assert RouteConfig.from_table(json.loads(json.dumps(config.to_json()))) == config
