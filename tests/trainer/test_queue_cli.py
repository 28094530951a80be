import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from imitrace.cli import main
from imitrace.schema import SCHEMA_VERSION
from imitrace_trainer.datasets import open_dataset
from imitrace_trainer.queue_verdicts import VERDICTS, read_reviews

if TYPE_CHECKING:
    import polars as pl

Make = Callable[..., "dict[str, pl.DataFrame]"]
Json = dict[str, Any]  # a JSON object

SCHEMA = {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]}
TOOLS = [{"name": name, "description": "", "parameters": SCHEMA} for name in ("look", "user", "refund")]
CONFIG = '[cohort.desk]\nagent = "desk"\n[clone.desk]\nfamily = "frequency"\n'


def diverging(number: int, clone: str = "refund", confidence: float = 0.8) -> Json:
    order = {"order": f"A{number}"}
    action = {"kind": "tool_call", "name": clone, "arguments": order}
    told: Json = {"shadow": {"clone": "desk", "version": "v1", "action": action, "confidence": confidence, "ood": 0.5}}
    told |= {"observation": '{"status": "sent", "items": [{"sku": 1}]}', "route_reason": "confidence 0.800"}
    return {"tools": TOOLS, "calls": [("look", order), ("user", order)], "steps": {0: told}}


class Desk:
    """A workspace, and a source with twelve items of which one is harmless."""

    def __init__(self, folder: Path, tables: "dict[str, pl.DataFrame]") -> None:
        self.home, source = folder / "home", folder / "snapshot"
        source.mkdir()
        for table, frame in tables.items():
            frame.write_parquet(source / f"{table}.parquet")
        counts = {table: len(frame) for table, frame in tables.items()}
        (source / "manifest.json").write_text(json.dumps({"schema_version": SCHEMA_VERSION, "counts": counts}))
        (folder / "imitrace.toml").write_text(CONFIG)
        self.source = ("--source", str(source), "--home", str(self.home))
        self.config = ("--config", str(folder / "imitrace.toml"))

    def run(self, *words: object, typed: str | None = None) -> Result:
        return CliRunner().invoke(main, ["queue", *map(str, words), *self.source], input=typed)

    def told(self, *words: object) -> Any:  # JSON
        done = self.run(*words, "--json")
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def ids(self, *words: object) -> list[str]:
        return [item["id"] for item in self.told("list", "--limit", 99, *words)["items"]]


@pytest.fixture
def desk(tmp_path: Path, make_diverging: Make) -> Desk:
    cases = [diverging(number, confidence=number / 20) for number in range(11)]
    made = Desk(tmp_path, make_diverging(*cases, diverging(11, "user")))
    for tool, risk in (("look", "read"), ("user", "read"), ("refund", "irreversible")):
        options = ["--home", str(made.home), *made.source[:2]]
        assert CliRunner().invoke(main, ["tools", "risk", tool, risk, *options]).exit_code == 0
    return made


def test_the_list_shows_what_to_judge_first_and_sets_the_harmless_apart(desk: Desk) -> None:
    lines = desk.run("list", "--limit", 3).stdout.splitlines()
    assert len(lines) == 6
    assert lines[1].split()[1] == "irreversible"
    assert lines[1].endswith("look(A10)                           refund(A10)")
    assert lines[4:] == ["8 more, see --limit", "1 harmless ones set apart, see --equivalent"]
    told = desk.told("list")
    assert (len(told["items"]), told["set_apart"]) == (11, 1)
    assert told["items"][0]["risk"] == "irreversible"
    (harmless,) = set(desk.ids("--equivalent")) - set(desk.ids())
    assert desk.told("show", harmless)["equivalent"] == "reads in another order"


def test_the_order_can_be_chosen(desk: Desk) -> None:
    sure = [item["confidence"] for item in desk.told("list", "--by", "uncertainty")["items"]]
    assert sure == sorted(sure)
    assert desk.ids("--by", "random", "--seed", 1) != desk.ids("--by", "random", "--seed", 2)
    assert "order is 'age'" in desk.run("list", "--by", "age").output


