import type { Evidence } from "../../domain/EventRecord.ts"
import type { GatewayEvent } from "../../domain/GatewayEvent.ts"
import type { Action, PolicyDecision } from "../../domain/PolicyDecision.ts"
import { decode } from "../../records/Evidence.ts"
import { StoreError } from "../../records/Store.ts"
import type { ApprovalRow, DecisionRow, EventRow, RunRow } from "../../records/Tables.ts"

/** What a replay reads of an event. */
export const EVENT_COLUMNS = [
  "seq",
  "id",
  "accepted_seq",
  "source",
  "agent_id",
  "priority",
  "timestamp",
  "received_at",
  "payload",
  "metadata",
  "trace_id",
  "sender",
  "session_key",
  "reply_to",
  "action",
  "policy",
  "reason",
  "evidence",
  "merge_key",
  "merged_into",
  "held",
  "caused_by",
  "chain_root",
  "chain_depth",
  "chain_count"
] as const satisfies ReadonlyArray<keyof EventRow>
export type EventPart = Pick<EventRow, (typeof EVENT_COLUMNS)[number]>

export const RUN_COLUMNS = [
  "id",
  "event_id",
  "agent_id",
  "state",
  "attempt",
  "reserved_tokens",
  "reserved_usd",
  "input_tokens",
  "output_tokens",
  "cost_usd",
  "created_at",
  "ended_at"
] as const satisfies ReadonlyArray<keyof RunRow>
export type RunPart = Pick<RunRow, (typeof RUN_COLUMNS)[number]>

export const APPROVAL_COLUMNS = [
  "id",
  "event_id",
  "state",
  "requested_at",
  "decided_at",
  "decided_by"
] as const satisfies ReadonlyArray<keyof ApprovalRow>
export type ApprovalPart = Pick<ApprovalRow, (typeof APPROVAL_COLUMNS)[number]>

export const DECISION_COLUMNS = [
  "seq",
  "event_id",
  "at",
  "action",
  "policy",
  "reason",
  "evidence",
  "due_at",
  "merge_key"
] as const satisfies ReadonlyArray<keyof DecisionRow>

/** What policies saw, as it was recorded. */
export type Facts = Evidence["state"]

/** Something in the records is not what the gateway writes. */
export const unreadable = (what: string, cause: unknown): StoreError =>
  new StoreError({
    message: `${what} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}; keep it out with from and to, or mend the database`,
    cause
  })

/** What policies saw when this was decided. Throws a `StoreError` that names the decision. */
export const factsOf = ({ evidence, seq, subject }: Pick<Occasion, "evidence" | "seq" | "subject">): Facts => {
  try {
    return decode(evidence).state
  } catch (cause) {
    throw unreadable(`the evidence of decision ${seq}, on event ${subject.id},`, cause)
  }
}

/** Where an event stands. `gone`: nothing more comes of it, or its run has ended. */
export type Place = "gone" | "queued" | "merging" | "approval" | "running"

/** An event that is replayed. Recorded and replayed, it goes the same way until it `differs`. */
export interface Subject {
  readonly id: string
  readonly agentId: string
  readonly event: GatewayEvent
  readonly row: EventPart
  /** Its recorded runs and approvals, in order. */
  readonly runs: ReadonlyArray<RunPart>
  readonly approvals: ReadonlyArray<ApprovalPart>
  /** What was seen when it was first judged. */
  facts: Facts | undefined
  differs: boolean
  /** Where it stands in the record, and in the replay; kept once it differs. */
  recorded: Place
  replayed: Place
  /** Decisions to run it, in the record and in the replay. */
  recordedRuns: number
  replayedRuns: number
  /** Events merged into it in the replay alone, less those in the record alone. */
  joined: number
  /** Of its merge window in the replay, once it differs. */
  merged: Facts["merge"]
  /** Of a person's yes in the replay, once it differs. */
  approval: Facts["approval"]
  /** Until when it is queued in the replay; none: until something changes. */
  until: number | undefined
}

/** A decision as it was recorded. */
export interface Occasion {
  readonly subject: Subject
  readonly seq: number
  readonly at: number
  readonly action: Action
  readonly policy: string
  readonly reason: string | null
  readonly evidence: string
  readonly dueAt: number | null
  readonly mergeKey: string | null
  readonly mergedInto: string | null
}

/** The decision on an event that was decided finally when it came. */
export const onlyOccasion = (subject: Subject): Occasion | undefined => {
  const { accepted_seq, action, evidence, merge_key, merged_into, policy, reason, received_at } = subject.row
  if (action === null || policy === null || evidence === null) return undefined
  return {
    subject,
    seq: accepted_seq,
    at: received_at,
    action,
    policy,
    // Whatever it says of one that was let through, a person said later.
    reason: action === "execute" || action === "merge" ? null : reason,
    evidence,
    dueAt: null,
    mergeKey: merge_key,
    mergedInto: merged_into
  }
}

export const occasionOf = (subject: Subject, row: DecisionRow): Occasion => ({
  subject,
  seq: row.seq,
  at: row.at,
  action: row.action,
  policy: row.policy,
  reason: row.reason,
  evidence: row.evidence,
  dueAt: row.due_at,
  mergeKey: row.merge_key,
  // A leader's window has an end; whoever joins one has none.
  mergedInto: row.action === "merge" && row.due_at === null ? subject.row.merged_into : null
})

/** One more event is merged into it than in the record. */
export const join = (leader: Subject): void => {
  if (leader.differs && leader.merged !== null) leader.merged = { ...leader.merged, count: leader.merged.count + 1 }
  else leader.joined += 1
}

/** When a queued event is judged again; none: when something changes. A time that has passed is none. */
export const untilOf = (decision: PolicyDecision & { readonly action: "queue" }, at: number): number | undefined => {
  const due = decision.until?.getTime()
  return due !== undefined && due > at ? due : undefined
}
