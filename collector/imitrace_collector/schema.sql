-- What came in: a row for each item by which it is found. None is there twice, though no key says so: see raw_tables.py.
CREATE TABLE IF NOT EXISTS spans (
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    parent_span_id VARCHAR,
    name VARCHAR NOT NULL,
    kind INTEGER NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    status INTEGER NOT NULL,
    trajectory_id VARCHAR,
    service VARCHAR,
    received_at BIGINT NOT NULL,
    chunk BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS log_records (
    log_id VARCHAR NOT NULL,
    trace_id VARCHAR,
    span_id VARCHAR,
    event_name VARCHAR NOT NULL,
    logged_at BIGINT NOT NULL,
    severity INTEGER NOT NULL,
    trajectory_id VARCHAR,
    service VARCHAR,
    received_at BIGINT NOT NULL,
    chunk BIGINT NOT NULL
);

-- What one write brought of one trajectory, or of one trace, from one origin; size is that of its items before they were
-- compressed, bytes what it takes of its block, in which its body stands from start on.
CREATE TABLE IF NOT EXISTS chunks (
    chunk BIGINT NOT NULL,
    kind VARCHAR NOT NULL,
    trajectory_id VARCHAR,
    trace_id VARCHAR,
    origin VARCHAR NOT NULL,
    noted BOOLEAN NOT NULL,
    items BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    size BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    block BIGINT NOT NULL,
    start BIGINT NOT NULL,
    length BIGINT NOT NULL
);

-- The items themselves, byte for byte: zstd over the bodies of several chunks, of which each is an opentelemetry.proto
-- ScopeSpans or ScopeLogs without its scope; in pieces, for a checkpoint writes the last 2,048 rows of a table anew.
CREATE TABLE IF NOT EXISTS bodies (
    block BIGINT NOT NULL,
    piece BIGINT NOT NULL,
    body BLOB NOT NULL USING COMPRESSION uncompressed
);

CREATE TABLE IF NOT EXISTS origins (
    origin VARCHAR NOT NULL PRIMARY KEY,
    service VARCHAR,
    resource BLOB NOT NULL,
    scope BLOB NOT NULL
);

-- What is derived from it: the columns of imitrace.schema. No keys on what is deleted and written anew.
CREATE TABLE IF NOT EXISTS trajectories (
    trajectory_id VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    agent_version VARCHAR,
    task VARCHAR,
    tags VARCHAR NOT NULL,
    outcome VARCHAR,
    source VARCHAR NOT NULL,
    parent VARCHAR,
    parent_step BIGINT,
    step_count BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    ended_at BIGINT,
    complete BOOLEAN NOT NULL,
    incomplete_reason VARCHAR
);

CREATE TABLE IF NOT EXISTS bare_steps (
    trajectory_id VARCHAR NOT NULL,
    step_index BIGINT NOT NULL,
    decision VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,
    policy_role VARCHAR NOT NULL,
    policy_name VARCHAR,
    policy_version VARCHAR,
    tools_hash VARCHAR,
    action_kind VARCHAR NOT NULL,
    action_name VARCHAR,
    action_arguments VARCHAR USING COMPRESSION zstd,
    action_message VARCHAR USING COMPRESSION zstd,
    call_id VARCHAR,
    observation VARCHAR USING COMPRESSION zstd,
    confidence DOUBLE,
    route_reason VARCHAR,
    propensity DOUBLE,
    shadow VARCHAR USING COMPRESSION zstd,
    input_tokens BIGINT,
    output_tokens BIGINT,
    error_type VARCHAR,
    started_at BIGINT NOT NULL,
    ended_at BIGINT NOT NULL,
    trace_id VARCHAR NOT NULL,
    span_id VARCHAR NOT NULL,
    complete BOOLEAN NOT NULL,
    incomplete_reason VARCHAR,
    history BIGINT NOT NULL,
    history_length BIGINT NOT NULL
);

-- The messages before each decision, each once: a step's state is the first history_length messages of its history.
CREATE TABLE IF NOT EXISTS histories (
    trajectory_id VARCHAR NOT NULL,
    history BIGINT NOT NULL,
    position BIGINT NOT NULL,
    message_id VARCHAR NOT NULL
);

-- For who opens this file; of a store with long trajectories it needs much memory for the column state.
CREATE VIEW IF NOT EXISTS steps AS
SELECT
    trajectory_id, step_index, decision, agent, policy_role, policy_name, policy_version,
    coalesce(ids[1:history_length], []) AS state, tools_hash, action_kind, action_name, action_arguments,
    action_message, call_id, observation, confidence, route_reason, propensity, shadow, input_tokens, output_tokens,
    error_type, started_at, ended_at, trace_id, span_id, complete, incomplete_reason
FROM bare_steps LEFT JOIN (
    SELECT trajectory_id, history, list(message_id ORDER BY position) AS ids FROM histories GROUP BY ALL
) h USING (trajectory_id, history);

CREATE TABLE IF NOT EXISTS messages (
    message_id VARCHAR NOT NULL,
    role VARCHAR NOT NULL,
    content VARCHAR NOT NULL USING COMPRESSION zstd
);

CREATE TABLE IF NOT EXISTS tools (
    tools_hash VARCHAR NOT NULL,
    position BIGINT NOT NULL,
    name VARCHAR NOT NULL,
    schema_hash VARCHAR NOT NULL,
    definition VARCHAR NOT NULL USING COMPRESSION zstd,
    PRIMARY KEY (tools_hash, position)
);

CREATE TABLE IF NOT EXISTS scores (
    trajectory_id VARCHAR NOT NULL,
    step_index BIGINT,
    name VARCHAR NOT NULL,
    value DOUBLE,
    label VARCHAR,
    explanation VARCHAR,
    evaluator VARCHAR,
    evaluator_version VARCHAR,
    scored_at BIGINT NOT NULL
);

-- What senders say they lost; each process counts from its start.
CREATE TABLE IF NOT EXISTS losses (
    service VARCHAR NOT NULL,
    process VARCHAR NOT NULL,
    lost BIGINT NOT NULL
);

-- Which traces of other instrumentation belong together: those of a component share keys, and make its trajectories.
-- joined says with whom a key connects, where it need not be everybody that has it.
CREATE TABLE IF NOT EXISTS links (
    key VARCHAR NOT NULL,
    trace_id VARCHAR NOT NULL,
    began BIGINT NOT NULL,
    size BIGINT NOT NULL,
    joined VARCHAR,
    component VARCHAR NOT NULL
);

CREATE TABLE IF NOT EXISTS component_trajectories (
    component VARCHAR NOT NULL,
    trajectory_id VARCHAR NOT NULL
);

-- The rows of scores that were found by such links, to be taken back when these change.
CREATE TABLE IF NOT EXISTS component_scores (
    component VARCHAR NOT NULL,
    trajectory_id VARCHAR NOT NULL,
    step_index BIGINT,
    name VARCHAR NOT NULL,
    value DOUBLE,
    label VARCHAR,
    explanation VARCHAR,
    evaluator VARCHAR,
    evaluator_version VARCHAR,
    scored_at BIGINT NOT NULL
);

CREATE TABLE IF NOT EXISTS meta (
    key VARCHAR NOT NULL PRIMARY KEY,
    value VARCHAR NOT NULL
);
