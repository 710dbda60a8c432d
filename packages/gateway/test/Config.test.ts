import { createHmac } from "node:crypto"
import { readFileSync } from "node:fs"
import { describe, expect, it } from "@effect/vitest"
import {
  AuditLog,
  decodeConfig,
  Gateway,
  GatewayConfig,
  type GatewayConfigInput,
  GatewayService,
  Journal,
  PolicyEngine,
  Scheduler,
  SessionStore,
  Store,
  WebhookRouter
} from "@postilion/gateway"
import type { AccessControlConfig, CronConfig, HeartbeatConfig, WebhookConfig } from "@postilion/gateway/domain/Config"
import { AgentRunError, type GatewayError } from "@postilion/gateway/domain/Errors"
import type { RawInput } from "@postilion/gateway/domain/GatewayEvent"
import type { RunTask } from "@postilion/gateway/domain/Run"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Clock, Deferred, Effect, Layer, Option, Redacted, Schema, SchemaAST, TestClock, TestContext } from "effect"
import { channel, refusal } from "./TestChannel.ts"
import { answerOf, gateway, type Respond, turn, watch, wrapStore } from "./TestGateway.ts"

describe("a configuration that is wrong is refused, with where and what to do", () => {
  const cron = { schedule: "0 9 * * *", instruction: "look" }
  const hook = { path: "/github", adapter: "github", secret: "s3cr3t" }
  const hours = { from: "09:00", to: "17:00" }
  const wrong: ReadonlyArray<readonly [unknown, path: string, message: RegExp]> = [
    [{ heartbeet: {} }, "heartbeet", /^configuration: heartbeet: is unexpected, expected: /],
    [{ heartbeat: { intervalMs: 1_000, intervall: 1 } }, "heartbeat.intervall", /is unexpected/],
    [{ policies: { dailyTokenBudjet: 1 } }, "policies.dailyTokenBudjet", /is unexpected/],
    [{ limits: { maxInbox: 1, toString: 1 } }, "limits.toString", /is unexpected/],
    [{ heartbeat: {} }, "heartbeat.intervalMs", /is missing/],
    [{ heartbeat: { intervalMs: -5 } }, "heartbeat.intervalMs", /must be greater than 0, got -5$/],
    [{ heartbeat: { intervalMs: 0 } }, "heartbeat.intervalMs", /must be greater than 0, got 0$/],
    [{ heartbeat: { intervalMs: 0.5 } }, "heartbeat.intervalMs", /must be a whole number, got 0.5$/],
    [{ heartbeat: { intervalMs: "30m" } }, "heartbeat.intervalMs", /Expected number, actual "30m"/],
    [
      { heartbeat: [{ intervalMs: 1_000 }, { intervalMs: -1 }] },
      "heartbeat[1].intervalMs",
      /must be greater than 0, got -1$/
    ],
    [
      { heartbeat: { intervalMs: 1_000, policy: "eager" } },
      "heartbeat.policy",
      /"always".*"adaptive".*"conservative".*got "eager"$/
    ],
    [
      { heartbeat: { intervalMs: 1_000, maxConsecutiveSkips: -1 } },
      "heartbeat.maxConsecutiveSkips",
      /0 or more, got -1$/
    ],
    [
      { heartbeat: { intervalMs: 1_000, activeHours: { from: "9:00", to: "17:00" } } },
      "heartbeat.activeHours.from",
      /"9:00" is not a time of day; write it as HH:MM$/
    ],
    [
      { heartbeat: { intervalMs: 1_000, agentId: "nobody" } },
      "heartbeat.agentId",
      /there is no agent "nobody"; agents: agent$/
    ],
    [{ heartbeat: [{ intervalMs: 1_000, agentId: "nobody" }] }, "heartbeat[0].agentId", /there is no agent "nobody"/],
    [{ crons: [{ schedule: "0 9 * * *" }] }, "crons[0].instruction", /is missing/],
    [{ crons: [{ ...cron, priority: "urgent" }] }, "crons[0].priority", /"low".*"critical".*got "urgent"$/],
    [
      { crons: [{ ...cron, timezone: "Mars/Olympus" }] },
      "crons[0].timezone",
      /"Mars\/Olympus" is not an IANA time zone; try "UTC"/
    ],
    [
      { crons: [cron, { ...cron, agentId: "nobody" }] },
      "crons[1].agentId",
      /there is no agent "nobody"; agents: agent$/
    ],
    [{ crons: [{ ...cron, schedule: [] }] }, "crons[0].schedule[0]", /is missing|Expected/],
    [{ crons: [{ ...cron, catchUp: "some" }] }, "crons[0].catchUp", /"skip", "once", "all", got "some"$/],
    [{ crons: [{ ...cron, overlap: "wait" }] }, "crons[0].overlap", /"skip", "queue", "allow", got "wait"$/],
    [{ crons: [{ ...cron, graceMs: -1 }] }, "crons[0].graceMs", /must be a whole number, 0 or more, got -1$/],
    [{ crons: [{ ...cron, maxCatchUp: 0 }] }, "crons[0].maxCatchUp", /must be a whole number, 1 or more, got 0$/],
    [{ crons: [{ ...cron, timeoutMs: 0.5 }] }, "crons[0].timeoutMs", /must be a whole number, 1 or more, got 0.5$/],
    [{ crons: [{ ...cron, disableAfterFailures: "no" }] }, "crons[0].disableAfterFailures", /"never", got "no"$/],
    [
      { crons: [{ ...cron, instruction: "x".repeat(8_001) }] },
      "crons[0].instruction",
      /8000 characters or fewer, got 8001$/
    ],
    [{ crons: [{ ...cron, agentId: "constructor" }] }, "crons[0].agentId", /there is no agent "constructor"/],
    [
      {
        crons: [
          { ...cron, name: "a" },
          { ...cron, name: "a" }
        ]
      },
      "crons[1].name",
      /"a" is already taken by another cron$/
    ],
    [{ webhooks: [{ ...hook, path: "github" }] }, "webhooks[0].path", /must look like "\/github", got "github"$/],
    [{ webhooks: [{ ...hook, path: "/a b" }] }, "webhooks[0].path", /must look like/],
    [
      { webhooks: [hook, { ...hook, adapter: "generic" }] },
      "webhooks[1].path",
      /"\/github" is already taken by another webhook$/
    ],
    [
      { webhooks: [{ path: "/github", adapter: "github" }] },
      "webhooks[0].secret",
      /missing; set the secret the sender signs with, or write `unsigned: true`$/
    ],
    [{ webhooks: [{ ...hook, secret: "" }] }, "webhooks[0].secret", /missing/],
    [{ webhooks: [{ ...hook, algorithm: "md5" }] }, "webhooks[0].algorithm", /"sha256".*got "md5"$/],
    [{ webhooks: [{ ...hook, toleranceSeconds: -1 }] }, "webhooks[0].toleranceSeconds", /must be greater than 0/],
    [{ webhooks: [{ ...hook, maxPerMinute: 0 }] }, "webhooks[0].maxPerMinute", /must be greater than 0/],
    [{ webhooks: [{ ...hook, agentId: "nobody" }] }, "webhooks[0].agentId", /there is no agent "nobody"/],
    [{ accessControl: { accessPolicy: "everyone" } }, "accessControl.accessPolicy", /"allowlist".*got "everyone"$/],
    [{ accessControl: { allowedSenders: "+1555" } }, "accessControl.allowedSenders", /actual "\+1555"/],
    [{ policies: { dailyTokenBudget: -1 } }, "policies.dailyTokenBudget", /0 or more, got -1/],
    [{ policies: { dailyTokenBudget: "none" } }, "policies.dailyTokenBudget", /"unlimited"|actual "none"/],
    [{ policies: { maxActionsPerHour: 1.5 } }, "policies.maxActionsPerHour", /must be a whole number, got 1.5/],
    [{ policies: { heartbeatPolicy: "sometimes" } }, "policies.heartbeatPolicy", /got "sometimes"$/],
    [{ policies: { mergeWindowMs: 0 } }, "policies.mergeWindowMs", /must be greater than 0/],
    [
      { policies: { businessHours: { ...hours, to: "25:00" } } },
      "policies.businessHours.to",
      /"25:00" is not a time of day/
    ],
    [
      { policies: { businessHours: { ...hours, to: "24:01" } } },
      "policies.businessHours.to",
      /"24:01" is not a time of day/
    ],
    [
      { policies: { businessHours: { ...hours, days: ["Mon"] } } },
      "policies.businessHours.days[0]",
      /"Sunday".*got "Mon"$/
    ],
    [{ policies: { budget: { usdPerDay: -1 } } }, "policies.budget.usdPerDay", /0 or more, got -1$/],
    // One way to say it: policies.dailyTokenBudget.
    [{ policies: { budget: { tokensPerDay: 1 } } }, "policies.budget.tokensPerDay", /is unexpected/],
    [{ agents: { a: { budget: { tokensPerDay: 0.5 } } } }, "agents.a.budget.tokensPerDay", /whole number, got 0.5$/],
    [{ policies: { budgetWarnAt: 0 } }, "policies.budgetWarnAt", /greater than 0, got 0$/],
    [{ policies: { budgetWarnAt: 75 } }, "policies.budgetWarnAt", /1 or less, got 75$/],
    [{ policies: { unknownModel: "guess" } }, "policies.unknownModel", /"refuse", "count-as-zero", got "guess"$/],
    [
      { prices: { m: [{ from: "2024-02-30", inputPerMillion: 1, outputPerMillion: 1 }] } },
      "prices.m[0].from",
      /"2024-02-30" is not a day; write it as 2026-01-31$/
    ],
    [{ prices: { m: [] } }, "prices.m", /needs one price at least/],
    [
      {
        prices: {
          m: [
            { from: "2024-02-29", inputPerMillion: 1, outputPerMillion: 1 },
            { from: "2024-02-29", inputPerMillion: 2, outputPerMillion: 2 }
          ]
        }
      },
      "prices.m",
      /two prices are from the same day/
    ],
    [{ prices: { m: { inputPerMillion: -1, outputPerMillion: 0 } } }, "prices.m.inputPerMillion", /non-negative/],
    [{ limits: { maxConcurrentRuns: 0 } }, "limits.maxConcurrentRuns", /must be greater than 0/],
    [{ limits: { maxAttempts: 2.5 } }, "limits.maxAttempts", /must be a whole number, got 2.5/],
    [{ limits: { runTimeoutMs: Number.NaN } }, "limits.runTimeoutMs", /got NaN/],
    [{ retention: { events: { maxAgeDays: 0 } } }, "retention.events.maxAgeDays", /must be greater than 0, got 0$/],
    [{ retention: { audit: { maxCount: "unlimited" } } }, "retention.audit.maxCount", /"forever"/],
    [{ routing: { dm: "nobody" } }, "routing.dm", /there is no agent "nobody"; agents: agent$/],
    [{ routing: { bindings: [{ agentId: "x", peer: "a" }] } }, "routing.bindings[0].agentId", /no agent "x"/],
    [{ routing: { bindings: [{ agentId: "agent" }] } }, "routing.bindings[0]", /matches everything/],
    [
      {
        routing: {
          bindings: [
            { agentId: "agent", peer: "a" },
            { agentId: "agent", peer: "a" }
          ]
        }
      },
      "routing.bindings[1]",
      /never counts: it is for the same as bindings\[0\]$/
    ],
    [{ policies: { shadow: ["CostBudget"] } }, "policies.shadow[0]", /got "CostBudget"$/],
    [{ timezone: "Nowhere" }, "timezone", /"Nowhere" is not an IANA time zone; try "UTC" or "Europe\/Berlin"$/],
    [{ agents: {} }, "agents", /at least one agent is needed$/],
    [{ agents: { a: { maxOutputTokens: 0 } } }, "agents.a.maxOutputTokens", /must be greater than 0/],
    [null, "", /^configuration: Expected .*actual null/s],
    ["yaml", "", /actual "yaml"/]
  ]
  for (const [input, path, message] of wrong) {
    it.effect(`${JSON.stringify(input)}`, () =>
      Effect.gen(function* () {
        const error = yield* Effect.flip(decodeConfig(input))
        expect(error._tag).toBe("GatewayConfigError")
        expect(error.message).toMatch(message)
        expect(error.path).toBe(path)
        expect(error.message.startsWith("configuration: ")).toBe(true)
      })
    )
  }

  it.effect("what only a start can find: a cron that cannot be read, an adapter there is not", () =>
    Effect.gen(function* () {
      const starts: ReadonlyArray<readonly [GatewayConfigInput, RegExp]> = [
        [
          { crons: [{ ...cron, schedule: "9 o'clock" }] },
          /^job "cron-1": cron expression "9 o'clock": it must have 5 fields/
        ],
        [
          { webhooks: [{ ...hook, adapter: "gitlab" }] },
          /webhooks\[0\]\.adapter: there is no adapter "gitlab"; adapters: github, generic$/
        ],
        [{ webhooks: [{ ...hook, adapter: "constructor" }] }, /there is no adapter "constructor"/],
        [{ timezone: "Nowhere" }, /not an IANA time zone/]
      ]
      for (const [input, message] of starts) {
        const error = yield* Effect.flip(Effect.provide(GatewayService, Gateway.layerTest(input)))
        expect(error.message).toMatch(message)
      }
    })
  )

  it.effect("a secret is not in the error, nor in what the configuration shows of itself", () =>
    Effect.gen(function* () {
      const config = yield* decodeConfig({ webhooks: [hook] })
      expect(JSON.stringify(config)).not.toContain("s3cr3t")
      for (const webhooks of [
        [{ ...hook, path: "x" }],
        hook,
        { github: hook },
        [[hook]],
        [{ ...hook, secret: { s3cr3t: 1 } }]
      ]) {
        const error = yield* Effect.flip(decodeConfig({ webhooks }))
        expect(`${error.message} ${JSON.stringify(error)} ${String(error.cause)}`).not.toContain("s3cr3t")
      }
    })
  )
})

