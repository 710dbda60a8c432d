import { renameSync, unlinkSync, writeFileSync } from "node:fs"
import { join } from "node:path"
import { describe, expect, it, vi } from "@effect/vitest"
import { AuditLog, GatewayService, Policy, PolicyEngine, Scheduler, Store } from "@postilion/gateway"
import { layerScripted } from "@postilion/gateway/runs/AgentRunner"
import { ConfigReload, Postilion } from "@postilion/server"
import { Deferred, Effect, Fiber, Layer } from "effect"
import { ADA, as, deliver, done, eventually, type Respond, request, result, SECRET, say, tempDir } from "./Support.ts"
import { connected } from "./Wire.ts"

vi.setConfig({ testTimeout: 120_000 })

const BASE = `storage: ":memory:"
port: 0
tokens: { ada: ${ADA} }
accessControl: { allowedSenders: [ada] }
policies: { maxActionsPerHour: unlimited, dailyTokenBudget: unlimited, loopGuard: { maxPerMinute: unlimited } }
`
const HOOK = `webhooks: [{ path: /github, adapter: github, secret: ${SECRET} }]\n`

type Write = (text: string, how?: "in place" | "replaced") => Effect.Effect<void>

/** A gateway on a file, and what the file is rewritten by: in place, or as editors do. */
const following = <A, E, R>(
  use: (write: Write, file: string) => Effect.Effect<A, E, R>,
  { respond = done, text = BASE + HOOK }: { readonly respond?: Respond; readonly text?: string } = {}
) =>
  Effect.gen(function* () {
    const file = join(yield* tempDir, "gateway.yaml")
    writeFileSync(file, text)
    const write: Write = (text, how = "in place") =>
      Effect.sync(() => {
        if (how === "in place") return writeFileSync(file, text)
        writeFileSync(`${file}~`, text)
        renameSync(`${file}~`, file)
      })
    return yield* use(write, file).pipe(
      Effect.provide(Postilion.layerFile(file).pipe(Layer.provide(layerScripted(respond))))
    )
  }).pipe(Effect.scoped)

/** The records of changes so far. */
const audited = Effect.flatMap(Store, (store) =>
  Effect.map(
    store.find("audit", {
      where: { kind: { in: ["config.changed", "config.refused"] } },
      orderBy: ["seq", "asc"]
    }),
    (rows) =>
      rows.map(({ body, kind }): Record<string, unknown> & { readonly kind: string } => ({
        ...(JSON.parse(body) as { readonly data: Record<string, unknown> }).data,
        kind
      }))
  )
)
const reloaded = (times = 1) => eventually(audited, (records) => records.length >= times)
const status = Effect.flatMap(GatewayService, (gateway) => gateway.status())

