import type { AuditRow } from "./Tables.ts"

/** What happened. */
export type AuditKind =
  | "gateway.started"
  | "gateway.stopped"
  | "gateway.held"
  | "gateway.released"
  | "event.accepted"
  | "event.decided"
  | "run.started"
  /** A program outside has the attempt. */
  | "run.assigned"
  | "run.retrying"
  | "run.ended"
  | "run.escalated"
  | "run.merged"
  | "run.fenced"
  | "budget.warning"
  | "budget.exhausted"
  | "approval.voted"
  | "approval.changed"
  | "approval.decided"
  | "switch.changed"
  | "job.changed"
  /** Instants of a job made no event: the first of them, and until when as it was written. */
  | "job.skipped"
  | "policy.changed"
  | "policy.promoted"
  /** The configuration was changed while the gateway ran: what, and by whom; or another one was refused. */
  | "config.changed"
  | "config.refused"
  | "session.overflowed"
  | "session.deleted"
  | "session.imported"
  | "storage.recovered"
  /** The beginning of the chain was pruned: `data` has the last record pruned, `prunedTo`, and its `hash`. */
  | "audit.checkpoint"
  /** A signature over the record before this one. */
  | "audit.signed"
  | "delivery.prepared"
  | "delivery.started"
  | "delivery.ended"
  | "delivery.replayed"
  | "delivery.dropped"
  | "push.published"
  | "push.dead"
  | "push.replayed"
  | "push.dropped"
  | "token.created"
  | "token.revoked"

export interface AuditEntry {
  readonly kind: AuditKind
  readonly eventId?: string | undefined
  /** JSON; secrets never enter it. */
  readonly data: Record<string, unknown>
}

/** A record of the chain. `hash` is SHA-256 over the previous record's hash and this one's canonical JSON. */
export interface AuditRecord extends AuditEntry {
  readonly chain: string
  /** From 1, without gaps. */
  readonly seq: number
  readonly at: Date
  readonly hash: string
}

/** A record as it is exported: its canonical JSON, with its hash as the last member. */
export const toLine = (row: AuditRow): string => `${row.body.slice(0, -1)},"hash":"${row.hash}"}`

/** The record a row holds. */
export const toRecord = (row: AuditRow): AuditRecord => {
  const body = JSON.parse(row.body) as { readonly data: Record<string, unknown> }
  return {
    chain: row.chain,
    seq: row.seq,
    at: new Date(row.at),
    kind: row.kind as AuditKind,
    eventId: row.event_id ?? undefined,
    data: body.data,
    hash: row.hash
  }
}