describe("defaults", () => {
  it.effect("N1: `{}` is a whole configuration, with every limit on", () =>
    Effect.gen(function* () {
      const config = yield* decodeConfig({})
      expect(config.policies).toMatchObject({
        dailyTokenBudget: 100_000,
        maxActionsPerHour: 30,
        mergeWindowMs: 300_000
      })
      expect(config.accessControl).toMatchObject({
        accessPolicy: "allowlist",
        allowedSenders: [],
        mode: "chat",
        sessionTtlDays: 30
      })
      const { onCrash, ...limits } = config.limits
      expect(onCrash).toBe("retry")
      expect(Object.values(limits).every((limit) => Number.isFinite(limit) && Number(limit) > 0)).toBe(true)
      expect(config).toMatchObject({
        agents: { agent: { maxOutputTokens: 1_024 } },
        timezone: "UTC",
        crons: [],
        webhooks: []
      })
    })
  )
})

// ---------------------------------------------------------------------------------------------------------------------

const open: AccessControlConfig = Schema.decodeSync(GatewayConfig.fields.accessControl.from)({ accessPolicy: "open" })
const event = (change: Partial<RawInput> = {}): RawInput => ({ source: "webhook", payload: { n: 1 }, ...change })
const message = (change: Partial<RawInput> = {}): RawInput =>
  event({ source: "channel", payload: { text: "hi" }, sender: "ada", sessionKey: "s", ...change })

