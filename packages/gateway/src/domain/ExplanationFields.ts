import { Schema } from "effect"
import { DeliveryState, ReplyRoute } from "./Delivery.ts"
import { EventPriority, EventSource, EventState } from "./GatewayEvent.ts"
import { Instant } from "./Instant.ts"
import { RoutedBy } from "./Routing.ts"
import { RunState } from "./Run.ts"

const Action = Schema.Literal("execute", "queue", "skip", "merge", "escalate")
const Reason = Schema.optional(Schema.String)
const MaybeInstant = Schema.optional(Instant)
const Count = Schema.Number
const Limit = Schema.NullOr(Schema.Number)

/** What every policy was shown when a decision was made. */
const Saw = Schema.Struct({
  now: Instant,
  /** The day's tokens over all agents first. */
  budgets: Schema.Array(
    Schema.Struct({
      /** An agent's id, or `*`: all agents together. */
      scope: Schema.String,
      unit: Schema.Literal("tokens", "usd"),
      window: Schema.Literal("hour", "day", "month"),
      limit: Limit,
      used: Count,
      reserved: Count,
      estimate: Count,
      resetsAt: Instant,
      unpriced: Schema.optional(Schema.String)
    })
  ),
  rate: Schema.Struct({ limit: Limit, count: Count, resetsAt: Instant }),
  pending: Schema.Struct({ queued: Count, merging: Count, awaitingApproval: Count, running: Count }),
  heartbeat: Schema.Struct({ consecutiveSkips: Count, changed: Schema.Boolean }),
  merge: Schema.NullOr(Schema.Struct({ key: Schema.String, count: Count })),
  approval: Schema.NullOr(Schema.Struct({ id: Schema.String, by: Schema.String })),
  chain: Schema.Struct({ depth: Count, count: Count }),
  sender: Schema.Struct({ count: Count }),
  agent: Schema.Struct({ failures: Count, lastAt: Schema.NullOr(Instant) })
})

const Decision = Schema.Struct({
  at: Instant,
  action: Action,
  /** `_tag` of the policy that decided, or `default` when all passed. */
  policy: Schema.String,
  reason: Reason,
  /** Until when it was queued, or when its merge window closed. */
  until: MaybeInstant,
  mergeKey: Schema.optional(Schema.String),
  /** Each policy's answer, in the order they are asked. */
  answers: Schema.Array(
    Schema.Struct({
      policy: Schema.String,
      answer: Schema.Literal("passed", "answered", "failed", "not-asked")
    })
  ),
  saw: Saw,
  /** What shadow policies would have had decided. */
  shadows: Schema.Array(
    Schema.Struct({
      policy: Schema.String,
      answer: Schema.Literal("passed", "answered", "failed", "not-asked", "late"),
      decision: Schema.optional(Action),
      by: Schema.String,
      reason: Reason,
      agrees: Schema.optional(Schema.Boolean)
    })
  )
})

const Approval = Schema.Struct({
  id: Schema.String,
  state: Schema.Literal("pending", "approved", "denied", "expired"),
  /** The run that was abandoned, where that is what was asked about. */
  runId: Schema.optional(Schema.String),
  reason: Schema.String,
  requestedAt: Instant,
  expiresAt: Instant,
  decidedAt: MaybeInstant,
  decidedBy: Schema.optional(Schema.String),
  /** Of what would run. */
  digest: Schema.String,
  approvers: Count,
  votes: Schema.Array(
    Schema.Struct({
      by: Schema.String,
      answer: Schema.Literal("approved", "denied"),
      digest: Schema.String,
      at: Instant
    })
  ),
  /** The run it was used for. */
  consumedBy: Schema.optional(Schema.String)
})

const Run = Schema.Struct({
  id: Schema.String,
  state: RunState,
  /** Attempts made. */
  attempts: Count,
  /** Who has, or had, the last one, where that is a program outside. */
  worker: Schema.optional(Schema.Struct({ principal: Schema.String, client: Schema.String })),
  model: Schema.optional(Schema.String),
  inputTokens: Count,
  outputTokens: Count,
  reservedTokens: Count,
  /** US dollars, where its model has a price. */
  costUsd: Schema.optional(Schema.Number),
  decidedAt: Instant,
  startedAt: MaybeInstant,
  endedAt: MaybeInstant,
  task: Schema.String,
  text: Schema.optional(Schema.String),
  error: Schema.optional(Schema.String)
})

const Delivery = Schema.Struct({
  id: Schema.String,
  runId: Schema.String,
  to: ReplyRoute,
  state: DeliveryState,
  attempts: Count,
  reference: Schema.optional(Schema.String),
  error: Schema.optional(Schema.String),
  preparedAt: Instant,
  endedAt: MaybeInstant
})

/** An event this one has to do with. */
const Other = Schema.Struct({
  eventId: Schema.String,
  source: EventSource,
  type: Schema.optional(Schema.String),
  state: EventState,
  /** The run that caused it; none: it came from outside. */
  causedBy: Schema.optional(Schema.String),
  /** Runs between it and the event that is explained. */
  distance: Count
})

/** What an `Explanation` says. */
export const fields = {
  eventId: Schema.String,
  source: EventSource,
  type: Schema.optional(Schema.String),
  agentId: Schema.String,
  /** The rule by which it was for this agent, as the configuration was then. */
  route: RoutedBy,
  priority: EventPriority,
  sender: Schema.optional(Schema.String),
  sessionKey: Schema.optional(Schema.String),
  traceId: Schema.optional(Schema.String),
  receivedAt: Instant,
  state: EventState,
  /** Why it never ran, where a person, or the time a person had, decided that. */
  denied: Reason,
  /** In the order they were made. None: no policy has decided yet. */
  decisions: Schema.Array(Decision),
  approvals: Schema.Array(Approval),
  runs: Schema.Array(Run),
  deliveries: Schema.Array(Delivery),
  /** The event it was merged into, by a policy or by a run of its session. */
  mergedInto: Schema.optional(Schema.String),
  /** The events merged into it, the first 50. */
  leads: Schema.Array(Schema.String),
  /** Whether there are such events that are not listed. */
  leadsMore: Schema.Boolean,
  /** What led to it, the nearest cause first; the last is where the chain began, unless there are more than 50. */
  causes: Schema.Array(Other),
  /** What its runs led to, the nearest first, at most 100. */
  consequences: Schema.Array(Other),
  /** Whether there are consequences that are not listed. */
  hasMoreConsequences: Schema.Boolean
}
export type Fields = Schema.Struct.Type<typeof fields>
