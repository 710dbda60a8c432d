import { describe, expect, it } from "@effect/vitest"
import {
  decodeConfig,
  Gateway,
  type GatewayConfigInput,
  GatewayService,
  Journal,
  Policy,
  PolicyEngine,
  Reconfiguration,
  Store
} from "@postilion/gateway"
import { Deferred, Effect, Fiber, FiberId } from "effect"
import { answerOf } from "./TestGateway.ts"

const change = (input: GatewayConfigInput) =>
  Effect.gen(function* () {
    const next = yield* decodeConfig(input)
    yield* (yield* Reconfiguration).change(next, { changes: ["it"], atRestart: [], by: "ada" })
  })
const event = { source: "webhook", payload: { n: 1 } } as const
const budget = Effect.map(
  Effect.flatMap(GatewayService, (gateway) => gateway.status()),
  ({ budget: { limit, reserved, used } }) => ({ limit, reserved, used })
)

describe("a configuration that changes while the gateway runs", () => {
  it.effect("has what was used count in the budgets there are now, and what is held", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      yield* gateway.run(event)
      const { used } = yield* budget
      expect(used).toBeGreaterThan(0)
      yield* change({ policies: { dailyTokenBudget: used } })
      expect(yield* budget).toEqual({ limit: used, reserved: 0, used })
      expect((yield* gateway.submit(event)).decision).toBe("skip")
      yield* change({ policies: { dailyTokenBudget: "unlimited" } })
      expect((yield* gateway.submit(event)).decision).toBe("execute")
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.effect("lets a run that is under way end as what it began as", () =>
    Effect.suspend(() => {
      const begun = Deferred.unsafeMake<void>(FiberId.none)
      const end = Deferred.unsafeMake<void>(FiberId.none)
      return Effect.gen(function* () {
        const gateway = yield* GatewayService
        const running = yield* Effect.fork(gateway.run({ ...event, agentId: "old" }))
        yield* Deferred.await(begun)
        const before = yield* budget
        yield* change({ agents: { new: { instructions: "now" } } })
        expect(yield* budget).toEqual(before)
        yield* Deferred.succeed(end, undefined)
        expect((yield* Fiber.join(running)).text).toBe("as it was")
        expect((yield* budget).reserved).toBe(0)
        expect((yield* gateway.run(event)).text).toBe("now")
        expect((yield* Effect.flip(gateway.submit({ ...event, agentId: "old" }))).message).toContain("agents: new")
      }).pipe(
        Effect.provide(
          Gateway.layerTest({ agents: { old: { instructions: "as it was" } } }, ({ agent }) =>
            Effect.gen(function* () {
              yield* Deferred.succeed(begun, undefined)
              yield* Deferred.await(end)
              return answerOf(agent.instructions)
            })
          )
        )
      )
    })
  )

  it.effect("changes nothing where it cannot be what the gateway is made of, or cannot be recorded", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      yield* (yield* PolicyEngine).addPolicy(Policy.make("QuietHours", { priority: 1, evaluate: () => Policy.pass }))
      const refused = (input: GatewayConfigInput) => Effect.map(Effect.flip(change(input)), ({ message }) => message)
      expect(yield* refused({ policies: { quietHours: { from: "22:00", to: "06:00" } } })).toMatch(/remove that first/)
      expect(
        yield* refused({
          crons: [
            { schedule: "0 9 * * *", instruction: "x" },
            { schedule: "@daily", instruction: "x" }
          ]
        })
      ).toMatch(/cron expression "@daily"/)
      expect(yield* refused({ webhooks: [{ path: "/x", adapter: "none", secret: "s" }] })).toMatch(/no adapter "none"/)
      expect((yield* gateway.status()).scheduler.jobs).toBe(0)
      yield* (yield* Reconfiguration).refuse("it was no good")
      expect((yield* gateway.status()).config).toMatchObject({ error: "it was no good" })
      yield* change({ crons: [{ schedule: "0 9 * * *", instruction: "x" }] })
      expect((yield* gateway.status()).config).toMatchObject({ error: undefined })
      const kinds = yield* Effect.flatMap(Store, (store) =>
        store.find("audit", { where: { kind: { in: ["config.changed", "config.refused"] } }, orderBy: ["seq", "asc"] })
      )
      expect(kinds.map(({ kind }) => kind)).toEqual(["config.refused", "config.changed"])
    }).pipe(Effect.provide(Gateway.layerTest()))
  )

  it.effect("has what was promoted go on deciding, by what it is configured with now", () =>
    Effect.gen(function* () {
      const gateway = yield* GatewayService
      const engine = yield* PolicyEngine
      const merging = { ...event, metadata: { mergeKey: "k" } }
      const decide = Effect.map(gateway.submit(merging), ({ decision }) => decision)
      yield* engine.promote("EventMerging")
      yield* engine.addShadow(Policy.make("RateLimit", { priority: 30, evaluate: () => Policy.skip("not today") }))
      expect(yield* decide).toBe("merge")
      yield* engine.promote("RateLimit")
      for (const maxActionsPerHour of [20, 30]) {
        yield* change({ policies: { shadow: ["EventMerging"], maxActionsPerHour } })
        expect(yield* decide).toBe("skip")
        expect(engine.shadowReport()).toEqual([])
        expect(engine.policies.map(({ _tag }) => _tag).filter((tag) => tag === "RateLimit")).toHaveLength(1)
      }
      yield* engine.removePolicy("RateLimit")
      yield* change({ policies: { shadow: ["EventMerging"] } })
      expect(yield* decide).toBe("merge")
    }).pipe(Effect.provide(Gateway.layerTest({ policies: { shadow: ["EventMerging"] } })))
  )

  it.scoped("has all state loaded again before the step that comes next", () =>
    Effect.gen(function* () {
      const journal = yield* Journal
      const told: Array<string> = []
      yield* journal.register(Effect.sync(() => void told.push("loaded")))
      const first = journal.step((tx) => {
        told.push("first")
        tx.onCommit(() => void told.push("committed"))
        tx.reload()
      })
      yield* first
      yield* journal.step(() => void told.push("second"))
      expect(told).toEqual(["loaded", "first", "committed", "loaded", "second"])
    }).pipe(Effect.provide(Gateway.layerTest()))
  )
})