type Env = Layer.Layer.Success<ReturnType<typeof gateway>> | Store
const CHANNELS = [
  channel(undefined, { name: "mail" }),
  channel(undefined, { name: "sms" }),
  channel(() => Effect.never, { name: "silent" }),
  channel(() => refusal("not-sent"), { name: "busy" })
]
/** What `observe` sees in a gateway of this configuration. */
const seen = <A, E>(
  config: GatewayConfigInput,
  observe: Effect.Effect<A, E, Env>,
  respond?: Respond,
  store: Layer.Layer<Store> = StoreMemory.layer
) =>
  observe.pipe(
    Effect.provide(gateway(config, respond, { channels: CHANNELS }).pipe(Layer.provideMerge(store))),
    Effect.provide(TestContext.TestContext)
  )

const submit = (input: RawInput) => Effect.flatMap(GatewayService, (gw) => gw.submit(input))
const decision = (input: RawInput) => Effect.map(submit(input), (receipt) => receipt.decision)
const run = (input: RawInput) => Effect.flatMap(GatewayService, (gw) => gw.run(input))
const status = Effect.flatMap(GatewayService, (gw) => gw.status())
const jobs = Effect.map(Scheduler, (scheduler) => scheduler.list({ includeDisabled: true }))
const events = Effect.flatMap(Store, (store) => store.find("events", { orderBy: ["seq", "asc"] }))
/** What the agent was asked, as text. */
const shownAs =
  (show: (task: RunTask) => unknown): Respond =>
  (task) =>
    Effect.succeed(answerOf(String(show(task))))
/** The decisions that were made within so long. */
const decisionsIn = (millis: number) =>
  Effect.gen(function* () {
    const told = yield* watch
    yield* TestClock.adjust(millis)
    return told.all("PolicyDecisionMade").map(({ decision }) => decision)
  }).pipe(Effect.scoped)

const sign = (body: string, algorithm: string, secret = "s3cr3t") =>
  createHmac(algorithm, secret).update(body).digest("hex")
const post = (headers: Record<string, string> = {}, path = "/hook", body = "{}") =>
  Effect.flatMap(WebhookRouter, (router) =>
    Effect.map(
      router.handle({
        method: "POST",
        path,
        headers: { "content-type": "application/json", ...headers },
        rawBody: new TextEncoder().encode(body)
      }),
      ({ body, status }) => ({ status, body: JSON.parse(body) as Record<string, unknown> })
    )
  )
const answered = (headers?: Record<string, string>, path?: string) =>
  Effect.map(post(headers, path), ({ status }) => status)
const signed = { "x-signature": sign("{}", "sha256") }

const agents = { ops: {}, chat: {} }
const beat = (change: Partial<typeof HeartbeatConfig.Encoded>): GatewayConfigInput => ({
  agents,
  heartbeat: { intervalMs: 60_000, ...change }
})
const cron = (change: Partial<typeof CronConfig.Encoded>): GatewayConfigInput => ({
  agents,
  crons: [{ schedule: "0 9 * * *", instruction: "look", ...change }]
})
const hook = (change: Partial<typeof WebhookConfig.Encoded>): GatewayConfigInput => ({
  agents,
  webhooks: [{ path: "/hook", adapter: "generic", secret: Redacted.make("s3cr3t"), ...change }]
})
const access = (change: Partial<AccessControlConfig>): GatewayConfigInput => ({ accessControl: change })
const policies = (change: GatewayConfigInput["policies"]): GatewayConfigInput => ({ policies: { ...change } })
const limits = (change: GatewayConfigInput["limits"]): GatewayConfigInput => ({
  limits: { ...change },
  accessControl: open
})
const day = { from: "00:00", to: "24:00", days: ["Thursday"] as const }

/** Two configurations that differ in the key, and what each shows. */
const differ = <A, E>(
  observe: Effect.Effect<A, E, Env>,
  [first, firstShows]: readonly [GatewayConfigInput, NoInfer<A>],
  [second, secondShows]: readonly [GatewayConfigInput, NoInfer<A>],
  respond?: Respond
) =>
  Effect.gen(function* () {
    expect(firstShows).not.toEqual(secondShows)
    expect(yield* seen(first, observe, respond)).toEqual(firstShows)
    expect(yield* seen(second, observe, respond)).toEqual(secondShows)
  })

/** The agent an input is for, with this routing and without. */
const routed = (input: RawInput, routing: GatewayConfigInput["routing"], otherwise?: GatewayConfigInput["routing"]) =>
  differ(
    Effect.gen(function* () {
      const gw = yield* GatewayService
      const { eventId } = yield* gw.submit(input)
      const agentId = (yield* gw.find(eventId))?.event.agentId
      expect(gw.route(input).agentId).toBe(agentId)
      return agentId
    }),
    [{ agents, routing: { ...otherwise } }, "ops"],
    [{ agents, routing: { ...routing } }, "chat"]
  )
type Binding = Omit<NonNullable<NonNullable<GatewayConfigInput["routing"]>["bindings"]>[number], "agentId">
const bound = (input: RawInput, binding: Binding, other?: Binding) =>
  routed(
    input,
    { bindings: [{ agentId: "chat", ...binding }] },
    other === undefined ? undefined : { bindings: [{ agentId: "chat", ...other }] }
  )

/** Where the first answer was sent. */
const sentTo = (act: Effect.Effect<unknown, GatewayError, Env>) =>
  Effect.gen(function* () {
    const told = yield* watch
    yield* act
    const [sent] = yield* told.until("DeliverySent", 1)
    return sent?.to
  }).pipe(Effect.scoped)
const mailAda = { channel: "mail", target: "ada" }
const mailBob = { channel: "mail", target: "bob" }
const smsAda = { channel: "sms", target: "ada" }
const beatTo = (deliverTo: typeof mailAda) => beat({ policy: "always", deliverTo })
const cronTo = (deliverTo: typeof mailAda) => cron({ schedule: "* * * * *", deliverTo })
const hookTo = (deliverTo: typeof mailAda) => hook({ deliverTo })
const aMinute = TestClock.adjust("1 minute")

const firstJob = <A>(show: (job: Effect.Effect.Success<typeof jobs>[number] | undefined) => A) =>
  Effect.map(jobs, ([job]) => show(job))
/** Events a cron of every quarter makes of the four instants that pass while the gateway is down for 65 minutes. */
const madeAfterAnHour = (change: Partial<typeof CronConfig.Encoded>) =>
  Effect.gen(function* () {
    const config = cron({ schedule: "*/15 * * * *", ...change })
    const store = Layer.succeed(Store, StoreMemory.make())
    const life = gateway(config, undefined, { channels: CHANNELS }).pipe(Layer.provideMerge(store))
    yield* Effect.provide(Scheduler, life)
    yield* TestClock.adjust("65 minutes")
    return yield* Effect.gen(function* () {
      const now = yield* Clock.currentTimeMillis
      while (yield* firstJob((job) => (job?.nextAt?.getTime() ?? 0) <= now)) yield* turn
      return (yield* events).length
    }).pipe(Effect.provide(life))
  }).pipe(Effect.provide(TestContext.TestContext))
const history = Effect.gen(function* () {
  for (const text of ["one", "two", "three"]) yield* run(message({ payload: { text } }))
  return (yield* run(message({ payload: { text: "four" } }))).text
})
const broken: Respond = () => Effect.fail(new AgentRunError({ message: "broken", retryable: false }))
const busy: Respond = () => Effect.fail(new AgentRunError({ message: "busy", retryable: true }))

const eventsKept = Effect.gen(function* () {
  for (const n of [1, 2, 3]) yield* run(event({ payload: { n } }))
  yield* TestClock.adjust("10 days")
  return (yield* events).length
})
const auditedFrom = Effect.gen(function* () {
  for (const n of [1, 2, 3]) yield* run(event({ payload: { n } }))
  yield* TestClock.adjust("10 days")
  const verified = yield* (yield* AuditLog).verify
  return verified.valid ? verified.from : verified.problem
})
const turnsKept = Effect.gen(function* () {
  for (const _ of [1, 2, 3]) yield* run(message())
  yield* TestClock.adjust("10 days")
  return (yield* Effect.flatMap(Store, (store) => store.find("turns", {}))).length
})

