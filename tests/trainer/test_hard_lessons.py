"""Hard lessons and hard states: rare tools, one class, one trajectory, unknown tools, huge and foreign texts."""

import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from imitrace.config import child_environment
from imitrace.messages import Action, Message, message_text
from imitrace_trainer.clone_files import CloneCard, read_clone, write_clone
from imitrace_trainer.demonstrations import Demonstration
from imitrace_trainer.embedded import EmbeddedPolicy
from imitrace_trainer.families import BEST
from imitrace_trainer.family import Batching, Clone
from imitrace_trainer.fit import BCConfig, calibrate, fit, prepare
from imitrace_trainer.ladder import climb
from imitrace_trainer.linear import fit_linear
from imitrace_trainer.policy import State
from imitrace_trainer.progress import silent
from imitrace_trainer.registry import Registry
from imitrace_trainer.route import HANDOVER, RoutedClone, Serving
from imitrace_trainer.route_config import RouteConfig
from imitrace_trainer.thresholds import Thresholds

Play = Callable[[int, int], list[Demonstration]]

TEXT = {"type": "string"}
TOOLS = [
    {
        "name": name,
        "description": told,
        "parameters": {"type": "object", "properties": {"order": TEXT}, "required": ["order"]},
    }
    for name, told in (("look", "Look an order up."), ("burn", "Destroy what an order holds."))
]
FOREIGN = {
    "astral": "\U0001f9fe-\U0001d54f\U0001f600",
    "right to left": "הזמנה-٣٤",
    "combining": "e\u0301-n\u0303o\u0308",
    "lone surrogate": "W-\ud83d9",
    "controls": "W-\u0000\u202e7",
    "wide": "注文-第九号",
}
HUGE = {
    "words": "where is my order " * 6_000,
    "one word": "x" * 100_000,
    "numbers": "9" * 100_000,
    "spaced numbers": "17 4 2026-03-01 " * 6_250,
    "brackets": "[" * 50_000 + "]" * 50_000,
    "rows": json.dumps([{"order": f"W{number}", "held": number} for number in range(3_500)]),
    "marks": "'\"\\{}:,.@#-_" * 8_000,
    "astral": "\U0001f600" * 25_000,
}


@pytest.fixture(scope="module")
def clones(shop_clone: EmbeddedPolicy, play_shop: Play) -> dict[str, Clone]:
    """Return clones of the toy shop's expert by family."""
    config = BCConfig(device="cpu", batch=4)
    linear = fit_linear(prepare(play_shop(24, 1), config), config, silent)
    calibrate(linear, play_shop(12, 2))
    return {"embedded": shop_clone, "linear": linear}


def said(text: str) -> dict[str, Any]:
    return {"role": "user", "parts": [{"type": "text", "content": text}]}


def shown(text: str, tool: str, order: str, task: int) -> Demonstration:
    return Demonstration(State([said(text)], TOOLS), Action("tool_call", tool, {"order": order}), str(task))


def test_a_tool_that_is_called_once_in_a_hundred_times_is_learnt_or_left_to_the_expert() -> None:
    often = [shown(f"where is W{task}", "look", f"W{task}", task) for task in range(198)]
    rare = [shown(f"burn all of W{task} now", "burn", f"W{task}", task) for task in (500, 501)]
    config = BCConfig(device="cpu", epochs=4)
    climbed = climb(([*often, *rare], [*often[:20], *rare]), BEST, config)
    state = State([said("burn all of W777 now")], TOOLS)
    made = climbed.clone.act(state)
    assert (made.action.name, made.action.arguments) == ("burn", {"order": "W777"})
    assert climbed.clone.act(State([said("where is W778")], TOOLS)).action.name == "look"
    steps_too_few = climbed.clones["embedded"].act(state)
    assert steps_too_few.action.name == "burn" or steps_too_few.confidence < 0.5


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_characters_are_learnt_and_copied_as_they_are(kind: str) -> None:
    order = FOREIGN[kind]
    lessons = [shown(f"where is {order}{n}", "look", f"{order}{n}", n) for n in range(12)]
    lessons += [shown(f"burn {order}{n}", "burn", f"{order}{n}", n) for n in range(12)]
    policy, _ = fit(lessons, lessons, BCConfig(device="cpu", epochs=3, batch=8))
    made = policy.act(State([said(f"burn {order}99")], TOOLS))
    assert made.action.arguments.get("order", "") in f"burn {order}99"
    assert sum(made.tools.values()) == pytest.approx(1)


