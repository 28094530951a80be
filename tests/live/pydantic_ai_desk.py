"""pydantic-ai with its own instrumentation: a tool asks for a retry, and an agent is a tool of another.

Call with the collector's URL and the model's. Content is on by default (`include_content`).
"""

import json
import sys

from exporting import exporting
from pydantic_ai import Agent, InstrumentationSettings, ModelRetry
from pydantic_ai.capabilities import Instrumentation
from pydantic_ai.messages import ModelMessage
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from scenario import CONVERSATION, FIRST, SECOND, SHIPPING, SHIPPING_PROMPT, SUPPORT, SUPPORT_PROMPT, Shop

shop = Shop()


def get_order(order_id: str) -> str:
    """Look an order up."""
    return json.dumps(shop.get_order(order_id))


def issue_refund(order_id: str, amount: float, reason: str) -> str:
    """Refund an order."""
    try:
        return json.dumps(shop.issue_refund(order_id, amount, reason))
    except RuntimeError as error:
        raise ModelRetry(str(error)) from error


def change_address(order_id: str, address: str) -> str:
    """Change where an order is delivered."""
    return json.dumps(shop.change_address(order_id, address))


with exporting() as provider:
    instrumentation = Instrumentation(settings=InstrumentationSettings(tracer_provider=provider))
    model = OpenAIChatModel("scripted-1", provider=OpenAIProvider(base_url=f"{sys.argv[2]}/v1", api_key="none"))
    shipping = Agent(
        model, name=SHIPPING, instructions=SHIPPING_PROMPT, tools=[change_address], capabilities=[instrumentation]
    )

    async def ask_shipping_agent(request: str) -> str:
        """Ask the shipping agent."""
        return str((await shipping.run(request)).output)

    support = Agent(
        model,
        name=SUPPORT,
        instructions=SUPPORT_PROMPT,
        tools=[get_order, issue_refund, ask_shipping_agent],
        capabilities=[instrumentation],
    )
    history: list[ModelMessage] = []
    for text in (FIRST, SECOND):
        run = support.run_sync(text, message_history=history, conversation_id=CONVERSATION)
        history = run.all_messages()
        print(run.output)
