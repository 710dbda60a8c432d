import { Schema } from "effect"
import { Count, Limit, Money, Positive, PositiveInt, WallTime, withDefault } from "./ConfigFields.ts"
import { EventPriority } from "./GatewayEvent.ts"
import { OneOf } from "./OneOf.ts"

export const HeartbeatPolicy = OneOf("always", "adaptive", "conservative")
export type HeartbeatPolicy = typeof HeartbeatPolicy.Type

const Days = Schema.Array(OneOf("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"))

/** `from` inclusive, `to` exclusive; a `to` before `from` runs past midnight. */
export const HoursConfig = Schema.Struct({
  from: WallTime,
  to: WallTime,
  /** Default: Monday to Friday. */
  days: withDefault(Days, ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"])
})
export type HoursConfig = typeof HoursConfig.Type

/** Hours as above, in which only what is urgent has a run. */
export const QuietHoursConfig = Schema.Struct({
  from: WallTime,
  to: WallTime,
  /** Days they begin on. Default: every day. */
  days: withDefault(Days, ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]),
  /** What does not wait is at least so urgent. Default: `high`. */
  minPriority: withDefault(OneOf(...EventPriority.literals), "high")
})
export type QuietHoursConfig = typeof QuietHoursConfig.Type

/** Tokens and US dollars by the calendar of `timezone`. One that is not set is none. */
export const budgets = {
  tokensPerHour: Schema.optional(Count),
  tokensPerDay: Schema.optional(Count),
  tokensPerMonth: Schema.optional(Count),
  usdPerHour: Schema.optional(Money),
  usdPerDay: Schema.optional(Money),
  usdPerMonth: Schema.optional(Money)
}
const { tokensPerDay: _, ...budgetsBesidesTheDay } = budgets

export const LoopGuardConfig = Schema.Struct({
  /** Runs that may lie between an event and the one its chain of causes began with. Default: 8. */
  maxDepth: withDefault(Limit(Count), 8),
  /** Events a minute that one event may lead to, over all its consequences. Default: 20. */
  maxPerMinute: withDefault(Limit(Count), 20)
})
export type LoopGuardConfig = typeof LoopGuardConfig.Type

export const CircuitBreakerConfig = Schema.Struct({
  /** Runs of an agent that fail in a row before it is given a rest. Default: 5. */
  maxFailures: withDefault(Limit(PositiveInt), 5),
  /** Milliseconds of rest; after it, one run a rest's time is let through until one has not failed. Default: 60,000. */
  cooldownMs: withDefault(Positive, 60_000)
})
export type CircuitBreakerConfig = typeof CircuitBreakerConfig.Type

export const PolicyConfig = Schema.Struct({
  /** Tokens a calendar day, over all agents. Default: 100,000. No budget at all must be written out as `unlimited`. */
  dailyTokenBudget: withDefault(Limit(Count), 100_000),
  /** Further budgets over all agents; the day of tokens is `dailyTokenBudget`. Default: none. */
  budget: withDefault(Schema.Struct(budgetsBesidesTheDay), {}),
  /** The part of a budget that, once used or held, is told as `BudgetWarning`. Default: 0.75. */
  budgetWarnAt: withDefault(
    Schema.Number.pipe(
      Schema.greaterThan(0, { message: ({ actual }) => `must be greater than 0, got ${actual}` }),
      Schema.lessThanOrEqualTo(1, { message: ({ actual }) => `must be 1 or less, got ${actual}` })
    ),
    0.75
  ),
  /**
   * What a run of a model without a price is to a budget in dollars: `refuse`, it does not fit into any; `count-as-zero`, it
   * fits into all. Default: `refuse`.
   */
  unknownModel: withDefault(OneOf("refuse", "count-as-zero"), "refuse"),
  /** Events let through to agents a calendar hour. Default: 30. */
  maxActionsPerHour: withDefault(Limit(Count), 30),
  /** Default: `adaptive`. */
  heartbeatPolicy: withDefault(HeartbeatPolicy, "adaptive"),
  /** How long events of one merge key are held, from the first. Default: 300,000 (5 min). */
  mergeWindowMs: withDefault(Positive, 300_000),
  /**
   * What waits for a person: categories (an event's `metadata.category` or `metadata.type`, or what a classifier says it is),
   * agents (`agent:<id>`), tools (`tool:<name>`, an event's `metadata.tool`). Default: none.
   */
  requireApprovalFor: withDefault(Schema.Array(Schema.String), []),
  /** When a chain of events and the runs that cause them is taken for a loop. `unlimited` must be written out. */
  loopGuard: Schema.optionalWith(LoopGuardConfig, { default: () => Schema.decodeSync(LoopGuardConfig)({}) }),
  /** When an agent whose runs fail is given a rest. `unlimited` must be written out. */
  circuitBreaker: Schema.optionalWith(CircuitBreakerConfig, {
    default: () => Schema.decodeSync(CircuitBreakerConfig)({})
  }),
  /** Events a minute that one sender has handled, over all agents; more are skipped. Default: `unlimited`. */
  maxPerSenderPerMinute: withDefault(Limit(PositiveInt), "unlimited"),
  /** How many different persons must approve; one denies. Default: 1. */
  approvers: withDefault(PositiveInt, 1),
  /** What becomes of events for a stopped agent: refused, with 503 over HTTP, or kept until it is resumed. Default: `refuse`. */
  whenStopped: withDefault(OneOf("refuse", "keep"), "refuse"),
  /** Outside these hours events wait for the next opening. `critical` ones do not. Default: always open. */
  businessHours: Schema.optional(HoursConfig),
  /** In these hours events that are not urgent wait for their end, and heartbeats are skipped. Default: none. */
  quietHours: Schema.optional(QuietHoursConfig)
})
export type PolicyConfig = typeof PolicyConfig.Type
