import { DateTime, Effect, ParseResult, Redacted, Schema } from "effect"
import { startOfDay } from "./Calendar.ts"
import { Count, Positive, PositiveInt, Secret, Timezone, withDefault } from "./ConfigFields.ts"
import { ReplyRoute } from "./Delivery.ts"
import { GatewayConfigError } from "./Errors.ts"
import { EventPriority } from "./GatewayEvent.ts"
import { jobRules, LONGEST_INSTRUCTION } from "./Job.ts"
import { LimitsConfig, RetentionConfig, SessionsConfig } from "./LimitsConfig.ts"
import { OneOf } from "./OneOf.ts"
import { budgets, HeartbeatPolicy, HoursConfig, PolicyConfig } from "./PolicyConfig.ts"

/** What an agent is asked again and again. */
const Instruction = Schema.String.pipe(
  Schema.maxLength(LONGEST_INSTRUCTION, {
    message: ({ actual }) => `must have ${LONGEST_INSTRUCTION} characters or fewer, got ${String(actual).length}`
  })
)

export const AgentConfig = Schema.Struct({
  /** System prompt. Default: none. */
  instructions: withDefault(Schema.String, ""),
  /** Most tokens one answer may have; part of every reservation. Default: 1,024. */
  maxOutputTokens: withDefault(PositiveInt, 1024),
  /** Runs of this agent at a time. Default: `limits.maxConcurrentRuns`, which counts over all agents in any case. */
  maxConcurrentRuns: Schema.optional(PositiveInt),
  /** What this agent's runs may use, within what all may. Default: no budget of its own. */
  budget: Schema.optional(Schema.Struct(budgets))
})

export const HeartbeatConfig = Schema.Struct({
  /** Milliseconds between ticks. */
  intervalMs: PositiveInt,
  /** Default: `policies.heartbeatPolicy`. */
  policy: Schema.optional(HeartbeatPolicy),
  /** Up to 8,000 characters. Default: "Check for pending work." */
  instruction: withDefault(Instruction, "Check for pending work."),
  /** Skips in a row after which a tick fires whatever the policy says. Default: 6. */
  maxConsecutiveSkips: withDefault(Count, 6),
  /** No ticks outside these hours. Default: always. */
  activeHours: Schema.optional(HoursConfig),
  /** Default: the first agent. */
  agentId: Schema.optional(Schema.String),
  /** Where what the agent answers is sent. Default: nowhere. */
  deliverTo: Schema.optional(ReplyRoute)
})
export type HeartbeatConfig = typeof HeartbeatConfig.Type

export const CronConfig = Schema.Struct({
  /** What the job is called in lists and logs. Default: `cron-1`, `cron-2`, … by position. */
  name: Schema.optional(Schema.String),
  /** Five fields: minute hour day-of-month month day-of-week; or several such lines, due when any of them is. */
  schedule: Schema.Union(Schema.String, Schema.NonEmptyArray(Schema.String)),
  instruction: Instruction,
  agentId: Schema.optional(Schema.String),
  priority: withDefault(OneOf(...EventPriority.literals), "normal"),
  /** Default: the gateway's `timezone`. */
  timezone: Schema.optional(Timezone),
  enabled: withDefault(Schema.Boolean, true),
  /** Never due again once it has made an event, until its schedule is changed. Default: false. */
  deleteAfterRun: withDefault(Schema.Boolean, false),
  /** Where what the agent answers is sent. Default: nowhere. */
  deliverTo: Schema.optional(ReplyRoute),
  ...jobRules
})
export type CronConfig = typeof CronConfig.Type

