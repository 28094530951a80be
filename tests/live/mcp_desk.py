"""OpenAI Agents with tools over MCP, under OpenInference: two processes in one trace.

Call with the collector's URL and the model's. Content is on by default; the tools' process, which is this program
called with `tools` after the collector's URL, only continues the trace.
"""

import asyncio
import json
import sys

from agents import Agent, RunConfig, Runner, SQLiteSession, set_default_openai_client, set_trace_processors
from agents.mcp import MCPServerStdio
from exporting import exporting
from mcp.server import MCPServer
from openai import AsyncOpenAI
from openinference.instrumentation import using_attributes
from openinference.instrumentation.mcp import MCPInstrumentor
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor
from scenario import CONVERSATION, FIRST, SECOND, SUPPORT, SUPPORT_PROMPT, Shop

TOOLS = "tools"


def serve_tools() -> None:
    shop = Shop()
    server = MCPServer("orders")

    @server.tool()
    def get_order(order_id: str) -> str:
        """Look an order up."""
        return json.dumps(shop.get_order(order_id))

    @server.tool()
    def issue_refund(order_id: str, amount: float, reason: str) -> str:
        """Refund an order."""
        return json.dumps(shop.issue_refund(order_id, amount, reason))

    @server.tool()
    def change_address(order_id: str, address: str) -> str:
        """Change where an order is delivered."""
        return json.dumps(shop.change_address(order_id, address))

    with exporting("order-tools") as provider:
        MCPInstrumentor().instrument(tracer_provider=provider)
        server.run("stdio")


async def talk() -> None:
    set_default_openai_client(AsyncOpenAI(base_url=f"{sys.argv[2]}/v1", api_key="none", max_retries=0))
    async with MCPServerStdio(
        params={"command": sys.executable, "args": [__file__, sys.argv[1], TOOLS]}, client_session_timeout_seconds=60
    ) as server:
        support = Agent(name=SUPPORT, instructions=SUPPORT_PROMPT, mcp_servers=[server])
        session = SQLiteSession(CONVERSATION)
        for text in (FIRST, SECOND):
            with using_attributes(session_id=CONVERSATION):
                run = await Runner.run(support, text, session=session, run_config=RunConfig(group_id=CONVERSATION))
            print(run.final_output)


if __name__ == "__main__" and sys.argv[2] == TOOLS:
    serve_tools()
elif __name__ == "__main__":
    with exporting() as provider:
        set_trace_processors([])  # the package's own upload to its vendor
        OpenAIAgentsInstrumentor().instrument(tracer_provider=provider)
        MCPInstrumentor().instrument(tracer_provider=provider)
        asyncio.run(talk())
