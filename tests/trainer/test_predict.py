import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from imitrace.exceptions import ConfigError
from imitrace.messages import Action, message_text
from imitrace_trainer.environment import load_object
from imitrace_trainer.policy import Decision, State
from imitrace_trainer.predict import Prediction, Predictor, agreement, predict_file, read_lines, summary, summary_json
from imitrace_trainer.stages import load_clone
from imitrace_trainer.thresholds import Thresholds

TOOLS = [{"name": "look", "description": "", "parameters": {}}]
SURE = Thresholds(0.3, 0.3)


class Echo:
    """Answer with what was seen last, and keep every state."""

    def __init__(self) -> None:
        self.states: list[State] = []

    def act(self, state: State) -> Decision:
        self.states.append(state)
        return Decision(Action("tool_call", "look", {"at": message_text(state.messages[-1])}), 1 / 3, 0.25, {"look": 1})


def call(name: str, *identifiers: str) -> dict[str, Any]:
    calls = [{"id": identifier, "function": {"name": name, "arguments": "{}"}} for identifier in identifiers]
    return {"role": "assistant", "tool_calls": calls}


CHAT = [
    {"role": "user", "content": "hi"},
    call("look", "c1", "c2"),
    {"role": "tool", "tool_call_id": "c1", "content": "found"},
    {"role": "assistant", "content": "here"},
    {"role": "user", "content": "bye"},
    {"role": "assistant", "content": "bye"},
]


def write(path: Path, *lines: object) -> Path:
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")
    return path


def run(source: Path, policy: Echo | None = None) -> tuple[Prediction, list[dict[str, Any]]]:
    target = source.with_name("actions.jsonl")
    done = predict_file(Predictor(policy or Echo(), TOOLS, SURE), source, target)
    return done, [json.loads(line) for line in target.read_text(encoding="utf-8").splitlines()]


def test_each_assistant_decision_gets_one_line_with_its_first_step(tmp_path: Path) -> None:
    done, rows = run(write(tmp_path / "a.jsonl", {"id": 7, "messages": CHAT}, {"id": "b", "messages": CHAT[:2]}))
    assert [(row["id"], row["step"]) for row in rows] == [("7", 0), ("7", 2), ("7", 3), ("b", 0)]
    assert (done.trajectories, done.decisions, done.broken) == (2, 4, [])
    assert rows[0] == {
        "id": "7",
        "step": 0,
        "action": {"kind": "tool_call", "name": "look", "arguments": {"at": "hi"}},
        "confidence": 0.333333,
        "ood": 0.25,
        "critic": None,
        "veto": None,
        "tools": {"look": 1},
        "acts": True,
        "reason": "trusted",
        "expert": {"kind": "tool_call", "name": "look", "arguments": {}},
        "agrees": True,
        "exact": False,
    }
    assert (rows[1]["reason"], rows[1]["expert"]["kind"], rows[1]["agrees"]) == ("trusted", "message", False)


def test_what_was_done_is_compared_by_task_and_by_success(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "hi"}, call("look", "c")]
    said[1]["tool_calls"][0]["function"]["arguments"] = '{"at": "hi"}'
    lines = [
        {"id": f"{task}-{trial}", "task_id": task, "reward": float(trial), "messages": said if trial else CHAT[:2]}
        for task in range(12)
        for trial in range(2)
    ]
    done, _ = run(write(tmp_path / "a.jsonl", *lines))
    found = summary(done)
    assert (found["all"].tasks, found["all"].action.value, found["all"].exact.value) == (12, 1, 0.5)
    assert (found["successes"].decisions, found["successes"].exact.value) == (12, 1)
    assert 0.5 < found["successes"].exact.low < 1
    assert (found["all"].acted.value, found["all"].acted_right.value, found["all"].call_exact.decisions) == (1, 0.5, 24)
    assert "exact agreement     0.500 [" in found["all"].text()
    told = summary_json(done)
    assert (told["decisions"], told["agreement"]["successes"]["exact"]["value"]) == (24, 1)


def test_a_file_without_rewards_has_no_successes_and_one_without_decisions_nothing_to_agree_with(
    tmp_path: Path,
) -> None:
    assert list(summary(run(write(tmp_path / "a.jsonl", {"id": 7, "messages": CHAT}))[0])) == ["all"]
    assert agreement([]).text() == "nothing to agree with"


