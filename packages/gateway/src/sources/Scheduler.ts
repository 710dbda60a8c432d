import { Clock, Context, Effect, Either, Layer, ParseResult, Schedule as Repeat, Schema } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { type ReplyRoute, routeProblem } from "../domain/Delivery.ts"
import { GatewayError, SchedulerError } from "../domain/Errors.ts"
import type { EventPriority } from "../domain/GatewayEvent.ts"
import { makeIds } from "../domain/Ids.ts"
import { JobRules, LONGEST_INSTRUCTION, type Slot } from "../domain/Job.ts"
import { defaultAgentOf } from "../domain/Routing.ts"
import type { Schedule } from "../domain/Schedule.ts"
import type { SchedulerStatus } from "../domain/Status.ts"
import type { Admission, Receipt } from "../harness/Admission.ts"
import * as Alarm from "../internal/Alarm.ts"
import { AuditLog } from "../records/AuditLog.ts"
import type { EventBus } from "../records/EventBus.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { Store, type StoreError } from "../records/Store.ts"
import type { JobRow } from "../records/Tables.ts"
import type { KillSwitch } from "../runs/KillSwitch.ts"
import { Outbox } from "../runs/Outbox.ts"
import { configured, encodeRoute, encodeRules, encodeSchedule, prepare } from "./ConfiguredJobs.ts"
import * as Firing from "./Firing.ts"
import { type HistoryOptions, historyOf } from "./JobHistory.ts"
import * as JobSteps from "./JobSteps.ts"
import { type Entry, type Job, Jobs, toEntry, toJob } from "./Jobs.ts"
import * as Rewind from "./Rewind.ts"
import { compile, upcoming } from "./ScheduleClock.ts"
import * as Settling from "./Settling.ts"
import { Slots } from "./Slots.ts"

export type { HistoryOptions } from "./JobHistory.ts"
export type { Job } from "./Jobs.ts"

/** A job to add. What `JobRules` has is optional, with the defaults said there. */
export interface NewJob extends Partial<typeof JobRules.Encoded> {
  readonly name: string
  readonly schedule: Schedule
  /** Up to 8,000 characters. */
  readonly instruction: string
  /** Default: the first agent. */
  readonly agentId?: string | undefined
  /** Default: `normal`. */
  readonly priority?: EventPriority | undefined
  /** Default: `true`. */
  readonly enabled?: boolean | undefined
  /** Remove the job once it has made an event. Default: `true` for `at`, else `false`. */
  readonly deleteAfterRun?: boolean | undefined
  /** Where what the agent answers is sent. Default: nowhere. */
  readonly deliverTo?: ReplyRoute | undefined
}

/** A job that was added, and when it is due. */
export interface AddedJob extends Job {
  /** The next five instants of its schedule; fewer where there are no more. */
  readonly next: ReadonlyArray<Date>
}

export interface SchedulerShape {
  /**
   * Fails when the schedule or a rule is invalid, it will never be due, or there is no such agent or channel. Here and below `by` is
   * recorded with the change; default: `program`.
   */
  readonly add: (job: NewJob, by?: string) => Effect.Effect<AddedJob, SchedulerError | GatewayError>
  /** What its event has begun goes on. Its history stays. */
  readonly remove: (id: string, by?: string) => Effect.Effect<void, SchedulerError | GatewayError>
  /**
   * An enabled job is next due at the first instant of its schedule after now; those that have passed are skipped. What its
   * event has begun goes on. A job of the configuration is as configured again after a restart, unless its failures have
   * disabled it.
   */
  readonly enable: (id: string, enabled: boolean, by?: string) => Effect.Effect<Job, SchedulerError | GatewayError>
  /**
   * Makes an event now, besides the schedule: the job is due when it would have been, and no slot is used. `by` is the event's
   * sender; default: none.
   */
  readonly run: (id: string, by?: string) => Effect.Effect<Receipt, SchedulerError | GatewayError>
  /** By when they are next due; those that never are, last. */
  readonly list: (options?: { readonly includeDisabled?: boolean }) => ReadonlyArray<Job>
  /** The next `count` instants of a job's schedule, at most 1,000, without what its jitter puts them off by. Default: 5. */
  readonly next: (id: string, count?: number) => Effect.Effect<ReadonlyArray<Date>, SchedulerError>
  /**
   * What became of each instant of a job, the last one first; also of a job that has been removed. Slots are kept as long as
   * the events of their job (`retention.events`).
   */
  readonly history: (id: string, options?: HistoryOptions) => Effect.Effect<ReadonlyArray<Slot>, GatewayError>
  readonly status: () => SchedulerStatus
  /**
   * Prepares to make the configured jobs what another configuration says; those it says the same of go on as they are. What is
   * prepared is done by calling it within a step that has the journal load its state again.
   */
  readonly reconfigure: (next: GatewayConfig) => Effect.Effect<(tx: Tx) => void, SchedulerError>
  /** Begins to fire. Before it, jobs are kept and nothing is due. */
  readonly start: Effect.Effect<void, GatewayError>
}

