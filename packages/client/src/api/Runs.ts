import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as OpenApi from "@effect/platform/OpenApi"
import { DeliveryState, ReplyRoute } from "@postilion/gateway/domain/Delivery"
import { EventPriority, EventSource, EventState } from "@postilion/gateway/domain/GatewayEvent"
import { RunState } from "@postilion/gateway/domain/Run"
import { Schema } from "effect"
import * as Fields from "./Fields.ts"
import { described, Instant, MaybeInstant, MaybeText, Members, maybe, number, text } from "./Fields.ts"
import { Conflict, NotFound, Refused, Unprocessable } from "./Problem.ts"

export const Action = Schema.Literal("execute", "queue", "skip", "merge", "escalate")

const run = {
  id: Schema.String,
  eventId: Schema.String,
  agentId: Schema.String,
  source: EventSource,
  sessionKey: MaybeText,
  state: RunState,
  attempt: number("Of the last attempt that began."),
  leaseUntil: MaybeInstant,
  worker: maybe(
    Schema.Struct({
      principal: Schema.String,
      client: text("What it says it is: its name and version.")
    }).annotations({ description: "Who has, or had, the last attempt, where that is a program outside." })
  ),
  reservedTokens: Schema.Number,
  inputTokens: Schema.Number,
  outputTokens: Schema.Number,
  costUsd: maybe(Schema.Number),
  model: MaybeText,
  error: MaybeText,
  decidedAt: Instant,
  startedAt: maybe(described(Instant, "Of the last attempt.")),
  endedAt: MaybeInstant
}
export const RunSummary = Schema.Struct(run).annotations({ identifier: "RunSummary" })
export const Run = Schema.Struct({
  ...run,
  task: text("What the agent is asked."),
  text: maybe(text("What it answered."))
}).annotations({ identifier: "Run" })

export const Delivery = Schema.Struct({
  id: text("Also the key the channel hands to its platform."),
  seq: number("Its place among all deliveries."),
  eventId: Schema.String,
  runId: Schema.String,
  agentId: Schema.String,
  to: ReplyRoute,
  state: DeliveryState,
  attempt: number("Attempts made so far, or since the last replay."),
  outcome: Schema.Literal("completed", "failed"),
  text: Schema.String,
  preparedAt: Instant,
  dueAt: MaybeInstant,
  reference: maybe(text("What the platform calls the message, or how it answered.")),
  error: MaybeText
}).annotations({ identifier: "Delivery" })

export const Vote = Schema.Struct({ by: Schema.String, answer: Schema.Literal("approved", "denied"), at: Instant })

export const Approval = Schema.Struct({
  id: Schema.String,
  eventId: Schema.String,
  runId: maybe(text("The run that was abandoned, where that is what is asked about.")),
  state: Schema.Literal("pending", "approved", "denied", "expired"),
  policy: Schema.String,
  reason: Schema.String,
  requestedAt: Instant,
  expiresAt: Instant,
  decidedBy: MaybeText,
  proposal: Schema.Struct({
    event: Schema.Struct({
      id: Schema.String,
      source: EventSource,
      sender: Schema.NullOr(Schema.String),
      session: Schema.NullOr(Schema.String),
      metadata: Members
    }),
    agent: Schema.Struct({ id: Schema.String, instructions: Schema.String, maxOutputTokens: Schema.Number }),
    task: Schema.String,
    payload: text("As JSON text, cut as the agent would be shown it."),
    limits: Schema.Struct({
      runTimeoutMs: Schema.Number,
      maxAttempts: Schema.Number,
      historyTurns: Schema.Number,
      historyCharacters: Schema.Number
    })
  }).annotations({ description: "What would run: nothing else does on this approval." }),
  digest: text("Of the proposal. Sent along with an approval, it approves that and nothing else."),
  approvers: number("How many different persons must approve."),
  votes: Schema.Array(Vote),
  consumedBy: maybe(text("The run it was used for."))
}).annotations({ identifier: "Approval" })

const shown = {
  source: EventSource,
  agentId: MaybeText,
  priority: EventPriority,
  traceId: MaybeText,
  sender: MaybeText,
  sessionKey: MaybeText,
  causedBy: maybe(text("The run that caused it; none: it came from outside."))
}

const GatewayEvent = Schema.Struct({
  id: Schema.String,
  ...shown,
  timestamp: Instant,
  payload: Schema.Unknown,
  metadata: Members,
  chain: maybe(Schema.Struct({ root: Schema.String, depth: Schema.Number, count: Schema.Number })),
  replyTo: maybe(ReplyRoute)
}).annotations({ identifier: "Event" })

const decided = {
  state: EventState,
  decision: maybe(Action),
  policy: MaybeText,
  reason: MaybeText,
  mergedInto: MaybeText
}

/** What an event's decision was made on. */
const Evidence = Schema.Struct({
  passed: Schema.Array(Schema.String),
  notAsked: Schema.Array(Schema.String),
  failed: Schema.Boolean,
  shadows: Schema.Array(
    Schema.Struct({
      policy: Schema.String,
      answer: Schema.Literal("passed", "answered", "failed", "not-asked", "late"),
      decision: maybe(Action),
      by: Schema.String,
      reason: MaybeText,
      agrees: maybe(Schema.Boolean)
    })
  ),
  state: Schema.Struct({ now: Instant }, Members).annotations({
    description: "What every policy saw."
  })
}).annotations({ identifier: "Evidence" })

export const EventRecord = Schema.Struct({
  event: GatewayEvent,
  ...decided,
  evidence: maybe(Evidence),
  approval: maybe(Approval),
  run: maybe(Run),
  delivery: maybe(Delivery)
}).annotations({ identifier: "EventRecord" })

export const EventSummary = Schema.Struct({
  id: Schema.String,
  ...shown,
  agentId: Schema.String,
  type: MaybeText,
  receivedAt: Instant,
  ...decided,
  runId: MaybeText
}).annotations({ identifier: "EventSummary" })
export type EventSummary = typeof EventSummary.Type

const RunFilter = Schema.Struct({
  state: Schema.optional(RunState),
  agentId: Schema.optional(Schema.String),
  sessionKey: Schema.optional(Schema.String),
  cursor: Schema.optional(Fields.text("`next` of the page before.")),
  limit: Fields.limit(1_000, 100)
})

/** What agents do. */
export const Runs = HttpApiGroup.make("runs")
  .annotate(OpenApi.Description, "What agents do.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("list", "/runs")
      .annotate(Fields.Action, "runs.read")
      .annotate(OpenApi.Description, "Runs, the one decided last first.")
      .setUrlParams(RunFilter)
      .addSuccess(Schema.Struct({ runs: Schema.Array(RunSummary), next: Fields.next }))
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.get("show", "/runs/:id")
      .annotate(Fields.Action, "runs.read")
      .annotate(OpenApi.Description, "A run: what was asked, what came of it, and what it cost.")
      .setPath(Schema.Struct({ id: Fields.name("The run.") }))
      .addSuccess(Run)
      .addError(NotFound)
  )
  .add(
    HttpApiEndpoint.post("abort", "/runs/:id/abort")
      .annotate(Fields.Action, "run.abort")
      .annotate(
        OpenApi.Description,
        "Ends a run: one that waits does not begin, one that is under way is interrupted. Answered once it has ended. Who may not abort every run may those of what they said themselves."
      )
      .setPath(Schema.Struct({ id: Fields.name("The run, or its event.") }))
      .addSuccess(EventRecord)
      .addError(NotFound)
      .addError(Conflict)
  )
