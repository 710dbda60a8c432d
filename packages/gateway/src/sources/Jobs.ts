import { createHash } from "node:crypto"
import { Either, Schema } from "effect"
import { type ReplyRoute, routeProblem } from "../domain/Delivery.ts"
import { SchedulerError } from "../domain/Errors.ts"
import type { EventPriority } from "../domain/GatewayEvent.ts"
import { JobRules } from "../domain/Job.ts"
import type { HoursConfig } from "../domain/PolicyConfig.ts"
import { Schedule } from "../domain/Schedule.ts"
import type { Alarm } from "../internal/Alarm.ts"
import type { Tx } from "../records/Journal.ts"
import type { JobRow, SlotRow } from "../records/Tables.ts"
import { type CompiledSchedule, compileDecoded } from "./ScheduleClock.ts"

/** Something that is due now and then, and makes an event each time. */
export interface Job extends JobRules {
  readonly id: string
  readonly name: string
  readonly source: "heartbeat" | "cron"
  readonly schedule: Schedule
  readonly agentId: string
  readonly instruction: string
  readonly priority: EventPriority
  readonly enabled: boolean
  readonly deleteAfterRun: boolean
  /** The last instant that made an event. */
  readonly lastAt: Date | undefined
  /** The first instant that is still to come, or that waits to be seen to. */
  readonly nextAt: Date | undefined
  /** Milliseconds by which each of its instants is put off: its own part of `jitterMs`. */
  readonly delayMs: number
  readonly deliverTo: ReplyRoute | undefined
  /** Runs that have failed since the last one that did not. */
  readonly failures: number
  /** The event after whose failure it was disabled, until it is enabled. */
  readonly disabledFor: string | undefined
}

/** A job as the scheduler holds it: its row, and what is read from it once. */
export interface Entry {
  readonly row: JobRow
  readonly schedule: Schedule
  readonly compiled: CompiledSchedule
  readonly rules: JobRules
  /** Of the events it makes. */
  readonly metadata: Record<string, unknown>
  readonly activeHours: HoursConfig | undefined
  readonly deliverTo: ReplyRoute | undefined
  /** Milliseconds by which each instant is put off. */
  readonly delay: number
  /** The slot that instants skipped for the same reason are added to, while nothing else becomes of one. */
  readonly skipped?: SlotRow | undefined
}

const decodeSchedule = Schema.decodeUnknownEither(Schema.parseJson(Schedule))
const decodeRules = Schema.decodeUnknownEither(Schema.parseJson(JobRules))

/** The job's own part of its jitter: the same after every restart. */
const delayOf = (id: string, { jitterMs }: JobRules): number =>
  jitterMs === 0 ? 0 : createHash("sha256").update(id).digest().readUInt32BE(0) % (jitterMs + 1)

/** Reads a job's row. A Left says what is wrong with it. */
export const toEntry = (row: JobRow, channels: ReadonlySet<string>): Either.Either<Entry, SchedulerError> =>
  Either.gen(function* () {
    const schedule = yield* Either.mapLeft(decodeSchedule(row.schedule), ({ message }) => message)
    const compiled = yield* compileDecoded(schedule)
    const rules = yield* Either.mapLeft(decodeRules(row.rules), ({ message }) => message)
    const { activeHours, ...metadata } = JSON.parse(row.metadata) as { readonly activeHours?: HoursConfig }
    const deliverTo = row.deliver_to === null ? undefined : (JSON.parse(row.deliver_to) as ReplyRoute)
    const unroutable = deliverTo === undefined ? undefined : routeProblem(deliverTo, channels)
    if (unroutable !== undefined) return yield* Either.left(`deliverTo: ${unroutable}`)
    return { row, schedule, compiled, rules, metadata, activeHours, deliverTo, delay: delayOf(row.id, rules) }
  }).pipe(Either.mapLeft((problem) => new SchedulerError({ job: row.name, message: `job "${row.name}": ${problem}` })))

const dateOf = (millis: number | null): Date | undefined => (millis === null ? undefined : new Date(millis))

export const toJob = ({ delay, deliverTo, row, rules, schedule }: Entry): Job => ({
  ...rules,
  id: row.id,
  name: row.name,
  source: row.source,
  schedule,
  agentId: row.agent_id,
  instruction: row.instruction,
  priority: row.priority,
  enabled: row.enabled === 1,
  deleteAfterRun: row.delete_after_run === 1,
  lastAt: dateOf(row.last_at),
  nextAt: dateOf(row.next_at),
  delayMs: delay,
  deliverTo,
  failures: row.failures,
  disabledFor: row.disabled_for ?? undefined
})

/** The jobs there are, in memory as they are in the records, and when each is due. */
export class Jobs {
  private readonly entries = new Map<string, Entry>()
  /** Jobs that are disabled, by the event after whose failure they were. */
  private readonly disabled = new Map<string, string>()
  private readonly alarm: Pick<Alarm, "set" | "clear">
  started = false

  constructor(alarm: Pick<Alarm, "set" | "clear">) {
    this.alarm = alarm
  }
  get size(): number {
    return this.entries.size
  }
  get(id: string): Entry | undefined {
    return this.entries.get(id)
  }
  values(): Iterable<Entry> {
    return this.entries.values()
  }
  set(entry: Entry): void {
    const { disabled_for, enabled, id, next_at } = entry.row
    this.forget(id)
    this.entries.set(id, entry)
    if (disabled_for !== null) this.disabled.set(disabled_for, id)
    if (this.started && enabled === 1 && next_at !== null) this.alarm.set(id, next_at + entry.delay)
    else this.alarm.clear(id)
  }
  private forget(id: string): void {
    const before = this.entries.get(id)?.row.disabled_for
    if (before != null) this.disabled.delete(before)
  }
  /** The job that was disabled after this event's failure. */
  disabledFor(eventId: string): Entry | undefined {
    return this.entries.get(this.disabled.get(eventId) ?? "")
  }
  /** The events after whose failures jobs were disabled. */
  disabling(): Iterable<string> {
    return this.disabled.keys()
  }
  delete(id: string): void {
    this.forget(id)
    this.entries.delete(id)
    this.alarm.clear(id)
  }
  clear(): void {
    for (const id of this.entries.keys()) this.alarm.clear(id)
    this.entries.clear()
    this.disabled.clear()
  }
  start(): void {
    this.started = true
    for (const entry of this.entries.values()) this.set(entry)
  }
  /** Writes a job's change within a step, and takes it up once that is committed: unless the job is gone by then. */
  change(tx: Tx, { row: { id } }: Entry, set: Partial<JobRow>): void {
    tx.write({ op: "update", table: "jobs", key: { id }, set })
    tx.onCommit(() => {
      const entry = this.entries.get(id)
      if (entry !== undefined) this.set({ ...entry, row: { ...entry.row, ...set } })
    })
  }
  /** Takes up what the job's last slot is, once that is committed. */
  noteSkipped(tx: Tx, { row: { id } }: Entry, skipped: SlotRow | undefined): void {
    tx.onCommit(() => {
      const entry = this.entries.get(id)
      if (entry !== undefined) this.entries.set(id, { ...entry, skipped })
    })
  }
  remove(tx: Tx, { row: { id } }: Entry): void {
    tx.write({ op: "delete", table: "jobs", where: { id } })
    tx.onCommit(() => this.delete(id))
  }
}
