"""Tell which earlier answer a request goes on from, where its model's service keeps the history.

Such a request holds only what is new. It names the response before it, or begins with the results of what that asked
for. Else nothing tells it from the first of a conversation, but the tokens that the service counted.
"""

import json
from collections.abc import Iterable, Sequence

from imitrace.messages import Message
from imitrace_collector.foreign.calls import Call
from imitrace_collector.foreign.dialects import RESPONSE_IDS

UNSAID = "the service keeps the history, and nothing says which answer this goes on from"
LOST = "it goes on from a response that is not among the spans"
_CUT_OFF = "it begins with the results of an earlier answer, and what came before that is not in it"
_MORE = "the service counted more tokens than its request explains: of a history that it keeps, or of tools"
_BYTES = 2.5
"""Of JSON for one token, at least: about 4 in English, 3 in schemas and in scripts that need several bytes a sign."""


def goes_on_from(call: Call, earlier: Sequence[Call]) -> Call | None:
    """Return the call whose answer one goes on from, where its own request does not hold the history."""
    if call.after is not None:
        return next((one for one in reversed(earlier) if call.after in one.response_ids), None)
    return None if _has_answers(call) else _asked_by(call, earlier)


def answerer(result: Message, earlier: Sequence[Call]) -> Call | None:
    """Return the last call that asked for a result."""
    wanted = {part.get("id") for part in result["parts"]} - {None}
    for call in reversed(earlier) if wanted else ():
        if call.answer and any(
            part.get("type") == "tool_call" and part.get("id") in wanted for part in call.answer["parts"]
        ):
            return call
    return None


def keeps_silent(calls: Sequence[Call]) -> bool:
    """Return whether any of some calls goes on from an earlier answer without saying so: then no call says it."""
    return any(
        call.after is None and not _has_answers(call) and _asked_by(call, calls[:place]) is not None
        for place, call in enumerate(calls)
    )


def counted_after(call: Call, earlier: Sequence[Call]) -> Call | None:
    """Return the newest call of a conversation when what the service counted is just that and the new request.

    That a conversation goes on from its newest answer is likely, and no proof, for single questions look the same.
    Tokens are, which the request alone does not explain, and which come to those of the newest request, its answer and
    what is new.
    """
    last = earlier[-1] if earlier else None
    if last is None or call.after is not None or _has_answers(call) or _explained(call) is not False:
        return None
    if call.input_tokens is None or last.input_tokens is None or last.output_tokens is None:
        return None
    kept = last.input_tokens + last.output_tokens
    new = _size(message["parts"] for message in call.seen if message["role"] != "system")
    ended = last.reading.row.ended_at <= call.reading.row.started_at
    return last if ended and kept < call.input_tokens <= kept + new else None


def doubt(call: Call, earlier: Sequence[Call], silent: bool) -> str | None:
    """Return why a request that goes on from no known answer may not be all that its model saw.

    Args:
        call: whose request it is.
        earlier: the calls before it.
        silent: whether the service keeps histories without the spans saying of which answer.
    """
    if call.after is not None:
        return LOST
    if _has_answers(call):
        return _CUT_OFF if _asked_by(call, earlier) is not None else None
    explained = _explained(call)
    if silent:
        return UNSAID if earlier or not explained else None
    if not any(name.startswith(RESPONSE_IDS) for name in call.response_ids):
        return None
    if explained is False:
        return _MORE
    return UNSAID if explained is None and earlier else None


def _asked_by(call: Call, earlier: Sequence[Call]) -> Call | None:
    first = next((message for message in call.seen if message["role"] != "system"), None)
    return answerer(first, earlier) if first is not None and first["role"] == "tool" else None


def _has_answers(call: Call) -> bool:
    return any(message["role"] == "assistant" for message in call.seen)


def _explained(call: Call) -> bool | None:
    """Return whether what a request holds explains the tokens that it came to; None where nobody counted them."""
    if call.input_tokens is None:
        return None
    held = _size(message["parts"] for message in call.seen) + _size(call.tools or ())
    return call.input_tokens * _BYTES <= held


def _size(values: Iterable[object]) -> int:
    return sum(len(json.dumps(value, ensure_ascii=False, default=str).encode(errors="replace")) for value in values)
