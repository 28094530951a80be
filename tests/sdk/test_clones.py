"""A clone asked from an agent: loaded aside, followed through the registry, and never in the agent's way."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imitrace.canonical import canonical_json
from imitrace.clones import CloneHandle
from imitrace.exceptions import ConfigError
from imitrace.messages import Action
from imitrace.testing import Captured
from imitrace.verdict import LOADING, Verdict
from imitrace_trainer.registry import Registry

Tools = list[dict[str, Any]]
LOAD_SECONDS = 60.0


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds


@pytest.fixture(scope="module")
def steady(lamp_home: Path) -> CloneHandle:
    """Return a handle whose registry does not change."""
    return warmed(lamp_home)


def says(text: str) -> list[str]:
    return [canonical_json({"role": "user", "parts": [{"type": "text", "content": text}]})]


ON = says("Please switch lamp L-7 on.")


def warmed(home: Path, reference: str = "lamps@champion", clock: Clock | None = None) -> CloneHandle:
    handle = CloneHandle(reference, home, clock or Clock())
    handle.warm(LOAD_SECONDS)
    return handle


def add_version(home: Path, passes: bool = True) -> int:
    """Register the weights of v1 once more, gate them, and make them champion."""
    registry = Registry(home)

    def write(folder: Path) -> None:
        for path in (home / "clones" / "lamps" / "v1").iterdir():
            shutil.copy(path, folder)

    number = registry.register("lamps", write)
    gate(home, number, passes)
    if passes:
        registry.promote("lamps", dataset_hash="d1")
    return number


def gate(home: Path, version: int, passes: bool) -> None:
    report = Registry(home).gate_record("lamps", 1)
    assert report is not None
    cohorts = tuple(replace(cohort, verdict="pass" if passes else "fail") for cohort in report.cohorts)
    Registry(home).record_gate("lamps", version, replace(report, version=version, cohorts=cohorts))


def after_a_second(handle: CloneHandle, clock: Clock, tools: Tools) -> Verdict:
    clock.tick()
    handle.warm(LOAD_SECONDS)
    return handle.ask(ON, tools, {})


def test_a_clone_that_is_trusted_says_what_to_do(lamp_home: Path, lamp_tools: Tools) -> None:
    verdict = warmed(lamp_home).ask(ON, lamp_tools, {})
    assert verdict.action == Action("tool_call", "switch", {"lamp": "L-7", "to": "on"})
    assert (verdict.trusted, verdict.reason, verdict.clone, verdict.version) == (True, "trusted", "lamps", "v1")


def test_a_message_is_left_to_the_expert(lamp_home: Path, lamp_tools: Tools) -> None:
    verdict = warmed(lamp_home).ask(says("Hello, who are you?"), lamp_tools, {})
    assert (verdict.trusted, verdict.reason) == (False, "the clone can't write text")


def test_a_cohort_that_no_gate_judged_is_left_to_the_expert(lamp_home: Path, lamp_tools: Tools) -> None:
    verdict = warmed(lamp_home).ask(ON, lamp_tools, {"cohort": "rare"})
    assert (verdict.trusted, verdict.reason) == (False, "cohort 'rare' has no passing gate")


def test_a_shadow_is_json_that_says_what_the_clone_would_have_done(lamp_home: Path, lamp_tools: Tools) -> None:
    verdict = warmed(lamp_home).ask(ON, lamp_tools, {})
    assert json.loads(json.dumps(verdict.shadow())) == {
        "clone": "lamps",
        "version": "v1",
        "action": {"kind": "tool_call", "name": "switch", "arguments": {"lamp": "L-7", "to": "on"}},
        "confidence": verdict.confidence,
        "ood": verdict.ood,
        "trusted": True,
        "reason": "trusted",
    }
    assert Verdict(None, False, LOADING).shadow()["action"] is None
    assert Verdict(Action("message", message="Hello."), False, "confidence 0.4").shadow()["action"] == {
        "kind": "message",
        "name": None,
        "arguments": {},
        "message": "Hello.",
    }


@pytest.mark.parametrize("reference", ["", "../lamps", "lamps@best", "lamps:", "lamps:x", "lamps@champion\n", "a b"])
def test_a_reference_of_no_known_form_is_refused_when_it_is_written(reference: str) -> None:
    with pytest.raises(ConfigError, match="allowed: NAME, NAME@champion"):
        CloneHandle(reference)


def test_a_promotion_is_followed_after_a_second_at_most(lamps: Path, lamp_tools: Tools) -> None:
    clock = Clock()
    handle = warmed(lamps, clock=clock)
    add_version(lamps)
    clock.tick(0.9)
    assert handle.ask(ON, lamp_tools, {}).version == "v1"
    assert after_a_second(handle, clock, lamp_tools).version == "v2"


def test_the_answer_that_finds_the_registry_changed_is_the_experts(lamps: Path, lamp_tools: Tools) -> None:
    clock = Clock()
    handle = warmed(lamps, clock=clock)
    gate(lamps, 1, passes=False)
    clock.tick(600)
    assert not handle.ask(ON, lamp_tools, {}).trusted


def test_a_rollback_is_followed(lamps: Path, lamp_tools: Tools) -> None:
    clock = Clock()
    add_version(lamps)
    handle = warmed(lamps, clock=clock)
    Registry(lamps).rollback("lamps")
    assert after_a_second(handle, clock, lamp_tools).version == "v1"


def test_a_gate_that_fails_takes_the_trust_away_and_one_that_passes_gives_it_back(
    lamps: Path, lamp_tools: Tools
) -> None:
    clock = Clock()
    handle = warmed(lamps, clock=clock)
    gate(lamps, 1, passes=False)
    verdict = after_a_second(handle, clock, lamp_tools)
    assert (verdict.trusted, verdict.reason) == (False, "lamps v1 passed its gate in no cohort")
    gate(lamps, 1, passes=True)
    assert after_a_second(handle, clock, lamp_tools).trusted


def test_the_expert_acts_when_the_alias_is_gone(lamps: Path, lamp_tools: Tools) -> None:
    clock = Clock()
    handle = warmed(lamps, clock=clock)
    (lamps / "clones" / "lamps" / "aliases.json").write_text("{}")
    verdict = after_a_second(handle, clock, lamp_tools)
    assert verdict.action is None
    assert "'lamps@champion' names no version" in verdict.reason


def test_a_clone_registered_after_the_first_question_is_found(
    lamp_home: Path, tmp_path: Path, lamp_tools: Tools
) -> None:
    clock = Clock()
    handle = warmed(tmp_path / "home", clock=clock)
    assert "clone 'lamps' does not exist" in handle.ask(ON, lamp_tools, {}).reason
    shutil.copytree(lamp_home, tmp_path / "home")
    assert after_a_second(handle, clock, lamp_tools).trusted


def test_a_newer_version_that_cannot_be_read_leaves_the_old_one_and_is_counted(
    lamps: Path, lamp_tools: Tools, seen: Captured
) -> None:
    clock = Clock()
    handle = warmed(lamps, clock=clock)
    number = add_version(lamps)
    (lamps / "clones" / "lamps" / f"v{number}" / "model.safetensors").write_bytes(b"cut")
    verdict = after_a_second(handle, clock, lamp_tools)
    assert (verdict.trusted, verdict.version) == (True, "v1")
    assert seen.stats.faults == {"clone.load": 1}
    clock.tick(30)
    shutil.copy(lamps / "clones/lamps/v1/model.safetensors", lamps / f"clones/lamps/v{number}")
    assert after_a_second(handle, clock, lamp_tools).version == f"v{number}"


def test_a_rollback_to_a_version_that_cannot_be_read_leaves_the_expert(lamps: Path, lamp_tools: Tools) -> None:
    clock = Clock()
    add_version(lamps)
    handle = warmed(lamps, clock=clock)
    (lamps / "clones" / "lamps" / "v1" / "model.safetensors").write_bytes(b"cut")
    Registry(lamps).rollback("lamps")
    verdict = after_a_second(handle, clock, lamp_tools)
    assert (verdict.action, verdict.trusted) == (None, False)
    assert "can't be read" in verdict.reason


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)
PARTS = st.fixed_dictionaries({"role": st.sampled_from(["user", "tool", "assistant"]), "parts": st.lists(JSON)})


@settings(deadline=None)  # a busy machine is no failure
@given(messages=st.lists((JSON | PARTS).map(json.dumps) | st.text()), tools=st.lists(JSON), tags=JSON)
def test_no_question_raises(steady: CloneHandle, messages: list[str], tools: Any, tags: Any) -> None:
    assert isinstance(steady.ask(messages, tools, tags), Verdict)


def test_a_question_that_fails_is_counted_and_left_to_the_expert(
    steady: CloneHandle, lamp_tools: Tools, seen: Captured
) -> None:
    verdict = steady.ask(["{"], lamp_tools, {})
    assert (verdict.action, verdict.trusted) == (None, False)
    assert verdict.reason.startswith("the clone failed: JSONDecodeError")
    assert seen.stats.faults == {"clone.ask": 1}


def test_many_threads_get_the_answers_that_one_gets(lamp_home: Path, lamp_tools: Tools) -> None:
    states = [says(f"Please switch lamp L-{number} {to}.") for number in range(60) for to in ("on", "off")]
    alone = [warmed(lamp_home).ask(state, lamp_tools, {}) for state in states]
    handle = warmed(lamp_home)
    with ThreadPoolExecutor(8) as pool:
        rounds = [pool.map(lambda state: handle.ask(state, lamp_tools, {}), states) for _ in range(3)]
        assert [list(answers) for answers in rounds] == [alone] * 3


FORKED = """
import json, os, sys
from imitrace.clones import CloneHandle
from imitrace.verdict import LOADING, Verdict

