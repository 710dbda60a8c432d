import { SqlClient } from "@effect/sql"
import { Effect } from "effect"

const statements: ReadonlyArray<string> = [
  `CREATE TABLE events (
    seq BIGINT NOT NULL UNIQUE,
    id TEXT NOT NULL PRIMARY KEY,
    accepted_seq BIGINT NOT NULL,
    source TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    priority TEXT NOT NULL,
    timestamp BIGINT NOT NULL,
    received_at BIGINT NOT NULL,
    payload TEXT NOT NULL,
    metadata TEXT NOT NULL,
    trace_id TEXT,
    sender TEXT,
    session_key TEXT,
    reply_to TEXT,
    dedupe_key TEXT UNIQUE,
    state TEXT NOT NULL,
    action TEXT,
    policy TEXT,
    reason TEXT,
    evidence TEXT,
    due_at BIGINT,
    merge_key TEXT,
    merged_into TEXT,
    decided_at BIGINT,
    held INTEGER NOT NULL,
    run_id TEXT,
    caused_by TEXT,
    chain_root TEXT,
    chain_depth INTEGER NOT NULL,
    chain_count INTEGER NOT NULL
  )`,
  // The undecided are few among many: a partial index is as small as they are.
  `CREATE INDEX events_open ON events (seq) WHERE state IN ('accepted', 'deferred', 'merging', 'awaiting-approval')`,
  `CREATE INDEX events_merged ON events (merged_into, seq) WHERE merged_into IS NOT NULL`,
  `CREATE INDEX events_heartbeats ON events (agent_id, seq) WHERE source = 'heartbeat'`,
  `CREATE INDEX events_caused ON events (caused_by) WHERE caused_by IS NOT NULL`,
  `CREATE INDEX events_chained ON events (received_at) WHERE chain_root IS NOT NULL`,
  `CREATE INDEX events_sent ON events (received_at) WHERE sender IS NOT NULL`,
  `CREATE TABLE decisions (
    seq BIGINT NOT NULL PRIMARY KEY,
    event_id TEXT NOT NULL,
    at BIGINT NOT NULL,
    action TEXT NOT NULL,
    policy TEXT NOT NULL,
    reason TEXT,
    evidence TEXT NOT NULL,
    due_at BIGINT,
    merge_key TEXT
  )`,
  `CREATE INDEX decisions_event ON decisions (event_id, seq)`,
  `CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    event_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    source TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    lease_until BIGINT,
    task TEXT NOT NULL,
    reserved_tokens BIGINT NOT NULL,
    reserved_usd DOUBLE PRECISION,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cost_usd DOUBLE PRECISION,
    model TEXT,
    text TEXT,
    error TEXT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    ended_at BIGINT
  )`,
  `CREATE INDEX runs_event ON runs (event_id)`,
  `CREATE INDEX runs_created ON runs (created_at)`,
  `CREATE INDEX runs_open ON runs (created_at) WHERE state IN ('pending', 'running')`,
  `CREATE TABLE approvals (
    id TEXT NOT NULL PRIMARY KEY,
    event_id TEXT NOT NULL,
    run_id TEXT,
    state TEXT NOT NULL,
    policy TEXT NOT NULL,
    reason TEXT NOT NULL,
    requested_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    decided_at BIGINT,
    decided_by TEXT,
    proposal TEXT NOT NULL,
    digest TEXT NOT NULL,
    approvers INTEGER NOT NULL,
    consumed_by TEXT
  )`,
  `CREATE TABLE votes (
    approval_id TEXT NOT NULL,
    voter TEXT NOT NULL,
    answer TEXT NOT NULL,
    digest TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (approval_id, voter)
  )`,
  `CREATE INDEX approvals_event ON approvals (event_id)`,
  `CREATE INDEX approvals_pending ON approvals (requested_at) WHERE state = 'pending'`,
  `CREATE TABLE audit (
    chain TEXT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    event_id TEXT,
    body TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY (chain, seq)
  )`,
  `CREATE INDEX audit_event ON audit (event_id) WHERE event_id IS NOT NULL`,
  `CREATE TABLE sessions (
    key TEXT NOT NULL PRIMARY KEY,
    agent_id TEXT NOT NULL,
    updated_at BIGINT NOT NULL
  )`,
  `CREATE INDEX sessions_updated ON sessions (updated_at)`,
  `CREATE TABLE turns (
    seq BIGINT NOT NULL PRIMARY KEY,
    session_key TEXT NOT NULL,
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    at BIGINT NOT NULL,
    sender TEXT,
    event_id TEXT
  )`,
  `CREATE INDEX turns_session ON turns (session_key, seq)`,
  `CREATE TABLE jobs (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    origin TEXT NOT NULL,
    source TEXT NOT NULL,
    schedule TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    instruction TEXT NOT NULL,
    priority TEXT NOT NULL,
    metadata TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    delete_after_run INTEGER NOT NULL,
    catch_up TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_at BIGINT,
    next_at BIGINT,
    deliver_to TEXT
  )`,
  `CREATE TABLE switches (
    scope TEXT NOT NULL PRIMARY KEY,
    mode TEXT NOT NULL,
    changed_at BIGINT NOT NULL,
    changed_by TEXT NOT NULL
  )`,
  `CREATE TABLE deliveries (
    seq BIGINT NOT NULL UNIQUE,
    id TEXT NOT NULL PRIMARY KEY,
    event_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    channel TEXT NOT NULL,
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    text TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    reference TEXT,
    error TEXT,
    ended_at BIGINT
  )`,
  `CREATE INDEX deliveries_state ON deliveries (state, seq)`,
  `CREATE INDEX deliveries_target ON deliveries (channel, target, state, seq)`,
  `CREATE INDEX deliveries_event ON deliveries (event_id)`,
  `CREATE TABLE starts (
    id TEXT NOT NULL PRIMARY KEY,
    started_at BIGINT NOT NULL
  )`,
  `CREATE TABLE failures (
    agent_id TEXT NOT NULL PRIMARY KEY,
    count INTEGER NOT NULL,
    at BIGINT NOT NULL
  )`,
  `CREATE TABLE budget_notices (
    budget TEXT NOT NULL,
    notice TEXT NOT NULL,
    since BIGINT NOT NULL,
    PRIMARY KEY (budget, notice)
  )`
]

export default Effect.gen(function* () {
  const sql = yield* SqlClient.SqlClient
  yield* Effect.forEach(statements, (statement) => sql.unsafe(statement), { discard: true })
})