def test_huge_and_foreign_messages_are_learnt_from_as_any_other() -> None:
    lessons = [shown(f"where is W{n}", "look", f"W{n}", n) for n in range(12)]
    lessons += [shown(f"burn W{n}", "burn", f"W{n}", n) for n in range(12)]
    huge = [
        shown(f"{text}\nburn {order}", "burn", order, 20 + number)
        for number, (text, order) in enumerate(zip(HUGE.values(), itertools.cycle(FOREIGN.values()), strict=False))
    ]
    assert all(len(message_text(one.state.messages[0]).encode(errors="replace")) >= 90_000 for one in huge)
    config = BCConfig(device="cpu", epochs=3, batch=8)
    policy, report = fit([*lessons, *huge], [*lessons, *huge], config)
    assert report.decisions == len(lessons) + len(huge)
    assert np.isfinite([*report.choice_loss, *report.argument_loss, *report.judged_loss]).all()
    linear = fit_linear(prepare([*lessons, *huge], config), config, silent)
    for clone in (policy, linear):
        made = [clone.act(one.state).action for one in [*lessons, *huge]]
        assert made[: len(lessons)] == [one.action for one in lessons]
        assert sum(action.name == "burn" for action in made[len(lessons) :]) >= len(huge) - 1


def work(policy: EmbeddedPolicy, text: str) -> int:
    """Return how many functions of ours a decision on a text calls."""
    calls: Counter[str] = Counter()

    def count(frame: Any, event: str, _: object) -> None:
        calls[event] += event == "call" and "imitrace_trainer" in frame.f_code.co_filename

    sys.setprofile(count)
    try:
        made = policy.act(State([said(text)], TOOLS))
    finally:
        sys.setprofile(None)
    assert sum(made.tools.values()) == pytest.approx(1)
    return calls["call"]


