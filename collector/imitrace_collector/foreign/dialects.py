"""Hold the one table of dialects: by what each is recognised, and which of its attributes fills what.

A name is an attribute's, or ``ATTRIBUTE/KEY`` for a key of the JSON object in it, or a longer path; the first that is
there counts. An attribute that holds messages may be JSON text, a structured value, or the prefix of flattened names
(``NAME.0.role``). A span may speak several dialects: what the first does not say, the others may.

Sources: https://github.com/open-telemetry/semantic-conventions-genai, https://arize-ai.github.io/openinference/spec/,
https://docs.futureagi.com/, https://github.com/traceloop/openllmetry, https://strandsagents.com/, https://ai.pydantic.dev/
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from imitrace_collector.foreign.dialect import (
    AGENT,
    EVALUATOR,
    MODEL,
    OTHER,
    RETRIEVER,
    TOOL,
    WORKFLOW,
    Dialect,
    Names,
    Roles,
)
from imitrace_collector.foreign.haystack_dialect import HAYSTACK

__all__ = ["AGENT", "EVALUATOR", "MODEL", "OTHER", "RETRIEVER", "TOOL", "WORKFLOW", "Dialect", "Names", "Roles"]

_OPERATIONS: Roles = {
    **dict.fromkeys(("chat", "text_completion", "generate_content", "completion", "responses", "messages"), MODEL),
    **dict.fromkeys(("execute_tool", "execute_function"), TOOL),
    "invoke_agent": AGENT,
    **dict.fromkeys(("invoke_workflow", "plan", "execute_event_loop_cycle", "handoff"), WORKFLOW),
    **dict.fromkeys(("retrieval", "vector_db_retrieve", "search_memory"), RETRIEVER),
    **dict.fromkeys(("create_agent", "embeddings", "embedding", "rerank"), OTHER),
}
_KINDS: Roles = {
    "LLM": MODEL,
    "AGENT": AGENT,
    "TOOL": TOOL,
    **dict.fromkeys(("CHAIN", "WORKFLOW", "CONVERSATION"), WORKFLOW),
    "RETRIEVER": RETRIEVER,
    "EVALUATOR": EVALUATOR,
    **dict.fromkeys(("EMBEDDING", "RERANKER", "GUARDRAIL", "PROMPT", "VECTOR_DB", "UNKNOWN", "A2A_CLIENT"), OTHER),
}

OTEL: Final = Dialect(
    name="otel-genai",
    scopes=(
        "opentelemetry.instrumentation.genai",
        "opentelemetry.instrumentation.openai_v2",
        "opentelemetry.util.genai",
    ),
    marks=("gen_ai.operation.name", "gen_ai.system", "gen_ai.provider.name"),
    roles=(("gen_ai.operation.name", _OPERATIONS),),
    conversation=("gen_ai.conversation.id",),
    session=("session.id", "gen_ai.session.id"),
    agent=("gen_ai.agent.name",),
    version=("gen_ai.agent.version",),
    system=("gen_ai.system_instructions",),
    inputs=("gen_ai.input.messages",),
    outputs=("gen_ai.output.messages",),
    raw_inputs=("gen_ai.prompt",),
    raw_outputs=("gen_ai.completion",),
    tools=("gen_ai.tool.definitions", "gen_ai.request.tools", "gen_ai.agent.tools"),
    tool_name=("gen_ai.tool.name",),
    arguments=("gen_ai.tool.call.arguments", "gen_ai.tool.arguments", "tool_arguments"),
    result=("gen_ai.tool.call.result", "gen_ai.tool.output", "tool_response"),
    call_id=("gen_ai.tool.call.id",),
    input_tokens=("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens"),
    output_tokens=("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    response_id=("gen_ai.response.id",),
    after=(
        *("gen_ai.request.previous_response_id", "openai.request.previous_response_id"),
        "gen_ai.openai.request.previous_response_id",
    ),
    error=("error.type",),
    model=("gen_ai.response.model", "gen_ai.request.model"),
    switch=(
        "OTEL_SEMCONV_STABILITY_OPT_IN=gen_ai_latest_experimental with "
        "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=span_only (older releases: =true, and send logs too)"
    ),
)

OPENINFERENCE: Final = Dialect(
    name="openinference",
    scopes=("openinference.instrumentation",),
    marks=("openinference.span.kind", "llm.input_messages.", "llm.output_messages."),
    roles=(("openinference.span.kind", _KINDS),),
    spans={"Agent.run": AGENT},  # Haystack's
    conversation=("gen_ai.conversation.id",),
    session=("session.id", "metadata/thread_id", "metadata/session_id", "metadata/conversation_id"),
    agent=("metadata/lc_agent_name", "agent.name", "graph.node.name", "graph.node.id"),
    system=("llm.system_instructions",),
    inputs=("llm.input_messages",),
    outputs=("llm.output_messages",),
    raw_inputs=("input.value", "llm.prompts"),
    raw_outputs=("output.value",),
    tools=(
        *("llm.tools", "llm.invocation_parameters/tools", "llm.invocation_parameters/functions"),
        "input.value/tools",
    ),
    tool_name=("tool.name", "tool_call.function.name"),
    arguments=("tool_call.function.arguments", "input.value", "tool.parameters"),
    result=("output.value",),
    call_id=("tool.id", "tool.call_id", "tool_call.id", "message.tool_call_id"),
    input_tokens=("llm.token_count.prompt",),
    output_tokens=("llm.token_count.completion",),
    response_id=("llm.response_id", "output.value/id"),
    after=("output.value/previous_response_id", "llm.invocation_parameters/previous_response_id"),
    error=("error.type",),
    model=("llm.model_name",),
    switch=(
        "content is on by default: unset OPENINFERENCE_HIDE_INPUTS, OPENINFERENCE_HIDE_OUTPUTS, "
        "OPENINFERENCE_HIDE_INPUT_MESSAGES and OPENINFERENCE_HIDE_OUTPUT_MESSAGES, or the same in TraceConfig"
    ),
)

TRACEAI: Final = Dialect(
    name="traceai",
    scopes=("traceai", "fi_instrumentation", "traceAI"),
    marks=("gen_ai.span.kind", "fi.span.kind", "gen_ai.input.messages.", "gen_ai.output.messages."),
    roles=(("gen_ai.span.kind", _KINDS), ("fi.span.kind", _KINDS)),
    conversation=("gen_ai.conversation.id",),
    session=("session.id", "metadata/thread_id"),
    agent=("metadata/lc_agent_name", "gen_ai.agent.name", "agent.name", "graph.node.name", "graph.node.id"),
    inputs=("gen_ai.input.messages", "llm.input_messages"),
    outputs=("gen_ai.output.messages", "llm.output_messages"),
    raw_inputs=("input.value", "raw.input"),
    raw_outputs=("output.value", "raw.output"),
    tools=(
        *("gen_ai.tool.definitions", "llm.tools", "gen_ai.request.parameters/tools"),
        *("llm.invocation_parameters/tools", "gen_ai.request.parameters/functions", "input.value/tools"),
    ),
    tool_name=("gen_ai.tool.name", "tool.name"),
    arguments=("gen_ai.tool.call.arguments", "input.value", "tool.parameters"),
    result=("gen_ai.tool.call.result", "output.value"),
    call_id=("gen_ai.tool.call.id", "tool.id", "tool_call.id"),
    input_tokens=("gen_ai.usage.input_tokens", "llm.token_count.prompt"),
    output_tokens=("gen_ai.usage.output_tokens", "llm.token_count.completion"),
    response_id=("gen_ai.response.id", "output.value/id"),
    after=("output.value/previous_response_id", "gen_ai.request.parameters/previous_response_id"),
    error=("error.type",),
    model=("gen_ai.response.model", "gen_ai.request.model", "llm.model_name"),
    switch="content is on by default: unset FI_HIDE_INPUTS, FI_HIDE_OUTPUTS and the other FI_HIDE_* variables",
)

OPENLLMETRY: Final = Dialect(
    name="openllmetry",
    scopes=("traceloop", "opentelemetry.instrumentation."),
    marks=(
        "traceloop.",
        "llm.request.type",
        "gen_ai.prompt.",
        "gen_ai.completion.",
        "llm.prompts.",
        "llm.completions.",
    ),
    roles=(
        ("traceloop.span.kind", {"workflow": WORKFLOW, "task": WORKFLOW, "agent": AGENT, "tool": TOOL}),
        ("llm.request.type", {"chat": MODEL, "completion": MODEL, "embedding": OTHER, "rerank": OTHER}),
        ("gen_ai.operation.name", _OPERATIONS),
        ("gen_ai.prompt.0.role", {"": MODEL}),
    ),
    conversation=("gen_ai.conversation.id",),
    session=(
        *("traceloop.association.properties.conversation_id", "traceloop.association.properties.session_id"),
        *("traceloop.association.properties.thread_id", "traceloop.association.properties.chat_id", "session.id"),
    ),
    agent=("traceloop.association.properties.lc_agent_name", "gen_ai.agent.name", "traceloop.entity.name"),
    system=("gen_ai.system_instructions",),
    inputs=("gen_ai.input.messages", "gen_ai.prompt", "llm.prompts"),
    outputs=("gen_ai.output.messages", "gen_ai.completion", "llm.completions"),
    raw_inputs=("traceloop.entity.input",),
    raw_outputs=("traceloop.entity.output",),
    tools=("gen_ai.tool.definitions", "llm.request.functions"),
    tool_name=("gen_ai.tool.name", "traceloop.entity.name"),
    arguments=("gen_ai.tool.call.arguments", "traceloop.entity.input"),
    result=("gen_ai.tool.call.result", "traceloop.entity.output"),
    call_id=("gen_ai.tool.call.id",),
    input_tokens=("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.usage.prompt_tokens"),
    output_tokens=("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.usage.completion_tokens"),
    response_id=("gen_ai.response.id",),
    error=("error.type",),
    model=("gen_ai.response.model", "gen_ai.request.model"),
    switch="content is on by default: unset TRACELOOP_TRACE_CONTENT, or set it to true",
)

STRANDS: Final = replace(
    OTEL,
    name="strands",
    scopes=("strands",),
    marks=("event_loop.cycle_id",),
    system=(*OTEL.system, "system_prompt"),
    switch="content is on by default: take the redaction of gen_ai.input.messages and gen_ai.output.messages away",
)

PYDANTIC_AI: Final = replace(
    OTEL,
    name="pydantic-ai",
    scopes=("pydantic-ai", "pydantic_ai", "logfire.pydantic_ai"),
    marks=("pydantic_ai.", "model_request_parameters", "all_messages_events"),
    roles=(*OTEL.roles, ("gen_ai.tool.name", {"": TOOL}), ("agent_name", {"": AGENT})),
    agent=("gen_ai.agent.name", "agent_name"),
    tools=(
        *("gen_ai.tool.definitions", "model_request_parameters/function_tools"),
        "model_request_parameters/output_tools",
    ),
    switch="content is on by default: InstrumentationSettings(include_content=True)",
)

MCP: Final = Dialect(
    name="mcp",
    scopes=("mcp-python-sdk", "mcp"),
    marks=("mcp.method.name",),
    roles=(("gen_ai.operation.name", {"execute_tool": TOOL}), ("mcp.method.name", {"tools/call": TOOL, "": OTHER})),
    session=("mcp.session.id",),
    tool_name=OTEL.tool_name,
    arguments=OTEL.arguments,
    result=OTEL.result,
    call_id=OTEL.call_id,
    error=OTEL.error,
    switch="an MCP server's spans hold no content; that of its client's agent does",
)

VERCEL: Final = Dialect(
    name="vercel-ai",
    scopes=("ai",),
    marks=("ai.operationId",),
    roles=(
        (
            "ai.operationId",
            {
                **dict.fromkeys(("ai.generateText.doGenerate", "ai.streamText.doStream"), MODEL),
                **dict.fromkeys(("ai.generateObject.doGenerate", "ai.streamObject.doStream"), MODEL),
                "ai.toolCall": TOOL,
                **dict.fromkeys(("ai.generateText", "ai.streamText"), AGENT),
                "": OTHER,
            },
        ),
    ),
    session=("ai.telemetry.metadata.sessionId", "ai.telemetry.metadata.conversationId", "session.id"),
    agent=("ai.telemetry.functionId", "resource.name"),
    inputs=("ai.prompt.messages",),
    outputs=("ai.response.messages",),
    raw_outputs=("ai.response.toolCalls", "ai.response.text", "ai.response.object"),
    tools=("ai.prompt.tools",),
    tool_name=("ai.toolCall.name",),
    arguments=("ai.toolCall.args", "ai.toolCall.input"),
    result=("ai.toolCall.result", "ai.toolCall.output"),
    call_id=("ai.toolCall.id",),
    input_tokens=("ai.usage.inputTokens", "ai.usage.promptTokens", "gen_ai.usage.input_tokens"),
    output_tokens=("ai.usage.outputTokens", "ai.usage.completionTokens", "gen_ai.usage.output_tokens"),
    response_id=("ai.response.id", "gen_ai.response.id"),
    error=OTEL.error,
    model=("ai.response.model", "ai.model.id"),
    switch="experimental_telemetry: recordInputs and recordOutputs are on by default, don't set them to false",
)

LANGFUSE: Final = Dialect(
    name="langfuse",
    scopes=("langfuse",),
    marks=("langfuse.observation.type",),
    roles=(
        (
            "langfuse.observation.type",
            {
                "generation": MODEL,
                "agent": AGENT,
                "tool": TOOL,
                **dict.fromkeys(("span", "chain", "event"), WORKFLOW),
                "retriever": RETRIEVER,
                "evaluator": EVALUATOR,
                "": OTHER,
            },
        ),
    ),
    session=("session.id", "langfuse.session.id"),
    inputs=("langfuse.observation.input",),
    outputs=("langfuse.observation.output",),
    tools=("langfuse.observation.model.parameters/tools", "langfuse.observation.input/tools"),
    tools_among=("langfuse.observation.input",),
    arguments=("langfuse.observation.input",),
    result=("langfuse.observation.output",),
    input_tokens=("langfuse.observation.usage_details/input", "langfuse.observation.usage_details/prompt_tokens"),
    output_tokens=("langfuse.observation.usage_details/output", "langfuse.observation.usage_details/completion_tokens"),
    error=OTEL.error,
    model=("langfuse.observation.model.name",),
    switch="content is on by default: capture_input and capture_output of @observe",
)

MLFLOW: Final = Dialect(
    name="mlflow",
    scopes=("mlflow",),
    marks=("mlflow.spanType",),
    roles=(
        (
            "mlflow.spanType",
            {
                **dict.fromkeys(("LLM", "CHAT_MODEL", '"LLM"', '"CHAT_MODEL"'), MODEL),
                **dict.fromkeys(("AGENT", '"AGENT"'), AGENT),
                **dict.fromkeys(("TOOL", '"TOOL"'), TOOL),
                **dict.fromkeys(("CHAIN", '"CHAIN"', "WORKFLOW", '"WORKFLOW"'), WORKFLOW),
                **dict.fromkeys(("RETRIEVER", '"RETRIEVER"'), RETRIEVER),
                "": OTHER,
            },
        ),
    ),
    session=("mlflow.trace.session", "session.id", "metadata/thread_id"),
    agent=("metadata/lc_agent_name",),
    inputs=("mlflow.chat.messages",),
    raw_inputs=("mlflow.spanInputs",),
    raw_outputs=("mlflow.spanOutputs",),
    tools=("mlflow.chat.tools", "mlflow.spanInputs/tools"),
    arguments=("mlflow.spanInputs",),
    result=("mlflow.spanOutputs",),
    input_tokens=("mlflow.chat.tokenUsage/input_tokens",),
    output_tokens=("mlflow.chat.tokenUsage/output_tokens",),
    response_id=("mlflow.spanOutputs/id",),
    error=OTEL.error,
    switch="content is on by default",
)

AUTOGEN: Final = replace(
    OTEL,
    name="autogen",
    scopes=("autogen-core", "autogen"),
    marks=(),
    switch=(
        "its own spans hold no content: add openinference-instrumentation-autogen-agentchat, or an instrumentor of the "
        "model's client"
    ),
)

DIALECTS: Final = (
    HAYSTACK,
    AUTOGEN,
    VERCEL,
    LANGFUSE,
    MLFLOW,
    STRANDS,
    PYDANTIC_AI,
    OPENINFERENCE,
    TRACEAI,
    OPENLLMETRY,
    MCP,
    OTEL,
)
"""In the order in which they are tried: the plain conventions last, for the others have their attributes too."""

OWN_SCOPES: Final = ("imitrace",)
"""Prefixes of scopes that are ours: their spans are derived elsewhere."""

EVENT_DETAILS: Final = "gen_ai.client.inference.operation.details"
"""A log record, or a span event, that has the content which a span left out, under the same names."""
EVENT_ROLES: Final[Mapping[str, str]] = {
    "gen_ai.system.message": "system",
    "gen_ai.developer.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
"""Events of the first generation, each a message of the request -> its role."""
EVENT_CHOICE: Final = "gen_ai.choice"
"""An event of the first generation: the answer."""
EVENT_PROMPT, EVENT_COMPLETION = "gen_ai.content.prompt", "gen_ai.content.completion"
"""Span events of the generation before that: request and answer as text."""

AGENT_AT_WORK: Final = "current_agent_name"
"""The name under which LlamaIndex's workflows tell, somewhere in what a step of theirs was given, whose step it is."""

RESPONSE_IDS: Final = ("resp_", "resp-")
"""How the ids of responses begin: one in the place of a conversation's id is that of the response before."""