def test_an_item_is_shown_with_both_actions_side_by_side_and_without_raw_json(desk: Desk) -> None:
    (name, *_) = desk.ids()
    text = desk.run("show", name[:6]).stdout
    assert "clone and expert differ  risk irreversible" in text
    assert "user:\n  I have lost my order" in text
    assert "EXPERT" in text.partition("|")[0]
    assert "look                                             | refund" in text
    assert "  status: sent\n  items:\n    -\n      sku: 1" in text
    assert "{" not in text


def test_a_verdict_is_said_in_one_line_and_kept(desk: Desk) -> None:
    name, *others = desk.ids()
    fix = '{"name": "user", "arguments": {"order": "B7"}}'
    said = ("judge", name[:8], "both_wrong", "--correction", fix, "--note", "no", "--reviewer", "ann")
    done = desk.run(*said)
    assert done.stdout == f"{name}: both_wrong by ann; right is user order: B7 (no)\n"
    assert sorted(desk.ids()) == sorted(others)
    assert desk.ids("--judged") == [name]
    assert desk.told("show", name)["verdicts"][0]["correction"] == {
        "kind": "tool_call",
        "name": "user",
        "arguments": {"order": "B7"},
    }
    again = desk.told("judge", others[0], "unsafe", "--reviewer", "ben", "--seconds", 30)
    assert (again["verdict"], again["seconds"]) == ("unsafe", 30.0)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("judge", "nothing", "unsafe"), "item 'nothing': there is none such; 'imitrace queue list' has the ids"),
        (("judge", "", "unsafe"), "item ''"),
        (("judge", "ID", "good"), "verdict is 'good', allowed: " + ", ".join(VERDICTS)),
        (("judge", "ID", "both_wrong", "--correction", "x"), "correction is 'x', write"),
        (("judge", "ID", "unsafe", "--correction", '{"name": "look"}'), "correction does not fit look"),
        (("rows", "shop"), "cohort 'shop' is not in imitrace.toml"),
    ],
)
def test_a_users_error_is_one_line_that_says_what_to_do(desk: Desk, words: tuple[str, ...], message: str) -> None:
    name = desk.ids()[0]
    options = desk.config if words[0] == "rows" else ()
    done = desk.run(*(name if word == "ID" else word for word in words), *options)
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert message in done.stderr


def test_the_keyboard_goes_from_one_decision_to_the_next(desk: Desk) -> None:
    names = desk.ids()
    typed = 'x\ne\nfine by me\ns\nm\nw\nnonsense\n{"message": "Which one?"}\n\nq\n'
    done = desk.run("next", "--reviewer", "ann", typed=typed)
    assert done.exit_code == 0, done.output
    assert "[1 of 11]" in done.stdout
    assert "correction is 'nonsense', write" in done.stdout
    assert done.stdout.endswith("2 judged, 9 left of 11\n")
    first, second = read_reviews(desk.home, "desk").judgements
    assert (first.item, first.verdict, first.note) == (names[0], "expert_right", "fine by me")
    assert (second.item, second.verdict) == (names[2], "both_wrong")
    assert second.correction is not None
    assert second.correction.message == "Which one?"
    assert first.seconds is not None


def test_the_keyboard_refuses_what_makes_no_sense(tmp_path: Path, make_diverging: Make) -> None:
    acted = {"policy_role": "clone", "policy_name": "desk", "confidence": 0.2}
    case = {"tools": TOOLS, "calls": [("look", {"order": "A1"})], "steps": {0: acted}}
    desk = Desk(tmp_path, make_diverging(case))
    done = desk.run("next", "--limit", 1, typed="e\nc\n\n")
    assert "expert_right on" in done.stdout
    assert done.stdout.endswith("1 judged, 0 left of 1\n")
    assert desk.told("next")["item"] is None