def test_a_clone_that_is_not_sure_enough_leaves_it_to_the_expert_and_says_why(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", {"id": 7, "messages": CHAT[:2]})
    done = predict_file(Predictor(Echo(), TOOLS, Thresholds(0.5, 0.5)), source, tmp_path / "out.jsonl")
    (row,) = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    assert (row["acts"], row["reason"]) == (False, "confidence 0.333")
    assert (summary(done)["all"].acted.value, summary(done)["all"].acted_right.decisions) == (0, 0)


def test_the_state_is_the_true_history_before_the_decision(tmp_path: Path) -> None:
    policy = Echo()
    run(write(tmp_path / "a.jsonl", {"id": 7, "messages": CHAT, "tags": {"cohort": "safety"}}), policy)
    assert [len(state.messages) for state in policy.states] == [1, 3, 5]
    assert [message["role"] for message in policy.states[1].messages] == ["user", "assistant", "tool"]
    assert all(state.tools == TOOLS and state.tags == {"cohort": "safety"} for state in policy.states)


def test_a_line_may_bring_its_own_tools(tmp_path: Path) -> None:
    policy, own = Echo(), {"type": "function", "function": {"name": "dig"}}
    run(
        write(tmp_path / "a.jsonl", {"id": 1, "messages": CHAT[:2], "tools": [own]}, {"id": 2, "messages": CHAT[:2]}),
        policy,
    )
    assert [[tool["name"] for tool in state.tools] for state in policy.states] == [["dig"], ["look"]]


def test_a_text_is_written_beside_the_experts_and_must_be_it(tmp_path: Path) -> None:
    class Greeter(Echo):
        def act(self, state: State) -> Decision:
            return Decision(Action("message", message="Bye"), 0.9, 0.0, {"message": 1})

    _, rows = run(write(tmp_path / "a.jsonl", {"id": 7, "messages": CHAT}), Greeter())
    assert [row["action"]["message"] for row in rows] == ["Bye"] * 3
    assert [row["expert"].get("message") for row in rows] == [None, "here", "bye"]
    assert [(row["agrees"], row["exact"]) for row in rows] == [(False, False), (True, False), (True, True)]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ("{", "no JSON: Expecting property name enclosed in double quotes at column 2"),
        ("[1]", "expected an object with 'id' and 'messages'"),
        ({"messages": []}, "expected an object with 'id' and 'messages'"),
        ({"id": 1, "messages": "hi"}, "expected an object with 'id' and 'messages'"),
        ({"id": 1, "messages": ["hi"]}, "message is 'hi', expected an object with 'role'"),
        ({"id": 1, "messages": [{"role": "user", "content": [3]}]}, "message content is [3], expected"),
        ({"id": 1, "messages": [{"role": "assistant", "tool_calls": 3}]}, "tool calls are 3, expected a list"),
        ({"id": 1, "messages": [{"role": "assistant", "tool_calls": [{}]}]}, "tool call is {}, expected"),
        ({"id": 1, "messages": [{"role": "user", "parts": ["hi"]}]}, "message part is 'hi', expected"),
        (
            {
                "id": 1,
                "messages": [{"role": "assistant", "parts": [{"type": "tool_call", "name": "f", "arguments": "{"}]}],
            },
            "tool call arguments are '{', expected JSON",
        ),
        ({"id": 1, "messages": [], "tools": 3}, "tools are 3, expected a list of definitions"),
        ({"id": 1, "messages": [], "tools": [{}]}, "tool definition is {}, expected an object with 'name'"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_broken_line_is_named_by_its_number_and_the_rest_is_written(
    tmp_path: Path, broken: object, reason: str
) -> None:
    good = {"id": "good", "messages": CHAT}
    done, rows = run(write(tmp_path / "a.jsonl", good, "", broken, good))
    assert [row["step"] for row in rows] == [0, 2, 3] * 2
    assert (done.trajectories, done.decisions, len(done.broken)) == (2, 6, 1)
    assert done.broken[0].startswith("line 3: ")
    assert reason in done.broken[0]


def test_a_gzipped_file_reads_like_a_plain_one(tmp_path: Path) -> None:
    plain = write(tmp_path / "a.jsonl", {"id": 7, "messages": CHAT})
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert run(packed) == run(plain)


def test_half_a_character_and_half_a_pair_stay_readable(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    line = b'{"id": "%s", "messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "x"}]}\n'
    source.write_bytes(line % (b"1", b"cut \xc3") + line % (b"2", b"cut \\ud83d") + line % (b"3", "né".encode()))
    _, rows = run(source)
    assert [row["action"]["arguments"]["at"] for row in rows] == ["cut \ufffd", "cut \ud83d", "né"]
    assert "né" in (tmp_path / "actions.jsonl").read_text(encoding="utf-8")


def damaged(folder: Path, name: str) -> Path:
    packed = gzip.compress(json.dumps({"id": 7, "messages": CHAT}).encode() * 50)
    kinds = {"cut.gz": packed[:-20], "twisted.gz": packed[:40] + bytes(20) + packed[60:], "plain.gz": b"{}"}
    if name in kinds:
        (folder / name).write_bytes(kinds[name])
    return folder / name


@pytest.mark.parametrize("name", ["absent.jsonl", "absent.gz", "cut.gz", "twisted.gz", "plain.gz", "."])
def test_a_file_that_cannot_be_read_leaves_no_output_behind(tmp_path: Path, name: str) -> None:
    source, target = damaged(tmp_path, name), tmp_path / "out" / "actions.jsonl"
    target.parent.mkdir()
    with pytest.raises(ConfigError, match=r"^file [^\n]+ can't be read: [^\n]+; name chat JSONL, plain or \.gz$"):
        predict_file(Predictor(Echo(), TOOLS, SURE), source, target)
    assert list(target.parent.iterdir()) == []


def test_what_was_there_before_stays_when_the_new_run_fails(tmp_path: Path) -> None:
    target = write(tmp_path / "actions.jsonl", {"id": "old"})
    with pytest.raises(ConfigError, match="can't be read"):
        predict_file(Predictor(Echo(), TOOLS, SURE), tmp_path / "absent.jsonl", target)
    assert json.loads(target.read_text(encoding="utf-8")) == {"id": "old"}


@pytest.mark.parametrize("place", ["absent/actions.jsonl", "a.jsonl/actions.jsonl", "folder"])
def test_an_output_that_cannot_be_written_is_named(tmp_path: Path, place: str) -> None:
    source = write(tmp_path / "a.jsonl", {"id": 7, "messages": CHAT})
    (tmp_path / "folder").mkdir()
    with pytest.raises(ConfigError, match=rf"^file {tmp_path / place} can't be written: [^\n]+; name one in a folder"):
        predict_file(Predictor(Echo(), TOOLS, SURE), source, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "folder"]


def test_a_policy_that_fails_leaves_no_half_file(tmp_path: Path) -> None:
    class Failing(Echo):
        def act(self, state: State) -> Decision:
            if len(self.states) == 2:
                raise ZeroDivisionError
            return super().act(state)

    source = write(tmp_path / "a.jsonl", {"id": 7, "messages": CHAT})
    with pytest.raises(ZeroDivisionError):
        run(source, Failing())
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_lines_are_read_one_by_one(tmp_path: Path) -> None:
    lines = read_lines(write(tmp_path / "a.jsonl", "one", "two"))
    assert next(lines) == "one\n"


def test_a_real_clone_repeats_its_expert_on_recorded_conversations(
    counter: Path, trained_home: Path, tmp_path: Path
) -> None:
    solve, loaded = load_object("counter_world:solve", counter), load_clone(trained_home, "counter")
    chats: Sequence[Any] = [solve(f"common-5-{number}") for number in range(8)]
    source = write(tmp_path / "a.jsonl", *({"id": number, "messages": chat} for number, chat in enumerate(chats)))
    done = predict_file(Predictor(loaded.policy, loaded.tools, loaded.thresholds), source, tmp_path / "out.jsonl")
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()]
    made = [
        message["tool_calls"][0]["function"] for chat in chats for message in chat if message["role"] == "assistant"
    ]
    assert [row["action"]["name"] for row in rows] == [action["name"] for action in made]
    assert [row["action"]["arguments"] for row in rows] == [json.loads(action["arguments"]) for action in made]
    assert all(sum(row["tools"].values()) == pytest.approx(1, abs=1e-5) for row in rows)
    assert summary(done)["all"].exact.value == 1
