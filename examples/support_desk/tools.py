"""Define the desk's tools in OpenAI's form, and check arguments against them."""

from collections.abc import Mapping
from typing import Any, Final

IRREVERSIBLE: Final = frozenset({"process_refund", "cancel_order"})
"""Tools whose effect nobody can take back."""

ELIGIBILITY_ACTIONS: Final = ("refund", "cancel", "exchange", "address_change")
REFUND_REASONS: Final = (
    "damaged",
    "wrong_item",
    "not_as_described",
    "no_longer_needed",
    "missing_parts",
    "duplicate_charge",
)
CANCEL_REASONS: Final = ("changed_mind", "found_cheaper", "ordered_by_mistake", "takes_too_long")
QUESTIONS: Final = ("order_id", "email", "which_item", "reason", "new_address", "new_email", "confirm_refund")
ESCALATIONS: Final = ("customer_request", "privacy_request", "security", "threat", "legal", "agent_error")
PRIORITIES: Final = ("normal", "high")
RESOLUTIONS: Final = (
    "told_processing",
    "told_in_transit",
    "told_delivered",
    "told_cancelled",
    "refunded",
    "cancelled",
    "address_changed",
    "email_updated",
    "reshipped",
    "credit_issued",
    "exchange_started",
    "kept_by_customer",
    "already_refunded",
    "no_duplicate_found",
    "not_eligible",
    "refused_policy",
)

_TEXT: Final = {"type": "string"}
_AMOUNT: Final = {"type": "number"}
_TYPES: Final[dict[str, tuple[type, ...]]] = {"string": (str,), "number": (int, float)}


def _choice(values: tuple[str, ...]) -> dict[str, Any]:  # a JSON schema
    return {"type": "string", "enum": list(values)}


def _tool(name: str, description: str, /, **properties: dict[str, Any]) -> dict[str, Any]:  # JSON schemas in and out
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


TOOLS: Final[tuple[dict[str, Any], ...]] = (
    _tool("search_orders", "List a customer's orders, the newest first, by the account's email.", email=_TEXT),
    _tool("find_customer", "Find an account by the customer's full name and ZIP code.", name=_TEXT, zip=_TEXT),
    _tool("get_order", "Read an order: owner, items, payments, tracking number, address.", order_id=_TEXT),
    _tool("get_tracking", "Read where a parcel is, and whether it came late.", tracking_number=_TEXT),
    _tool("get_payment", "Read a payment: method, amount, and what was refunded.", payment_id=_TEXT),
    _tool(
        "check_eligibility",
        "Ask the policy engine whether an action on an order is allowed, and why not.",
        order_id=_TEXT,
        action=_choice(ELIGIBILITY_ACTIONS),
    ),
    _tool(
        "process_refund",
        "Send money back. IRREVERSIBLE.",
        order_id=_TEXT,
        payment_id=_TEXT,
        amount=_AMOUNT,
        reason=_choice(REFUND_REASONS),
    ),
    _tool(
        "cancel_order",
        "Cancel an order that has not shipped. IRREVERSIBLE.",
        order_id=_TEXT,
        reason=_choice(CANCEL_REASONS),
    ),
    _tool(
        "change_address",
        "Change where an order that has not shipped goes.",
        order_id=_TEXT,
        street=_TEXT,
        city=_TEXT,
        zip=_TEXT,
    ),
    _tool("create_return_label", "Send the customer a label to return one item.", order_id=_TEXT, item_id=_TEXT),
    _tool("reship_order", "Ship an order's goods again, free of charge.", order_id=_TEXT),
    _tool("issue_store_credit", "Add store credit to an account.", customer_id=_TEXT, amount=_AMOUNT),
    _tool("update_email", "Change an account's email.", customer_id=_TEXT, email=_TEXT),
    _tool(
        "escalate_to_human",
        "Hand the ticket to a person; this ends your work on it.",
        reason=_choice(ESCALATIONS),
        priority=_choice(PRIORITIES),
    ),
    _tool(
        "ask_customer", "Send the desk's canned question; the customer's reply follows.", question=_choice(QUESTIONS)
    ),
    _tool(
        "close_ticket",
        "Send the desk's canned reply for a resolution and close the ticket.",
        resolution=_choice(RESOLUTIONS),
    ),
)

_PARAMETERS: Final = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}


def argument_error(name: str | None, arguments: Mapping[str, Any]) -> str | None:  # whatever an agent sent
    """Return what is wrong with a call, or None: unknown tool, missing or unknown argument, type, value."""
    if name not in _PARAMETERS:
        return f"unknown tool {name!r}"
    properties = _PARAMETERS[name]["properties"]
    for key in arguments:
        if key not in properties:
            return f"{name} takes no argument {key!r}"
    for key, schema in properties.items():
        value = arguments.get(key)
        if not isinstance(value, _TYPES[schema["type"]]) or isinstance(value, bool):
            return f"{name} needs {key} as a {schema['type']}"
        if value not in schema.get("enum", (value,)):
            return f"{name} takes {key} as one of {', '.join(schema['enum'])}"
    return None