/** Heartbeats and crons: one sleeping fiber for all jobs, each instant recorded with the event it makes. */
export class Scheduler extends Context.Tag("@postilion/gateway/Scheduler")<Scheduler, SchedulerShape>() {}

const SHOWN = 5
const MOST_SHOWN = 1_000
/** Jobs read at a time. */
const PAGE = 1_000
/** Jobs that fire at a time, each in a step of its own: as many as the journal writes in one transaction by default. */
const MOST_AT_ONCE = 1_000
/** A wake that lies so far in the past did not happen: twice the longest sleep. Milliseconds. */
const STALLED_AFTER = 120_000
const decodeRules = Schema.decodeUnknownEither(JobRules)

const storage = (cause: StoreError) => new GatewayError({ reason: "storage", message: cause.message, cause })
const dates = (instants: ReadonlyArray<number>): ReadonlyArray<Date> => instants.map((at) => new Date(at))

export const make = (config: GatewayConfig) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const { channels } = yield* Outbox
    const clock = yield* Effect.clock
    const nextId = makeIds()
    const untilDone = Effect.retry(Repeat.spaced("1 second"))

    const alarm: Alarm.Alarm = yield* Alarm.make(
      "scheduler",
      (ids): Effect.Effect<void> => firing.fireAll(ids),
      MOST_AT_ONCE,
      Effect.suspend(() => Effect.ignore(untilDone(rewind)))
    )
    const jobs = new Jobs(alarm)
    const slots = new Slots(jobs, yield* AuditLog)
    const steps = yield* JobSteps.make(jobs, slots)
    const rewind = yield* Rewind.make(jobs)
    const firing = yield* Firing.make({ config, jobs, slots, steps, alarm })
    const settling = yield* Settling.make(jobs, slots, steps)

    const found = yield* store.find("jobs", { where: { origin: "config" } })
    const synchronise = yield* prepare(configured(config), channels, steps)
    yield* journal.step((tx) => synchronise(tx, found))
    let jobsOf = configured(config)
    yield* journal.register(
      Effect.gen(function* () {
        jobs.clear()
        for (let after = ""; ; ) {
          const rows = yield* store.find("jobs", { where: { id: { gt: after } }, orderBy: ["id", "asc"], limit: PAGE })
          for (const row of rows) {
            after = row.id
            const entry = toEntry(row, channels)
            if (Either.isRight(entry)) jobs.set(entry.right)
            else yield* Effect.logError(`a job cannot be read and is left alone: ${entry.left.message}`)
          }
          if (rows.length < PAGE) break
        }
        yield* slots.load(store)
        if (jobs.started) settling.lookAtAll()
      })
    )

    const find = (id: string): Effect.Effect<Entry, SchedulerError> =>
      Effect.suspend(() => {
        const entry = jobs.get(id)
        return entry === undefined
          ? new SchedulerError({ job: id, message: `there is no job "${id}"` })
          : Effect.succeed(entry)
      })

    /** The row of a job that is added; what is wrong with it. */
    const toRow = (job: NewJob, now: number): Either.Either<JobRow, string> =>
      Either.gen(function* () {
        const {
          agentId = defaultAgentOf(config),
          deliverTo,
          enabled = true,
          instruction,
          name,
          priority = "normal"
        } = job
        if (!Object.hasOwn(config.agents, agentId)) {
          return yield* Either.left(`there is no agent "${agentId}"; agents: ${Object.keys(config.agents).join(", ")}`)
        }
        if (instruction.length > LONGEST_INSTRUCTION) {
          const { length } = instruction
          return yield* Either.left(`instruction: must have ${LONGEST_INSTRUCTION} characters or fewer, got ${length}`)
        }
        const unroutable = deliverTo === undefined ? undefined : routeProblem(deliverTo, channels)
        if (unroutable !== undefined) return yield* Either.left(`deliverTo: ${unroutable}`)
        const rules = yield* Either.mapLeft(decodeRules(job), (error) => {
          const [issue] = ParseResult.ArrayFormatter.formatErrorSync(error)
          return `${issue?.path.join(".")}: ${issue?.message}`
        })
        const schedule = job.schedule.kind === "every" ? { anchor: now, ...job.schedule } : job.schedule
        return {
          id: nextId("job", now),
          name,
          origin: "api",
          source: "cron",
          schedule: encodeSchedule(schedule),
          agent_id: agentId,
          instruction,
          priority,
          metadata: "{}",
          enabled: enabled ? 1 : 0,
          delete_after_run: (job.deleteAfterRun ?? schedule.kind === "at") ? 1 : 0,
          rules: encodeRules(rules),
          created_at: now,
          last_at: null,
          next_at: null,
          accounted_at: null,
          failures: 0,
          disabled_for: null,
          deliver_to: encodeRoute(deliverTo)
        } as const
      })

    return Scheduler.of({
      add: (job, by = "program") =>
        Effect.gen(function* () {
          const now = yield* Clock.currentTimeMillis
          const fail = (message: string) =>
            new SchedulerError({ job: job.name, message: `job "${job.name}": ${message}` })
          const valid = compile(job.schedule)
          const made = Either.flatMap(valid, () => toRow(job, now))
          if (Either.isLeft(made)) return yield* fail(made.left)
          const entry = yield* toEntry(made.right, channels)
          const next = upcoming(entry.compiled, now, SHOWN)
          const [first] = next
          if (first === undefined) return yield* fail("it would never be due: its time has passed")
          const added: Entry = { ...entry, row: { ...entry.row, next_at: first } }
          yield* journal.step((tx) => {
            steps.note(tx, added.row, "added", { by })
            tx.write({ op: "insert", table: "jobs", row: added.row })
            tx.onCommit(() => jobs.set(added))
          })
          return { ...toJob(added), next: dates(next) }
        }),
      remove: (id, by = "program") =>
        Effect.flatMap(find(id), (entry) =>
          journal.step((tx) => {
            steps.note(tx, entry.row, "removed", { by })
            jobs.remove(tx, entry)
          })
        ),
      enable: (id, enabled, by = "program") =>
        Effect.gen(function* () {
          yield* find(id)
          yield* journal.step((tx) => {
            const entry = jobs.get(id)
            if (entry === undefined || entry.row.enabled === (enabled ? 1 : 0)) return
            if (enabled) steps.enable(tx, entry, { by })
            else steps.disable(tx, entry, { by })
          })
          return toJob(yield* find(id))
        }),
      run: (id, by) =>
        Effect.gen(function* () {
          const entry = yield* find(id)
          const now = yield* Clock.currentTimeMillis
          return yield* firing.submit(entry, `manual-${nextId("job", now)}`, now, { sender: by })
        }),
      list: (options = {}) =>
        [...jobs.values()]
          .filter(({ row }) => options.includeDisabled === true || row.enabled === 1)
          .sort((a, b) => (a.row.next_at ?? Number.MAX_VALUE) - (b.row.next_at ?? Number.MAX_VALUE))
          .map(toJob),
      next: (id, count = SHOWN) =>
        Effect.zipWith(find(id), Clock.currentTimeMillis, ({ compiled }, now) =>
          dates(upcoming(compiled, now, Math.min(count, MOST_SHOWN)))
        ),
      history: (id, options) =>
        Effect.flatMap(Clock.currentTimeMillis, (now) =>
          Effect.mapError(historyOf(store, id, jobs.get(id), now, options), storage)
        ),
      status: () => {
        const next = alarm.next()
        return {
          running: jobs.started,
          jobs: jobs.size,
          nextWake: next === undefined ? undefined : new Date(next),
          stalled: next !== undefined && clock.unsafeCurrentTimeMillis() > next + STALLED_AFTER
        }
      },
      reconfigure: (next) =>
        Effect.gen(function* () {
          const wanted = configured(next)
          const known = new Set(jobsOf.map((job) => JSON.stringify(job)))
          const same = new Set(wanted.filter((job) => known.has(JSON.stringify(job))).map(({ id }) => id))
          const changed = yield* prepare(
            wanted.filter(({ id }) => !same.has(id)),
            channels,
            steps
          )
          return (tx) => {
            const rows = [...jobs.values()].map(({ row }) => row)
            changed(
              tx,
              rows.filter(({ id, origin }) => origin === "config" && !same.has(id))
            )
            tx.onCommit(() => {
              jobsOf = wanted
            })
          }
        }),
      start: Effect.gen(function* () {
        yield* Effect.mapError(rewind, (error) => (error._tag === "StoreError" ? storage(error) : error))
        jobs.start()
        settling.lookAtAll()
      })
    })
  })

export const layer = (
  config: GatewayConfig
): Layer.Layer<
  Scheduler,
  SchedulerError | StoreError | GatewayError,
  Store | Journal | AuditLog | EventBus | Admission | KillSwitch | Outbox
> => Layer.scoped(Scheduler, make(config))
