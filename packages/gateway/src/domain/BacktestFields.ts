import { Schema } from "effect"

const Action = Schema.Literal("execute", "queue", "skip", "merge", "escalate")

/** What the runs of a history came to. */
const Costs = Schema.Struct({
  /** Runs that began. */
  modelCalls: Schema.Number,
  tokens: Schema.Number,
  /** US dollars, of what has a price. */
  usd: Schema.Number
})
const Decided = Schema.Struct({ action: Action, policy: Schema.String, reason: Schema.optional(Schema.String) })
const Change = Schema.Struct({
  recorded: Schema.Struct({ action: Action, policy: Schema.String }),
  replayed: Schema.Struct({ action: Action, policy: Schema.String }),
  /** Why, with each number in it as `#`: what was decided now, or, where that has no reason, what was decided then. */
  reason: Schema.optional(Schema.String),
  count: Schema.Number
})
export type Change = typeof Change.Type

export const reportFields = {
  /** Events that were replayed: those received between `from` and `to`. */
  events: Schema.Number,
  /** Decisions that were made again on what was recorded of them. An event that has once been decided otherwise has no more. */
  decisions: Schema.Number,
  /** Events that were decided otherwise: another action, another policy, until another time, or into another event. */
  changed: Schema.Number,
  /** Decisions that only gave another reason: other numbers, mostly. */
  reworded: Schema.Number,
  /** Events whose cause, a run, did not come about: they are left out. */
  notCaused: Schema.Number,
  /** Events that were decided otherwise, and still wait at the end. */
  stillHeld: Schema.Number,
  /** The changes, the most frequent first, at most 100 kinds. */
  changes: Schema.Array(Change),
  /** Changes of other kinds. */
  otherChanges: Schema.Number,
  recorded: Costs,
  replayed: Costs,
  /** The part of `replayed` that no recorded run stands for: as much as the agent's recorded runs used on average. */
  estimated: Costs,
  /** The first of the events that were decided otherwise. */
  examples: Schema.Array(
    Schema.Struct({ eventId: Schema.String, at: Schema.Date, recorded: Decided, replayed: Decided })
  )
}
export type ReportFields = Schema.Struct.Type<typeof reportFields>
