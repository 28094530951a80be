"""Hold what is on the wire: span names, attribute names and their allowed values, as literals.

GenAI convention names stand where one exists (OpenTelemetry GenAI semantic conventions, development status, hence
literals of our own), ``agent.trajectory.*`` for what it lacks.
"""

from typing import Final

SPAN_STEP: Final = "agent.trajectory.step"
SPAN_TRAJECTORY: Final = "invoke_agent"
SPAN_TOOL: Final = "execute_tool"
SPAN_CHUNK: Final = "agent.trajectory.chunk"
"""A piece of a payload too large for one attribute; its parent is the step's span."""
EVENT_SCORE: Final = "gen_ai.evaluation.result"
EVENT_EXCEPTION: Final = "exception"
"""A log record: a decision failed before it was one."""
EVENT_LOSS: Final = "agent.trajectory.loss"
"""A log record by which a process says how many of its records were lost on the way."""

OPERATION: Final = "gen_ai.operation.name"
"""``invoke_agent`` on trajectories, ``execute_tool`` on tool runs; absent on steps."""

TRAJECTORY_ID: Final = "agent.trajectory.id"
TRAJECTORY_OUTCOME: Final = "agent.trajectory.outcome"
TRAJECTORY_TASK: Final = "agent.trajectory.task"
TRAJECTORY_TAGS: Final = "agent.trajectory.tags"
"""JSON object of strings, for instance ``{"cohort": "common", "intent": "order_status"}``."""
TRAJECTORY_STEP_COUNT: Final = "agent.trajectory.step.count"
"""Int on the trajectory's span: how many steps were emitted, so that a lost last step is noticed."""
PART_POSITION: Final = "agent.trajectory.part.position"
"""Int on the ``invoke_agent`` span of a process that joined a trajectory begun elsewhere: how many steps of the part
that called it (its parent span) came before. The steps of each part are numbered from 0."""

CONVERSATION_ID: Final = "gen_ai.conversation.id"
AGENT_NAME: Final = "gen_ai.agent.name"
AGENT_VERSION: Final = "gen_ai.agent.version"

POLICY_ROLE: Final = "agent.trajectory.policy.role"
POLICY_NAME: Final = "agent.trajectory.policy.name"
POLICY_VERSION: Final = "agent.trajectory.policy.version"

STEP_INDEX: Final = "agent.trajectory.step.index"
STEP_DECISION: Final = "agent.trajectory.step.decision"
STEP_MESSAGES: Final = "agent.trajectory.step.messages"
"""JSON list: the messages that are new since the previous step, in GenAI parts form."""
STEP_MESSAGES_OFFSET: Final = "agent.trajectory.step.messages.offset"
"""Int: how many of the previous step's messages come before the new ones."""
STEP_TOOLS_HASH: Final = "agent.trajectory.step.tools_hash"
STEP_ACTION_KIND: Final = "agent.trajectory.step.action.kind"
STEP_MESSAGE: Final = "agent.trajectory.step.message"
STEP_CONFIDENCE: Final = "agent.trajectory.step.confidence"
STEP_ROUTE_REASON: Final = "agent.trajectory.step.route.reason"
STEP_PROPENSITY: Final = "agent.trajectory.step.propensity"
STEP_SHADOW: Final = "agent.trajectory.step.shadow"
"""JSON object: what a clone would have done here, while somebody else acted: ``clone``, ``version``, ``action``
(``kind``, ``name``, ``arguments``), ``confidence``, ``ood``, ``trusted`` and ``reason``."""
STEP_CHUNKS: Final = "agent.trajectory.step.chunks"
"""Int: how many chunk spans carry payloads that were too large for the step's own span."""
STEP_INCOMPLETE: Final = "agent.trajectory.step.incomplete"
"""Why the sender itself could not send the step, or the trajectory, whole."""
STEP_DIGEST: Final = "agent.trajectory.step.digest"
"""Length and hash of the step's payload attributes: the proof that none was cut (see ``canonical.step_digest``)."""

CHUNK_ATTRIBUTE: Final = "agent.trajectory.chunk.attribute"
"""Name of the step's attribute that was cut into chunks."""
CHUNK_INDEX: Final = "agent.trajectory.chunk.index"
CHUNK_COUNT: Final = "agent.trajectory.chunk.count"
CHUNK_TEXT: Final = "agent.trajectory.chunk.text"

LOSS_RECORDS: Final = "agent.trajectory.loss.records"
"""Int: how many records the process emitted so far."""
LOSS_FAILED: Final = "agent.trajectory.loss.failed"
LOSS_DROPPED: Final = "agent.trajectory.loss.dropped"

TOOL_DEFINITIONS: Final = "gen_ai.tool.definitions"
TOOL_NAME: Final = "gen_ai.tool.name"
TOOL_CALL_ID: Final = "gen_ai.tool.call.id"
TOOL_CALL_ARGUMENTS: Final = "gen_ai.tool.call.arguments"
TOOL_CALL_RESULT: Final = "gen_ai.tool.call.result"

SCORE_NAME: Final = "gen_ai.evaluation.name"
SCORE_VALUE: Final = "gen_ai.evaluation.score.value"
SCORE_LABEL: Final = "gen_ai.evaluation.score.label"
SCORE_EXPLANATION: Final = "gen_ai.evaluation.explanation"
SCORE_EVALUATOR: Final = "agent.trajectory.evaluator.name"
SCORE_EVALUATOR_VERSION: Final = "agent.trajectory.evaluator.version"

INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
ERROR_TYPE: Final = "error.type"
EXCEPTION_TYPE: Final = "exception.type"
EXCEPTION_MESSAGE: Final = "exception.message"

ACTION_KINDS: Final = ("tool_call", "message")
POLICY_ROLES: Final = ("expert", "clone", "human", "synthetic")
OUTCOMES: Final = ("success", "failure", "abandoned")

DIGEST_PAYLOADS: Final = (
    STEP_MESSAGES,
    TOOL_DEFINITIONS,
    TOOL_CALL_ARGUMENTS,
    STEP_MESSAGE,
    TOOL_CALL_RESULT,
)
"""The attributes that ``step.digest`` covers, in this order."""