reference, home, state, tools, when = sys.argv[1:]
state, tools = json.loads(state), json.loads(tools)
handle = CloneHandle(reference, home)
assert handle.ask(state, tools, {}) == Verdict(None, False, LOADING)  # a second before torch is there
if when == "loaded":
    import torch

    torch.set_num_threads(4)
    assert handle.warm(60)
    (torch.ones(500, 500) @ torch.ones(500, 500)).sum()  # starts OpenMP's threads, which a fork loses
    handle.ask(state, tools, {})
child = os.fork()
if child == 0:
    handle.warm(60)
    print(json.dumps(handle.ask(state, tools, {}).shadow()), flush=True)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
handle.warm(60)
print(json.dumps(handle.ask(state, tools, {}).shadow()))
"""


@pytest.mark.parametrize("when", ["loaded", "loading"])
def test_the_expert_acts_until_the_clone_is_loaded_and_a_forked_child_asks_as_its_parent_does(
    lamp_home: Path, lamp_tools: Tools, when: str
) -> None:
    arguments = ["lamps@champion", str(lamp_home), json.dumps(ON), json.dumps(lamp_tools), when]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED, *arguments], capture_output=True, text=True, timeout=120
    )
    assert done.stderr == ""
    child, parent = map(json.loads, done.stdout.splitlines())
    assert child == parent
    assert child["trusted"]


UNINSTALLED = """
import logging, sys
from imitrace.clones import CloneHandle