export const WebhookConfig = Schema.Struct({
  /** Where it is served, below `/webhooks`. */
  path: Schema.String.pipe(
    Schema.filter((path) => /^(\/[\w.~-]+)+$/.test(path) || `must look like "/github", got "${path}"`)
  ),
  /** `github`, `generic`, or the `source` of an adapter given to the router. */
  adapter: Schema.String,
  /** Required, unless `unsigned` is true. */
  secret: Schema.optional(Secret),
  /** Accept requests without a signature. Default: false. */
  unsigned: withDefault(Schema.Boolean, false),
  /** Classifications to let in: `push`, or `pull_request` for all of `pull_request.*`. Default: all. */
  events: Schema.optional(Schema.Array(Schema.String)),
  agentId: Schema.optional(Schema.String),
  /** `generic` only: the header with the signature. Default: `x-signature`. */
  signatureHeader: withDefault(Schema.String, "x-signature"),
  /** `generic` only: the HMAC's hash. Default: `sha256`. */
  algorithm: withDefault(OneOf("sha256", "sha384", "sha512"), "sha256"),
  /** `generic` only: the header with the delivery id, for deduplication. Default: `x-delivery-id`. */
  idHeader: withDefault(Schema.String, "x-delivery-id"),
  /**
   * `generic` only: the header with the Unix seconds of sending. When set, it is part of what is signed
   * (`timestamp.body`), and a request further than `toleranceSeconds` from now is refused.
   */
  timestampHeader: Schema.optional(Schema.String),
  /** Default: 300. */
  toleranceSeconds: withDefault(Positive, 300),
  /** Most requests accepted a minute on this path; more are answered 429. Default: 6,000. */
  maxPerMinute: withDefault(PositiveInt, 6000),
  /** Where what the agent answers is sent. Default: nowhere. */
  deliverTo: Schema.optional(ReplyRoute)
})
export type WebhookConfig = typeof WebhookConfig.Type

export const AccessControlConfig = Schema.Struct({
  /** Who may send messages. Default: `allowlist`. */
  accessPolicy: withDefault(OneOf("allowlist", "blocklist", "open"), "allowlist"),
  /** `*` allows everyone the transport can name. Default: nobody. */
  allowedSenders: withDefault(Schema.Array(Schema.String), []),
  blockedSenders: withDefault(Schema.Array(Schema.String), []),
  /** Default: `skip`. */
  unknownSenderAction: withDefault(OneOf("skip", "escalate"), "skip"),
  /** What a sender without access is answered. Default: nothing. */
  replyToUnknown: Schema.optional(Schema.String),
  /** `chat` keeps history per session; `task` handles each message alone. Default: `chat`. */
  mode: withDefault(OneOf("chat", "task"), "chat"),
  /** Days without a message after which a session is pruned. Default: 30. */
  sessionTtlDays: withDefault(Positive, 30)
})
export type AccessControlConfig = typeof AccessControlConfig.Type

/** US dollars per million tokens. */
export const Price = Schema.Struct({ inputPerMillion: Schema.NonNegative, outputPerMillion: Schema.NonNegative })
export type Price = typeof Price.Type

/** A day of the calendar, `2026-01-31`. */
const Day = Schema.String.pipe(
  Schema.filter(
    (day) =>
      startOfDay(day, DateTime.zoneMakeOffset(0)) !== undefined || `"${day}" is not a day; write it as 2026-01-31`
  )
)
/** Prices one after the other: each from its day on, until the next one's. */
const PriceList = Schema.Array(Schema.Struct({ from: Day, ...Price.fields })).pipe(
  Schema.filter((list) => list.length > 0 || "needs one price at least"),
  Schema.filter(
    (list) => new Set(list.map(({ from }) => from)).size === list.length || "two prices are from the same day"
  )
)

const DEFAULT_AGENT = "agent"

/** What a gateway is configured with. Every key has a default but those marked otherwise. */
export const GatewayConfig = Schema.Struct({
  /** By id; the first is the default one. Default: one agent called `agent`. */
  agents: withDefault(Schema.Record({ key: Schema.String, value: AgentConfig }), {
    [DEFAULT_AGENT]: { instructions: "", maxOutputTokens: 1024 }
  }),
  /** One heartbeat, or several. Default: none. */
  heartbeat: Schema.optional(Schema.Union(HeartbeatConfig, Schema.Array(HeartbeatConfig))),
  crons: withDefault(Schema.Array(CronConfig), []),
  webhooks: withDefault(Schema.Array(WebhookConfig), []),
  accessControl: Schema.optionalWith(AccessControlConfig, {
    default: () => Schema.decodeSync(AccessControlConfig)({})
  }),
  policies: Schema.optionalWith(PolicyConfig, { default: () => Schema.decodeSync(PolicyConfig)({}) }),
  /**
   * By model name: its price, or its prices with the day each is in effect from. What a run may cost is reckoned at the price of
   * when it is decided, what it cost at that of when it ended. A model without a price costs "unknown", and is shown so; see
   * `policies.unknownModel`. Default: none.
   */
  prices: withDefault(Schema.Record({ key: Schema.String, value: Schema.Union(PriceList, Price) }), {}),
  sessions: Schema.optionalWith(SessionsConfig, { default: () => Schema.decodeSync(SessionsConfig)({}) }),
  limits: Schema.optionalWith(LimitsConfig, { default: () => Schema.decodeSync(LimitsConfig)({}) }),
  retention: Schema.optionalWith(RetentionConfig, { default: () => Schema.decodeSync(RetentionConfig)({}) }),
  /** Where days and hours begin and crons are read. Default: `UTC`. */
  timezone: withDefault(Timezone, "UTC")
})
export type GatewayConfig = typeof GatewayConfig.Type
export type GatewayConfigInput = typeof GatewayConfig.Encoded

