import { createHmac } from "node:crypto"
import { describe, expect, it } from "@effect/vitest"
import { decodeConfig, GatewayService, PolicyEngine, Scheduler, WebhookRouter } from "@postilion/gateway"
import * as StoreMemory from "@postilion/gateway/records/StoreMemory"
import { Effect, Layer, TestClock } from "effect"
import { afterEach, vi } from "vitest"
import { stripeAdapter } from "./fixtures/seed/adapter.ts"
import { opsAgent, signalAgent } from "./fixtures/seed/config.ts"
import { businessHoursOnly } from "./fixtures/seed/policy.ts"
import { program as register } from "./fixtures/seed/register.ts"
import { program as printStatus } from "./fixtures/seed/status.ts"
import { gateway, watch } from "./TestGateway.ts"

const memory = (...args: Parameters<typeof gateway>) => gateway(...args).pipe(Layer.provideMerge(StoreMemory.layer))

/** The samples ask the machine what time it is. */
const atHour = (hour: number) => {
  vi.useFakeTimers({ toFake: ["Date"] })
  vi.setSystemTime(new Date(Date.UTC(2024, 5, 3, hour)))
}

describe.sequential("the seed's own samples, with nothing but the import specifier changed", () => {
  afterEach(() => {
    vi.useRealTimers()
    vi.restoreAllMocks()
  })

  it.scoped("a policy, added with engine.addPolicy, queues outside business hours and passes within them", () =>
    Effect.gen(function* () {
      yield* register
      expect((yield* PolicyEngine).policies.map(({ _tag }) => _tag)).toContain(businessHoursOnly._tag)
      const gw = yield* GatewayService
      atHour(3)
      const early = yield* gw.submit({ source: "webhook", payload: {} })
      expect(early.decision).toBe("queue")
      expect(yield* gw.find(early.eventId)).toMatchObject({
        policy: "BusinessHours",
        reason: "Outside business hours"
      })
      atHour(12)
      expect((yield* gw.submit({ source: "webhook", payload: {} })).decision).toBe("execute")
      yield* TestClock.adjust("1 minute")
      expect(yield* gw.outcome(early.eventId)).toMatchObject({ state: "executed" })
    }).pipe(Effect.provide(memory()))
  )

  it.scoped("an adapter verifies, transforms and classifies", () =>
    Effect.gen(function* () {
      const router = yield* WebhookRouter
      const gw = yield* GatewayService
      const body = JSON.stringify({ id: "evt_stripe_1", type: "payment_intent.payment_failed" })
      const seal = createHmac("sha256", "s3cr3t").update(`1.${body}`).digest("hex")
      const post = (signature: string) =>
        router.handle({
          method: "POST",
          path: "/stripe",
          headers: { "content-type": "application/json", "stripe-signature": signature },
          rawBody: new TextEncoder().encode(body)
        })
      expect((yield* post("t=1,v1=00")).status).toBe(401)
      const answer = yield* post(`t=1,v1=${seal}`)
      expect(answer.status).toBe(202)
      const { eventId } = JSON.parse(answer.body) as { readonly eventId: string }
      expect((yield* gw.find(eventId))?.event).toMatchObject({
        source: "webhook",
        priority: "high",
        payload: { id: "evt_stripe_1" },
        metadata: { adapter: "stripe", type: "payment_intent.payment_failed" }
      })
      expect(JSON.parse((yield* post(`t=1,v1=${seal}`)).body)).toMatchObject({ status: "duplicate", eventId })
    }).pipe(
      Effect.provide(
        memory({ webhooks: [{ path: "/stripe", adapter: "stripe", secret: "s3cr3t" }] }, undefined, {
          adapters: [stripeAdapter]
        })
      )
    )
  )

  it.scoped("gw.status() has the stats it prints", () =>
    Effect.gen(function* () {
      const printed: Array<unknown> = []
      vi.spyOn(console, "log").mockImplementation((value) => void printed.push(value))
      const gw = yield* GatewayService
      const told = yield* watch
      for (let n = 0; n < 3; n++) yield* gw.run({ source: "webhook", payload: { n } })
      yield* gw.submit({ source: "channel", payload: { text: "hi" }, sender: "stranger" })
      yield* TestClock.adjust("1 hour")
      yield* told.until("PolicyDecisionMade", 6)
      yield* told.until("ProactiveActionCompleted", 4)
      yield* printStatus
      // Two ticks: one after the webhooks, and one with nothing new.
      expect(printed).toEqual([true, 3_600_000, 1, 1, 3, 400, 2])
    }).pipe(Effect.provide(memory(opsAgent)))
  )

  it.scoped("its configurations are configurations", () =>
    Effect.gen(function* () {
      const jobs = (yield* Scheduler).list().map(({ name, nextAt, priority }) => [name, nextAt?.getTime(), priority])
      expect(jobs).toEqual([
        ["heartbeat agent", 1_800_000, "normal"],
        ["cron-1", 9 * 3_600_000, "high"]
      ])
      expect((yield* decodeConfig(signalAgent)).accessControl).toMatchObject({ blockedSenders: [] })
    }).pipe(Effect.provide(memory(opsAgent)))
  )

  it.scoped("the stats are the seed's, each by its name", () =>
    Effect.gen(function* () {
      const { stats } = yield* (yield* GatewayService).status()
      expect(Object.keys(stats).sort()).toEqual(
        [
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
        ].sort()
      )
      const summary = yield* (yield* GatewayService).stop()
      expect(Object.keys(summary).sort()).toEqual(["chatTurns", "cronChecks", "heartbeatsFired", "totalRuns"])
    }).pipe(Effect.provide(memory()))
  )
})
