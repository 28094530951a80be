"""Write what an agent sees, seeded: conversations of a support desk, and the tools that it has."""

import random
from typing import Any

Message = dict[str, Any]  # in OpenAI's form
ANSWER = ("get_order", {"order_id": "Q-7345"})

_TEXT = (
    "The order that you asked about was sent on Monday. |Our carrier says that it will arrive within three days. |"
    "Please tell me which of the two addresses is the right one.\n|I can't find an account, so the refund waits. |"
    'She wrote "leave it with the neighbour" on the form. |Thanks for your patience! |It was paid twice on 3 March. |'
    "The invoice 2024-117 names another company than the delivery note does. |Could you look that up for me? |"
    "I'd rather have the blue one in size 42, if there is one left.\n|We changed the delivery, and kept the price. |"
    "Order A-1001 has two items: a lamp (39.90) and a shade (12.50). |Is there anything else that I can do? |"
    "You can return it within 30 days; the label is in the box. |No, the first one never came. |Yes, that works. |"
    "A colleague will call back tomorrow between nine and eleven.\n|The parcel was last seen in Leipzig at 14:05. "
)
_UMLAUTS = str.maketrans("aouse", "äöüßé")


def model(messages: list[Message]) -> tuple[str, dict[str, str]]:
    """Stand for the call of a model."""
    return ANSWER


def _text(draw: random.Random, length: int) -> str:
    sentences, text = _TEXT.split("|"), ""
    while len(text) < length:
        text += draw.choice(sentences)
    return text[:length]


def new_states(count: int, *, beyond_ascii: bool = False) -> list[list[Message]]:
    """Return states of six messages, 2 kB together, none of which was seen before."""
    draw = random.Random(2)
    states = []
    for _ in range(count):
        texts = [_text(draw, 480), *(_text(draw, 280) for _ in range(5))]
        states.append(_chat([text.translate(_UMLAUTS) for text in texts] if beyond_ascii else texts))
    return states


def sliding_states(count: int) -> list[list[Message]]:
    """Return the states of one long conversation whose agent keeps the last 2 kB: one or two messages are new each."""
    draw = random.Random(3)
    texts = [_text(draw, 280) for _ in range(5)]
    system = _text(draw, 480)
    states = []
    for number in range(count):
        texts = [*texts, *(_text(draw, 280) for _ in range(1 + number % 2))][-5:]
        states.append(_chat([system, *texts]))
    return states


def growing_states(count: int) -> list[list[Message]]:
    """Return the states of conversations of twenty steps that are never cut: 0.8 kB at first, 14 kB at last."""
    draw = random.Random(4)
    states: list[list[Message]] = []
    texts: list[str] = []
    for number in range(count):
        texts = (
            [_text(draw, 480), _text(draw, 280)]
            if number % 20 == 0
            else [*texts, *(_text(draw, 280), _text(draw, 280))]
        )
        states.append(_chat(texts))
    return states


def _chat(texts: list[str]) -> list[Message]:
    roles = ["system", *(("user", "assistant")[place % 2] for place in range(len(texts) - 1))]
    return [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]


def offered_tools(count: int = 16) -> list[Message]:
    """Return tool definitions in OpenAI's form, 8 kB for sixteen."""
    draw = random.Random(5)
    fields = ("order_id", "reason", "amount", "note")
    properties = {name: {"type": "string", "description": _text(draw, 40)} for name in fields}
    schema = {"type": "object", "properties": properties, "required": list(fields[:2]), "additionalProperties": False}
    return [
        {"type": "function", "function": {"name": f"tool_{n}", "description": _text(draw, 120), "parameters": schema}}
        for n in range(count)
    ]
