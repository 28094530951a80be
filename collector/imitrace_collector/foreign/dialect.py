"""Hold what is said of one family of instrumentors: by what it is recognised, and which attribute fills what."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MODEL, AGENT, TOOL = "model", "agent", "tool"
WORKFLOW, RETRIEVER, EVALUATOR, OTHER = "workflow", "retriever", "evaluator", "other"
"""What a span can be."""

Names = tuple[str, ...]
Roles = Mapping[str, str]
"""Value of an attribute -> what the span is."""


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """How one family of instrumentors is recognised, and where it says what."""

    name: str
    scopes: Names = ()
    """Prefixes of the instrumentation scope's name."""
    marks: Names = ()
    """Attributes that only it has; with a trailing dot a prefix of them."""
    roles: tuple[tuple[str, Roles], ...] = ()
    """Attributes that say what the span is, the most telling first; an empty value stands for any."""
    spans: Roles = field(default_factory=dict)
    """Names of spans whose attributes don't say what they are, or say too little."""
    conversation: Names = ()
    session: Names = ()
    agent: Names = ()
    version: Names = ()
    system: Names = ()
    inputs: Names = ()
    outputs: Names = ()
    raw_inputs: Names = ()
    """The request as the client sent it: read where ``inputs`` says nothing."""
    raw_outputs: Names = ()
    """The response as the client got it: read where ``outputs`` says nothing."""
    tools: Names = ()
    tools_among: Names = ()
    """Messages that tools' definitions are put among, as if a tool had said them."""
    tool_name: Names = ()
    arguments: Names = ()
    result: Names = ()
    call_id: Names = ()
    input_tokens: Names = ()
    output_tokens: Names = ()
    response_id: Names = ()
    after: Names = ()
    """The response that a request goes on from, where its service keeps the history."""
    error: Names = ()
    model: Names = ()
    switch: str = ""
    """How content is turned on where a span has none."""
