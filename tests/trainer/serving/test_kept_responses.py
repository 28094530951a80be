import json
from typing import Any

import pytest

from imitrace_trainer.serving.kept_responses import KeptResponses

CALL = {"type": "function_call", "call_id": "c", "name": "switch", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c", "output": "on"}
HELLO = {"role": "user", "content": "Hello."}


def keep(kept: KeptResponses, name: str, **more: Any) -> None:
    kept.keep({"input": "Hello.", **more}, {"id": name, "output": [CALL]})


def asking(before: Any, given: Any = (RESULT,)) -> bytes:
    return json.dumps({"model": "m", "previous_response_id": before, "input": given}).encode()


@pytest.fixture
def kept() -> KeptResponses:
    found = KeptResponses(1000)
    keep(found, "resp_1")
    return found


def test_what_the_clone_answered_is_written_out(kept: KeptResponses) -> None:
    assert json.loads(kept.spelled_out(asking("resp_1"))) == {"model": "m", "input": [HELLO, CALL, RESULT]}
    assert json.loads(kept.spelled_out(asking("resp_1", "More.")))["input"][-1] == {"role": "user", "content": "More."}


@pytest.mark.parametrize(
    "body", [asking("resp_2"), asking(None), asking([]), b'{"input": "x"}', b"{", b'["previous_response_id"]']
)
def test_any_other_request_stays_as_it_is(kept: KeptResponses, body: bytes) -> None:
    assert kept.spelled_out(body) is body


def test_what_must_not_be_stored_is_not_kept(kept: KeptResponses) -> None:
    keep(kept, "resp_2", store=False)
    assert kept.spelled_out(asking("resp_2")) == asking("resp_2")


def test_of_too_many_the_oldest_goes(kept: KeptResponses) -> None:
    for number in range(2, 20):
        keep(kept, f"resp_{number}")
    assert kept.spelled_out(asking("resp_1")) == asking("resp_1")
    assert kept.spelled_out(asking("resp_19")) != asking("resp_19")
