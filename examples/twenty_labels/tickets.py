"""Make tickets and what the expert does with each: a tool and its arguments. Invented here, nobody's data."""

import random
from collections.abc import Mapping
from dataclasses import dataclass

INTENTS: Mapping[str, tuple[str, int, tuple[str, ...]]] = {
    "order_status": (
        "search_orders",
        30,
        (
            "where is my {thing} {order}",
            "{order} was due on {day} and nothing has come",
            "any news of {order}? the courier's page says nothing",
            "when will the {thing} arrive, number {order}",
            "tracking for {order} has not moved since {day}",
            "has {order} left your warehouse yet",
            "I am still waiting for {order}",
        ),
    ),
    "refund": (
        "process_refund",
        22,
        (
            "the {thing} of {order} came {state}, I want my money back",
            "please refund {order}, it arrived {state}",
            "{order}: {state}. how do I get the amount returned",
            "I sent {order} back because it was {state}, where is my money",
            "you charged me for a {thing} that is {state}, {order}",
            "{state} {thing} again! pay it back, {order}",
        ),
    ),
    "cancel": (
        "cancel_order",
        14,
        (
            "please cancel {order}",
            "I ordered the {thing} by mistake, stop {order}",
            "do not send {order}, I have changed my mind",
            "is it too late to call off {order}? found it cheaper",
            "I no longer need the {thing}, {order}",
        ),
    ),
    "address": (
        "update_address",
        12,
        (
            "we move on {day}, send {order} to the new flat",
            "wrong street on {order}, can you change it",
            "deliver {order} to my office instead of home",
            "I typed the old postcode for {order}",
            "could the courier bring {order} to my neighbour",
        ),
    ),
    "invoice": (
        "send_invoice",
        10,
        (
            "I need the receipt for {order}, send it to {email}",
            "my accountant asks for the bill of {order}: {email}",
            "no invoice came with {order}, mail it to {email}",
            "VAT paper for {order} please, {email}",
        ),
    ),
    "login": (
        "reset_password",
        12,
        (
            "I can't log in as {email}",
            "forgot my password, the account is {email}",
            "your page says {email} is locked",
            "the code to sign in never comes to {email}",
            "{email}: it wants a password that I don't have",
        ),
    ),
}
"""By intent: the tool that the expert calls, how many of 100 tickets are such, and how people say it."""

_OPENINGS = ("Hi, ", "Hello, ", "", "", "Good morning, ", "Dear team, ", "Second time I write: ", "Quick question: ")
_CLOSINGS = (
    "",
    "",
    ".",
    ". Thanks",
    ". Thank you for your help",
    ". Regards, {name}",
    "!! {name}",
    ". It is for {day}",
)
_THINGS = ("kettle", "lamp", "backpack", "keyboard", "blender", "jacket", "tent", "monitor", "rug", "toaster")
_STATES = ("broken", "scratched", "in the wrong colour", "too small", "late", "not as shown")
_DAYS = ("Monday", "Tuesday", "Friday", "the 4th", "the 19th", "the weekend")
_NAMES = ("Ada", "Bo", "Chidi", "Dana", "Eve", "Farid", "Greta", "Hugo")


@dataclass(frozen=True)
class Call:
    """What is done with a ticket."""

    tool: str
    arguments: Mapping[str, str]


@dataclass(frozen=True)
class Ticket:
    """What somebody wrote, and what the expert did, which counts as unknown until the ticket is labelled."""

    text: str
    intent: str
    expert: Call


def tickets(count: int, seed: int) -> list[Ticket]:
    """Return so many tickets; the same seed gives the same ones."""
    rng = random.Random(seed)
    weights = [share for _, share, _ in INTENTS.values()]
    return [_ticket(intent, rng) for intent in rng.choices(list(INTENTS), weights, k=count)]


def _ticket(intent: str, rng: random.Random) -> Ticket:
    tool, _, phrasings = INTENTS[intent]
    phrasing = rng.choice(phrasings)
    values = {
        "order": f"#{rng.randint(1000, 9999)}",
        "thing": rng.choice(_THINGS),
        "state": rng.choice(_STATES),
        "day": rng.choice(_DAYS),
        "email": f"{rng.choice(_NAMES).lower()}{rng.randint(1, 99)}@example.org",
        "name": rng.choice(_NAMES),
    }
    text = (rng.choice(_OPENINGS) + phrasing + rng.choice(_CLOSINGS)).format(**values)
    wanted = {"refund": ("order", "state"), "invoice": ("order", "email"), "login": ("email",)}.get(intent, ("order",))
    names = {"order": "order_id", "state": "reason", "email": "email"}
    return Ticket(text, intent, Call(tool, {names[key]: values[key] for key in wanted}))