logging.basicConfig(format="%(message)s")
sys.modules[sys.argv[1]] = None  # what an import finds when a package is not there
handle = CloneHandle("lamps@champion")
assert not handle.warm(60) and not handle.warm(60)
print(handle.ask([], [], {}).reason)
"""


def test_without_the_trainer_the_expert_acts_and_it_is_said_once() -> None:
    done = subprocess.run([sys.executable, "-c", UNINSTALLED, "torch"], capture_output=True, text=True, timeout=60)
    reason = "clone lamps@champion needs torch: pip install 'imitrace[trainer]'"
    assert done.stdout == f"{reason}\n"
    assert done.stderr == f"imitrace: {reason}; the expert acts\n"


def test_a_module_of_ours_that_is_missing_is_a_fault_not_a_missing_extra(
    monkeypatch: pytest.MonkeyPatch, seen: Captured
) -> None:
    monkeypatch.setitem(sys.modules, "imitrace_trainer.champion", None)
    handle = CloneHandle("lamps")
    assert not handle.warm(LOAD_SECONDS)
    assert handle.ask([], [], {}).reason.startswith("the clone failed: ModuleNotFoundError")
    assert seen.stats.faults == {"clone.load": 1}


def test_the_workspace_is_found_at_the_first_question_and_stays(
    lamps: Path, lamp_tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    handle = CloneHandle("lamps", clock=clock)
    monkeypatch.chdir(lamps.parent)
    monkeypatch.setenv("IMITRACE_HOME", lamps.name)
    assert handle.warm(LOAD_SECONDS)
    monkeypatch.chdir("/")
    assert after_a_second(handle, clock, lamp_tools).trusted