@pytest.mark.parametrize("kind", HUGE)
def test_the_work_on_a_huge_message_grows_no_faster_than_its_length(shop_clone: EmbeddedPolicy, kind: str) -> None:
    text = HUGE[kind]
    assert len(text.encode()) >= 90_000
    work(shop_clone, "hello")
    half, whole = work(shop_clone, text[: len(text) // 2]), work(shop_clone, text)
    assert whole < 2.5 * half + 1_000


def test_tools_that_nobody_has_seen_share_what_there_is(shop_clone: EmbeddedPolicy) -> None:
    made = shop_clone.act(State([said("Order W12345 is late, please pay me back.")], TOOLS))
    assert made.tools.keys() == {"message", "look", "burn"}
    assert sum(made.tools.values()) == pytest.approx(1)
    assert shop_clone.act(State([said("hi")], [])).tools == {"message": pytest.approx(1)}


def test_a_tool_with_another_name_is_chosen_by_its_description(shop_clone: EmbeddedPolicy, play_shop: Play) -> None:
    calls = [one for one in play_shop(20, 3) if one.action.kind == "tool_call"]
    right = []
    for one in calls:
        renamed = [{**tool, "name": "arrange"} if tool["name"] == one.action.name else tool for tool in one.state.tools]
        made = shop_clone.act(State(one.state.messages, renamed))
        right.append(made.action.name == "arrange")
        assert sum(made.tools.values()) == pytest.approx(1)
    assert sum(right) >= 0.8 * len(calls)


@pytest.mark.parametrize("family", ["embedded", "linear"])
def test_a_batch_decides_as_one_by_one(clones: dict[str, Clone], play_shop: Play, family: str) -> None:
    clone, states = clones[family], [one.state for one in play_shop(6, 9)]
    states += [State(states[0].messages, TOOLS), State(states[1].messages, []), State([], states[0].tools[:1])]
    assert isinstance(clone, Batching)
    for made, alone in zip(clone.act_batch(states), map(clone.act, states), strict=True):
        assert made.action == alone.action
        assert made.tools == pytest.approx(alone.tools, abs=1e-6)
        assert made.confidence == pytest.approx(alone.confidence, abs=1e-6)
        assert made.ood == pytest.approx(alone.ood, abs=1e-6)
    assert clone.act_batch([]) == []


def read_twice(clone: Clone, folder: Path) -> tuple[Clone, Clone]:
    """Return two copies of a clone that have read nothing yet."""
    folder.mkdir()
    write_clone(folder, clone, CloneCard("shop", "shop", 1, "", "", "", {}, {}))
    return read_clone(folder)[0], read_clone(folder)[0]


@pytest.mark.parametrize("family", ["embedded", "linear"])
def test_eight_threads_share_a_clone_and_decide_as_one(
    clones: dict[str, Clone], play_shop: Play, tmp_path: Path, family: str
) -> None:
    states = [one.state for one in play_shop(12, 9)]
    states += [State(state.messages, [*state.tools[:1], TOOLS[number % 2]]) for number, state in enumerate(states[:12])]
    alone, shared = read_twice(clones[family], tmp_path / family)
    expected = [alone.act(state) for state in states]
    starts = range(0, 32, 4)  # each begins elsewhere, so that they meet at states that none has read
    with ThreadPoolExecutor(8) as pool:
        turns = [states[start:] + states[:start] for start in starts]
        found = list(pool.map(lambda turn: [shared.act(state) for state in turn], turns))
    assert found == [expected[start:] + expected[:start] for start in starts]


def in_one_talk(shown: Sequence[Demonstration], trajectory: str) -> list[State]:
    """Return the states of several tasks as those of one trajectory, each task after the one before."""
    states: list[State] = []
    before: list[Message] = []
    for _, decisions in itertools.groupby(shown, key=lambda one: one.task):
        told = list(decisions)
        states += [State([*before, *one.state.messages], one.state.tools, {}, trajectory) for one in told]
        before = [*states[-1].messages]
    return states


def test_eight_threads_share_a_route_and_each_trajectory_goes_as_it_goes_alone(
    clones: dict[str, Clone], play_shop: Play, tmp_path: Path
) -> None:
    courses = [in_one_talk(play_shop(4, seed), str(seed)) for seed in range(50, 62)]
    light = BCConfig(device="cpu", batch=4, epochs=1)
    unsure = fit_linear(prepare(play_shop(3, 1), light), light, silent)
    pairs = zip(
        read_twice(clones["embedded"], tmp_path / "first"), read_twice(unsure, tmp_path / "second"), strict=True
    )
    config = RouteConfig(hold=1, handovers=2, audit=0, unaudited=True)
    thresholds = Thresholds(0.6, 0.6, ("find_order", "refund", "resend"))
    alone, shared = (
        RoutedClone(first, thresholds, ("all",), None, second, second_key=True, serving=Serving.by(config))
        for first, second in pairs
    )
    expected = [[alone.decide(state) for state in course] for course in courses]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda course: [shared.decide(state) for state in course], courses))
    assert found == expected
    reasons = " ".join(routed.reason for course in expected for _, routed in course)
    for told in ("trusted", HANDOVER, "keeps this one after a handover", "the second key says"):
        assert told in reasons


TOML = """
[cohort.small]
agent = "desk"
split = { calibration = 0.25, gate = 0.25 }
[clone.small.train]
epochs = 1
device = "cpu"
"""


def imitrace(folder: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "imitrace", *words, "--home", str(folder / "home")]
    return subprocess.run(
        command, cwd=folder, env=child_environment({}), capture_output=True, text=True, timeout=180, check=False
    )


def test_a_cohort_of_one_kind_of_action_is_refused_in_words_and_leaves_nothing(
    make_snapshot: Callable[..., Path], tmp_path: Path
) -> None:
    source = make_snapshot(*({"id": f"t{n}", "task": str(n), "roles": ["expert"] * 2} for n in range(8)))
    (tmp_path / "imitrace.toml").write_text(TOML)
    curated = imitrace(tmp_path, "curate", "small", "--source", str(source))
    assert curated.returncode == 0, curated.stderr
    trained = imitrace(tmp_path, "train", "small")
    assert trained.returncode > 0 and trained.stdout == ""
    assert "a clone needs two kinds of action; widen the cohort" in trained.stderr
    assert "Traceback" not in trained.stderr
    assert Registry(tmp_path / "home").versions("small") == []
    assert not (tmp_path / "home" / "fits").exists()


def test_a_cohort_of_one_trajectory_is_refused_in_words(make_snapshot: Callable[..., Path], tmp_path: Path) -> None:
    source = make_snapshot({"id": "t", "task": "1", "roles": ["expert"] * 2})
    (tmp_path / "imitrace.toml").write_text(TOML)
    curated = imitrace(tmp_path, "curate", "small", "--source", str(source))
    assert curated.returncode > 0
    assert "task" in curated.stderr and "Traceback" not in curated.stderr
    assert "does not exist" in imitrace(tmp_path, "train", "small").stderr
