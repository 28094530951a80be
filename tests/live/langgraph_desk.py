"""LangChain's agent on LangGraph under OpenInference: a checkpointed thread, and a sub-agent as a tool.

Call with the collector's URL and the model's. Content is on by default.
"""

import json
import sys
from collections.abc import Callable

from exporting import exporting
from langchain.agents import create_agent
from langchain.agents.middleware import ToolCallRequest, wrap_tool_call
from langchain_core.messages import ToolMessage
from langchain_openai import ChatOpenAI
from langgraph.checkpoint.memory import InMemorySaver
from openinference.instrumentation.langchain import LangChainInstrumentor
from pydantic import SecretStr
from scenario import CONVERSATION, FIRST, SECOND, SHIPPING, SHIPPING_PROMPT, SUPPORT, SUPPORT_PROMPT, Shop

shop = Shop()
model = ChatOpenAI(model="scripted-1", base_url=f"{sys.argv[2]}/v1", api_key=SecretStr("none"), max_retries=0)


def get_order(order_id: str) -> str:
    """Look an order up."""
    return json.dumps(shop.get_order(order_id))


def issue_refund(order_id: str, amount: float, reason: str) -> str:
    """Refund an order."""
    return json.dumps(shop.issue_refund(order_id, amount, reason))


def change_address(order_id: str, address: str) -> str:
    """Change where an order is delivered."""
    return json.dumps(shop.change_address(order_id, address))


shipping = create_agent(model, [change_address], system_prompt=SHIPPING_PROMPT, name=SHIPPING)


def ask_shipping_agent(request: str) -> str:
    """Ask the shipping agent."""
    return str(shipping.invoke({"messages": [("user", request)]})["messages"][-1].content)


@wrap_tool_call
def tell_failures(request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage]) -> ToolMessage:
    try:
        return handler(request)
    except RuntimeError as error:
        return ToolMessage(f"Error: {error}", tool_call_id=request.tool_call["id"], status="error")


support = create_agent(
    model,
    [get_order, issue_refund, ask_shipping_agent],
    system_prompt=SUPPORT_PROMPT,
    name=SUPPORT,
    middleware=[tell_failures],
    checkpointer=InMemorySaver(),
)

with exporting() as provider:
    LangChainInstrumentor().instrument(tracer_provider=provider)
    for text in (FIRST, SECOND):
        thread = {"configurable": {"thread_id": CONVERSATION}}
        print(support.invoke({"messages": [("user", text)]}, thread)["messages"][-1].content)
