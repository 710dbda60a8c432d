import { Schema } from "effect"
import {
  Count,
  Limit,
  Money,
  optional,
  Positive,
  PositiveInt,
  required,
  section,
  WallTime,
  withDefault
} from "./ConfigFields.ts"
import { EventPriority } from "./GatewayEvent.ts"
import { OneOf } from "./OneOf.ts"

export const HeartbeatPolicy = OneOf("always", "adaptive", "conservative")
export type HeartbeatPolicy = typeof HeartbeatPolicy.Type

const Days = Schema.Array(OneOf("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"))

/** `from` inclusive, `to` exclusive; a `to` before `from` runs past midnight. */
export const HoursConfig = Schema.Struct({
  from: required(WallTime, "When they begin, as `09:00`."),
  to: required(WallTime, "When they end, as `17:00`; before `from`, they run past midnight."),
  days: withDefault(Days, ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday"], "Days they begin on.")
})
export type HoursConfig = typeof HoursConfig.Type

/** Hours as above, in which only what is urgent has a run. */
export const QuietHoursConfig = Schema.Struct({
  from: required(WallTime, "When they begin, as `09:00`."),
  to: required(WallTime, "When they end, as `17:00`; before `from`, they run past midnight."),
  days: withDefault(
    Days,
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"],
    "Days they begin on."
  ),
  minPriority: withDefault(OneOf(...EventPriority.literals), "high", "What does not wait is at least so urgent.")
})
export type QuietHoursConfig = typeof QuietHoursConfig.Type

/** Tokens and US dollars by the calendar of `timezone`. One that is not set is none. */
export const budgets = {
  tokensPerHour: optional(Count, "Tokens a calendar hour. Default: no limit."),
  tokensPerDay: optional(Count, "Tokens a calendar day. Default: no limit."),
  tokensPerMonth: optional(Count, "Tokens a calendar month. Default: no limit."),
  usdPerHour: optional(Money, "US dollars a calendar hour. Default: no limit."),
  usdPerDay: optional(Money, "US dollars a calendar day. Default: no limit."),
  usdPerMonth: optional(Money, "US dollars a calendar month. Default: no limit.")
}
const { tokensPerDay: _, ...budgetsBesidesTheDay } = budgets

export const LoopGuardConfig = Schema.Struct({
  maxDepth: withDefault(
    Limit(Count),
    8,
    "Runs that may lie between an event and the one its chain of causes began with."
  ),
  maxPerMinute: withDefault(Limit(Count), 20, "Events a minute that one event may lead to, over all its consequences.")
})
export type LoopGuardConfig = typeof LoopGuardConfig.Type

export const CircuitBreakerConfig = Schema.Struct({
  maxFailures: withDefault(Limit(PositiveInt), 5, "Runs of an agent that fail in a row before it is given a rest."),
  cooldownMs: withDefault(
    Positive,
    60_000,
    "Milliseconds of rest; after it, one run a rest's time is let through until one has not failed."
  )
})
export type CircuitBreakerConfig = typeof CircuitBreakerConfig.Type

/** Built-in policies that may be tried out. Access, budgets and approvals hold in any case. */
const SHADOWABLE = [
  "LoopGuard",
  "AdaptiveHeartbeat",
  "BusinessHours",
  "QuietHours",
  "CircuitBreaker",
  "SenderRate",
  "EventMerging"
] as const

export const PolicyConfig = Schema.Struct({
  dailyTokenBudget: withDefault(
    Limit(Count),
    100_000,
    "Tokens a calendar day, over all agents. No budget at all must be written out as `unlimited`."
  ),
  budget: withDefault(
    Schema.Struct(budgetsBesidesTheDay),
    {},
    "Further budgets over all agents; the day of tokens is `dailyTokenBudget`."
  ),
  budgetWarnAt: withDefault(
    Schema.Number.pipe(
      Schema.greaterThan(0, { message: ({ actual }) => `must be greater than 0, got ${actual}` }),
      Schema.lessThanOrEqualTo(1, { message: ({ actual }) => `must be 1 or less, got ${actual}` })
    ),
    0.75,
    "The part of a budget that, once used or held, is told as `BudgetWarning`."
  ),
  unknownModel: withDefault(
    OneOf("refuse", "count-as-zero"),
    "refuse",
    "What a run of a model without a price is to a budget in dollars: `refuse`, it does not fit into any; `count-as-zero`, it fits into all."
  ),
  maxActionsPerHour: withDefault(Limit(Count), 30, "Events let through to agents a calendar hour."),
  heartbeatPolicy: withDefault(HeartbeatPolicy, "adaptive", "When heartbeats that do not say so themselves fire."),
  mergeWindowMs: withDefault(Positive, 300_000, "How long events of one merge key are held, from the first."),
  requireApprovalFor: withDefault(
    Schema.Array(Schema.String),
    [],
    "What waits for a person: categories (an event's `metadata.category` or `metadata.type`, or what a classifier says it is), agents (`agent:<id>`), tools (`tool:<name>`, an event's `metadata.tool`)."
  ),
  loopGuard: section(
    LoopGuardConfig,
    "When a chain of events and the runs that cause them is taken for a loop. `unlimited` must be written out."
  ),
  circuitBreaker: section(
    CircuitBreakerConfig,
    "When an agent whose runs fail is given a rest. `unlimited` must be written out."
  ),
  maxPerSenderPerMinute: withDefault(
    Limit(PositiveInt),
    "unlimited",
    "Events a minute that one sender has handled, over all agents; more are skipped."
  ),
  approvers: withDefault(PositiveInt, 1, "How many different persons must approve; one denies."),
  whenStopped: withDefault(
    OneOf("refuse", "keep"),
    "refuse",
    "What becomes of events for a stopped agent: refused, with 503 over HTTP, or kept until it is resumed."
  ),
  businessHours: optional(
    HoursConfig,
    "Outside these hours events wait for the next opening. `critical` ones do not. Default: always open."
  ),
  quietHours: optional(
    QuietHoursConfig,
    "In these hours events that are not urgent wait for their end, and heartbeats are skipped. Default: none."
  ),
  shadow: withDefault(
    Schema.Array(OneOf(...SHADOWABLE)),
    [],
    "Built-in policies that are only asked, beside the others: what they would have decided is recorded, and they decide nothing."
  )
})
export type PolicyConfig = typeof PolicyConfig.Type