/** A run of the agent `scripted` costs a tenth of a dollar. */
const dear = { inputPerMillion: 1_000, outputPerMillion: 1_000 }
const WINDOW = { Hour: 3_600_000, Day: 86_400_000, Month: 31 * 86_400_000 }
/** A budget for one run: another has to wait until the window it is for has ended. */
const budgeted = (of: (budget: Record<string, number>) => GatewayConfigInput, key: string) => {
  const millis = WINDOW[key.replace(/^.*Per/, "") as keyof typeof WINDOW]
  const observe = Effect.gen(function* () {
    yield* run(event())
    const atOnce = yield* decision(event())
    yield* TestClock.adjust(millis - 1)
    const before = yield* decision(event())
    yield* TestClock.adjust(1)
    return [atOnce, before, yield* decision(event())]
  })
  const priced = (budget: Record<string, number>) => ({ ...of(budget), prices: { scripted: dear } })
  return differ(
    observe,
    [priced({}), ["execute", "execute", "execute"]],
    [priced({ [key]: key.startsWith("usd") ? 0.15 : 150 }), ["skip", "skip", "execute"]]
  )
}
const budgetOfAgent = (budget: Record<string, number>): GatewayConfigInput => ({ agents: { a: { budget } } })

/** For every key of the configuration, what changes when it does. */
const EFFECTS: Readonly<Record<string, () => Effect.Effect<unknown, unknown>>> = {
  "agents.*.instructions": () =>
    differ(
      Effect.map(run(event()), ({ text }) => text),
      [{ agents: { a: { instructions: "Be brief." } } }, "Be brief."],
      [{ agents: { a: {} } }, ""],
      shownAs(({ agent }) => agent.instructions)
    ),
  "agents.*.maxOutputTokens": () =>
    Effect.gen(function* () {
      const reserved = (maxOutputTokens: number) =>
        Effect.map(run(event({ payload: null })), ({ reservedTokens }) => reservedTokens).pipe(
          Effect.provide(Gateway.layerTest({ agents: { a: { maxOutputTokens } } }))
        )
      expect((yield* reserved(5_000)) - (yield* reserved(1_000))).toBe(4_000)
    }),
  "agents.*.maxConcurrentRuns": () =>
    differ(
      Effect.gen(function* () {
        yield* Effect.forEach([1, 2, 3], () => submit(event()), { concurrency: "unbounded" })
        return (yield* status).pending.running
      }),
      [{ agents: { a: {} } }, 3],
      [{ agents: { a: { maxConcurrentRuns: 1 } } }, 1],
      () => Effect.never
    ),
  "agents.*.budget.tokensPerHour": () => budgeted(budgetOfAgent, "tokensPerHour"),
  "agents.*.budget.tokensPerDay": () => budgeted(budgetOfAgent, "tokensPerDay"),
  "agents.*.budget.tokensPerMonth": () => budgeted(budgetOfAgent, "tokensPerMonth"),
  "agents.*.budget.usdPerHour": () => budgeted(budgetOfAgent, "usdPerHour"),
  "agents.*.budget.usdPerDay": () => budgeted(budgetOfAgent, "usdPerDay"),
  "agents.*.budget.usdPerMonth": () => budgeted(budgetOfAgent, "usdPerMonth"),

  "heartbeat.intervalMs": () =>
    differ(
      firstJob((job) => job?.nextAt?.getTime()),
      [beat({}), 60_000],
      [beat({ intervalMs: 90_000 }), 90_000]
    ),
  "heartbeat.policy": () =>
    differ(
      decisionsIn(60_000),
      [beat({ policy: "always" }), ["execute"]],
      [beat({ policy: "conservative" }), ["skip"]]
    ),
  "heartbeat.instruction": () =>
    differ(
      Effect.zipRight(
        decisionsIn(60_000),
        Effect.map(events, ([row]) => row?.payload)
      ),
      [beat({}), '{"instruction":"Check for pending work."}'],
      [beat({ instruction: "Water the plants." }), '{"instruction":"Water the plants."}']
    ),
  "heartbeat.maxConsecutiveSkips": () =>
    differ(
      decisionsIn(180_000),
      [beat({ policy: "conservative", maxConsecutiveSkips: 1 }), ["skip", "execute", "skip"]],
      [beat({ policy: "conservative", maxConsecutiveSkips: 2 }), ["skip", "skip", "execute"]]
    ),
  "heartbeat.activeHours.from": () =>
    differ(
      decisionsIn(60_000),
      [beat({ activeHours: day }), ["execute"]],
      [beat({ activeHours: { ...day, from: "00:02" } }), []]
    ),
  "heartbeat.activeHours.to": () =>
    differ(
      decisionsIn(60_000),
      [beat({ activeHours: day }), ["execute"]],
      [beat({ activeHours: { ...day, to: "00:01" } }), []]
    ),
  "heartbeat.activeHours.days": () =>
    differ(
      decisionsIn(60_000),
      [beat({ activeHours: day }), ["execute"]],
      [beat({ activeHours: { ...day, days: ["Monday"] } }), []]
    ),
  "heartbeat.agentId": () =>
    differ(
      firstJob((job) => job?.agentId),
      [beat({}), "ops"],
      [beat({ agentId: "chat" }), "chat"]
    ),

  "heartbeat.deliverTo.channel": () => differ(sentTo(aMinute), [beatTo(mailAda), mailAda], [beatTo(smsAda), smsAda]),
  "heartbeat.deliverTo.target": () => differ(sentTo(aMinute), [beatTo(mailAda), mailAda], [beatTo(mailBob), mailBob]),

  "crons.name": () =>
    differ(
      firstJob((job) => job?.name),
      [cron({}), "cron-1"],
      [cron({ name: "report" }), "report"]
    ),
  "crons.schedule": () =>
    differ(
      firstJob((job) => job?.nextAt?.toISOString()),
      [cron({}), "1970-01-01T09:00:00.000Z"],
      [cron({ schedule: "0 10 * * *" }), "1970-01-01T10:00:00.000Z"]
    ),
  "crons.instruction": () =>
    differ(
      firstJob((job) => job?.instruction),
      [cron({}), "look"],
      [cron({ instruction: "act" }), "act"]
    ),
  "crons.agentId": () =>
    differ(
      firstJob((job) => job?.agentId),
      [cron({}), "ops"],
      [cron({ agentId: "chat" }), "chat"]
    ),
  "crons.priority": () =>
    differ(
      Effect.zipRight(
        decisionsIn(60_000),
        Effect.map(events, ([row]) => row?.priority)
      ),
      [cron({ schedule: "* * * * *" }), "normal"],
      [cron({ schedule: "* * * * *", priority: "critical" }), "critical"]
    ),
  "crons.timezone": () =>
    differ(
      firstJob((job) => job?.nextAt?.toISOString()),
      [cron({}), "1970-01-01T09:00:00.000Z"],
      [cron({ timezone: "Asia/Tokyo" }), "1970-01-02T00:00:00.000Z"]
    ),
  "crons.enabled": () =>
    differ(
      decisionsIn(60_000),
      [cron({ schedule: "* * * * *" }), ["execute"]],
      [cron({ schedule: "* * * * *", enabled: false }), []]
    ),

  "crons.deleteAfterRun": () =>
    differ(
      decisionsIn(180_000),
      [cron({ schedule: "* * * * *" }), ["execute", "execute", "execute"]],
      [cron({ schedule: "* * * * *", deleteAfterRun: true }), ["execute"]]
    ),
  "crons.catchUp": () =>
    Effect.gen(function* () {
      expect(yield* madeAfterAnHour({})).toBe(1)
      expect(yield* madeAfterAnHour({ catchUp: "skip" })).toBe(0)
      expect(yield* madeAfterAnHour({ catchUp: "all" })).toBe(4)
    }),
  "crons.graceMs": () =>
    Effect.gen(function* () {
      // The last of them was due five minutes ago.
      expect(yield* madeAfterAnHour({ catchUp: "skip", graceMs: 299_999 })).toBe(0)
      expect(yield* madeAfterAnHour({ catchUp: "skip", graceMs: 300_000 })).toBe(1)
    }),
  "crons.maxCatchUp": () =>
    Effect.gen(function* () {
      expect(yield* madeAfterAnHour({ catchUp: "all", maxCatchUp: 3 })).toBe(3)
      expect(yield* madeAfterAnHour({ catchUp: "all", maxCatchUp: 4 })).toBe(4)
    }),
  "crons.overlap": () =>
    Effect.gen(function* () {
      const made = (change: Partial<typeof CronConfig.Encoded>) =>
        seen(cron({ schedule: "* * * * *", ...change }), decisionsIn(300_000), () => Effect.never)
      expect(yield* made({ overlap: "skip" })).toHaveLength(1)
      expect(yield* made({})).toHaveLength(2)
      expect(yield* made({ overlap: "allow" })).toHaveLength(5)
    }),
  "crons.timeoutMs": () =>
    differ(
      Effect.gen(function* () {
        yield* TestClock.adjust("90 seconds")
        const [row] = yield* Effect.flatMap(Store, (store) => store.find("runs", {}))
        return row?.error ?? "no error"
      }),
      [cron({ schedule: "* * * * *" }), "no error"],
      [
        cron({ schedule: "* * * * *", timeoutMs: 20_000 }),
        "the run took longer than 20000 ms and was interrupted (its job's timeoutMs)"
      ],
      () => Effect.never
    ),
  "crons.jitterMs": () =>
    differ(
      firstJob((job) => (job?.delayMs ?? 0) > 0),
      [cron({}), false],
      [cron({ jitterMs: 3_600_000 }), true]
    ),
  "crons.disableAfterFailures": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        yield* TestClock.adjust("1 minute")
        yield* told.until("ProactiveActionCompleted", 1)
        yield* TestClock.adjust("1 second")
        return yield* firstJob((job) => job?.enabled)
      }).pipe(Effect.scoped),
      [cron({ schedule: "* * * * *" }), true],
      [cron({ schedule: "* * * * *", disableAfterFailures: 1 }), false],
      () => Effect.fail(new AgentRunError({ message: "no", retryable: false }))
    ),

  "crons.deliverTo.channel": () => differ(sentTo(aMinute), [cronTo(mailAda), mailAda], [cronTo(smsAda), smsAda]),
  "crons.deliverTo.target": () => differ(sentTo(aMinute), [cronTo(mailAda), mailAda], [cronTo(mailBob), mailBob]),

  "webhooks.path": () => differ(answered(signed, "/hook"), [hook({}), 202], [hook({ path: "/other" }), 404]),
  "webhooks.adapter": () =>
    differ(
      Effect.zipRight(
        post({ "x-github-event": "push" }),
        Effect.map(events, (rows) => rows.map((row) => (JSON.parse(row.metadata) as Record<string, unknown>).type))
      ),
      [hook({ unsigned: true }), ["webhook.received"]],
      [hook({ unsigned: true, adapter: "github" }), ["push"]]
    ),
  "webhooks.secret": () => differ(answered(signed), [hook({}), 202], [hook({ secret: "another" }), 401]),
  "webhooks.unsigned": () => differ(answered(), [hook({}), 401], [hook({ unsigned: true }), 202]),
  "webhooks.events": () => differ(answered(signed), [hook({}), 202], [hook({ events: ["push"] }), 200]),
  "webhooks.agentId": () =>
    differ(
      Effect.zipRight(
        post(signed),
        Effect.map(events, ([row]) => row?.agent_id)
      ),
      [hook({}), "ops"],
      [hook({ agentId: "chat" }), "chat"]
    ),
  "webhooks.signatureHeader": () =>
    differ(answered({ "x-seal": signed["x-signature"] }), [hook({}), 401], [hook({ signatureHeader: "X-Seal" }), 202]),
  "webhooks.algorithm": () =>
    differ(answered({ "x-signature": sign("{}", "sha512") }), [hook({}), 401], [hook({ algorithm: "sha512" }), 202]),
  "webhooks.idHeader": () =>
    differ(
      Effect.gen(function* () {
        const ids = ["1", "1", "2"].map((id) => post({ ...signed, "x-delivery-id": "same", "x-id": id }))
        return (yield* Effect.all(ids)).map(({ body }) => body.status)
      }),
      [hook({}), ["accepted", "duplicate", "duplicate"]],
      [hook({ idHeader: "X-Id" }), ["accepted", "duplicate", "accepted"]]
    ),
  "webhooks.timestampHeader": () =>
    differ(answered(signed), [hook({}), 202], [hook({ timestampHeader: "x-timestamp" }), 401]),
  "webhooks.toleranceSeconds": () =>
    differ(
      answered({ "x-timestamp": "400", "x-signature": sign("400.{}", "sha256") }),
      [hook({ timestampHeader: "x-timestamp" }), 401],
      [hook({ timestampHeader: "x-timestamp", toleranceSeconds: 400 }), 202]
    ),
  "webhooks.maxPerMinute": () =>
    differ(Effect.zipRight(answered(signed), answered(signed)), [hook({}), 202], [hook({ maxPerMinute: 1 }), 429]),

  "webhooks.deliverTo.channel": () =>
    differ(sentTo(post(signed)), [hookTo(mailAda), mailAda], [hookTo(smsAda), smsAda]),
  "webhooks.deliverTo.target": () =>
    differ(sentTo(post(signed)), [hookTo(mailAda), mailAda], [hookTo(mailBob), mailBob]),

  "accessControl.accessPolicy": () =>
    differ(decision(message()), [access({}), "skip"], [access({ accessPolicy: "open" }), "execute"]),
  "accessControl.allowedSenders": () =>
    differ(decision(message()), [access({}), "skip"], [access({ allowedSenders: ["ada"] }), "execute"]),
  "accessControl.blockedSenders": () =>
    differ(
      decision(message()),
      [access({ accessPolicy: "blocklist" }), "execute"],
      [access({ accessPolicy: "blocklist", blockedSenders: ["ada"] }), "skip"]
    ),
  "accessControl.unknownSenderAction": () =>
    differ(decision(message()), [access({}), "skip"], [access({ unknownSenderAction: "escalate" }), "escalate"]),
  // Answered at the door: packages/server/test/Chat.test.ts shows it.
  "accessControl.replyToUnknown": () =>
    Effect.sync(() => {
      const door = readFileSync(new URL("../../server/src/Conversations.ts", import.meta.url), "utf8")
      expect(door).toMatch(/replyToUnknown/)
    }),
  "accessControl.mode": () =>
    differ(
      history,
      [access({ accessPolicy: "open" }), "6"],
      [access({ accessPolicy: "open", mode: "task" }), "0"],
      shownAs(({ history }) => history.length)
    ),
  "accessControl.sessionTtlDays": () =>
    differ(
      Effect.gen(function* () {
        yield* run(message())
        yield* TestClock.adjust("25 hours")
        return (yield* (yield* SessionStore).list()).length
      }),
      [access({ accessPolicy: "open" }), 1],
      [access({ accessPolicy: "open", sessionTtlDays: 1 }), 0]
    ),

  "policies.dailyTokenBudget": () =>
    differ(decision(event()), [policies({}), "execute"], [policies({ dailyTokenBudget: 99 }), "skip"]),
  "policies.budget.tokensPerHour": () => budgeted((budget) => policies({ budget }), "tokensPerHour"),
  "policies.budget.tokensPerMonth": () => budgeted((budget) => policies({ budget }), "tokensPerMonth"),
  "policies.budget.usdPerHour": () => budgeted((budget) => policies({ budget }), "usdPerHour"),
  "policies.budget.usdPerDay": () => budgeted((budget) => policies({ budget }), "usdPerDay"),
  "policies.budget.usdPerMonth": () => budgeted((budget) => policies({ budget }), "usdPerMonth"),
  "policies.budgetWarnAt": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        for (const _ of [1, 2, 3, 4]) yield* run(event())
        return told.all("BudgetWarning").map(({ budget }) => budget.used + budget.reserved)
      }).pipe(Effect.scoped),
      [policies({ dailyTokenBudget: 400 }), [300]],
      [policies({ dailyTokenBudget: 400, budgetWarnAt: 0.4 }), [200]]
    ),
  "policies.unknownModel": () =>
    differ(
      decision(event()),
      [policies({ budget: { usdPerDay: 1 } }), "skip"],
      [policies({ budget: { usdPerDay: 1 }, unknownModel: "count-as-zero" }), "execute"]
    ),
  "policies.maxActionsPerHour": () =>
    differ(
      Effect.zipRight(decision(event()), decision(event())),
      [policies({}), "execute"],
      [policies({ maxActionsPerHour: 1 }), "queue"]
    ),
  "policies.heartbeatPolicy": () =>
    differ(
      decisionsIn(60_000),
      [{ ...beat({}), ...policies({ heartbeatPolicy: "always" }) }, ["execute"]],
      [{ ...beat({}), ...policies({ heartbeatPolicy: "conservative" }) }, ["skip"]]
    ),
  "policies.mergeWindowMs": () =>
    differ(
      Effect.gen(function* () {
        const { eventId } = yield* submit(event({ metadata: { mergeKey: "k" } }))
        return (yield* Effect.flatMap(Store, (store) => store.find("events", { where: { id: eventId } })))[0]?.due_at
      }),
      [policies({}), 300_000],
      [policies({ mergeWindowMs: 1_000 }), 1_000]
    ),
  "policies.requireApprovalFor": () =>
    differ(
      decision(event({ metadata: { category: "deploy" } })),
      [policies({}), "execute"],
      [policies({ requireApprovalFor: ["deploy"] }), "escalate"]
    ),
  "policies.loopGuard.maxDepth": () =>
    differ(
      Effect.gen(function* () {
        const causedBy = (yield* run(event())).id
        return yield* decision(event({ causedBy }))
      }),
      [policies({}), "execute"],
      [policies({ loopGuard: { maxDepth: 0 } }), "escalate"]
    ),
  "policies.loopGuard.maxPerMinute": () =>
    differ(
      Effect.gen(function* () {
        const causedBy = (yield* run(event())).id
        return yield* Effect.zipRight(decision(event({ causedBy })), decision(event({ causedBy })))
      }),
      [policies({}), "execute"],
      [policies({ loopGuard: { maxPerMinute: 1 } }), "skip"]
    ),
  "policies.approvers": () =>
    differ(
      Effect.gen(function* () {
        const gw = yield* GatewayService
        yield* submit(event({ metadata: { category: "deploy" } }))
        const [approval] = yield* gw.approvals
        return (yield* gw.approve(approval?.id ?? "", "ada")).state
      }),
      [policies({ requireApprovalFor: ["deploy"] }), "approved"],
      [policies({ requireApprovalFor: ["deploy"], approvers: 2 }), "pending"]
    ),
  "policies.whenStopped": () =>
    differ(
      Effect.gen(function* () {
        yield* (yield* GatewayService).stop()
        return yield* Effect.match(submit(event()), { onFailure: ({ reason }) => reason, onSuccess: () => "kept" })
      }),
      [policies({}), "stopped"],
      [policies({ whenStopped: "keep" }), "kept"]
    ),
  "policies.businessHours.from": () =>
    differ(
      decision(event()),
      [policies({ businessHours: day }), "execute"],
      [policies({ businessHours: { ...day, from: "00:01" } }), "queue"]
    ),
  "policies.businessHours.to": () =>
    differ(
      Effect.zipRight(TestClock.adjust("9 hours"), decision(event())),
      [policies({ businessHours: day }), "execute"],
      [policies({ businessHours: { ...day, to: "09:00" } }), "queue"]
    ),
  "policies.businessHours.days": () =>
    differ(
      decision(event()),
      [policies({ businessHours: day }), "execute"],
      [policies({ businessHours: { ...day, days: ["Friday"] } }), "queue"]
    ),

  "policies.quietHours.from": () =>
    differ(
      decision(event()),
      [policies({ quietHours: { from: "00:01", to: "06:00" } }), "execute"],
      [policies({ quietHours: { from: "00:00", to: "06:00" } }), "queue"]
    ),
  "policies.quietHours.to": () =>
    differ(
      Effect.zipRight(TestClock.adjust("6 hours"), decision(event())),
      [policies({ quietHours: { from: "00:00", to: "06:00" } }), "execute"],
      [policies({ quietHours: { from: "00:00", to: "06:01" } }), "queue"]
    ),
  "policies.quietHours.days": () =>
    differ(
      decision(event()),
      [policies({ quietHours: day }), "queue"],
      [policies({ quietHours: { ...day, days: ["Friday"] } }), "execute"]
    ),
  "policies.quietHours.minPriority": () =>
    differ(
      decision(event({ priority: "high" })),
      [policies({ quietHours: day }), "execute"],
      [policies({ quietHours: { ...day, minPriority: "critical" } }), "queue"]
    ),
  "policies.circuitBreaker.maxFailures": () =>
    differ(
      Effect.zipRight(Effect.exit(run(event())), decision(event())),
      [policies({}), "execute"],
      [policies({ circuitBreaker: { maxFailures: 1 } }), "queue"],
      broken
    ),
  "policies.circuitBreaker.cooldownMs": () =>
    differ(
      Effect.zipRight(Effect.exit(run(event())), Effect.zipRight(TestClock.adjust("1 second"), decision(event()))),
      [policies({ circuitBreaker: { maxFailures: 1 } }), "queue"],
      [policies({ circuitBreaker: { maxFailures: 1, cooldownMs: 1_000 } }), "execute"],
      broken
    ),
  "policies.maxPerSenderPerMinute": () =>
    differ(
      Effect.zipRight(decision(event({ sender: "ada" })), decision(event({ sender: "ada" }))),
      [policies({}), "execute"],
      [policies({ maxPerSenderPerMinute: 1 }), "skip"]
    ),

  "policies.shadow": () =>
    differ(
      decision(event()),
      [policies({ quietHours: { from: "00:00", to: "24:00" } }), "queue"],
      [policies({ quietHours: { from: "00:00", to: "24:00" }, shadow: ["QuietHours"] }), "execute"]
    ),

  "routing.dm": () => routed(message(), { dm: "chat" }),
  "routing.group": () => routed(message({ metadata: { context: "group" } }), { group: "chat" }),
  "routing.channel": () => routed(message({ metadata: { context: "channel" } }), { channel: "chat" }),
  "routing.default": () => routed(event(), { default: "chat" }),
  "routing.bindings.agentId": () => bound(message(), { peer: "ada" }),
  "routing.bindings.source": () => bound(event(), { source: "webhook" }, { source: "a2a" }),
  "routing.bindings.channel": () =>
    bound(message({ metadata: { channel: "mail" } }), { channel: "mail" }, { channel: "sms" }),
  "routing.bindings.context": () => bound(message(), { context: "dm" }, { context: "group" }),
  "routing.bindings.chat": () => bound(message({ metadata: { chatId: "c1" } }), { chat: "c1" }, { chat: "c2" }),
  "routing.bindings.peer": () => bound(message(), { peer: "ada" }, { peer: "bob" }),

  "prices.*.from": () =>
    differ(
      Effect.map(run(event()), ({ costUsd }) => costUsd),
      [{ prices: { scripted: [{ from: "1970-01-01", ...dear }] } }, 0.1],
      [{ prices: { scripted: [{ from: "1970-01-02", ...dear }] } }, undefined]
    ),
  "prices.*.inputPerMillion": () =>
    differ(
      Effect.map(run(event()), ({ costUsd }) => costUsd),
      [{}, undefined],
      [{ prices: { scripted: { inputPerMillion: 1_000, outputPerMillion: 0 } } }, 0.06]
    ),
  "prices.*.outputPerMillion": () =>
    differ(
      Effect.zipRight(
        run(event()),
        Effect.map(status, ({ totalCostUsd }) => totalCostUsd)
      ),
      [{}, 0],
      [{ prices: { scripted: { inputPerMillion: 0, outputPerMillion: 1_000 } } }, 0.04]
    ),

  "sessions.whenBusy": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        const { eventId } = yield* submit(message())
        yield* told.until("ProactiveActionInitiated", 1)
        yield* submit(message())
        const gw = yield* GatewayService
        const ended = yield* Effect.timeoutOption(gw.outcome(eventId), "1 second").pipe(
          Effect.zipLeft(TestClock.adjust("1 second"), { concurrent: true })
        )
        return Option.getOrUndefined(ended)?.run?.state
      }).pipe(Effect.scoped),
      [{ accessControl: open }, undefined],
      [{ accessControl: open, sessions: { whenBusy: "interrupt" } }, "cancelled"],
      () => Effect.never
    ),
  "sessions.collectMs": () =>
    differ(
      Effect.gen(function* () {
        yield* submit(message())
        yield* TestClock.adjust("1 second")
        return (yield* status).pending.waiting
      }),
      [{ accessControl: open, sessions: { whenBusy: "collect" } }, 1],
      [{ accessControl: open, sessions: { whenBusy: "collect", collectMs: 1_000 } }, 0],
      () => Effect.never
    ),
  "sessions.maxWaiting": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        yield* submit(message())
        yield* told.until("ProactiveActionInitiated", 1)
        yield* submit(message())
        return yield* Effect.match(submit(message()), { onFailure: ({ reason }) => reason, onSuccess: () => "taken" })
      }).pipe(Effect.scoped),
      [{ accessControl: open }, "taken"],
      [{ accessControl: open, sessions: { maxWaiting: 1 } }, "overloaded"],
      () => Effect.never
    ),
  "sessions.overflow": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        yield* submit(message())
        yield* told.until("ProactiveActionInitiated", 1)
        yield* submit(message())
        yield* Effect.ignore(submit(message()))
        return told.all("SessionOverflowed").map(({ outcome }) => outcome)
      }).pipe(Effect.scoped),
      [{ accessControl: open, sessions: { maxWaiting: 1 } }, ["refused"]],
      [{ accessControl: open, sessions: { maxWaiting: 1, overflow: "drop-oldest" } }, ["dropped"]],
      () => Effect.never
    ),

  "limits.maxInbox": () =>
    differ(
      Effect.gen(function* () {
        yield* (yield* PolicyEngine).addPolicy({ _tag: "Silent", priority: 1, evaluate: () => Effect.never })
        yield* (yield* Journal).step(() => {})
        yield* submit(event())
        return yield* Effect.match(submit(event()), { onFailure: ({ reason }) => reason, onSuccess: () => "taken" })
      }),
      [limits({}), "taken"],
      [limits({ maxInbox: 1 }), "overloaded"]
    ),
  "limits.maxBatch": () =>
    Effect.gen(function* () {
      const commitsFor = (maxBatch: number) =>
        Effect.suspend(() => {
          let commits = 0
          const counting = wrapStore((store) => ({
            ...store,
            commit: (writes) => {
              if (writes.some(({ table }) => table === "events")) commits += 1
              return store.commit(writes)
            }
          })).pipe(Layer.provide(StoreMemory.layer))
          const burst = Effect.forEach([1, 2, 3, 4, 5, 6], () => submit(event()), { concurrency: "unbounded" })
          return Effect.map(seen(limits({ maxBatch }), burst, undefined, counting), () => commits)
        })
      expect(yield* commitsFor(100)).toBe(1)
      expect(yield* commitsFor(2)).toBe(3)
    }),
  "limits.maxWaitingRuns": () =>
    differ(
      Effect.gen(function* () {
        yield* (yield* GatewayService).pause()
        yield* submit(event())
        return yield* Effect.match(submit(event()), { onFailure: ({ reason }) => reason, onSuccess: () => "taken" })
      }),
      [limits({}), "taken"],
      [limits({ maxWaitingRuns: 1 }), "overloaded"]
    ),
  "limits.maxHeld": () =>
    differ(
      Effect.gen(function* () {
        const hold = submit(event({ metadata: { mergeKey: "one" } }))
        yield* hold
        return yield* Effect.match(submit(event()), { onFailure: ({ message }) => message, onSuccess: () => "taken" })
      }),
      [limits({}), "taken"],
      [
        limits({ maxHeld: 1 }),
        "as many events wait for their time or a person as may (limits.maxHeld: 1); try again in a second"
      ]
    ),
  "limits.maxConcurrentRuns": () =>
    differ(
      Effect.gen(function* () {
        yield* Effect.forEach([1, 2, 3], () => submit(event()), { concurrency: "unbounded" })
        return (yield* status).pending.running
      }),
      [limits({}), 3],
      [limits({ maxConcurrentRuns: 2 }), 2],
      () => Effect.never
    ),
  "limits.runTimeoutMs": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        yield* submit(event())
        yield* told.until("ProactiveActionInitiated", 1)
        yield* TestClock.adjust("10 seconds")
        return told.all("ProactiveActionCompleted").map(({ error }) => error)
      }).pipe(Effect.scoped),
      [limits({ maxAttempts: 1 }), []],
      [
        limits({ maxAttempts: 1, runTimeoutMs: 9_000 }),
        ["the run took longer than 9000 ms and was interrupted (limits.runTimeoutMs)"]
      ],
      () => Effect.never
    ),
  "limits.runStallMs": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        yield* submit(event())
        yield* told.until("ProactiveActionInitiated", 1)
        yield* TestClock.adjust("10 seconds")
        return told.all("ProactiveActionCompleted").map(({ error }) => error)
      }).pipe(Effect.scoped),
      [limits({ maxAttempts: 1 }), []],
      [
        limits({ maxAttempts: 1, runStallMs: 9_000 }),
        ["the run showed no progress for 9000 ms and was interrupted (limits.runStallMs)"]
      ],
      ({ onProgress = Effect.void }) => Effect.zipRight(onProgress, Effect.never)
    ),
  "limits.interruptGraceMs": () =>
    Effect.suspend(() => {
      let hear = (): void => {}
      const deaf = Effect.async<ReturnType<typeof answerOf>>((resume) => {
        hear = () => resume(Effect.succeed(answerOf("late")))
      })
      return differ(
        Effect.gen(function* () {
          const told = yield* watch
          const { eventId } = yield* submit(event())
          yield* told.until("ProactiveActionInitiated", 1)
          yield* TestClock.adjust("1 second")
          yield* TestClock.adjust("5 seconds")
          return (yield* Effect.flatMap(GatewayService, (gw) => gw.find(eventId)))?.run?.state
        }).pipe(Effect.scoped, Effect.ensuring(Effect.sync(() => hear()))),
        [limits({ maxAttempts: 1, runTimeoutMs: 1_000 }), "running"],
        [limits({ maxAttempts: 1, runTimeoutMs: 1_000, interruptGraceMs: 5_000 }), "abandoned"],
        () => Effect.uninterruptible(deaf)
      )
    }),
  "limits.maxAttempts": () =>
    differ(
      Effect.gen(function* () {
        const gw = yield* GatewayService
        const told = yield* watch
        const { eventId } = yield* submit(event())
        yield* told.until("ProactiveActionInitiated", 1)
        yield* TestClock.adjust("1 minute")
        return (yield* gw.outcome(eventId)).run?.attempt
      }).pipe(Effect.scoped),
      [limits({}), 3],
      [limits({ maxAttempts: 2 }), 2],
      busy
    ),
  "limits.onCrash": () =>
    Effect.gen(function* () {
      const after = (onCrash: "retry" | "escalate") =>
        Effect.gen(function* () {
          const records = StoreMemory.make()
          const store = Layer.succeed(Store, records)
          const begun = yield* Deferred.make<void>()
          const forever: Respond = () => Effect.zipRight(Deferred.succeed(begun, undefined), Effect.never)
          yield* seen(limits({}), Effect.zipRight(submit(event()), Deferred.await(begun)), forever, store)
          const awaiting = Effect.map(status, ({ pending }) => pending.awaitingApproval)
          return yield* seen(limits({ onCrash }), awaiting, undefined, store)
        })
      expect(yield* after("retry")).toBe(0)
      expect(yield* after("escalate")).toBe(1)
    }),
  "limits.maxUncleanStarts": () => {
    const crashed = Layer.effect(
      Store,
      Effect.tap(Store, (store) =>
        store.commit(["a", "b", "c"].map((id) => ({ op: "insert", table: "starts", row: { id, started_at: 0 } })))
      )
    ).pipe(Layer.provide(StoreMemory.layer), Layer.orDie)
    const isHeld = Effect.map(status, ({ held }) => held !== undefined)
    return Effect.gen(function* () {
      expect(yield* seen(limits({}), isHeld, undefined, crashed)).toBe(true)
      expect(yield* seen(limits({ maxUncleanStarts: 4 }), isHeld, undefined, crashed)).toBe(false)
    })
  },
  "limits.policyTimeoutMs": () =>
    differ(
      Effect.gen(function* () {
        const asked = yield* Deferred.make<void>()
        yield* (yield* PolicyEngine).addPolicy({
          _tag: "Silent",
          priority: 1,
          evaluate: () => Effect.zipRight(Deferred.succeed(asked, undefined), Effect.never)
        })
        yield* submit(event())
        yield* Deferred.await(asked)
        yield* TestClock.adjust("1 second")
        return (yield* status).pending.awaitingApproval
      }),
      [limits({}), 0],
      [limits({ policyTimeoutMs: 1_000 }), 1]
    ),
  "limits.approvalTtlMs": () =>
    differ(
      Effect.gen(function* () {
        yield* submit(event({ metadata: { category: "deploy" } }))
        const [approval] = yield* (yield* GatewayService).approvals
        return approval?.expiresAt.getTime()
      }),
      [policies({ requireApprovalFor: ["deploy"] }), 86_400_000],
      [{ ...policies({ requireApprovalFor: ["deploy"] }), limits: { approvalTtlMs: 5_000 } }, 5_000]
    ),
  "limits.historyTurns": () =>
    differ(
      history,
      [limits({}), "6"],
      [limits({ historyTurns: 2 }), "2"],
      shownAs(({ history }) => history.length)
    ),
  "limits.historyCharacters": () =>
    differ(
      history,
      [limits({}), "6"],
      [limits({ historyCharacters: 7 }), "2"],
      shownAs(({ history }) => history.length)
    ),
  "limits.payloadCharacters": () =>
    differ(
      Effect.map(run(event()), ({ text }) => text),
      [limits({}), '{"n":1}'],
      [limits({ payloadCharacters: 3 }), '{"n… (4 more characters)'],
      shownAs(({ payloadText }) => payloadText)
    ),
  "limits.maxEventBytes": () =>
    differ(
      Effect.match(submit(event({ payload: "größer" })), {
        onFailure: ({ message }) => message,
        onSuccess: () => "taken"
      }),
      [limits({ maxEventBytes: 12 }), "taken"],
      [limits({ maxEventBytes: 11 }), "payload and metadata have 12 bytes; at most 11 are kept (limits.maxEventBytes)"]
    ),

  "limits.maxConcurrentDeliveries": () =>
    differ(
      Effect.gen(function* () {
        for (const target of ["a", "b", "c"]) yield* run(event({ replyTo: { channel: "silent", target } }))
        yield* TestClock.adjust("1 second")
        return (yield* status).deliveries.sending
      }),
      [limits({}), 3],
      [limits({ maxConcurrentDeliveries: 2 }), 2]
    ),
  "limits.maxDeliveryAttempts": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        yield* run(event({ replyTo: { channel: "busy", target: "a" } }))
        while (told.all("DeliveryFailed").length === 0) yield* TestClock.adjust("15 minutes")
        return told.all("DeliveryFailed").map(({ attempt }) => attempt)
      }).pipe(Effect.scoped),
      [limits({}), [8]],
      [limits({ maxDeliveryAttempts: 2 }), [2]]
    ),
  "limits.deliveryTimeoutMs": () =>
    differ(
      Effect.gen(function* () {
        const told = yield* watch
        yield* run(event({ replyTo: { channel: "silent", target: "a" } }))
        yield* told.until("DeliveryStarted", 1)
        yield* TestClock.adjust("10 seconds")
        return (yield* status).deliveries.unknown
      }).pipe(Effect.scoped),
      [limits({}), 0],
      [limits({ deliveryTimeoutMs: 9_000 }), 1]
    ),

  "retention.events.maxAgeDays": () => differ(eventsKept, [{}, 3], [{ retention: { events: { maxAgeDays: 5 } } }, 1]),
  "retention.events.maxCount": () => differ(eventsKept, [{}, 3], [{ retention: { events: { maxCount: 2 } } }, 2]),
  "retention.audit.maxAgeDays": () => differ(auditedFrom, [{}, 1], [{ retention: { audit: { maxAgeDays: 5 } } }, 11]),
  "retention.audit.maxCount": () => differ(auditedFrom, [{}, 1], [{ retention: { audit: { maxCount: 4 } } }, 7]),
  "retention.turns.maxAgeDays": () =>
    differ(
      turnsKept,
      [access({ accessPolicy: "open" }), 6],
      [{ ...access({ accessPolicy: "open" }), retention: { turns: { maxAgeDays: 5 } } }, 0]
    ),
  "retention.turns.maxCount": () =>
    differ(
      turnsKept,
      [access({ accessPolicy: "open" }), 6],
      [{ ...access({ accessPolicy: "open" }), retention: { turns: { maxCount: 2 } } }, 2]
    ),

  timezone: () =>
    differ(
      Effect.map(status, ({ budget }) => budget.resetsAt.toISOString()),
      [{}, "1970-01-02T00:00:00.000Z"],
      [{ timezone: "Asia/Tokyo" }, "1970-01-01T15:00:00.000Z"]
    )
}

