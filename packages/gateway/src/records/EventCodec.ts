import type { Delivery, ReplyRoute } from "../domain/Delivery.ts"
import type { Approval, EventRecord } from "../domain/EventRecord.ts"
import type { GatewayEvent } from "../domain/GatewayEvent.ts"
import type { Proposal } from "../domain/Proposal.ts"
import type { RunRecord, RunSummary, Worker } from "../domain/Run.ts"
import * as Evidence from "./Evidence.ts"
import type { ApprovalRow, DecisionRow, DeliveryRow, EventRow, RunRow, VoteRow } from "./Tables.ts"

/** The columns an event is read from. */
export const EVENT_COLUMNS = [
  "id",
  "source",
  "timestamp",
  "agent_id",
  "payload",
  "priority",
  "metadata",
  "trace_id",
  "sender",
  "session_key",
  "caused_by",
  "chain_root",
  "chain_depth",
  "chain_count",
  "reply_to"
] as const satisfies ReadonlyArray<keyof EventRow>
type EventColumns = Pick<EventRow, (typeof EVENT_COLUMNS)[number]>

type Writable<A> = { -readonly [K in keyof A]: A[K] }

/** Adds what only some events have. */
const complete = (event: Writable<GatewayEvent>, row: EventColumns): GatewayEvent => {
  if (row.trace_id !== null) event.traceId = row.trace_id
  if (row.sender !== null) event.sender = row.sender
  if (row.session_key !== null) event.sessionKey = row.session_key
  if (row.caused_by !== null) event.causedBy = row.caused_by
  if (row.chain_root !== null) {
    event.chain = { root: row.chain_root, depth: row.chain_depth, count: row.chain_count }
  }
  if (row.reply_to !== null) event.replyTo = JSON.parse(row.reply_to) as ReplyRoute
  return event
}
const metadataOf = ({ metadata }: EventColumns): Record<string, unknown> =>
  metadata === "{}" ? {} : (JSON.parse(metadata) as Record<string, unknown>)

/** The event a row holds. */
export const toEvent = (row: EventColumns): GatewayEvent =>
  complete(
    {
      id: row.id,
      source: row.source,
      timestamp: new Date(row.timestamp),
      agentId: row.agent_id,
      payload: JSON.parse(row.payload) as unknown,
      priority: row.priority,
      metadata: metadataOf(row)
    },
    row
  )

/**
 * An event whose payload is parsed when it is looked at. The property is its own, as on any other event; its getter is one for
 * all, since an object with a getter of its own is slow to make, and large.
 */
class LazyEvent {
  static readonly #payload = {
    enumerable: true,
    get(this: LazyEvent): unknown {
      if (this.#parsed === undefined) this.#parsed = JSON.parse(this.#text) as unknown
      return this.#parsed
    }
  }
  readonly #text: string
  #parsed: unknown
  readonly id: string
  readonly source: EventColumns["source"]
  readonly timestamp: Date
  readonly agentId: string
  declare readonly payload: unknown
  readonly priority: EventColumns["priority"]
  readonly metadata: Record<string, unknown>

