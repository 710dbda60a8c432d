import { Schema } from "effect"
import { optional, withDefault } from "./ConfigFields.ts"
import type { GatewayEvent } from "./GatewayEvent.ts"
import { OneOf } from "./OneOf.ts"

const whole = (least: number) =>
  Schema.Number.pipe(
    Schema.filter(
      (value) =>
        (Number.isSafeInteger(value) && value >= least) || `must be a whole number, ${least} or more, got ${value}`,
      { jsonSchema: { type: "integer", minimum: least } }
    )
  )
/** Characters an instruction may have: it is part of every run. */
export const LONGEST_INSTRUCTION = 8_000

/** What is to become of a job's instants when not all goes as planned. */
export const jobRules = {
  catchUp: withDefault(
    OneOf("skip", "once", "all"),
    "once",
    "What becomes of instants that were missed: while the gateway was down, the host slept, or the clock jumped.\n- `skip`: none makes an event.\n- `once`: the last one does.\n- `all`: each does, one after the other; of more than `maxCatchUp` the last ones."
  ),
  graceMs: withDefault(whole(0), 60_000, "Milliseconds an instant may be late and still be on time."),
  maxCatchUp: withDefault(whole(1), 24, "Events that `all` makes at most."),
  overlap: withDefault(
    OneOf("skip", "queue", "allow"),
    "queue",
    "What becomes of an instant while the event of an earlier one has not ended.\n- `skip`: it makes no event.\n- `queue`: it makes one, which runs when the earlier one has ended. While one waits, those that follow are skipped.\n- `allow`: it makes one, which may run beside the earlier one. At most a hundred are open."
  ),
  timeoutMs: optional(
    whole(1),
    "Milliseconds after which an attempt of its run is interrupted. Default, and most: `limits.runTimeoutMs`."
  ),
  jitterMs: withDefault(
    whole(0),
    0,
    "Each instant is put off by up to so many milliseconds: always the same for one job, another for others."
  ),
  disableAfterFailures: withDefault(
    Schema.Union(whole(1), Schema.Literal("never")).annotations({
      message: ({ actual }) => ({
        message: `must be a number or "never", got ${JSON.stringify(actual)}`,
        override: typeof actual !== "number"
      })
    }),
    5 as const,
    "Runs that may fail in a row: then the job is disabled, and a person is asked. Never must be written out."
  )
}
export const JobRules = Schema.Struct(jobRules)
export type JobRules = typeof JobRules.Type

/**
 * What became of an instant at which a job was due.
 *
 * - `running`: its event has not come to its end.
 * - `ran`: on time. `caught-up`: late. Either way its run has ended; `reason` says of what, where it failed.
 * - `skipped`: there was no event, or it was not run; `reason` says why.
 * - `abandoned`: its run was given up.
 */
export type SlotState = "running" | "ran" | "caught-up" | "skipped" | "abandoned"

/** An instant at which a job was due, or several on end that were skipped for the same reason. */
export interface Slot {
  readonly at: Date
  /** The last of the instants; `at`, of one. */
  readonly until: Date
  /** How many instants; `undefined`: more than a hundred of a cron, which are not counted. */
  readonly count: number | undefined
  readonly state: SlotState
  readonly reason: string | undefined
  readonly eventId: string | undefined
  /** When its event was made. */
  readonly startedAt: Date | undefined
  /** When its event had come to its end. */
  readonly endedAt: Date | undefined
}

/** What the event of a job says of it, set by the scheduler. */
export interface JobMetadata {
  readonly jobId: string
  /** ISO 8601. */
  readonly scheduledAt: string
  /** Milliseconds an attempt may take. */
  readonly timeoutMs?: number | undefined
  /** Whether it runs beside others of its job. */
  readonly overlap?: JobRules["overlap"] | undefined
}

/** The job an event is of; `undefined` of one that no job made. */
export const jobOf = ({ metadata, source }: GatewayEvent): JobMetadata | undefined =>
  (source === "cron" || source === "heartbeat") && typeof metadata.jobId === "string"
    ? (metadata as unknown as JobMetadata)
    : undefined

/** Milliseconds an attempt for this event may take: its job's own, where that is less than `most`. */
export const timeoutOf = (event: GatewayEvent, most: number): number => Math.min(jobOf(event)?.timeoutMs ?? most, most)
