"""OpenAI Agents under OpenInference: a session over two user turns, and a handoff.

Call with the collector's URL and the model's. Content is on by default.
"""

import asyncio
import json
import sys

from agents import (
    Agent,
    RunConfig,
    Runner,
    SQLiteSession,
    function_tool,
    set_default_openai_client,
    set_trace_processors,
)
from exporting import exporting
from openai import AsyncOpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor
from scenario import CONVERSATION, CUSTOMER, FIRST, SECOND, SHIPPING, SHIPPING_PROMPT, SUPPORT, SUPPORT_PROMPT, Shop

shop = Shop()


@function_tool
def get_order(order_id: str) -> str:
    """Look an order up."""
    return json.dumps(shop.get_order(order_id))


@function_tool
def issue_refund(order_id: str, amount: float, reason: str) -> str:
    """Refund an order."""
    return json.dumps(shop.issue_refund(order_id, amount, reason))


@function_tool
def change_address(order_id: str, address: str) -> str:
    """Change where an order is delivered."""
    return json.dumps(shop.change_address(order_id, address))


async def talk() -> None:
    set_default_openai_client(AsyncOpenAI(base_url=f"{sys.argv[2]}/v1", api_key="none", max_retries=0))
    shipping = Agent(name=SHIPPING, instructions=SHIPPING_PROMPT, tools=[change_address])
    support = Agent(name=SUPPORT, instructions=SUPPORT_PROMPT, tools=[get_order, issue_refund], handoffs=[shipping])
    session = SQLiteSession(CONVERSATION)
    for text in (FIRST, SECOND):
        with using_attributes(session_id=CONVERSATION, user_id=CUSTOMER):
            run = await Runner.run(support, text, session=session, run_config=RunConfig(group_id=CONVERSATION))
        print(run.final_output)


with exporting() as provider:
    set_trace_processors([])  # the package's own upload to its vendor
    OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
    asyncio.run(talk())