/** Every key a configuration may have, as a path; `*` stands for a name, and lists are walked through. */
const keysOf = (ast: SchemaAST.AST, path = ""): ReadonlyArray<string> => {
  switch (ast._tag) {
    case "TypeLiteral":
      return [
        ...ast.propertySignatures.flatMap(({ name, type }) =>
          keysOf(type, path === "" ? String(name) : `${path}.${String(name)}`)
        ),
        ...ast.indexSignatures.flatMap(({ type }) => keysOf(type, `${path}.*`))
      ]
    case "Union":
      return ast.types.flatMap((type) => (SchemaAST.isUndefinedKeyword(type) ? [] : keysOf(type, path)))
    case "TupleType":
      return [...ast.elements, ...ast.rest].flatMap(({ type }) => keysOf(type, path))
    case "Refinement":
    case "Transformation":
      return keysOf(ast.from, path)
    default:
      return [path]
  }
}

describe("N33: options parsed and never read: here every key has an effect", () => {
  const keys = [...new Set(keysOf(Schema.encodedSchema(GatewayConfig).ast))]

  it("every key of the schema is in the table, and no other", () => {
    expect(keys.length).toBeGreaterThan(50)
    expect(Object.keys(EFFECTS).sort()).toEqual([...keys].sort())
  })

  for (const key of keys) {
    it.effect(key, () => EFFECTS[key]?.() ?? Effect.dieMessage(`${key} has no entry in EFFECTS`))
  }

  it.effect("`heartbeat` may be one or several", () =>
    Effect.gen(function* () {
      const several = { agents, heartbeat: [{ intervalMs: 1_000 }, { intervalMs: 2_000, agentId: "chat" }] }
      expect((yield* seen(several, jobs)).map(({ name }) => name)).toEqual(["heartbeat ops", "heartbeat chat"])
    })
  )
})
