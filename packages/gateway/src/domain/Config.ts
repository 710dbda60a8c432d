import { DateTime, Schema } from "effect"
import { startOfDay } from "./Calendar.ts"
import {
  Count,
  optional,
  Positive,
  PositiveInt,
  required,
  Secret,
  section,
  Timezone,
  withDefault
} from "./ConfigFields.ts"
import { ReplyRoute } from "./Delivery.ts"
import { EventPriority } from "./GatewayEvent.ts"
import { jobRules, LONGEST_INSTRUCTION } from "./Job.ts"
import { LimitsConfig, RetentionConfig, SessionsConfig } from "./LimitsConfig.ts"
import { OneOf } from "./OneOf.ts"
import { budgets, HeartbeatPolicy, HoursConfig, PolicyConfig } from "./PolicyConfig.ts"
import { RoutingConfig } from "./Routing.ts"

/** What an agent is asked again and again. */
const Instruction = Schema.String.pipe(
  Schema.maxLength(LONGEST_INSTRUCTION, {
    message: ({ actual }) => `must have ${LONGEST_INSTRUCTION} characters or fewer, got ${String(actual).length}`
  })
)

const AGENT = "The agent that handles it. Default: as `routing` says."

export const AgentConfig = Schema.Struct({
  instructions: withDefault(Schema.String, "", "System prompt."),
  maxOutputTokens: withDefault(PositiveInt, 1024, "Most tokens one answer may have; part of every reservation."),
  maxConcurrentRuns: optional(
    PositiveInt,
    "Runs of this agent at a time. Default: `limits.maxConcurrentRuns`, which counts over all agents in any case."
  ),
  budget: optional(
    Schema.Struct(budgets),
    "What this agent's runs may use, within what all may. Default: no budget of its own."
  )
})

export const HeartbeatConfig = Schema.Struct({
  intervalMs: required(PositiveInt, "Milliseconds between ticks."),
  policy: optional(
    HeartbeatPolicy,
    "When a tick fires: `always`; `adaptive`, when something has changed; `conservative`, when something waits. Default: `policies.heartbeatPolicy`."
  ),
  instruction: withDefault(Instruction, "Check for pending work.", "What the agent is asked; up to 8,000 characters."),
  maxConsecutiveSkips: withDefault(Count, 6, "Skips in a row after which a tick fires whatever the policy says."),
  activeHours: optional(HoursConfig, "No ticks outside these hours. Default: always."),
  agentId: optional(Schema.String, AGENT),
  deliverTo: optional(ReplyRoute, "Where what the agent answers is sent. Default: nowhere.")
})
export type HeartbeatConfig = typeof HeartbeatConfig.Type

export const CronConfig = Schema.Struct({
  name: optional(
    Schema.String,
    "What the job is called in lists and logs. Default: `cron-1`, `cron-2`, … by position."
  ),
  schedule: required(
    Schema.Union(Schema.String, Schema.NonEmptyArray(Schema.String)),
    "Five fields: minute hour day-of-month month day-of-week; or several such lines, due when any of them is."
  ),
  instruction: required(Instruction, "What the agent is asked; up to 8,000 characters."),
  agentId: optional(Schema.String, AGENT),
  priority: withDefault(
    OneOf(...EventPriority.literals),
    "normal",
    "`critical` bypasses cost and rate limits, never approvals or the kill switch."
  ),
  timezone: optional(Timezone, "The zone its schedule is read in. Default: the gateway's `timezone`."),
  enabled: withDefault(Schema.Boolean, true, "Whether it fires."),
  deleteAfterRun: withDefault(
    Schema.Boolean,
    false,
    "Never due again once it has made an event, until its schedule is changed."
  ),
  deliverTo: optional(ReplyRoute, "Where what the agent answers is sent. Default: nowhere."),
  ...jobRules
})
export type CronConfig = typeof CronConfig.Type

export const WebhookConfig = Schema.Struct({
  path: required(
    Schema.String.pipe(
      Schema.filter((path) => /^(\/[\w.~-]+)+$/.test(path) || `must look like "/github", got "${path}"`)
    ),
    "Where it is served, below `/webhooks`: `/github`."
  ),
  adapter: required(Schema.String, "`github`, `generic`, or the `source` of an adapter given to the router."),
  secret: optional(Secret, "What the sender signs with. Required, unless `unsigned` is true."),
  unsigned: withDefault(Schema.Boolean, false, "Accept requests without a signature."),
  events: optional(
    Schema.Array(Schema.String),
    "Classifications to let in: `push`, or `pull_request` for all of `pull_request.*`. Default: all."
  ),
  agentId: optional(Schema.String, AGENT),
  signatureHeader: withDefault(Schema.String, "x-signature", "`generic` only: the header with the signature."),
  algorithm: withDefault(OneOf("sha256", "sha384", "sha512"), "sha256", "`generic` only: the HMAC's hash."),
  idHeader: withDefault(
    Schema.String,
    "x-delivery-id",
    "`generic` only: the header with the delivery id, for deduplication."
  ),
  timestampHeader: optional(
    Schema.String,
    "`generic` only: the header with the Unix seconds of sending. When set, it is part of what is signed (`timestamp.body`), and a request further than `toleranceSeconds` from now is refused."
  ),
  toleranceSeconds: withDefault(
    Positive,
    300,
    "`generic` only: how far from now `timestampHeader` may be, in seconds."
  ),
  maxPerMinute: withDefault(PositiveInt, 6000, "Most requests accepted a minute on this path; more are answered 429."),
  deliverTo: optional(ReplyRoute, "Where what the agent answers is sent. Default: nowhere.")
})
export type WebhookConfig = typeof WebhookConfig.Type

