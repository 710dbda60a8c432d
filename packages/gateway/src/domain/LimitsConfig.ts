import { Schema } from "effect"
import { Limit, Positive, PositiveInt, withDefault } from "./ConfigFields.ts"
import { OneOf } from "./OneOf.ts"

const LARGEST_BATCH = 10_000
const BatchSize = PositiveInt.pipe(
  Schema.lessThanOrEqualTo(LARGEST_BATCH, {
    message: ({ actual }) => `must be ${LARGEST_BATCH} or less, got ${actual}`
  })
)

export const LimitsConfig = Schema.Struct({
  /** Steps that may wait to be written; beyond it inputs are refused as `overloaded`. Default: 10,000. */
  maxInbox: withDefault(PositiveInt, 10_000),
  /** Most steps written in one transaction, up to 10,000. Default: 1,000. */
  maxBatch: withDefault(BatchSize, 1_000),
  /** Runs at a time, over all agents. Default: 8. */
  maxConcurrentRuns: withDefault(PositiveInt, 8),
  /** Runs of one agent that may wait for their turn; then further events for it are refused as `overloaded`. Default: 10,000. */
  maxWaitingRuns: withDefault(PositiveInt, 10_000),
  /** Milliseconds after which a run is interrupted. Default: 600,000. */
  runTimeoutMs: withDefault(Positive, 600_000),
  /**
   * Milliseconds without progress after which a run is interrupted, counted from the progress its runner last reported. The
   * runner of `@postilion/agents` reports when it calls the model and when the model has answered. Default: 120,000.
   */
  runStallMs: withDefault(Positive, 120_000),
  /**
   * Milliseconds an interrupted run may take to end. One that goes on for longer is abandoned: its session and its place
   * are free again, and what it still comes to is not recorded as its result. Default: 10,000.
   */
  interruptGraceMs: withDefault(Positive, 10_000),
  /** Attempts a run may have, counting those a crash cut off. Default: 3. */
  maxAttempts: withDefault(PositiveInt, 3),
  /**
   * What becomes of a run that the end of the process cut off: `retry`, while it has attempts left; `escalate`, a person is
   * asked at once. One without attempts left is escalated in any case. Default: `retry`.
   */
  onCrash: withDefault(OneOf("retry", "escalate"), "retry"),
  /**
   * Starts within five minutes that a crash may end; the one after them comes up with nothing run or sent and no job fired, until
   * it is released. Default: 3.
   */
  maxUncleanStarts: withDefault(Limit(PositiveInt), 3),
  /** Milliseconds an asynchronous policy may take to answer. Default: 5,000. */
  policyTimeoutMs: withDefault(Positive, 5_000),
  /** Milliseconds an approval waits for a person; then it is denied. Default: 86,400,000 (a day). */
  approvalTtlMs: withDefault(Positive, 86_400_000),
  /** Turns of a session an agent is shown. Default: 40. */
  historyTurns: withDefault(PositiveInt, 40),
  /** Characters of a session an agent is shown. Default: 8,000. */
  historyCharacters: withDefault(PositiveInt, 8_000),
  /** Characters of an event's payload an agent is shown. Default: 8,000. */
  payloadCharacters: withDefault(PositiveInt, 8_000),
  /** Bytes of payload and metadata an event may have. Default: 1,048,576. */
  maxEventBytes: withDefault(PositiveInt, 1_048_576),
  /** Deliveries a channel has at a time, over all channels. Default: 16. */
  maxConcurrentDeliveries: withDefault(PositiveInt, 16),
  /** Attempts a delivery may have before it is a dead letter. Default: 8, in about ten minutes. */
  maxDeliveryAttempts: withDefault(PositiveInt, 8),
  /** Milliseconds a channel may take to send; then nobody knows whether it has. Default: 30,000. */
  deliveryTimeoutMs: withDefault(Positive, 30_000)
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
const retentionOf = (days: number, count: number) => {
  const schema = Schema.Struct({
    /** Days after which a record is removed. */
    maxAgeDays: withDefault(Kept(Positive), days),
    /** Records beyond the newest so many are removed. */
    maxCount: withDefault(Kept(PositiveInt), count)
  })
  return Schema.optionalWith(schema, { default: () => Schema.decodeSync(schema)({}) })
}
/** How many, and how old, records of a kind may get. */
export interface Retention {
  readonly maxAgeDays: number | "forever"
  readonly maxCount: number | "forever"
}

/** What is still needed stays, however old: see `records/Retention`. */
export const RetentionConfig = Schema.Struct({
  /** Events, with their runs, approvals and the slots of their jobs. Default: 30 days, 1,000,000. */
  events: retentionOf(30, 1_000_000),
  /** Audit records; the chain stays verifiable over the cut. Tokens that have ended go at the same age. Default: 365 days, 10,000,000. */
  audit: retentionOf(365, 10_000_000),
  /** Turns of conversations; whole sessions go with `accessControl.sessionTtlDays`. Default: 90 days, 1,000,000. */
  turns: retentionOf(90, 1_000_000)
})
export type RetentionConfig = typeof RetentionConfig.Type

/** What becomes of events for a session that has a run under way already: there is one at a time. */
export const SessionsConfig = Schema.Struct({
  /**
   * - `queue`: each has a run of its own, in order.
   * - `collect`: what waits becomes one run that lists it all.
   * - `interrupt`: the run under way is cancelled, and what it was asked stays in the history; the newest has the next run.
   * - `steer`: the runner may take what waits into the run under way; what it does not take is queued.
   *
   * Default: `queue`.
   */
  whenBusy: withDefault(OneOf("queue", "collect", "interrupt", "steer"), "queue"),
  /** `collect` only: milliseconds without another event after which a session's run begins. Default: 2,000. */
  collectMs: withDefault(Positive, 2_000),
  /** Runs of one session that may wait. Default: 20. */
  maxWaiting: withDefault(PositiveInt, 20),
  /**
   * What becomes of an event for a session that is full: `refuse`, it is not accepted (`overloaded`); `drop-oldest`, the run
   * that has waited longest is cancelled. Default: `refuse`. What a policy had held back is accepted already, and never
   * refused.
   */
  overflow: withDefault(OneOf("refuse", "drop-oldest"), "refuse")
})
export type SessionsConfig = typeof SessionsConfig.Type