describe("a gateway follows its file", () => {
  it.live("and loses no event while it changes under load", () =>
    following((write) =>
      Effect.gen(function* () {
        const over = yield* Deferred.make<void>()
        const answers: Array<{ readonly status: number; readonly body: Record<string, unknown> }> = []
        let sent = 0
        const one = Effect.suspend(() => deliver("push", `load-${sent++}`)).pipe(
          Effect.tap((answer) => Effect.sync(() => void answers.push(answer)))
        )
        const until = Effect.repeat(one, { until: () => Deferred.isDone(over) })
        const load = yield* Effect.fork(
          Effect.all(
            Array.from({ length: 8 }, () => until),
            { concurrency: "unbounded", discard: true }
          )
        )
        const beyond = (count: number) =>
          eventually(
            Effect.sync(() => answers.length),
            (length) => length > count + 20
          )
        yield* beyond(0)
        const rounds = 6
        for (let round = 1; round <= rounds; round++) {
          const { length } = answers
          const changing = `agents: { agent${round}: { instructions: round ${round} } }
crons: [{ name: c${round}, schedule: "0 9 * * *", instruction: round ${round} }]
`
          yield* write(BASE + HOOK + changing, round % 2 === 0 ? "replaced" : "in place")
          yield* reloaded(round)
          yield* beyond(length)
        }
        yield* Deferred.succeed(over, undefined)
        yield* Fiber.join(load)
        expect(answers.filter(({ status }) => status !== 202)).toEqual([])
        const ids = answers.map(({ body }) => body.eventId)
        expect(new Set(ids).size).toBe(sent)
        const events = yield* Effect.flatMap(Store, (store) => store.find("events", { where: { source: "webhook" } }))
        expect(events.map(({ id }) => id).sort()).toEqual(ids.map(String).sort())
        // Each was for the one agent there was when it came.
        expect(new Set(events.map(({ agent_id }) => agent_id))).toEqual(
          new Set(["agent", ...Array.from({ length: rounds }, (_, i) => `agent${i + 1}`)])
        )
        expect(yield* Effect.flatMap(AuditLog, (audit) => audit.verify)).toMatchObject({ valid: true })
        const jobs = yield* Effect.map(Scheduler, (scheduler) => scheduler.list())
        expect(jobs.map(({ agentId, name }) => [name, agentId])).toEqual([[`c${rounds}`, `agent${rounds}`]])
      })
    )
  )

  it.live("goes on with other agents, webhooks, crons, routes, access, policies and tokens", () =>
    following(
      (write) =>
        Effect.gen(function* () {
          const wire = yield* connected(ADA)
          expect((yield* deliver("push", "d0")).status).toBe(404)
          yield* (yield* PolicyEngine).addPolicy(Policy.make("Mine", { priority: 1, evaluate: () => Policy.pass }))
          yield* write(`storage: ":memory:"
port: 0
tokens: { bob: token-of-bob }
accessControl: { allowedSenders: [bob], replyToUnknown: "no" }
agents: { ops: { instructions: be brief }, chat: {} }
routing: { dm: chat }
policies: { requireApprovalFor: [deploy], businessHours: { from: "00:00", to: "24:00", days: [] } , shadow: [BusinessHours] }
crons: [{ name: standup, schedule: "0 9 * * *", instruction: look }]
heartbeat: { interval: 1 hour }
${HOOK}`)
          const [first] = yield* reloaded()
          const changes: unknown = first?.changes
          expect(changes).toEqual(
            expect.arrayContaining([
              'tokens.ada: {"token":"<redacted>","scopes":["operator"]} → nothing',
              'accessControl.allowedSenders[0]: "ada" → "bob"',
              'routing.dm: nothing → "chat"',
              'policies.maxActionsPerHour: "unlimited" → 30'
            ])
          )
          expect(JSON.stringify(changes)).not.toContain("token-of")
          // Whoever went by a token that is gone is out.
          expect(yield* wire.closed).toBe(1008)
          expect((yield* request("/status", as(ADA))).status).toBe(401)
          const bob = yield* say({ text: "hello" }, "token-of-bob")
          expect(bob.body).toMatchObject({ reply: "chat: " })
          expect((yield* deliver("deployment", "d1")).body).toMatchObject({ status: "accepted", decision: "escalate" })
          const gateway = yield* GatewayService
          const { text } = yield* gateway.run({ source: "state-change", payload: "x" })
          expect(text).toBe("ops: be brief")
          const engine = yield* PolicyEngine
          expect(engine.policies.map(({ _tag }) => _tag)).toEqual(
            expect.arrayContaining(["Mine", "RequireApproval", "AccessControl"])
          )
          expect(engine.shadowReport().map(({ policy }) => policy)).toEqual(["BusinessHours"])
          const jobs = yield* Effect.map(Scheduler, (scheduler) => scheduler.list())
          expect(jobs.map(({ name }) => name).sort()).toEqual(["heartbeat ops", "standup"])
        }),
      {
        text: BASE,
        respond: ({ agent }) => Effect.succeed(result(`${agent.id}: ${agent.instructions}`))
      }
    )
  )

  it.live("takes a secret that is renewed in a file of its own, and says nothing of it", () =>
    Effect.gen(function* () {
      const dir = yield* tempDir
      const file = join(dir, "gateway.yaml")
      const secret = join(dir, "ada.token")
      const put = (text: string) => Effect.sync(() => writeFileSync(secret, text, { mode: 0o600 }))
      yield* put(ADA)
      writeFileSync(file, `storage: ":memory:"\nport: 0\ntokens: { ada: "file:./ada.token" }\n`)
      yield* Effect.gen(function* () {
        expect((yield* request("/status", as(ADA))).status).toBe(200)
        yield* put("another-of-ada")
        const [first] = yield* reloaded()
        expect(first?.changes).toEqual(["tokens.ada.token: <redacted> → <redacted>"])
        expect((yield* request("/status", as("another-of-ada"))).status).toBe(200)
        expect((yield* request("/status", as(ADA))).status).toBe(401)
        yield* put("")
        yield* eventually(status, ({ config }) => config.error !== undefined)
        expect((yield* request("/status", as("another-of-ada"))).status).toBe(200)
      }).pipe(Effect.provide(Postilion.layerFile(file).pipe(Layer.provide(layerScripted(done)))))
    }).pipe(Effect.scoped)
  )

  it.live("does not show what variables stand for", () => {
    vi.stubEnv("OPS_INSTRUCTIONS", "the vault is behind the picture")
    return following((write) =>
      Effect.gen(function* () {
        const agents = (instructions: string) => `agents: { ops: { instructions: "${instructions}" } }\n`
        yield* write(`${BASE}${agents("be brief")}`)
        yield* reloaded()
        yield* write(`${BASE}${agents("${OPS_INSTRUCTIONS}")}`)
        const [, second] = yield* reloaded(2)
        expect(second?.changes).toEqual(['agents.ops.instructions: "be brief" → <redacted>'])
        yield* write(BASE)
        const [, , third] = yield* reloaded(3)
        expect(JSON.stringify(third)).toContain("agents.ops")
        expect(JSON.stringify(third)).not.toContain("vault")
      })
    ).pipe(Effect.ensuring(Effect.sync(() => vi.unstubAllEnvs())))
  })

  it.live("keeps the last one that was good, says so, and takes the next that is", () =>
    following((write, file) =>
      Effect.gen(function* () {
        const seen = (isSo: (error: string | undefined) => boolean) =>
          eventually(status, ({ config }) => isSo(config.error))
        yield* write(`${BASE}policies: 5\n`)
        const { config } = yield* seen((error) => error !== undefined)
        expect(config.error).toContain(`${file}:6:1: this key is here twice; keep one`)
        expect((yield* deliver("push", "d1")).status).toBe(202)
        expect((yield* request("/status", as(ADA))).body).toMatchObject({
          config: { error: expect.stringContaining("this key is here twice") }
        })
        // What is left of a file whose writing was cut off.
        yield* write("")
        yield* seen((error) => error?.includes("there is nothing in this file") === true)
        yield* Effect.sync(() => unlinkSync(file))
        yield* seen((error) => error?.endsWith("there is no such file") === true)
        expect((yield* deliver("push", "d2")).status).toBe(202)
        yield* write(`${BASE}${HOOK}routing: { default: agent }\n`, "replaced")
        yield* seen((error) => error === undefined)
        expect((yield* audited).map(({ kind }) => kind)).toEqual([
          "config.refused",
          "config.refused",
          "config.refused",
          "config.changed"
        ])
      })
    )
  )

  it.live("names what takes effect at the next start", () =>
    following((write) =>
      Effect.gen(function* () {
        yield* write(`${BASE}${HOOK}limits: { maxInbox: 5 }\ntimezone: Europe/Berlin\n`)
        yield* reloaded()
        const { config } = yield* status
        expect(config).toMatchObject({ error: undefined, atRestart: ["limits", "timezone"] })
        // Said again, they are what they were.
        yield* write(BASE + HOOK)
        yield* reloaded(2)
        expect((yield* status).config.atRestart).toEqual([])
      })
    )
  )

  it.live("refuses what cannot be had before the next start", () =>
    following((write) =>
      Effect.gen(function* () {
        yield* write(`${BASE}${HOOK}channels: { ops: { platform: callback, url: "https://x.example", secret: s } }
heartbeat: { interval: 1 hour, deliverTo: { channel: ops, target: a } }
`)
        yield* reloaded()
        const { config, scheduler } = yield* status
        expect(config.error).toMatch(/heartbeat\.deliverTo: there is no channel "ops"; channels: websocket/)
        expect(scheduler.jobs).toBe(0)
      })
    )
  )

  it.live("keeps what became of a job that is the same, and what a person did to it", () =>
    following(
      (write) =>
        Effect.gen(function* () {
          const scheduler = yield* Scheduler
          yield* scheduler.enable("job_cron-a", false)
          const crons = (b: string) => `crons:
  - { name: a, schedule: "0 9 * * *", instruction: x }
  - { name: b, schedule: "${b}", instruction: x }
`
          yield* write(BASE + crons("0 10 * * *"))
          yield* reloaded()
          const jobs = [...scheduler.list({ includeDisabled: true })].sort((x, y) => x.name.localeCompare(y.name))
          expect(jobs.map(({ enabled, name, schedule }) => [name, enabled, schedule])).toMatchObject([
            ["a", false, { expression: "0 9 * * *" }],
            ["b", true, { expression: "0 10 * * *" }]
          ])
        }),
      {
        text: `${BASE}crons: [{ name: a, schedule: "0 9 * * *", instruction: x }, { name: b, schedule: "0 8 * * *", instruction: x }]\n`
      }
    )
  )

  it.live("leaves policies as a person has changed them, until it says something else of them", () => {
    const policies = (more: string) =>
      `policies: { maxActionsPerHour: unlimited, dailyTokenBudget: unlimited, shadow: [QuietHours], ${more} }\n`
    const hours = (priority: string) =>
      `quietHours: { from: "00:00", to: "24:00", minPriority: ${priority} }, maxPerSenderPerMinute: 1`
    const base = `storage: ":memory:"\nport: 0\ntokens: { ada: ${ADA} }\naccessControl: { allowedSenders: [ada] }\n`
    return following(
      (write) =>
        Effect.gen(function* () {
          const engine = yield* PolicyEngine
          const { reload } = yield* ConfigReload.ConfigReload
          const decision = Effect.map(say({ text: "hello" }), ({ body }) => body.decision)
          const standing = Effect.map(request("/policies", as(ADA)), ({ body }) => ({
            live: JSON.stringify(body.policies).includes("QuietHours"),
            shadow: JSON.stringify(body.shadows).includes("QuietHours")
          }))
          expect(yield* decision).toBe("execute")
          const promoted = yield* request("/policies/QuietHours/promote", { ...as(ADA), method: "POST" })
          expect(promoted.status).toBe(200)
          yield* engine.removePolicy("SenderRate")
          expect(yield* decision).toBe("queue")
          // What the file says of others changes nothing of these.
          yield* write(`${base}${policies(hours("high"))}agents: { b: {} }\n`)
          const stay = ["SenderRate is not asked", "QuietHours decides"]
          expect((yield* reload()).byHand).toEqual(stay)
          expect(yield* decision).toBe("queue")
          expect(yield* standing).toEqual({ live: true, shadow: false })
          yield* write(`${base}${policies(hours("high"))}agents: { c: {} }\n`)
          expect((yield* reload()).byHand).toEqual(stay)
          expect((yield* audited).at(-1)).toMatchObject({ kind: "config.changed", byHand: stay })
          // Of one of them it says something else: that one is as it says.
          yield* write(`${base}${policies(hours("critical"))}agents: { c: {} }\n`)
          expect((yield* reload()).byHand).toEqual(["SenderRate is not asked"])
          expect(yield* standing).toEqual({ live: false, shadow: true })
          expect(yield* decision).toBe("execute")
          expect(yield* decision).toBe("execute")
          yield* write(`${base}${policies(hours("critical").replace("Minute: 1", "Minute: 2"))}agents: { c: {} }\n`)
          expect((yield* reload()).byHand).toEqual([])
          expect(yield* decision).toBe("skip")
        }),
      { text: base + policies(hours("high")) }
    )
  })

  it.live("goes on with another policy in the place of one of its own that was promoted away", () =>
    following((write) =>
      Effect.gen(function* () {
        const engine = yield* PolicyEngine
        const { reload } = yield* ConfigReload.ConfigReload
        yield* engine.addShadow(Policy.make("SenderRate", { priority: 1, evaluate: () => Policy.skip("mine") }))
        yield* engine.promote("SenderRate")
        yield* write(`${BASE}${HOOK}agents: { b: {} }\n`)
        expect((yield* reload()).byHand).toEqual(["SenderRate is not asked"])
        expect((yield* deliver("push", "d1")).body).toMatchObject({ decision: "skip" })
      })
    )
  )

  it.live("also when a program asks for it", () =>
    following((write) =>
      Effect.gen(function* () {
        const { reload } = yield* ConfigReload.ConfigReload
        yield* write(`${BASE}${HOOK}agents: { a: {}, b: {} }\n`)
        const { changes } = yield* reload("ada")
        expect(changes.length).toBeGreaterThan(0)
        expect(yield* audited).toMatchObject([{ kind: "config.changed", by: "ada" }])
      })
    )
  )
})
