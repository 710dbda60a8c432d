import { Effect, Either, Schema } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { cronNameOf, heartbeatsOf } from "../domain/ConfigProblems.ts"
import type { ReplyRoute } from "../domain/Delivery.ts"
import { JobRules } from "../domain/Job.ts"
import { defaultAgentOf } from "../domain/Routing.ts"
import { Schedule } from "../domain/Schedule.ts"
import type { Tx } from "../records/Journal.ts"
import type { JobRow, SlotRow } from "../records/Tables.ts"
import type { JobSteps } from "./JobSteps.ts"
import { toEntry } from "./Jobs.ts"
import { rangeOf } from "./Occurrences.ts"
import { nextAfter } from "./ScheduleClock.ts"
import { skippedRow } from "./Slots.ts"

/** A route as a job's row holds it. */
export const encodeRoute = (route: ReplyRoute | undefined): string | null =>
  route === undefined ? null : JSON.stringify({ channel: route.channel, target: route.target })

export const encodeSchedule = Schema.encodeSync(Schema.parseJson(Schedule))
export const encodeRules = Schema.encodeSync(Schema.parseJson(JobRules))

/** A tick that was missed, or comes while another goes on, is none: the next one sees the same. */
const HEARTBEAT_RULES = Schema.decodeSync(JobRules)({ catchUp: "skip", overlap: "skip", disableAfterFailures: "never" })

type Configured = Omit<
  JobRow,
  "created_at" | "last_at" | "next_at" | "accounted_at" | "failures" | "disabled_for" | "origin"
>

/** The jobs a configuration asks for. Their ids follow from it, so that a restart finds them again. */
export const configured = (config: GatewayConfig): ReadonlyArray<Configured> => {
  const defaultAgent = defaultAgentOf(config)
  const heartbeats = heartbeatsOf(config).map((heartbeat, i): Configured => {
    const agentId = heartbeat.agentId ?? defaultAgent
    const { activeHours, instruction, maxConsecutiveSkips } = heartbeat
    return {
      id: `job_heartbeat-${i + 1}-${agentId}`,
      name: `heartbeat ${agentId}`,
      source: "heartbeat",
      schedule: encodeSchedule({ kind: "every", everyMs: heartbeat.intervalMs }),
      agent_id: agentId,
      instruction,
      priority: "normal",
      metadata: JSON.stringify({
        heartbeatPolicy: heartbeat.policy ?? config.policies.heartbeatPolicy,
        maxConsecutiveSkips,
        activeHours
      }),
      enabled: 1,
      delete_after_run: 0,
      rules: encodeRules(HEARTBEAT_RULES),
      deliver_to: encodeRoute(heartbeat.deliverTo)
    }
  })
  const crons = config.crons.map((cron, i): Configured => {
    const name = cronNameOf(cron, i)
    const { agentId = defaultAgent, deleteAfterRun, enabled, instruction, priority, schedule } = cron
    return {
      id: `job_cron-${name}`,
      name,
      source: "cron",
      schedule: encodeSchedule({ kind: "cron", expression: schedule, timezone: cron.timezone ?? config.timezone }),
      agent_id: agentId,
      instruction,
      priority,
      metadata: "{}",
      enabled: enabled ? 1 : 0,
      delete_after_run: deleteAfterRun ? 1 : 0,
      rules: encodeRules(cron),
      deliver_to: encodeRoute(cron.deliverTo)
    }
  })
  return [...heartbeats, ...crons]
}

/** The slot of what passed by the schedule a job had before it was changed. */
const passedBefore = (before: JobRow, channels: ReadonlySet<string>, now: number): SlotRow | undefined => {
  const entry = toEntry(before, channels)
  const { next_at } = before
  if (Either.isLeft(entry) || next_at === null || next_at > now) return undefined
  const range = rangeOf(entry.right.compiled, next_at, now)
  const reason = before.enabled === 1 ? "its schedule was changed" : "disabled"
  return range.at > (before.accounted_at ?? Number.NEGATIVE_INFINITY)
    ? skippedRow(before.id, range, reason, now)
    : undefined
}

/** A job as the configuration has it, with what has become of it so far. */
const rowOf = (job: Configured, before: JobRow | undefined, now: number): JobRow => {
  const created_at = before?.created_at ?? now
  return {
    ...job,
    origin: "config",
    // An interval counts from when the job was made, not from 1970.
    schedule:
      job.source === "heartbeat"
        ? JSON.stringify({ ...(JSON.parse(job.schedule) as object), anchor: created_at })
        : job.schedule,
    // What its failures have disabled stays so until a person enables it.
    enabled: before?.disabled_for == null ? job.enabled : 0,
    created_at,
    last_at: before?.last_at ?? null,
    next_at: before?.next_at ?? null,
    accounted_at: before?.accounted_at ?? null,
    failures: before?.failures ?? 0,
    disabled_for: before?.disabled_for ?? null
  }
}

/**
 * Prepares to make the jobs of the configuration these, within a step that is given those there are. A schedule that is the same
 * goes on where it was. Fails when a schedule cannot be read.
 */
export const prepare = (wanted: ReadonlyArray<Configured>, channels: ReadonlySet<string>, steps: JobSteps) =>
  Effect.gen(function* () {
    const ids = new Set(wanted.map(({ id }) => id))
    for (const job of wanted) yield* toEntry(rowOf(job, undefined, 0), channels)
    return (tx: Tx, found: ReadonlyArray<JobRow>): void => {
      const { now } = tx
      const known = new Map(found.map((row) => [row.id, row]))
      for (const job of wanted) {
        const before = known.get(job.id)
        const row = rowOf(job, before, now)
        if (before === undefined) steps.note(tx, row, "added")
        const isEnabledAgain = before?.enabled === 0 && row.enabled === 1
        if (before?.schedule === row.schedule && !isEnabledAgain) {
          tx.write({ op: "put", table: "jobs", row })
          continue
        }
        const passed = before === undefined ? undefined : passedBefore(before, channels, now)
        if (passed !== undefined) tx.write({ op: "put", table: "slots", row: passed })
        const next = toEntry(row, channels)
        const next_at = Either.isRight(next) ? (nextAfter(next.right.compiled, now) ?? null) : null
        tx.write({
          op: "put",
          table: "jobs",
          row: { ...row, accounted_at: passed?.until ?? row.accounted_at, next_at }
        })
      }
      for (const row of found) {
        if (ids.has(row.id)) continue
        steps.note(tx, row, "removed")
        tx.write({ op: "delete", table: "jobs", where: { id: row.id } })
      }
    }
  })
