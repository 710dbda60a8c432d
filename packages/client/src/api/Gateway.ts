import * as HttpApiEndpoint from "@effect/platform/HttpApiEndpoint"
import * as HttpApiGroup from "@effect/platform/HttpApiGroup"
import * as HttpApiSchema from "@effect/platform/HttpApiSchema"
import * as OpenApi from "@effect/platform/OpenApi"
import { Route, RouteQuestion } from "@postilion/gateway/domain/Routing"
import { Schema } from "effect"
import { Action, described, Instant, MaybeInstant, MaybeText, maybe, name, number, text } from "./Fields.ts"
import { Conflict, NotFound, Refused, Unprocessable } from "./Problem.ts"

export const Mode = Schema.Literal("running", "paused", "stopped", "terminated")

const Rate = Schema.Struct({ limit: Schema.NullOr(Schema.Number), count: Schema.Number, resetsAt: Instant })
const counts = <const N extends ReadonlyArray<string>>(...names: N) =>
  Schema.Struct(
    Object.fromEntries(names.map((name) => [name, Schema.Number])) as { [K in N[number]]: typeof Schema.Number }
  )

export const Summary = counts("heartbeatsFired", "totalRuns", "cronChecks", "chatTurns").annotations({
  identifier: "Summary",
  description: "What was done since the start."
})

export const Status = Schema.Struct({
  isRunning: Schema.Boolean,
  uptime: number("Milliseconds since the start."),
  stats: counts(
    "heartbeatsFired",
    "heartbeatsSkipped",
    "webhooksReceived",
    "webhooksProcessed",
    "webhooksMerged",
    "cronsExecuted",
    "chatTurnsHandled",
    "totalTokensUsed",
    "actionsSuppressed",
    "actionsEscalated"
  ).annotations({ description: "Since the start." }),
  totalCostUsd: number("Of the runs since the start whose model has a price."),
  budget: Schema.Struct({
    limit: Schema.NullOr(Schema.Number),
    used: Schema.Number,
    reserved: Schema.Number,
    resetsAt: Instant
  }).annotations({ description: "The day's tokens, over all agents." }),
  rate: Rate.annotations({ description: "Actions this hour." }),
  pending: counts("undecided", "queued", "merging", "awaitingApproval", "waiting", "running"),
  agents: Schema.Array(
    Schema.Struct({
      id: Schema.String,
      running: Schema.Number,
      waiting: Schema.Number,
      limit: described(
        Schema.Number,
        "Runs it may have at a time, as things stand: 0 for one that is outside, and not there."
      )
    })
  ),
  deliveries: counts("prepared", "sending", "unknown", "failed", "sent"),
  scheduler: Schema.Struct({
    running: Schema.Boolean,
    jobs: Schema.Number,
    nextWake: MaybeInstant,
    stalled: Schema.Boolean
  }),
  config: Schema.Struct({
    loadedAt: Instant.annotations({ description: "Since when the configuration is as it is." }),
    error: MaybeText.annotations({ description: "Why the last one that was to take its place was refused." }),
    atRestart: Schema.Array(Schema.String).annotations({
      description: "Keys that have another value at the next start."
    })
  }),
  switches: Schema.Record({ key: Schema.String, value: Mode }).annotations({
    description: "Agents (`*`: all) that are not running."
  }),
  held: maybe(Schema.Struct({ reason: Schema.String, since: Instant })),
  components: Schema.Array(
    Schema.Struct({
      name: Schema.String,
      phase: described(
        Schema.Literal("bus", "services", "channels"),
        "They start in this order and stop in reverse: what records, what works, and what leads outside."
      ),
      state: Schema.Literal("starting", "running", "restarting", "failed", "stopping"),
      restarts: Schema.Number,
      lastError: MaybeText
    })
  )
}).annotations({ identifier: "Status" })

const spent = {
  runs: Schema.Number,
  inputTokens: Schema.Number,
  outputTokens: Schema.Number,
  costUsd: Schema.NullOr(Schema.Number).annotations({ description: "Null: not known of any of the runs." }),
  unknownCost: number("Runs whose cost is not known.")
}
const Spending = Schema.Struct(spent).annotations({ identifier: "Spending" })
const Named = Schema.Array(
  Schema.Struct({ name: Schema.String, ...spent }).annotations({ identifier: "NamedSpending" })
)
export const Budgets = Schema.Struct({
  budgets: Schema.Array(
    Schema.Struct({
      scope: text("An agent, or `*`: all together."),
      unit: Schema.Literal("tokens", "usd"),
      window: Schema.Literal("hour", "day", "month"),
      limit: Schema.NullOr(Schema.Number),
      used: Schema.Number,
      reserved: number("Held for runs that have not ended."),
      resetsAt: Instant
    })
  ),
  rate: Rate,
  from: Schema.String,
  to: Schema.String,
  total: Spending,
  byAgent: Named,
  bySource: Named,
  byModel: Named,
  byDay: Named
}).annotations({ identifier: "Budgets" })