const showPath = (path: ReadonlyArray<PropertyKey>): string =>
  path.reduce<string>(
    (text, part) =>
      typeof part === "number" ? `${text}[${part}]` : text === "" ? String(part) : `${text}.${String(part)}`,
    ""
  )

/** Turns what a schema has to say of a value into the one error a user reads. */
export const configError = (error: ParseResult.ParseError): GatewayConfigError => {
  // A union reports every member; the deepest path is the one the user meant.
  const issues = ParseResult.ArrayFormatter.formatErrorSync(error)
  const issue = issues.reduce((best, next) => (next.path.length > best.path.length ? next : best))
  const path = showPath(issue.path)
  // What was given instead may hold secrets: of lists and structures it is not said, and the cause, which says it, is left out.
  const message = issue.message.replace(/, actual [[{][\s\S]*$/, "")
  return new GatewayConfigError({ path, message: `configuration: ${path === "" ? "" : `${path}: `}${message}` })
}

const invalid = (path: string, message: string) =>
  Effect.fail(new GatewayConfigError({ path, message: `configuration: ${path}: ${message}` }))

/** Heartbeats as a list, whichever way they were written. */
export const heartbeatsOf = (config: GatewayConfig): ReadonlyArray<HeartbeatConfig> =>
  config.heartbeat === undefined ? [] : "intervalMs" in config.heartbeat ? [config.heartbeat] : config.heartbeat

/** What the cron at this position is called: its job is known by it. */
export const cronNameOf = ({ name }: CronConfig, position: number): string => name ?? `cron-${position + 1}`

/** Checks a configuration and fills in its defaults. */
export const decodeConfig = (input: unknown): Effect.Effect<GatewayConfig, GatewayConfigError> =>
  Schema.decodeUnknown(GatewayConfig, { onExcessProperty: "error" })(input).pipe(
    Effect.mapError(configError),
    Effect.tap((config) => {
      const agents = Object.keys(config.agents)
      if (agents.length === 0) return invalid("agents", "at least one agent is needed")
      const unknownAgent = (path: string, agentId: string | undefined) =>
        agentId !== undefined && !Object.hasOwn(config.agents, agentId)
          ? invalid(`${path}.agentId`, `there is no agent "${agentId}"; agents: ${agents.join(", ")}`)
          : undefined
      for (const [i, heartbeat] of heartbeatsOf(config).entries()) {
        const problem = unknownAgent(
          Array.isArray(config.heartbeat) ? `heartbeat[${i}]` : "heartbeat",
          heartbeat.agentId
        )
        if (problem !== undefined) return problem
      }
      const names = new Set<string>()
      for (const [i, cron] of config.crons.entries()) {
        const problem = unknownAgent(`crons[${i}]`, cron.agentId)
        if (problem !== undefined) return problem
        const name = cronNameOf(cron, i)
        if (names.has(name)) return invalid(`crons[${i}].name`, `"${name}" is already taken by another cron`)
        names.add(name)
      }
      const paths = new Set<string>()
      for (const [i, webhook] of config.webhooks.entries()) {
        const at = `webhooks[${i}]`
        const problem = unknownAgent(at, webhook.agentId)
        if (problem !== undefined) return problem
        if (paths.has(webhook.path))
          return invalid(`${at}.path`, `"${webhook.path}" is already taken by another webhook`)
        paths.add(webhook.path)
        const secret = webhook.secret === undefined ? "" : Redacted.value(webhook.secret)
        if (secret === "" && !webhook.unsigned) {
          return invalid(`${at}.secret`, "missing; set the secret the sender signs with, or write `unsigned: true`")
        }
      }
      return Effect.void
    })
  )
