"""A hand-written loop over the OpenAI client under OpenTelemetry's own instrumentor: each call is a trace of its own.

Call with the collector's URL and the model's. Content is off by default; these two turn it on:
`OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental` and
`OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=span_only`.
"""

import sys
from typing import Any

from exporting import exporting
from openai import OpenAI
from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor
from scenario import FIRST, SECOND, SUPPORT_PROMPT, Shop, run_tool, schema

client = OpenAI(base_url=f"{sys.argv[2]}/v1", api_key="none", max_retries=0)
shop = Shop()
tools: Any = [
    {"type": "function", "function": {"name": name, "parameters": schema(name)}}
    for name in ("get_order", "issue_refund", "change_address")
]
messages: Any = [{"role": "system", "content": SUPPORT_PROMPT}]

with exporting() as provider:
    OpenAIInstrumentor().instrument(tracer_provider=provider)
    for text in (FIRST, SECOND):
        messages.append({"role": "user", "content": text})
        while True:
            choice = client.chat.completions.create(model="scripted-1", messages=messages, tools=tools).choices[0]
            messages.append(choice.message.model_dump(exclude_none=True))
            if not choice.message.tool_calls:
                break
            for call in choice.message.tool_calls:
                assert call.type == "function"
                result = run_tool(shop, call.function.name, call.function.arguments)
                messages.append({"role": "tool", "tool_call_id": call.id, "content": result})
        print(choice.message.content)
