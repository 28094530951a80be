"""Hold the columns of the snapshot's tables: what the collector writes and the trainer reads.

The same columns, in the same order, are in a snapshot's Parquet files, in the read API's Arrow streams and in what has
this name in the store file, where ``steps`` is a view of ``bare_steps`` and ``histories``. Times are int64 nanoseconds
since 1970 UTC. A trailing ``?`` marks a column that may be null.
"""

from typing import Final

SCHEMA_VERSION: Final = 4

TRAJECTORIES: Final[dict[str, str]] = {
    "trajectory_id": "string",
    "agent": "string",
    "agent_version": "string?",
    "task": "string?",
    "tags": "string",  # JSON object of strings
    "outcome": "string?",  # success, failure, abandoned
    "source": "string",  # which dialect or importer it came from
    "parent": "string?",  # the trajectory that called or handed over to it
    "parent_step": "int64?",  # the step of that one which did
    "step_count": "int64",
    "started_at": "int64",
    "ended_at": "int64?",  # null while it runs
    "complete": "bool",
    "incomplete_reason": "string?",
}

STEPS: Final[dict[str, str]] = {
    "trajectory_id": "string",
    "step_index": "int64",  # from 0, by decision order
    "decision": "string",  # shared by the parallel calls of one answer
    "agent": "string",
    "policy_role": "string",  # expert, clone, human, synthetic
    "policy_name": "string?",
    "policy_version": "string?",
    "state": "list<string>",  # message_id of every message before the decision, oldest first
    "tools_hash": "string?",  # the tools offered
    "action_kind": "string",  # tool_call, message
    "action_name": "string?",  # the tool
    "action_arguments": "string?",  # JSON object
    "action_message": "string?",
    "call_id": "string?",
    "observation": "string?",  # the tool's result, text or JSON
    "confidence": "float64?",
    "route_reason": "string?",
    "propensity": "float64?",
    "shadow": "string?",  # JSON object: what a clone would have done
    "input_tokens": "int64?",
    "output_tokens": "int64?",
    "error_type": "string?",
    "started_at": "int64",
    "ended_at": "int64",
    "trace_id": "string",
    "span_id": "string",
    "complete": "bool",
    "incomplete_reason": "string?",
}

MESSAGES: Final[dict[str, str]] = {
    "message_id": "string",  # canonical.content_hash of content
    "role": "string",
    "content": "string",  # the whole message in GenAI parts form, canonical JSON
}

TOOLS: Final[dict[str, str]] = {
    "tools_hash": "string",  # canonical.content_hash of the list of definitions
    "position": "int64",
    "name": "string",
    "schema_hash": "string",  # canonical.content_hash of this definition
    "definition": "string",  # JSON: name, description, parameters
}

SCORES: Final[dict[str, str]] = {
    "trajectory_id": "string",
    "step_index": "int64?",  # null: the whole trajectory
    "name": "string",
    "value": "float64?",
    "label": "string?",
    "explanation": "string?",
    "evaluator": "string?",
    "evaluator_version": "string?",
    "scored_at": "int64",
}

TABLES: Final[dict[str, dict[str, str]]] = {
    "trajectories": TRAJECTORIES,
    "steps": STEPS,
    "messages": MESSAGES,
    "tools": TOOLS,
    "scores": SCORES,
}