  constructor(row: EventColumns) {
    this.#text = row.payload
    this.id = row.id
    this.source = row.source
    this.timestamp = new Date(row.timestamp)
    this.agentId = row.agent_id
    Object.defineProperty(this, "payload", LazyEvent.#payload)
    this.priority = row.priority
    this.metadata = metadataOf(row)
  }
}

/** The row of an event that has come and is not decided. Its `accepted_seq` is set with the record that tells of it. */
export const toRow = (
  event: GatewayEvent & { readonly agentId: string },
  kept: {
    readonly seq: number
    readonly receivedAt: number
    readonly payloadText: string
    readonly metadataText: string
    readonly routeText: EventRow["route"]
    readonly dedupeKey: string | undefined
  }
): EventRow => ({
  seq: kept.seq,
  id: event.id,
  accepted_seq: 0,
  source: event.source,
  agent_id: event.agentId,
  route: kept.routeText,
  priority: event.priority,
  timestamp: event.timestamp.getTime(),
  received_at: kept.receivedAt,
  payload: kept.payloadText,
  metadata: kept.metadataText,
  trace_id: event.traceId ?? null,
  sender: event.sender ?? null,
  session_key: event.sessionKey ?? null,
  reply_to: event.replyTo === undefined ? null : JSON.stringify(event.replyTo),
  dedupe_key: kept.dedupeKey ?? null,
  state: "accepted",
  action: null,
  policy: null,
  reason: null,
  evidence: null,
  due_at: null,
  merge_key: null,
  merged_into: null,
  decided_at: null,
  held: 0,
  run_id: null,
  caused_by: event.causedBy ?? null,
  chain_root: event.chain?.root ?? null,
  chain_depth: event.chain?.depth ?? 0,
  chain_count: event.chain?.count ?? 0
})

/** The event a row holds, for reading a great many of them: the payload, which few look at, is parsed when it is looked at. */
export const toLazyEvent = (row: EventColumns): GatewayEvent => complete(new LazyEvent(row), row)

/** What a list says of the run a row holds. */
export const toRunSummary = (row: Omit<RunRow, "task" | "text" | "reserved_usd">): RunSummary => ({
  id: row.id,
  eventId: row.event_id,
  agentId: row.agent_id,
  source: row.source,
  sessionKey: row.session_key ?? undefined,
  state: row.state,
  attempt: row.attempt,
  leaseUntil: row.lease_until === null ? undefined : new Date(row.lease_until),
  worker: row.worker === null ? undefined : (JSON.parse(row.worker) as Worker),
  reservedTokens: row.reserved_tokens,
  inputTokens: row.input_tokens,
  outputTokens: row.output_tokens,
  costUsd: row.cost_usd ?? undefined,
  model: row.model ?? undefined,
  error: row.error ?? undefined,
  decidedAt: new Date(row.created_at),
  startedAt: row.started_at === null ? undefined : new Date(row.started_at),
  endedAt: row.ended_at === null ? undefined : new Date(row.ended_at)
})
/** The run a row holds. */
export const toRun = (row: RunRow): RunRecord => ({
  ...toRunSummary(row),
  task: row.task,
  text: row.text ?? undefined
})

/** What would run, as an approval's row holds it. */
export const toProposal = ({ proposal }: Pick<ApprovalRow, "proposal">): Proposal => JSON.parse(proposal) as Proposal

/** The approval a row holds, with those of `votes` that are its own. */
export const toApproval = (row: ApprovalRow, votes: ReadonlyArray<VoteRow>): Approval => ({
  id: row.id,
  eventId: row.event_id,
  runId: row.run_id ?? undefined,
  state: row.state,
  policy: row.policy,
  reason: row.reason,
  requestedAt: new Date(row.requested_at),
  expiresAt: new Date(row.expires_at),
  decidedBy: row.decided_by ?? undefined,
  proposal: toProposal(row),
  digest: row.digest,
  approvers: row.approvers,
  votes: votes
    .filter(({ approval_id }) => approval_id === row.id)
    .sort((a, b) => a.at - b.at)
    .map(({ answer, at, voter }) => ({ by: voter, answer, at: new Date(at) })),
  consumedBy: row.consumed_by ?? undefined
})

/** Of an event's approvals, the one that is asked about, or was last. */
export const latestApproval = (rows: ReadonlyArray<ApprovalRow>): ApprovalRow | undefined =>
  rows.reduce<ApprovalRow | undefined>(
    (best, row) =>
      best === undefined ||
      row.state === "pending" ||
      (best.state !== "pending" && row.requested_at >= best.requested_at)
        ? row
        : best,
    undefined
  )
/** The delivery a row holds. */
export const toDelivery = (row: DeliveryRow): Delivery => ({
  id: row.id,
  seq: row.seq,
  eventId: row.event_id,
  runId: row.run_id,
  agentId: row.agent_id,
  to: { channel: row.channel, target: row.target },
  state: row.state,
  attempt: row.attempt,
  outcome: row.outcome,
  text: row.text,
  preparedAt: new Date(row.created_at),
  dueAt: row.state === "prepared" ? new Date(row.due_at) : undefined,
  reference: row.reference ?? undefined,
  error: row.error ?? undefined
})

/** The whole of an event, from the rows that hold it. */
export const toEventRecord = (
  row: EventRow,
  run: RunRow | undefined,
  approval: ApprovalRow | undefined,
  votes: ReadonlyArray<VoteRow>,
  delivery: DeliveryRow | undefined
): EventRecord => ({
  event: toEvent(row),
  state: row.state,
  decision: row.action ?? undefined,
  policy: row.policy ?? undefined,
  reason: row.reason ?? undefined,
  evidence: row.evidence === null ? undefined : Evidence.decode(row.evidence),
  mergedInto: row.merged_into ?? undefined,
  approval: approval === undefined ? undefined : toApproval(approval, votes),
  run: run === undefined ? undefined : toRun(run),
  delivery: delivery === undefined ? undefined : toDelivery(delivery)
})

/** The decision on an event that was decided finally when it came, as `decisions` would have it. */
export const firstDecision = (row: EventRow): DecisionRow | undefined =>
  row.action === null || row.policy === null || row.evidence === null
    ? undefined
    : {
        seq: row.accepted_seq,
        event_id: row.id,
        at: row.received_at,
        action: row.action,
        policy: row.policy,
        // Whatever it says of one that was let through, a person said later.
        reason: row.action === "execute" || row.action === "merge" ? null : row.reason,
        evidence: row.evidence,
        due_at: null,
        merge_key: row.merge_key
      }

/** What kind of event it is, as its adapter or its sender classified it. */
export const typeOf = (event: { readonly metadata: Record<string, unknown> }): string | undefined =>
  typeof event.metadata.type === "string" ? event.metadata.type : undefined
