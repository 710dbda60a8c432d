import { Clock, Effect } from "effect"
import { Moment, parseZone } from "../domain/Calendar.ts"
import type { GatewayConfig } from "../domain/Config.ts"
import type { GatewayError } from "../domain/Errors.ts"
import type { JobMetadata } from "../domain/Job.ts"
import { Admission, type Receipt } from "../harness/Admission.ts"
import { openingOf } from "../harness/policies/BusinessHours.ts"
import type { Alarm } from "../internal/Alarm.ts"
import { Journal, type Tx } from "../records/Journal.ts"
import { KillSwitch } from "../runs/KillSwitch.ts"
import type { JobSteps } from "./JobSteps.ts"
import type { Entry, Jobs } from "./Jobs.ts"
import { type Plan, plan, rangeOf } from "./Occurrences.ts"
import type { Slots } from "./Slots.ts"

/** Events of one job that may be open where they may overlap. */
const MOST_OPEN = 100
const MISSED = "missed"
const OVERLAP = "the event before it has not ended"
const RETRY_AFTER = 1_000

export interface FiringOptions {
  readonly config: GatewayConfig
  readonly jobs: Jobs
  readonly slots: Slots
  readonly steps: JobSteps
  readonly alarm: Pick<Alarm, "set">
}

/** Sees to the instants of jobs that are due. */
export const make = ({ alarm, config, jobs, slots, steps }: FiringOptions) =>
  Effect.gen(function* () {
    const journal = yield* Journal
    const admission = yield* Admission
    const killSwitch = yield* KillSwitch
    const zone = parseZone(config.timezone)

    /** Hands in the event of a job, which only somebody who asks for it sends. `also` commits with it. */
    const submit = (
      { deliverTo, metadata, row, rules }: Entry,
      key: string,
      scheduledAt: number,
      { also, sender }: { readonly also?: (tx: Tx, receipt: Receipt) => void; readonly sender?: string | undefined }
    ): Effect.Effect<Receipt, GatewayError> => {
      const job: JobMetadata = {
        jobId: row.id,
        scheduledAt: new Date(scheduledAt).toISOString(),
        overlap: rules.overlap,
        ...(rules.timeoutMs === undefined ? {} : { timeoutMs: rules.timeoutMs })
      }
      return admission.submit(
        {
          source: row.source,
          agentId: row.agent_id,
          priority: row.priority,
          payload: { instruction: row.instruction },
          metadata: { ...metadata, type: row.name, ...job },
          idempotencyKey: `job:${row.id}@${key}`,
          replyTo: deliverTo,
          sender
        },
        also
      )
    }
    /** Why a heartbeat's tick makes no event. */
    const quiet = ({ activeHours, row }: Entry, now: number): string | undefined => {
      if (row.source !== "heartbeat") return undefined
      const mode = killSwitch.mode(row.agent_id)
      if (mode !== "running") return `the agent is ${mode}`
      if (activeHours === undefined || zone === undefined) return undefined
      return openingOf(activeHours, new Moment(now, zone)).open ? undefined : "outside its active hours"
    }
    /** Why a job makes no event for now: what it made before is still open. */
    const busy = ({ row, rules }: Entry): string | undefined => {
      const most = rules.overlap === "skip" ? 1 : rules.overlap === "queue" ? 2 : MOST_OPEN
      return slots.openOf(row.id) >= most ? OVERLAP : undefined
    }

    const make = (entry: Entry, { made, missed, next }: Plan) =>
      Effect.forEach(
        made,
        ({ at, late }, i) =>
          Effect.suspend(() => {
            const current = jobs.get(entry.row.id)
            if (current === undefined || current.row.enabled === 0) return Effect.void
            const last = i === made.length - 1
            const also = (tx: Tx, { eventId }: Receipt): void => {
              const passed = i === 0 && missed !== undefined ? slots.skip(tx, current, missed, MISSED) : {}
              const begun = slots.begin(tx, current, at, late, eventId)
              steps.advance(tx, current, last ? next : made[i + 1]?.at, { fired: last, set: { ...passed, ...begun } })
            }
            return submit(current, String(at), at, { also })
          }),
        { discard: true }
      )
    const skipAll = (entry: Entry, first: number, now: number, reason: string) =>
      journal.step((tx) => steps.pass(tx, entry, rangeOf(entry.compiled, first, now), reason))

    const see = (entry: Entry, first: number, now: number) =>
      Effect.suspend((): Effect.Effect<void, GatewayError> => {
        const shifted = now - entry.delay
        const reason = quiet(entry, now)
        if (reason !== undefined) return skipAll(entry, first, shifted, reason)
        const due = plan(entry.compiled, first, shifted, entry.rules)
        if (due.made.length === 0) return skipAll(entry, first, shifted, MISSED)
        const overlap = busy(entry)
        return overlap === undefined ? make(entry, due) : skipAll(entry, first, shifted, overlap)
      })
    const fire = (id: string): Effect.Effect<void> =>
      Effect.gen(function* () {
        const entry = jobs.get(id)
        const first = entry?.row.next_at
        if (entry === undefined || first == null || entry.row.enabled === 0) return
        const now = yield* Clock.currentTimeMillis
        if (first > now - entry.delay) return jobs.set(entry)
        yield* see(entry, first, now)
      }).pipe(
        Effect.catchAll((error) =>
          Effect.gen(function* () {
            const entry = jobs.get(id)
            const first = entry?.row.next_at
            yield* Effect.logWarning(`job "${entry?.row.name ?? id}" could not fire: ${error.message}`)
            if (entry === undefined || first == null) return
            const now = yield* Clock.currentTimeMillis
            const later = Effect.sync(() => alarm.set(id, now + RETRY_AFTER))
            if (error.reason !== "stopped" && error.retryable) return yield* later
            // A stopped agent's instants pass. One that can never become an event would be tried for ever.
            const reason = error.reason === "stopped" ? "the agent is stopped" : error.message
            yield* Effect.catchAll(skipAll(entry, first, now - entry.delay, reason), () => later)
          })
        )
      )
    return {
      submit,
      fireAll: (ids: ReadonlyArray<string>) => Effect.forEach(ids, fire, { concurrency: "unbounded", discard: true })
    }
  })
