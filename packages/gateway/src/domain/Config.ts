import { DateTime, Effect, ParseResult, Redacted, Schema } from "effect"
import { parseZone, startOfDay } from "./Calendar.ts"
import { ReplyRoute } from "./Delivery.ts"
import { GatewayConfigError } from "./Errors.ts"
import { EventPriority } from "./GatewayEvent.ts"
import { jobRules, LONGEST_INSTRUCTION } from "./Job.ts"
import { OneOf } from "./OneOf.ts"

const Positive = Schema.Number.pipe(
  Schema.finite({ message: ({ actual }) => `must be a number, got ${actual}` }),
  Schema.positive({ message: ({ actual }) => `must be greater than 0, got ${actual}` })
)
const PositiveInt = Schema.Number.pipe(
  Schema.int({ message: ({ actual }) => `must be a whole number, got ${actual}` }),
  Schema.positive({ message: ({ actual }) => `must be greater than 0, got ${actual}` })
)
const LARGEST_BATCH = 10_000
const BatchSize = PositiveInt.pipe(
  Schema.lessThanOrEqualTo(LARGEST_BATCH, {
    message: ({ actual }) => `must be ${LARGEST_BATCH} or less, got ${actual}`
  })
)
const Count = Schema.Number.pipe(
  Schema.int({ message: ({ actual }) => `must be a whole number, got ${actual}` }),
  Schema.nonNegative({ message: ({ actual }) => `must be 0 or more, got ${actual}` })
)
const withDefault = <A, I>(schema: Schema.Schema<A, I>, value: NoInfer<A>) =>
  Schema.optionalWith(schema, { default: () => value })

const Secret = Schema.Union(Schema.RedactedFromSelf(Schema.String), Schema.Redacted(Schema.String))

/** An IANA zone name such as `Europe/Berlin`. */
export const Timezone = Schema.String.pipe(
  Schema.filter(
    (name) => parseZone(name) !== undefined || `"${name}" is not an IANA time zone; try "UTC" or "Europe/Berlin"`
  )
)

/** `HH:MM`, 00:00 to 24:00. */
export const WallTime = Schema.String.pipe(
  Schema.filter((text) => parseWallTime(text) !== undefined || `"${text}" is not a time of day; write it as HH:MM`)
)

/** Minutes since midnight of `HH:MM`. */
export const parseWallTime = (text: string): number | undefined => {
  const match = /^(\d\d):(\d\d)$/.exec(text)
  if (match === null) return undefined
  const minutes = Number(match[1]) * 60 + Number(match[2])
  return minutes <= 1440 && Number(match[2]) < 60 ? minutes : undefined
}

/** What an agent is asked again and again. */
const Instruction = Schema.String.pipe(
  Schema.maxLength(LONGEST_INSTRUCTION, {
    message: ({ actual }) => `must have ${LONGEST_INSTRUCTION} characters or fewer, got ${String(actual).length}`
  })
)

export const HeartbeatPolicy = OneOf("always", "adaptive", "conservative")
export type HeartbeatPolicy = typeof HeartbeatPolicy.Type

const Days = Schema.Array(OneOf("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"))

/** `from` inclusive, `to` exclusive; a `to` before `from` runs past midnight. */
const HoursConfig = Schema.Struct({
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

const Limit = <A extends number>(schema: Schema.Schema<A, number>) =>
  Schema.Union(schema, Schema.Literal("unlimited")).annotations({
    message: ({ actual }) => ({
      message: `must be a number or "unlimited", got ${JSON.stringify(actual)}`,
      override: typeof actual !== "number"
    })
  })

/** US dollars. */
const Money = Schema.Number.pipe(
  Schema.finite({ message: ({ actual }) => `must be a number, got ${actual}` }),
  Schema.nonNegative({ message: ({ actual }) => `must be 0 or more, got ${actual}` })
)

/** Tokens and US dollars by the calendar of `timezone`. One that is not set is none. */
const budgets = {
  tokensPerHour: Schema.optional(Count),
  tokensPerDay: Schema.optional(Count),
  tokensPerMonth: Schema.optional(Count),
  usdPerHour: Schema.optional(Money),
  usdPerDay: Schema.optional(Money),
  usdPerMonth: Schema.optional(Money)
}
const { tokensPerDay: _, ...budgetsBesidesTheDay } = budgets

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

export const LimitsConfig = Schema.Struct({
  /** Steps that may wait to be written; beyond it inputs are refused as `overloaded`. Default: 10,000. */
  maxInbox: withDefault(PositiveInt, 10_000),
  /** Most steps written in one transaction, up to 10,000. Default: 1,000. */
  maxBatch: withDefault(BatchSize, 1_000),
  /** Runs at a time, over all agents. Default: 8. */
  maxConcurrentRuns: withDefault(PositiveInt, 8),
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
  /** Audit records; the chain stays verifiable over the cut. Default: 365 days, 10,000,000. */
  audit: retentionOf(365, 10_000_000),
  /** Turns of conversations; whole sessions go with `accessControl.sessionTtlDays`. Default: 90 days, 1,000,000. */
  turns: retentionOf(90, 1_000_000)
})
export type RetentionConfig = typeof RetentionConfig.Type

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
