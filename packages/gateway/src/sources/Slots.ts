import { Effect } from "effect"
import type { Slot } from "../domain/Job.ts"
import type { AuditLogShape } from "../records/AuditLog.ts"
import type { Tx } from "../records/Journal.ts"
import type { StoreShape } from "../records/Store.ts"
import type { EventRow, JobRow, RunRow, SlotRow } from "../records/Tables.ts"
import type { Entry, Jobs } from "./Jobs.ts"
import type { Range } from "./Occurrences.ts"
import { nextAfter } from "./ScheduleClock.ts"

/** A slot whose event has not come to its end. */
export interface OpenSlot {
  readonly jobId: string
  readonly at: number
  readonly late: boolean
}

/** How a slot ended. `failed`: its run did, or was given up. */
export interface SlotEnd {
  readonly state: Exclude<SlotRow["state"], "running">
  readonly reason: string | null
  readonly failed: boolean
}

const skipped = (reason: string): SlotEnd => ({ state: "skipped", reason, failed: false })
const abandoned = (reason: string): SlotEnd => ({ state: "abandoned", reason, failed: true })

/** How a slot ended, by the records of its event and of the event's run; `undefined` while it has not. */
export const endOf = (
  { late }: OpenSlot,
  event: EventRow | undefined,
  run: RunRow | undefined
): SlotEnd | undefined => {
  if (event === undefined) return abandoned("its event is not in the records any more")
  if (event.state === "suppressed" || event.state === "denied") return skipped(event.reason ?? event.state)
  if (event.state === "merged") return skipped(`merged into ${event.merged_into}`)
  switch (run?.state) {
    case "completed":
      return { state: late ? "caught-up" : "ran", reason: null, failed: false }
    case "failed":
    case "cancelled":
      return { state: late ? "caught-up" : "ran", reason: run.error, failed: run.state === "failed" }
    case "abandoned":
      return abandoned(run.error ?? "its run was given up")
    default:
      return undefined
  }
}

export const toSlot = (row: SlotRow): Slot => ({
  at: new Date(row.at),
  until: new Date(row.until),
  count: row.count ?? undefined,
  state: row.state,
  reason: row.reason ?? undefined,
  eventId: row.event_id ?? undefined,
  startedAt: row.started_at === null ? undefined : new Date(row.started_at),
  endedAt: row.ended_at === null ? undefined : new Date(row.ended_at)
})

/** The row of instants that make no event. */
export const skippedRow = (jobId: string, { at, count, until }: Range, reason: string, now: number): SlotRow => ({
  job_id: jobId,
  at,
  until,
  count: count ?? null,
  state: "skipped",
  late: 0,
  reason,
  event_id: null,
  started_at: null,
  ended_at: now
})

/** Whether an instant has no slot for certain. The first ones of a configured job may meet those of another that had its id. */
const isNew = ({ row: { accounted_at, origin } }: Entry, at: number): boolean =>
  accounted_at === null ? origin === "api" : at > accounted_at

/** What became of the jobs' instants: the slots that are open, in memory, and what is written of all of them. */
export class Slots {
  private readonly open = new Map<string, OpenSlot>()
  private readonly counts = new Map<string, number>()
  private readonly jobs: Jobs
  private readonly audit: AuditLogShape

  constructor(jobs: Jobs, audit: AuditLogShape) {
    this.jobs = jobs
    this.audit = audit
  }
  /** The slot this event is of, while that is open. */
  get(eventId: string): OpenSlot | undefined {
    return this.open.get(eventId)
  }
  events(): Iterable<string> {
    return this.open.keys()
  }
  /** How many slots of the job are open. */
  openOf(jobId: string): number {
    return this.counts.get(jobId) ?? 0
  }
  private add(eventId: string, slot: OpenSlot): void {
    this.open.set(eventId, slot)
    this.counts.set(slot.jobId, this.openOf(slot.jobId) + 1)
  }
  private remove(eventId: string): void {
    const slot = this.open.get(eventId)
    if (slot === undefined) return
    this.open.delete(eventId)
    const left = this.openOf(slot.jobId) - 1
    if (left === 0) this.counts.delete(slot.jobId)
    else this.counts.set(slot.jobId, left)
  }
  /** Reads the open slots from the records. */
  load(store: StoreShape) {
    return Effect.gen(this, function* () {
      const rows = yield* store.find("slots", { where: { state: "running" } })
      this.open.clear()
      this.counts.clear()
      for (const { at, event_id, job_id, late } of rows) {
        if (event_id !== null) this.add(event_id, { jobId: job_id, at, late: late === 1 })
      }
    })
  }

  /**
   * These instants make no event. Those that follow others skipped for the same reason are added to their row, so that a job
   * that is skipped for a year has one, and one record in the audit. What the job's row is to say of it.
   */
  skip(tx: Tx, entry: Entry, range: Range, reason: string): Partial<JobRow> {
    const { accounted_at, id } = entry.row
    // After the clock was set back: what has a slot keeps it.
    const at = accounted_at !== null && range.at <= accounted_at ? nextAfter(entry.compiled, accounted_at) : range.at
    if (at === undefined || at > range.until) return {}
    const before = entry.skipped
    if (before?.reason === reason) {
      const count = before.count === null || range.count === undefined ? null : before.count + range.count
      const set = { until: range.until, count, ended_at: tx.now }
      tx.write({ op: "update", table: "slots", key: { job_id: id, at: before.at }, set })
      this.jobs.noteSkipped(tx, entry, { ...before, ...set })
    } else {
      const row = skippedRow(id, at === range.at ? range : { ...range, at, count: undefined }, reason, tx.now)
      tx.write({ op: isNew(entry, row.at) ? "insert" : "put", table: "slots", row })
      const data = { jobId: id, name: entry.row.name, at: row.at, until: row.until, reason }
      this.audit.append(tx, { kind: "job.skipped", data })
      this.jobs.noteSkipped(tx, entry, row)
    }
    return { accounted_at: range.until }
  }
  /** This instant has made an event. What the job's row is to say of it. */
  begin(tx: Tx, entry: Entry, at: number, late: boolean, eventId: string): Partial<JobRow> {
    // It had made one before the clock was set back.
    if (tx.duplicateOf !== undefined) return {}
    const { accounted_at, id } = entry.row
    const row: SlotRow = {
      job_id: id,
      at,
      until: at,
      count: 1,
      state: "running",
      late: late ? 1 : 0,
      reason: null,
      event_id: eventId,
      started_at: tx.now,
      ended_at: null
    }
    tx.write({ op: isNew(entry, at) ? "insert" : "put", table: "slots", row })
    this.jobs.noteSkipped(tx, entry, undefined)
    tx.onCommit(() => this.add(eventId, { jobId: id, at, late }))
    return { last_at: at, accounted_at: Math.max(at, accounted_at ?? at) }
  }
  end(tx: Tx, eventId: string, { jobId, at }: OpenSlot, { reason, state }: SlotEnd): void {
    tx.write({
      op: "update",
      table: "slots",
      key: { job_id: jobId, at },
      set: { state, reason, ended_at: tx.now }
    })
    tx.onCommit(() => this.remove(eventId))
  }
}