def test_next_prints_the_first_item_for_programs_that_ask_by_json(desk: Desk) -> None:
    told = desk.told("next")
    assert (told["item"]["id"], told["waiting"]) == (desk.ids()[0], 11)


def test_several_reviewers_see_how_far_they_agree_and_where_not(desk: Desk) -> None:
    names = desk.ids()[:4]
    for name in names:
        desk.told("judge", name, "expert_right", "--reviewer", "ann", "--seconds", 60)
    for name, verdict in zip(names[:3], ("expert_right", "unsafe", "clone_right"), strict=True):
        assert name in [desk.told("next", "--again", "--reviewer", "ben")["item"]["id"], *names]
        desk.told("judge", name, verdict, "--reviewer", "ben")
    assert desk.told("next", "--again", "--reviewer", "ben")["waiting"] == 1
    told = desk.told("stats")
    assert (told["judged"], told["waiting"], told["equivalent"]) == (
        4,
        {"disagreement": 7},
        {"reads in another order": 1},
    )
    assert told["reviewers"] == {
        "ann": {"judged": 4, "minutes": 4.0, "unmeasured": 0},
        "ben": {"judged": 3, "minutes": 0.0, "unmeasured": 3},
    }
    assert told["disputed"] == sorted(names[1:3])
    assert told["agreement"]["ann, ben"]["items"] == 3
    text = desk.run("stats").stdout
    assert "agreement beyond chance, ann, ben: " in text
    assert f"  {names[1]}: ann expert_right, ben unsafe" in text


def test_a_divergence_becomes_a_verdict_a_row_a_version_and_what_the_next_clone_does(
    tmp_path: Path, make_diverging: Make
) -> None:
    cases = [diverging(number) for number in range(12)]
    desk = Desk(tmp_path, make_diverging(*({**case, "calls": case["calls"][:1]} for case in cases)))
    curate = CliRunner().invoke(main, ["curate", "desk", *desk.config, *desk.source])
    assert curate.exit_code == 0, curate.output
    held = open_dataset(desk.home, "desk").tasks("gate") | open_dataset(desk.home, "desk").tasks("calibration")
    items = [item for item in desk.told("list", "--limit", 99)["items"] if not set(item["tasks"]) & held]
    assert [item["id"] for item in items] == desk.ids("--cohort", "desk")
    assert len(items) > 3
    items = items[2:]
    for item in items:
        desk.told("judge", item["id"], "clone_right", "--reviewer", "ann")
    told = desk.told("rows", "desk", *desk.config)
    assert (told["version"], told["created"], told["learnt"]) == (2, True, len(items))
    lines = desk.run("rows", "desk", *desk.config).stdout.splitlines()
    assert lines == [
        f"desk v2 (unchanged): {len(items)} judged rows, {len(items)} learnt",
        f"  verdict clone_right: {len(items)}",
    ]
    options = [*desk.config, "--home", str(desk.home)]
    trained = CliRunner().invoke(main, ["train", "desk", *options, "--json"])
    assert trained.exit_code == 0, trained.output
    card = json.loads((desk.home / "clones/desk/v1/clone.json").read_text())
    assert (card["dataset_version"], card["dataset_hash"]) == (2, open_dataset(desk.home, "desk", 2).hash)
    from imitrace_trainer.policy import State  # which takes seconds, and the other tests do without
    from imitrace_trainer.stages import load_clone

    state = State(items[0]["state"], items[0]["tools"], {})
    assert load_clone(desk.home, "desk:1").policy.act(state).action.name == "refund"


@pytest.mark.parametrize("command", ["list", "next", "show", "judge", "stats", "rows"])
def test_every_command_has_examples(command: str) -> None:
    assert "Examples:" in CliRunner().invoke(main, ["queue", command, "--help"]).stdout
