import json
from collections import Counter
from typing import Any

from imitrace.messages import Action, from_openai
from imitrace_trainer.chat_exports import openai_lines, sharegpt_lines, trl_lines, trl_pairs
from imitrace_trainer.episodes import Decided, Episode, Taken

Json = dict[str, Any]  # a JSON object

TOOL = {"name": "look", "description": "", "parameters": {"type": "object", "properties": {}}}
ASKED = {"role": "user", "content": "where?"}
CALLED: Json = {
    "role": "assistant",
    "content": "I look.",
    "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}],
}
FOUND = {"role": "tool", "tool_call_id": "c1", "content": "there"}
CALL = Action("tool_call", "look", {"at": 1}, call_id="c1")
SAID = Action("message", message="It is there.")


def decided(state: list[Json], *actions: Action, results: tuple[str, ...] = (), trained: bool = True) -> Decided:
    brought = [*results, *[None] * len(actions)]
    taken = tuple(Taken(index=0, action=action, observation=brought[place]) for place, action in enumerate(actions))
    messages = [from_openai(message) for message in state]
    return Decided(state=messages, tools=[TOOL], taken=taken, trained=trained, at=0)


def episode(*decisions: Decided) -> Episode:
    return Episode(
        trajectory_id="t1", agent="desk", task=None, outcome=None, reward=None, complete=True, decisions=decisions
    )


WHOLE = episode(decided([ASKED], CALL, results=("there",)), decided([ASKED, CALLED, FOUND], SAID))


def test_one_line_holds_a_conversation_with_each_answer_once() -> None:
    lost: Counter[str] = Counter()
    (line,) = openai_lines(WHOLE, lost)
    assert line["messages"] == [ASKED, CALLED, FOUND, {"role": "assistant", "content": "It is there."}]
    assert line["tools"] == [{"type": "function", "function": TOOL}]
    assert +lost == Counter()


def test_what_is_not_to_be_learnt_has_weight_0() -> None:
    first = decided([ASKED], CALL, results=("there",), trained=False)
    (line,) = openai_lines(episode(first, WHOLE.decisions[1]), Counter())
    assert [message.get("weight") for message in line["messages"]] == [None, 0, None, None]


def test_a_line_with_nothing_to_learn_is_not_written() -> None:
    assert list(openai_lines(episode(decided([ASKED], SAID, trained=False)), Counter())) == []


def test_a_history_that_was_cut_begins_another_line_in_which_it_is_context() -> None:
    cut = decided([{"role": "user", "content": "so far"}, CALLED, FOUND], SAID)
    first, second = openai_lines(episode(WHOLE.decisions[0], cut), Counter())
    assert [message["role"] for message in first["messages"]] == ["user", "assistant"]
    assert [message.get("weight") for message in second["messages"]] == [None, 0, None, None]


def test_results_of_the_last_decision_are_said_to_be_lost_where_they_are() -> None:
    ended = episode(WHOLE.decisions[0])
    lost: Counter[str] = Counter()
    assert len(next(openai_lines(ended, lost))["messages"]) == 2
    assert +lost == {"results of a last decision": 1}
    assert next(trl_lines(ended, Counter()))["messages"][-1] == FOUND | {"name": "look"}


def test_trl_has_arguments_as_objects_and_the_tools_name_with_its_answer() -> None:
    (line,) = trl_lines(WHOLE, Counter())
    assert line["messages"][1]["tool_calls"][0]["function"] == {"name": "look", "arguments": {"at": 1}}
    assert line["messages"][2]["name"] == "look"


def test_a_prompt_is_all_that_was_seen_and_its_completion_what_was_said() -> None:
    first, second = trl_pairs(WHOLE, Counter())
    assert [message["role"] for message in second["prompt"]] == ["user", "assistant", "tool"]
    assert second["completion"] == [{"role": "assistant", "content": "It is there."}]
    assert first["completion"][0]["content"] == "I look."  # as the next state has it


def test_sharegpt_names_its_speakers_and_counts_texts_beside_calls() -> None:
    lost: Counter[str] = Counter()
    system = {"role": "system", "content": "desk"}
    decisions = decided([system, ASKED], CALL), decided([system, ASKED, CALLED, FOUND], SAID)
    (line,) = sharegpt_lines(episode(*decisions), lost)
    assert [turn["from"] for turn in line["conversations"]] == ["human", "function_call", "observation", "gpt"]
    assert json.loads(line["conversations"][1]["value"]) == {"name": "look", "arguments": {"at": 1}}
    assert (line["system"], json.loads(line["tools"])) == ("desk", [TOOL])
    assert +lost == {"texts beside tool calls": 1}


def test_parallel_calls_are_one_turn() -> None:
    (line,) = sharegpt_lines(episode(decided([ASKED], CALL, CALL, results=("a", "b"))), Counter())
    assert len(json.loads(line["conversations"][1]["value"])) == 2
    assert [turn["value"] for turn in line["conversations"][2:]] == ["a", "b"]
