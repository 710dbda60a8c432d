import { Clock, Context, Effect, Either, Layer, Schema } from "effect"
import { Moment, parseZone } from "../domain/Calendar.ts"
import type { GatewayConfig, HoursConfig } from "../domain/Config.ts"
import { type ReplyRoute, routeProblem } from "../domain/Delivery.ts"
import { type GatewayError, SchedulerError } from "../domain/Errors.ts"
import type { EventPriority } from "../domain/GatewayEvent.ts"
import { makeIds } from "../domain/Ids.ts"
import { Schedule } from "../domain/Schedule.ts"
import { Admission, type Receipt } from "../harness/Admission.ts"
import { openingOf } from "../harness/policies/BusinessHours.ts"
import * as Alarm from "../internal/Alarm.ts"
import { AuditLog } from "../records/AuditLog.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store, type StoreError } from "../records/Store.ts"
import type { JobRow } from "../records/Tables.ts"
import { KillSwitch } from "../runs/KillSwitch.ts"
import { Outbox } from "../runs/Outbox.ts"
import { configured, encodeRoute, encodeSchedule } from "./ConfiguredJobs.ts"
import { type CompiledSchedule, compile, nextAfter } from "./ScheduleClock.ts"

/** Something that is due now and then, and makes an event each time. */
export interface Job {
  readonly id: string
  readonly name: string
  readonly source: "heartbeat" | "cron"
  readonly schedule: Schedule
  readonly agentId: string
  readonly instruction: string
  readonly priority: EventPriority
  readonly enabled: boolean
  readonly deleteAfterRun: boolean
  readonly catchUp: "once" | "skip"
  readonly lastAt: Date | undefined
  readonly nextAt: Date | undefined
  readonly deliverTo: ReplyRoute | undefined
}

export interface NewJob {
  readonly name: string
  readonly schedule: Schedule
  readonly instruction: string
  /** Default: the first agent. */
  readonly agentId?: string
  /** Default: `normal`. */
  readonly priority?: EventPriority
  /** Default: `true`. */
  readonly enabled?: boolean
  /** Remove the job once it has fired. Default: `true` for `at`, else `false`. */
  readonly deleteAfterRun?: boolean
  /** What becomes of instants that passed while the gateway was down: all of them one event, or none. Default: `once`. */
  readonly catchUp?: "once" | "skip"
  /** Where what the agent answers is sent. Default: nowhere. */
  readonly deliverTo?: ReplyRoute
}

export interface SchedulerStatus {
  readonly running: boolean
  readonly jobs: number
  readonly nextWake: Date | undefined
}

export interface SchedulerShape {
  /** Fails when the schedule is invalid or will never be due, or there is no such agent. */
  readonly add: (job: NewJob) => Effect.Effect<Job, SchedulerError | GatewayError>
  readonly remove: (id: string) => Effect.Effect<void, SchedulerError | GatewayError>
  /**
   * An enabled job is next due at the first instant of its schedule after now. A job of the configuration is as configured
   * again after a restart.
   */
  readonly enable: (id: string, enabled: boolean) => Effect.Effect<Job, SchedulerError | GatewayError>
  /** Fires now, besides the schedule: the job is due when it would have been. */
  readonly run: (id: string) => Effect.Effect<Receipt, SchedulerError | GatewayError>
  /** By when they are next due; those that never are, last. */
  readonly list: (options?: { readonly includeDisabled?: boolean }) => ReadonlyArray<Job>
  readonly status: () => SchedulerStatus
  /** Begins to fire. Before it, jobs are kept and nothing is due. */
  readonly start: Effect.Effect<void>
}

/** Heartbeats and crons: one sleeping fiber for all jobs, each fire recorded with the event it makes. */
export class Scheduler extends Context.Tag("@postilion/gateway/Scheduler")<Scheduler, SchedulerShape>() {}

