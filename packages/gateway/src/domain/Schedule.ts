import { Schema } from "effect"
import { Instant } from "./Instant.ts"

/** Once, at an instant. Encoded as an ISO 8601 string. */
export const AtSchedule = Schema.Struct({ kind: Schema.Literal("at"), at: Instant })
export type AtSchedule = typeof AtSchedule.Type

/** Again and again, at a distance that no clock change alters. */
export const EverySchedule = Schema.Struct({
  kind: Schema.Literal("every"),
  /** Milliseconds between two ticks, a whole number greater than 0. */
  everyMs: Schema.Number.pipe(
    Schema.filter((ms) => (Number.isSafeInteger(ms) && ms > 0) || `must be a whole number greater than 0, got ${ms}`)
  ),
  /** The first tick, Unix milliseconds; the others follow at multiples of `everyMs`. Default: 0. */
  anchor: Schema.optional(
    Schema.Number.pipe(Schema.filter((ms) => Number.isSafeInteger(ms) || `must be Unix milliseconds, got ${ms}`))
  )
})
export type EverySchedule = typeof EverySchedule.Type

/** By the wall clock of a zone. What the strings say is checked when the schedule is compiled. */
export const CronSchedule = Schema.Struct({
  kind: Schema.Literal("cron"),
  /** Five fields: minute hour day-of-month month day-of-week. Of several lines, whichever is due. */
  expression: Schema.Union(Schema.String, Schema.NonEmptyArray(Schema.String)),
  /** An IANA zone name such as `Europe/Berlin`. */
  timezone: Schema.String
})
export type CronSchedule = typeof CronSchedule.Type

/** When a job is due. */
export const Schedule = Schema.Union(AtSchedule, EverySchedule, CronSchedule)
export type Schedule = typeof Schedule.Type