const day = (description: string) => Schema.optional(text(description))

/** How the gateway stands, and whether it goes on. */
export const Gateway = HttpApiGroup.make("gateway")
  .annotate(OpenApi.Description, "How the gateway stands, and whether it goes on.")
  .addError(Refused)
  .add(
    HttpApiEndpoint.get("status", "/status")
      .annotate(Action, "status")
      .annotate(OpenApi.Description, "How the gateway stands.")
      .addSuccess(Status)
  )
  .add(
    HttpApiEndpoint.get("budget", "/budget")
      .annotate(Action, "budget")
      .annotate(OpenApi.Description, "What may be used, and what was, in a range of at most 366 days.")
      .setUrlParams(
        Schema.Struct({
          from: day("The first day, as `2026-01-31`. Default: the first of the month of `to`."),
          to: day("The last day. Default: today.")
        })
      )
      .addSuccess(Budgets)
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.get("metrics", "/metrics")
      .annotate(Action, "metrics")
      .annotate(OpenApi.Description, "The same in the text format of Prometheus.")
      .addSuccess(HttpApiSchema.Text({ contentType: "text/plain" }))
  )
  .add(
    HttpApiEndpoint.get("agents", "/agents")
      .annotate(Action, "agents.list")
      .annotate(OpenApi.Description, "The agents there are, and whether they run.")
      .addSuccess(Schema.Struct({ agents: Schema.Array(Schema.Struct({ id: Schema.String, mode: Mode })) }))
  )
  .add(
    HttpApiEndpoint.get("route", "/route")
      .annotate(Action, "route")
      .annotate(
        OpenApi.Description,
        "Which agent something would be for, and which rule says so: a message (`source` is `channel`), unless it is said to be something else. Nothing is kept or run."
      )
      .setUrlParams(RouteQuestion)
      .addSuccess(Route.annotations({ identifier: "Route" }))
      .addError(Unprocessable)
  )
  .add(
    HttpApiEndpoint.post("release", "/release")
      .annotate(Action, "control")
      .annotate(OpenApi.Description, "Lets go of a gateway that came up held. `released`: whether it was.")
      .addSuccess(Schema.Struct({ released: Schema.Boolean, by: Schema.String }))
  )
  .add(
    HttpApiEndpoint.post("shutdown", "/shutdown")
      .annotate(Action, "control")
      .annotate(
        OpenApi.Description,
        "Stops the process, as SIGTERM does. Answered before it begins to; refused where the program does not listen."
      )
      .addSuccess(Schema.Struct({ stopping: Schema.Literal(true), by: Schema.String }), { status: 202 })
      .addError(Conflict)
  )

const Switched = Schema.Struct({
  agentId: text("The agent, or `*`: all."),
  mode: Mode,
  by: Schema.String,
  summary: maybe(Summary)
}).annotations({ identifier: "Switched" })

const verb = <const V extends string>(verb: V, about: string) =>
  HttpApiEndpoint.post(verb, `/${verb}`)
    .annotate(Action, "control")
    .annotate(OpenApi.Description, `For all agents: ${about}`)
    .addSuccess(Switched)
const verbOfAgent = <const V extends string>(verb: V, about: string) =>
  HttpApiEndpoint.post(`${verb}Agent`, `/agents/:agentId/${verb}`)
    .annotate(Action, "control")
    .annotate(OpenApi.Description, `For one agent: ${about}`)
    .setPath(Schema.Struct({ agentId: name("The agent.") }))
    .addSuccess(Switched)
    .addError(NotFound)

const PAUSE = "what comes is kept and judged, and waits; what runs may finish."
const STOP = "what comes is refused, or kept (`policies.whenStopped`); what runs may finish."
const TERMINATE = "as a stop, and what runs is interrupted."
const RESUME = "what comes reaches the agent again, after what waited."

/** The one point at which events reach agents: for all of them, or one. */
export const Switches = HttpApiGroup.make("switches")
  .annotate(
    OpenApi.Description,
    "Holds events back from agents. Of the switch for all and that of one, the stricter counts."
  )
  .addError(Refused)
  .add(verb("pause", PAUSE))
  .add(verb("stop", STOP))
  .add(verb("terminate", TERMINATE))
  .add(verb("resume", RESUME))
  .add(verbOfAgent("pause", PAUSE))
  .add(verbOfAgent("stop", STOP))
  .add(verbOfAgent("terminate", TERMINATE))
  .add(verbOfAgent("resume", RESUME))