export const AccessControlConfig = Schema.Struct({
  accessPolicy: withDefault(
    OneOf("allowlist", "blocklist", "open"),
    "allowlist",
    "Who may send messages: those of `allowedSenders`; all with a name but `blockedSenders`; everyone."
  ),
  allowedSenders: withDefault(
    Schema.Array(Schema.String),
    [],
    "Who may send messages; `*` is everyone the transport can name."
  ),
  blockedSenders: withDefault(Schema.Array(Schema.String), [], "Who may not, whatever else is said."),
  unknownSenderAction: withDefault(
    OneOf("skip", "escalate"),
    "skip",
    "What becomes of a message of a sender without access: dropped, or put before a person."
  ),
  replyToUnknown: optional(Schema.String, "What a sender without access is answered. Default: nothing."),
  mode: withDefault(
    OneOf("chat", "task"),
    "chat",
    "`chat` keeps history per session; `task` handles each message alone."
  ),
  sessionTtlDays: withDefault(Positive, 30, "Days without a message after which a session is pruned.")
})
export type AccessControlConfig = typeof AccessControlConfig.Type

/** US dollars per million tokens. */
export const Price = Schema.Struct({
  inputPerMillion: required(Schema.NonNegative, "US dollars per million tokens the model is given."),
  outputPerMillion: required(Schema.NonNegative, "US dollars per million tokens it answers with.")
})
export type Price = typeof Price.Type

/** A day of the calendar, `2026-01-31`. */
const Day = Schema.String.pipe(
  Schema.filter(
    (day) =>
      startOfDay(day, DateTime.zoneMakeOffset(0)) !== undefined || `"${day}" is not a day; write it as 2026-01-31`
  )
)
/** Prices one after the other: each from its day on, until the next one's. */
const PriceList = Schema.Array(
  Schema.Struct({
    from: required(Day, "The day from which it holds, as `2026-01-31`; only in a list of prices."),
    ...Price.fields
  })
).pipe(
  Schema.filter((list) => list.length > 0 || "needs one price at least"),
  Schema.filter(
    (list) => new Set(list.map(({ from }) => from)).size === list.length || "two prices are from the same day"
  )
)

const DEFAULT_AGENT = "agent"

/** What a gateway is configured with: the one source of keys, defaults and what is said of them. */
export const GatewayConfig = Schema.Struct({
  agents: withDefault(
    Schema.Record({ key: Schema.String, value: AgentConfig }),
    {
      [DEFAULT_AGENT]: { instructions: "", maxOutputTokens: 1024 }
    },
    "By id. What names no agent, and no rule routes, is for the first. Default: one called `agent`."
  ),
  heartbeat: optional(
    Schema.Union(HeartbeatConfig, Schema.Array(HeartbeatConfig)),
    "One heartbeat, or several. Default: none."
  ),
  crons: withDefault(Schema.Array(CronConfig), [], "What is asked at set times."),
  webhooks: withDefault(Schema.Array(WebhookConfig), [], "Signed HTTP requests that become events."),
  routing: section(RoutingConfig, "Which agent handles an input that names none."),
  accessControl: section(AccessControlConfig, "Who may talk to agents."),
  policies: section(PolicyConfig, "What is let through to agents, and when."),
  prices: withDefault(
    Schema.Record({ key: Schema.String, value: Schema.Union(PriceList, Price) }),
    {},
    'By model name: its price, or its prices with the day each is in effect from. What a run may cost is reckoned at the price of when it is decided, what it cost at that of when it ended. A model without a price costs "unknown", and is shown so; see `policies.unknownModel`.'
  ),
  sessions: section(
    SessionsConfig,
    "What becomes of events for a session that has a run under way already: there is one at a time."
  ),
  limits: section(LimitsConfig, "How much there may be of everything."),
  retention: section(
    RetentionConfig,
    "How long records are kept, and how many. What is still needed stays, however old."
  ),
  timezone: withDefault(Timezone, "UTC", "Where days and hours begin and crons are read.")
})
export type GatewayConfig = typeof GatewayConfig.Type
export type GatewayConfigInput = typeof GatewayConfig.Encoded
