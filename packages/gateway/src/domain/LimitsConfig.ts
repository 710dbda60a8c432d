import { Schema } from "effect"
import { Limit, Positive, PositiveInt, section, withDefault } from "./ConfigFields.ts"
import { OneOf } from "./OneOf.ts"

const LARGEST_BATCH = 10_000
const BatchSize = PositiveInt.pipe(
  Schema.lessThanOrEqualTo(LARGEST_BATCH, {
    message: ({ actual }) => `must be ${LARGEST_BATCH} or less, got ${actual}`
  })
)

export const LimitsConfig = Schema.Struct({
  maxInbox: withDefault(
    PositiveInt,
    10_000,
    "Steps that may wait to be written; beyond it inputs are refused as `overloaded`."
  ),
  maxBatch: withDefault(BatchSize, 1_000, "Most steps written in one transaction, up to 10,000."),
  maxConcurrentRuns: withDefault(PositiveInt, 8, "Runs at a time, over all agents."),
  maxWaitingRuns: withDefault(
    PositiveInt,
    10_000,
    "Runs of one agent that may wait for their turn; then further events for it are refused as `overloaded`."
  ),
  maxHeld: withDefault(
    PositiveInt,
    100_000,
    "Events that may wait for a time a policy named, a merge window, or a person; then further events are refused as `overloaded`."
  ),
  runTimeoutMs: withDefault(Positive, 600_000, "Milliseconds after which a run is interrupted."),
  runStallMs: withDefault(
    Positive,
    120_000,
    "Milliseconds without progress after which a run is interrupted, counted from the progress its runner last reported. The runner of `@postilion/agents` reports when it calls the model and when the model has answered."
  ),
  interruptGraceMs: withDefault(
    Positive,
    10_000,
    "Milliseconds an interrupted run may take to end. One that goes on for longer is abandoned: its session and its place are free again, and what it still comes to is not recorded as its result."
  ),
  maxAttempts: withDefault(PositiveInt, 3, "Attempts a run may have, counting those a crash cut off."),
  onCrash: withDefault(
    OneOf("retry", "escalate"),
    "retry",
    "What becomes of a run that the end of the process cut off: `retry`, while it has attempts left; `escalate`, a person is asked at once. One without attempts left is escalated in any case."
  ),
  maxUncleanStarts: withDefault(
    Limit(PositiveInt),
    3,
    "Starts within five minutes that a crash may end; the one after them comes up with nothing run or sent and no job fired, until it is released."
  ),
  policyTimeoutMs: withDefault(Positive, 5_000, "Milliseconds an asynchronous policy may take to answer."),
  approvalTtlMs: withDefault(Positive, 86_400_000, "Milliseconds an approval waits for a person; then it is denied."),
  historyTurns: withDefault(PositiveInt, 40, "Turns of a session an agent is shown."),
  historyCharacters: withDefault(PositiveInt, 8_000, "Characters of a session an agent is shown."),
  payloadCharacters: withDefault(PositiveInt, 8_000, "Characters of an event's payload an agent is shown."),
  maxEventBytes: withDefault(PositiveInt, 1_048_576, "Bytes of payload and metadata an event may have."),
  maxConcurrentDeliveries: withDefault(PositiveInt, 16, "Deliveries a channel has at a time, over all channels."),
  maxDeliveryAttempts: withDefault(PositiveInt, 8, "Attempts a delivery may have before it is a dead letter."),
  deliveryTimeoutMs: withDefault(
    Positive,
    30_000,
    "Milliseconds a channel may take to send; then nobody knows whether it has."
  )
})
export type LimitsConfig = typeof LimitsConfig.Type

const Kept = <A extends number>(schema: Schema.Schema<A, number>) =>
  Schema.Union(schema, Schema.Literal("forever")).annotations({
    message: ({ actual }) => ({
      message: `must be a number or "forever", got ${JSON.stringify(actual)}`,
      override: typeof actual !== "number"
    })
  })

/** How long records of a kind are kept, and how many. Without a limit must be written out, as `forever`. */
const retentionOf = (days: number, count: number, about: string) =>
  section(
    Schema.Struct({
      maxAgeDays: withDefault(Kept(Positive), days, "Days after which a record is removed."),
      maxCount: withDefault(Kept(PositiveInt), count, "Records beyond the newest so many are removed.")
    }),
    about
  )
/** How many, and how old, records of a kind may get. */
export interface Retention {
  readonly maxAgeDays: number | "forever"
  readonly maxCount: number | "forever"
}

/** What is still needed stays, however old: see `records/Retention`. */
export const RetentionConfig = Schema.Struct({
  events: retentionOf(30, 1_000_000, "Events, with their runs, approvals and the slots of their jobs."),
  audit: retentionOf(
    365,
    10_000_000,
    "Audit records; the chain stays verifiable over the cut. Tokens that have ended go at the same age."
  ),
  turns: retentionOf(90, 1_000_000, "Turns of conversations; whole sessions go with `accessControl.sessionTtlDays`.")
})
export type RetentionConfig = typeof RetentionConfig.Type

/** What becomes of events for a session that has a run under way already: there is one at a time. */
export const SessionsConfig = Schema.Struct({
  whenBusy: withDefault(
    OneOf("queue", "collect", "interrupt", "steer"),
    "queue",
    "What becomes of them.\n- `queue`: each has a run of its own, in order.\n- `collect`: what waits becomes one run that lists it all.\n- `interrupt`: the run under way is cancelled, and what it was asked stays in the history; the newest has the next run.\n- `steer`: the runner may take what waits into the run under way; what it does not take is queued."
  ),
  collectMs: withDefault(
    Positive,
    2_000,
    "`collect` only: milliseconds without another event after which a session's run begins; it begins at once when as many wait as may."
  ),
  maxWaiting: withDefault(PositiveInt, 20, "Runs of one session that may wait."),
  overflow: withDefault(
    OneOf("refuse", "drop-oldest"),
    "refuse",
    "What becomes of an event for a session that is full: `refuse`, it is not accepted (`overloaded`); `drop-oldest`, the run that has waited longest is cancelled. What a policy had held back is accepted already, and never refused."
  )
})
export type SessionsConfig = typeof SessionsConfig.Type
