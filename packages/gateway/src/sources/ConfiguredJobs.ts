import { Clock, Effect, Either, Schema } from "effect"
import type { GatewayConfig } from "../domain/Config.ts"
import { cronNameOf, heartbeatsOf } from "../domain/ConfigProblems.ts"
import type { ReplyRoute } from "../domain/Delivery.ts"
import { JobRules } from "../domain/Job.ts"
import { defaultAgentOf } from "../domain/Routing.ts"
import { Schedule } from "../domain/Schedule.ts"
import { Journal } from "../records/Journal.ts"
import { Store } from "../records/Store.ts"
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

/** The jobs the configuration asks for. Their ids follow from it, so that a restart finds them again. */
const configured = (config: GatewayConfig): ReadonlyArray<Configured> => {
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

/** Makes the jobs of the configuration what it says. A schedule that is the same goes on where it was. */
export const synchronise = (config: GatewayConfig, channels: ReadonlySet<string>, steps: JobSteps) =>
  Effect.gen(function* () {
    const store = yield* Store
    const journal = yield* Journal
    const now = yield* Clock.currentTimeMillis
    const known = new Map((yield* store.find("jobs", { where: { origin: "config" } })).map((row) => [row.id, row]))
    const rows: Array<JobRow> = []
    const slots: Array<SlotRow> = []
    for (const job of configured(config)) {
      const before = known.get(job.id)
      const created_at = before?.created_at ?? now
      const row: JobRow = {
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
      const entry = yield* toEntry(row, channels)
      const isEnabledAgain = before?.enabled === 0 && row.enabled === 1
      const goesOn = before?.schedule === row.schedule && !isEnabledAgain
      const passed = before === undefined || goesOn ? undefined : passedBefore(before, channels, now)
      if (passed !== undefined) slots.push(passed)
      const accounted_at = passed?.until ?? row.accounted_at
      rows.push(goesOn ? row : { ...row, accounted_at, next_at: nextAfter(entry.compiled, now) ?? null })
    }
    const wanted = new Set(rows.map(({ id }) => id))
    const gone = [...known.values()].filter(({ id }) => !wanted.has(id))
    yield* journal.step((tx) => {
      for (const row of rows) {
        if (!known.has(row.id)) steps.note(tx, row, "added")
        tx.write({ op: "put", table: "jobs", row })
      }
      for (const row of slots) tx.write({ op: "put", table: "slots", row })
      for (const row of gone) {
        steps.note(tx, row, "removed")
        tx.write({ op: "delete", table: "jobs", where: { id: row.id } })
      }
    })
  })
