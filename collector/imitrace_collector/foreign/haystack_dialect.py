"""Hold how Haystack's own tracer writes what an agent, its model and its tools did.

Source: https://docs.haystack.deepset.ai/docs/tracing
"""

from typing import Final

from imitrace_collector.foreign.dialect import AGENT, MODEL, TOOL, Dialect

_GENERATORS = (
    *("OpenAI", "OpenAIResponses", "AzureOpenAI", "AzureOpenAIResponses", "Anthropic", "AnthropicVertex"),
    *("GoogleGenAI", "GoogleAIGemini", "VertexAIGemini", "Mistral", "Ollama", "AmazonBedrock", "Cohere", "LlamaCpp"),
    *("HuggingFaceAPI", "HuggingFaceLocal", "Nvidia", "OpenRouter", "TogetherAI", "LlamaStack", "WatsonX", "VLLM"),
    *("Fallback", "LiteLLM"),
)
"""What components that ask a chat model are named after: ``NAMEChatGenerator``."""

HAYSTACK: Final = Dialect(
    name="haystack",
    scopes=("haystack",),
    marks=(
        *("haystack.agent.step.llm.output", "haystack.agent.step.llm.input", "haystack.agent.max_steps"),
        *("haystack.tool.name", "haystack.component.type"),
    ),
    roles=(
        ("haystack.agent.step.llm.output", {"": MODEL}),
        ("haystack.agent.step.llm.input", {"": MODEL}),
        ("haystack.tool.name", {"": TOOL}),
        ("haystack.agent.max_steps", {"": AGENT}),
        ("haystack.component.type", {"Agent": AGENT} | {f"{name}ChatGenerator": MODEL for name in _GENERATORS}),
    ),
    session=("session.id",),
    agent=("haystack.component.name",),
    inputs=("haystack.agent.step.llm.input", "haystack.component.input", "haystack.agent.input"),
    outputs=(
        *("haystack.agent.step.llm.output/replies", "haystack.component.output/replies"),
        *("haystack.agent.output", "haystack.component.output"),
    ),
    tools=("haystack.agent.tools", "haystack.component.input/tools"),
    tool_name=("haystack.tool.name",),
    arguments=("haystack.agent.step.tool.input",),
    result=("haystack.agent.step.tool.output",),
    input_tokens=(
        "haystack.agent.step.llm.output/replies/0/meta/usage/prompt_tokens",
        "haystack.component.output/replies/0/meta/usage/prompt_tokens",
    ),
    output_tokens=(
        "haystack.agent.step.llm.output/replies/0/meta/usage/completion_tokens",
        "haystack.component.output/replies/0/meta/usage/completion_tokens",
    ),
    error=("error.type",),
    model=(
        "haystack.agent.step.llm.output/replies/0/meta/model",
        "haystack.component.output/replies/0/meta/model",
    ),
    switch="HAYSTACK_CONTENT_TRACING_ENABLED=true",
)
