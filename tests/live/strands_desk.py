"""Strands with its own spans, in their newest form.

Call with the collector's URL and the model's. Content is on by default;
`OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental,gen_ai_tool_definitions` brings the newest form.
"""

import sys
from typing import Any

from exporting import exporting
from scenario import CONVERSATION, FIRST, SECOND, SUPPORT, SUPPORT_PROMPT, Shop
from strands import Agent, tool
from strands.models.openai import OpenAIModel

shop = Shop()


@tool
def get_order(order_id: str) -> dict[str, Any]:
    """Look an order up."""
    return {"status": "success", "content": [{"json": shop.get_order(order_id)}]}


@tool
def issue_refund(order_id: str, amount: float, reason: str) -> dict[str, Any]:
    """Refund an order."""
    return {"status": "success", "content": [{"json": shop.issue_refund(order_id, amount, reason)}]}


@tool
def change_address(order_id: str, address: str) -> dict[str, Any]:
    """Change where an order is delivered."""
    return {"status": "success", "content": [{"json": shop.change_address(order_id, address)}]}


with exporting():
    client = {"base_url": f"{sys.argv[2]}/v1", "api_key": "none", "max_retries": 0}
    support = Agent(
        name=SUPPORT,
        model=OpenAIModel(client_args=client, model_id="scripted-1"),
        tools=[get_order, issue_refund, change_address],
        system_prompt=SUPPORT_PROMPT,
        callback_handler=None,
        trace_attributes={"gen_ai.conversation.id": CONVERSATION},
    )
    for text in (FIRST, SECOND):
        print(support(text))