interface Entry {
  readonly row: JobRow
  readonly schedule: Schedule
  readonly compiled: CompiledSchedule
  readonly activeHours: HoursConfig | undefined
  readonly deliverTo: ReplyRoute | undefined
}

/** How late a fire may be and still be called on time. Milliseconds. */
const ON_TIME = 60_000
const decodeSchedule = Schema.decodeUnknownEither(Schema.parseJson(Schedule))

const toJob = ({ deliverTo, row, schedule }: Entry): Job => ({
  id: row.id,
  name: row.name,
  source: row.source,
  schedule,
  agentId: row.agent_id,
  instruction: row.instruction,
  priority: row.priority,
  enabled: row.enabled === 1,
  deleteAfterRun: row.delete_after_run === 1,
  catchUp: row.catch_up,
  lastAt: row.last_at === null ? undefined : new Date(row.last_at),
  nextAt: row.next_at === null ? undefined : new Date(row.next_at),
  deliverTo
})

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const audit = yield* AuditLog
    const admission = yield* Admission
    const killSwitch = yield* KillSwitch
    const { channels } = yield* Outbox
    const zone = parseZone(config.timezone)
    const [defaultAgent = ""] = Object.keys(config.agents)
    const nextId = makeIds()
    const entries = new Map<string, Entry>()
    let started = false

    const toEntry = (row: JobRow): Either.Either<Entry, SchedulerError> => {
      const fail = (message: string) => new SchedulerError({ job: row.name, message: `job "${row.name}": ${message}` })
      const schedule = decodeSchedule(row.schedule)
      if (Either.isLeft(schedule)) return Either.left(fail(schedule.left.message))
      const compiled = Either.mapLeft(compile(schedule.right), fail)
      if (Either.isLeft(compiled)) return Either.left(compiled.left)
      const { activeHours } = JSON.parse(row.metadata) as { readonly activeHours?: HoursConfig }
      const deliverTo = row.deliver_to === null ? undefined : (JSON.parse(row.deliver_to) as ReplyRoute)
      const unroutable = deliverTo === undefined ? undefined : routeProblem(deliverTo, channels)
      if (unroutable !== undefined) return Either.left(fail(`deliverTo: ${unroutable}`))
      return Either.right({ row, schedule: schedule.right, compiled: compiled.right, activeHours, deliverTo })
    }
    const arm = (entry: Entry): void => {
      entries.set(entry.row.id, entry)
      if (started && entry.row.enabled === 1 && entry.row.next_at !== null) alarm.set(entry.row.id, entry.row.next_at)
      else alarm.clear(entry.row.id)
    }
    const disarm = (id: string): void => {
      entries.delete(id)
      alarm.clear(id)
    }
    /** Writes a job's change within a step, and takes it up once that is committed. */
    const change = (tx: Tx, entry: Entry, set: Partial<JobRow>): Entry => {
      const next = { ...entry, row: { ...entry.row, ...set } }
      tx.write({ op: "update", table: "jobs", key: { id: entry.row.id }, set })
      tx.onCommit(() => arm(next))
      return next
    }
    const drop = (tx: Tx, { row }: Entry): void => {
      tx.write({ op: "delete", table: "jobs", where: { id: row.id } })
      tx.onCommit(() => disarm(row.id))
    }
    const note = (tx: Tx, row: JobRow, what: string) =>
      audit.append(tx, { kind: "job.changed", data: { jobId: row.id, name: row.name, change: what } })

    /** The job's instant `slot` is accounted for: what is left of the job. */
    const advance = (tx: Tx, entry: Entry, slot: number, fired: boolean): void => {
      const next = nextAfter(entry.compiled, Math.max(slot, tx.now))
      if (entry.row.delete_after_run === 1 && (fired || next === undefined)) drop(tx, entry)
      else change(tx, entry, { next_at: next ?? null, ...(fired ? { last_at: slot } : {}) })
    }
    const submit = (entry: Entry, key: string, scheduledAt: number, also?: (tx: Tx) => void) => {
      const { row } = entry
      const { activeHours: _, ...metadata } = JSON.parse(row.metadata) as Record<string, unknown>
      return admission.submit(
        {
          source: row.source,
          agentId: row.agent_id,
          priority: row.priority,
          payload: { instruction: row.instruction },
          metadata: { ...metadata, type: row.name, jobId: row.id, scheduledAt: new Date(scheduledAt).toISOString() },
          idempotencyKey: `job:${row.id}@${key}`,
          replyTo: entry.deliverTo
        },
        also
      )
    }
    /** Why a heartbeat's tick makes no event. */
    const quiet = (entry: Entry, now: number): boolean =>
      entry.row.source === "heartbeat" &&
      (killSwitch.mode(entry.row.agent_id) !== "running" ||
        (entry.activeHours !== undefined &&
          zone !== undefined &&
          !openingOf(entry.activeHours, new Moment(now, zone)).open))

    const fire = (id: string): Effect.Effect<void> =>
      Effect.gen(function* () {
        const entry = entries.get(id)
        const slot = entry?.row.next_at
        if (entry === undefined || slot == null || entry.row.enabled === 0) return
        const now = yield* Clock.currentTimeMillis
        const late = now - slot > ON_TIME
        if (quiet(entry, now) || (late && entry.row.catch_up === "skip")) {
          return yield* journal.step((tx) => advance(tx, entry, slot, false))
        }
        yield* submit(entry, String(slot), slot, (tx) => advance(tx, entry, slot, true))
      }).pipe(
        Effect.catchAll((error) =>
          Effect.gen(function* () {
            const entry = entries.get(id)
            const slot = entry?.row.next_at
            yield* Effect.logWarning(`job "${entry?.row.name ?? id}" could not fire: ${error.message}`)
            if (entry === undefined || slot == null) return
            if (error.reason === "stopped" || !error.retryable) {
              // A stopped agent's instants pass. One that can never become an event would be tried for ever.
              return yield* Effect.ignoreLogged(journal.step((tx) => advance(tx, entry, slot, false)))
            }
            alarm.set(id, (yield* Clock.currentTimeMillis) + 1_000)
          })
        )
      )
    const alarm = yield* Alarm.make("scheduler", (ids) =>
      Effect.forEach(ids, fire, { concurrency: "unbounded", discard: true })
    )

    const synchronise = Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      const known = new Map((yield* store.find("jobs", {})).map((row) => [row.id, row]))
      const wanted = configured(config)
      const rows: Array<JobRow> = []
      for (const job of wanted) {
        const before = known.get(job.id)
        const created_at = before?.created_at ?? now
        // An interval counts from when the job was made, not from 1970.
        const schedule =
          job.source === "heartbeat"
            ? JSON.stringify({ ...(JSON.parse(job.schedule) as object), anchor: created_at })
            : job.schedule
        const row: JobRow = {
          ...job,
          schedule,
          created_at,
          last_at: before?.last_at ?? null,
          next_at: before?.next_at ?? null
        }
        const entry = yield* toEntry(row)
        const keeps = before !== undefined && before.schedule === schedule && before.enabled === row.enabled
        rows.push(keeps ? row : { ...row, next_at: nextAfter(entry.compiled, now) ?? null })
      }
      const ids = new Set(wanted.map(({ id }) => id))
      const gone = [...known.values()].filter((row) => row.origin === "config" && !ids.has(row.id))
      yield* journal.step((tx) => {
        for (const row of rows) {
          if (!known.has(row.id)) note(tx, row, "added")
          tx.write({ op: "put", table: "jobs", row })
        }
        for (const row of gone) {
          note(tx, row, "removed")
          tx.write({ op: "delete", table: "jobs", where: { id: row.id } })
        }
      })
    })
    const load = Effect.gen(function* () {
      alarm.reset()
      entries.clear()
      for (const row of yield* store.find("jobs", {})) {
        const entry = toEntry(row)
        if (Either.isRight(entry)) arm(entry.right)
        else yield* Effect.logError(`a job cannot be read and is left alone: ${entry.left.message}`)
      }
    })
    yield* synchronise
    yield* journal.register(load)

    const find = (id: string): Effect.Effect<Entry, SchedulerError> =>
      Effect.suspend(() => {
        const entry = entries.get(id)
        return entry === undefined
          ? new SchedulerError({ job: id, message: `there is no job "${id}"` })
          : Effect.succeed(entry)
      })

    return Scheduler.of({
      add: (job) =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const { agentId = defaultAgent, catchUp = "once", enabled = true, name, priority = "normal" } = job
          const fail = (message: string) => new SchedulerError({ job: name, message: `job "${name}": ${message}` })
          if (!Object.hasOwn(config.agents, agentId)) {
            return yield* fail(`there is no agent "${agentId}"; agents: ${Object.keys(config.agents).join(", ")}`)
          }
          const { deliverTo } = job
          const unroutable = deliverTo === undefined ? undefined : routeProblem(deliverTo, channels)
          if (unroutable !== undefined) return yield* fail(`deliverTo: ${unroutable}`)
          const schedule = job.schedule.kind === "every" ? { anchor: now, ...job.schedule } : job.schedule
          const compiled = compile(schedule)
          if (Either.isLeft(compiled)) return yield* fail(compiled.left)
          const next = nextAfter(compiled.right, now)
          if (next === undefined) return yield* fail("it would never be due: its time has passed")
          const row: JobRow = {
            id: nextId("job", now),
            name,
            origin: "api",
            source: "cron",
            schedule: encodeSchedule(schedule),
            agent_id: agentId,
            instruction: job.instruction,
            priority,
            metadata: "{}",
            enabled: enabled ? 1 : 0,
            delete_after_run: (job.deleteAfterRun ?? schedule.kind === "at") ? 1 : 0,
            catch_up: catchUp,
            created_at: now,
            last_at: null,
            next_at: next,
            deliver_to: encodeRoute(deliverTo)
          }
          const entry: Entry = { row, schedule, compiled: compiled.right, activeHours: undefined, deliverTo }
          yield* journal.step((tx) => {
            note(tx, row, "added")
            tx.write({ op: "insert", table: "jobs", row })
            tx.onCommit(() => arm(entry))
          })
          return toJob(entry)
        }),
      remove: (id) =>
        Effect.flatMap(find(id), (entry) =>
          journal.step((tx) => {
            note(tx, entry.row, "removed")
            drop(tx, entry)
          })
        ),
      enable: (id, enabled) =>
        Effect.flatMap(find(id), (entry) =>
          journal.step((tx) => {
            note(tx, entry.row, enabled ? "enabled" : "disabled")
            const next_at = nextAfter(entry.compiled, tx.now) ?? null
            return toJob(change(tx, entry, { enabled: enabled ? 1 : 0, next_at }))
          })
        ),
      run: (id) =>
        Effect.gen(function* () {
          const entry = yield* find(id)
          const now = yield* Clock.currentTimeMillis
          return yield* submit(entry, `manual-${nextId("job", now)}`, now)
        }),
      list: (options = {}) =>
        [...entries.values()]
          .filter(({ row }) => options.includeDisabled === true || row.enabled === 1)
          .sort((a, b) => (a.row.next_at ?? Number.MAX_VALUE) - (b.row.next_at ?? Number.MAX_VALUE))
          .map(toJob),
      status: () => {
        const next = alarm.next()
        return { running: started, jobs: entries.size, nextWake: next === undefined ? undefined : new Date(next) }
      },
      start: Effect.sync(() => {
        started = true
        for (const entry of entries.values()) arm(entry)
      })
    })
  })

export const layer = (
  config: GatewayConfig
): Layer.Layer<
  Scheduler,
  SchedulerError | StoreError | GatewayError,
  Store | Journal | AuditLog | Admission | KillSwitch | Outbox
> => Layer.scoped(Scheduler, make(config))
